"""Plain sockets of connections: those of the standard library, or compiled ones that cost less per request.

Knows what a connection needs of its socket, which `tls` offers as well. Does not know what is sent. The two
implementations behave alike.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Protocol

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ

    # Bytes not sent yet (SIOCOUTQNSD of linux/sockios.h, for TCP alone), or else bytes not acknowledged yet.
    _QUEUE_REQUESTS: tuple[int, ...] = (0x894B, TIOCOUTQ) if sys.platform == "linux" else (TIOCOUTQ,)
except ImportError:  # Windows, whose sockets do not say
    _QUEUE_REQUESTS = ()

Socket: Callable[[socket.socket], PlainSocket] | None
try:
    from ._kernel import Socket
except ImportError:
    Socket = None

__all__ = ["PlainSocket", "adopt", "queued_bytes"]


class PlainSocket(Protocol):
    """A connected socket that does not block. Its methods raise OSError as those of `socket.socket` do."""

    def recv(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; b"" when the peer has finished sending."""

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Sends `data` and returns how many bytes of it the kernel took."""

    def shutdown(self, how: int, /) -> None:
        """Ends one direction, or both."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """Sets an option, as setsockopt(2) does."""

    def fileno(self) -> int:
        """Returns the descriptor; -1 once closed."""

    def close(self) -> None:
        """Closes the socket. May be called twice."""


def adopt(sock: socket.socket) -> PlainSocket:
    """Returns the compiled socket with the descriptor of `sock`, which has none then; or `sock` itself in the pure
    build."""
    return sock if Socket is None else Socket(sock)


def queued_bytes(fd: int) -> int:
    """Returns how many bytes the kernel has taken for the socket `fd` and still keeps in its send queue.

    Where the system can tell, these are the bytes that were not sent yet; otherwise those that were not acknowledged
    yet. 0 where the system does not say.
    """
    for request in _QUEUE_REQUESTS:
        try:
            return int.from_bytes(ioctl(fd, request, b"\0\0\0\0"), sys.byteorder)
        except OSError:
            pass
    return 0
