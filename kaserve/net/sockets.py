"""Plain sockets of connections: the standard library's, or the compiled ones that cost less for each request.

Knows what a connection asks of its socket, which `tls` has as well. The two implementations do the same.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Protocol

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ

    # What has not been sent yet (linux/sockios.h: SIOCOUTQNSD, of TCP alone), or what has not been confirmed.
    _QUEUES: tuple[int, ...] = (0x894B, TIOCOUTQ) if sys.platform == "linux" else (TIOCOUTQ,)
except ImportError:  # Windows, whose sockets do not tell
    _QUEUES = ()

Socket: Callable[[socket.socket], PlainSocket] | None
try:
    from ._kernel import Socket
except ImportError:
    Socket = None

__all__ = ["PlainSocket", "adopt", "queued_bytes"]


class PlainSocket(Protocol):
    """A connected socket that does not block; its methods raise OSError as those of `socket.socket` do."""

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes; b"" when the peer sends nothing more."""

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """How much of `data` was taken."""

    def shutdown(self, how: int, /) -> None:
        """Ends one direction, or both."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """As setsockopt(2)."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""

    def close(self) -> None:
        """Gives it back. May be called twice."""


def adopt(sock: socket.socket) -> PlainSocket:
    """`sock`, or what takes its place; then `sock` itself has given its descriptor away."""
    return sock if Socket is None else Socket(sock)


def queued_bytes(fd: int) -> int:
    """How much of what the kernel took for the socket `fd` still waits in its buffers; 0 where the system does not
    tell."""
    for request in _QUEUES:
        try:
            return int.from_bytes(ioctl(fd, request, b"\0\0\0\0"), sys.byteorder)
        except OSError:
            pass
    return 0
