"""The access log: one line for each answer, collected during a turn and handed on at its end.

Does not know how a line looks (`logformat`), when a turn ends (the reactor calls `flush`), or where the lines go.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..http.messages import Request, Response
from ..net.connection import Connection
from .formats import LogClock, make_format

__all__ = ["AccessLog"]


class AccessLog:
    """Lines in `log_format`: common, combined, json, or gunicorn's atoms.

    write: takes the bytes of whole lines, and is called at most once per turn. It must neither raise nor wait.
    users: tells who has come in with a password, "" for anybody else.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        log_format: str = "common",
        users: Callable[[Request], str] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._moment = LogClock(wall)
        self._format = make_format(log_format, self._moment, users)
        self.timed = self._format.timed
        self._lines: list[str] = []

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        """Notes an answer with `size` bytes of content; a request that could not be read is None."""
        lines = self._lines
        if not lines:  # the time of a turn is that of its first answer
            self._moment.tell()
        lines.append(self._format.line(connection, request, response, size))

    def flush(self) -> None:
        """Hands on what was noted since the last call."""
        if self._lines:
            lines, self._lines = self._lines, []
            lines.append("")  # the last line has an end as well
            self._write("\n".join(lines).encode("ascii", "backslashreplace"))
