"""The access log: one line for each answer, in the formats that log readers know, written once per turn.

Knows how a line looks. Does not know when a turn ends (the reactor calls `flush`) or where the lines go (`write`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from .http.messages import Address, Request
from .net.connection import Connection

__all__ = ["AccessLog"]

# What could end a line or a quoted part of it early, and what a terminal could take for a command.
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


class AccessLog:
    """Lines in Common Log Format, or "combined" with Referer and User-Agent behind.

    write: takes the bytes of whole lines, and is called at most once per turn. It must not raise.
    """

    def __init__(
        self, write: Callable[[bytes], object], *, combined: bool = False, wall: Callable[[], float] = time.time
    ) -> None:
        self._write = write
        self._combined = combined
        self._wall = wall
        self._lines: list[str] = []
        self._second = -1
        self._stamp = ""

    def log(self, connection: Connection, request: Request | None, status: int, size: int) -> None:
        """Notes an answer of `size` bytes of content; a request that could not be read shows as "-"."""
        line, client = "-", connection.client
        if request is not None:
            client = request.client  # who it is behind a proxy that is trusted
            line = f"{request.method} {escape(request.target)} {request.http_version}"
        text = f'{host_of(client)} - - {self._now()} "{line}" {status} {size or "-"}'
        if self._combined:
            text += f' "{self._field(request, "referer")}" "{self._field(request, "user-agent")}"'
        self._lines.append(text)

    def _field(self, request: Request | None, name: str) -> str:
        value = None if request is None else request.headers.get(name)
        return "-" if value is None else escape(value)

    def _now(self) -> str:
        """The local time with its zone, made anew once a second."""
        second = int(self._wall())
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))
        return self._stamp

    def flush(self) -> None:
        """Writes what was noted since the last call."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._write(("\n".join(lines) + "\n").encode("ascii", "backslashreplace"))


def escape(text: str) -> str:
    """`text` as it may stand between quotes: everything a client could break out with is written as \\xHH."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def host_of(address: Address) -> str:
    """The host of a client; "unix" for one that came through a Unix socket."""
    return address[0] if isinstance(address, tuple) else "unix"
