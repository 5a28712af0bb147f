"""A kaserve that is replaced while it serves: one process after another at one address that is never closed."""

import socket
from types import TracebackType
from typing import Literal

from lib.kaserve_process import KaserveProcess, ProcessFailed

__all__ = ["ProcessFailed", "ReplaceableServer", "Way"]

Way = Literal["reuse-port", "handover", "stop-start"]
"""How the address outlives its processes.

reuse-port: the next process listens on the same port before the previous one is stopped (`--reuse-port`).
handover: the listening socket belongs to this program, as it would to systemd, and both processes inherit it
(`--bind fd:N`); the next one starts before the previous one is stopped.
stop-start: the same, but the next one starts when the previous one has ended; meanwhile clients wait in the backlog.
"""


class ReplaceableServer:
    """The processes and their address, while the block lasts.

    Args:
        way: How the address outlives its processes.
        options: Of the command line of kaserve.

    Attributes:
        port: Of 127.0.0.1.
        current: The process that was started last.
    """

    def __init__(self, way: Way, *options: str) -> None:
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
        self._draining: list[KaserveProcess] = []
        self.current = self._start()

    def _start(self) -> KaserveProcess:
        return KaserveProcess(*self._options, fds=self._fds)

    def replace(self) -> None:
        """Starts the next process and drains the one before. Raises ProcessFailed."""
        self._draining = [process for process in self._draining if not _has_finished(process)]
        before = self.current
        if self._way == "stop-start":
            before.drain()
            before.finish()
            self.current = self._start()
        else:
            self.current = self._start()
            before.drain()
            self._draining.append(before)

    def settle(self) -> None:
        """Waits for the end of the processes that were replaced. Raises ProcessFailed."""
        for process in self._draining:
            process.finish()
        self._draining.clear()

    def finish(self) -> None:
        """Ends all of them. Raises ProcessFailed."""
        self.current.drain()
        self.settle()
        self.current.finish()

    def __enter__(self) -> "ReplaceableServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sock.close()
        for process in [*self._draining, self.current]:
            if process.runs:
                process.kill()


def _has_finished(process: KaserveProcess) -> bool:
    if process.runs:
        return False
    process.finish()
    return True
