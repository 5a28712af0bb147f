"""Plain sockets of connections: those of the standard library, or compiled ones that cost less per request.

Knows what a connection needs of its socket, which `tls` offers as well. Does not know what is sent. The two
implementations behave alike.
"""

from __future__ import annotations

import socket
import struct
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
_accept_plain: Callable[[socket.socket], tuple[PlainSocket, object] | None] | None
try:
    from ._kernel import Socket
    from ._kernel import accept as _accept_plain
except ImportError:
    Socket = _accept_plain = None

__all__ = ["PlainSocket", "accept", "accept_plain", "adopt", "enable_keepalive", "queued_bytes"]

# TCP keepalive: seconds without a packet before the first probe and between two probes, and how many of them a peer
# leaves unanswered before the connection is given up. In all, a peer that is gone is noticed after two minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


_ON = struct.pack("i", 1)


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


def accept(listening: socket.socket) -> tuple[socket.socket, object] | None:
    """Returns the next connection of the backlog, which does not block, and the address of its client; None if nobody
    waits. Raises OSError as `socket.accept` does."""
    try:
        sock, peer = listening.accept()
    except BlockingIOError:
        return None
    sock.setblocking(False)
    return sock, peer


accept_plain: Callable[[socket.socket], tuple[PlainSocket, object] | None] = _accept_plain or accept
"""As `accept`, for a socket that is used as it is, without TLS or a PROXY header: the compiled one costs less."""


def adopt(sock: PlainSocket) -> PlainSocket:
    """Returns the compiled socket with the descriptor of `sock`, which has none then; or `sock` itself if it is one, or
    in the pure build."""
    return Socket(sock) if Socket is not None and isinstance(sock, socket.socket) else sock


class _HasOptions(Protocol):
    """What `enable_keepalive` needs of a socket."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """Sets an option, as setsockopt(2) does."""


def enable_keepalive(sock: _HasOptions) -> None:
    """Has the kernel probe the peer while nothing is sent, so that one that vanished without a packet is noticed.

    Where the system cannot set the times, its own apply (two hours on most). Does nothing for a Unix socket, whose peer
    cannot vanish.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, _ON)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), struct.pack("i", value))
    except OSError:
        pass


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
