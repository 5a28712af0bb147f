"""A kaserve that is replaced while it serves: one process after another behind one address that never goes away."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal

from processes import resident_bytes, wait_until

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds for a process to start, or to end after it was told to."""

Way = Literal["reuse-port", "handover", "stop-start"]
"""How the address survives its servers.

reuse-port: the next process listens on the same port before the one before is told to stop (`--reuse-port`).
handover: the listening socket belongs to us, as it would to systemd, and is lent to both (`--bind fd:N`); the next one
starts before the one before is told to stop.
stop-start: the same, but the next one starts when the one before has ended; meanwhile clients wait in the backlog.
"""


class Misbehaved(Exception):
    """A process did not start, or did not end as it should; the message says how."""


class Process:
    """One of them."""

    def __init__(self, options: list[str], fds: tuple[int, ...]) -> None:
        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kaserve", *options],
            cwd=HERE / "apps",  # where the handlers are
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
        )
        self.pid = self._process.pid
        if not wait_until(lambda: "Ctrl-C" in self.said or not self.runs, PATIENCE) or not self.runs:
            self.kill()
            raise Misbehaved(f"it did not start: {self.said}")
        self.descriptors_at_start = self.descriptors

    @property
    def said(self) -> str:
        """All it has written so far."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def drain(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Wait for the end of one that drains. Raises Misbehaved unless it is as it should be."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Misbehaved("it did not end") from None
        lines = self.said.partition("Ctrl-C stops it\n")[2].splitlines()
        said = "\n".join(line for line in lines if not line.startswith("kaserve: INFO:"))
        self._output.close()
        if status != 0 or said:
            raise Misbehaved(f"it ended with status {status}: {said[-2000:]}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Fleet:
    """The processes and their address, while the block lasts."""

    def __init__(self, way: Way, *options: str) -> None:
        """options: of the command line of kaserve."""
        self._way = way
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, way == "reuse-port")
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        if way == "reuse-port":
            self._options = [str(self.port), "--reuse-port", *options]
            self._fds: tuple[int, ...] = ()
        else:
            self._options = ["--bind", f"fd:{self._sock.fileno()}", *options]
            self._fds = (self._sock.fileno(),)
        self._leaving: list[Process] = []
        self.current = self._start()

    def _start(self) -> Process:
        return Process(self._options, self._fds)

    def replace(self) -> None:
        """The next process; the one before ends as it can. Raises Misbehaved."""
        self._leaving = [process for process in self._leaving if not _has_finished(process)]
        before = self.current
        if self._way == "stop-start":
            before.drain()
            before.finish()
            self.current = self._start()
        else:
            self.current = self._start()
            before.drain()
            self._leaving.append(before)

    def settle(self) -> None:
        """Wait for the end of those that have been replaced. Raises Misbehaved."""
        for process in self._leaving:
            process.finish()
        self._leaving.clear()

    def finish(self) -> None:
        """End all of them. Raises Misbehaved."""
        self.current.drain()
        self.settle()
        self.current.finish()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sock.close()
        for process in [*self._leaving, self.current]:
            if process.runs:
                process.kill()


def _has_finished(process: Process) -> bool:
    if process.runs:
        return False
    process.finish()
    return True
