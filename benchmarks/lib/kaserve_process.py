"""`python -m kaserve` in a separate process, and what it shows to the outside. Linux only."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from types import TracebackType

from lib.environment import APPS, kaserve_environment
from lib.processes import cpu_seconds, resident_bytes, wait_until

PATIENCE = 30.0
"""Seconds for a process to start, or to end after SIGTERM."""


# What a healthy server may log. A busy machine can stop any process for longer than a handler should take.
_EXPECTED = re.compile(r"kaserve: INFO:|kaserve: WARNING: \S+ \S+ blocked the server for ")


class ProcessFailed(Exception):
    """A process did not start, or did not end as it should; the message says how."""


class KaserveProcess:
    """A running kaserve; killed at the end of the block if it still runs.

    Args:
        options: Of its command line; handlers are modules of `apps/`.
        fds: Descriptors that it inherits.
        max_descriptors: Its descriptor limit; 0 for that of this process.
        stderr: A descriptor for its access log and messages; -1 to keep them, for `output`.

    Attributes:
        pid: Of the process.
        descriptors_at_start: How many descriptors it had open before any client came.
    """

    def __init__(self, *options: str, fds: tuple[int, ...] = (), max_descriptors: int = 0, stderr: int = -1) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max_descriptors, max_descriptors))

        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kaserve", *options],
            cwd=APPS,
            env=os.environ | kaserve_environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT if stderr < 0 else stderr,
            pass_fds=fds,
            preexec_fn=limit if max_descriptors else None,
        )
        self.pid = self._process.pid
        if not wait_until(lambda: "Ctrl-C" in self.output or not self.runs, PATIENCE) or not self.runs:
            self.kill()
            raise ProcessFailed(f"it did not start: {self.output}")
        self.descriptors_at_start = self.descriptors

    @property
    def output(self) -> str:
        """All that it has written so far."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, if that is a port of 127.0.0.1."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.output)
        assert found, self.output
        return "127.0.0.1", int(found[1])

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.pid)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def metric(self, name: str) -> int:
        """One of its own counters; it needs `--metrics /metrics`."""
        with self.connect() as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        return sum(int(float(line.split()[-1])) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def drain(self) -> None:
        """Asks it to shut down gracefully."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Waits for its end, and returns the exit code. Raises ProcessFailed if it does not end."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProcessFailed("it did not end") from None

    def finish(self) -> None:
        """Waits for the end of a drained process. Raises ProcessFailed unless that is clean and nothing was logged."""
        status = self.wait()
        lines = self.output.partition("Ctrl-C stops it\n")[2].splitlines()
        logged = "\n".join(line for line in lines if not _EXPECTED.match(line))
        self._output.close()
        if status != 0 or logged:
            raise ProcessFailed(f"it ended with status {status}: {logged[-2000:]}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "KaserveProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.runs:
            self.kill()
        self._output.close()
