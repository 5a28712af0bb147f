"""Transport: a connected socket, as far as the probe needs one; tests replace it by fake servers.

Knows sockets, TLS and time limits. Does not know HTTP.
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import Protocol

from .target import Target

__all__ = ["SocketTransport", "Transport", "open_socket"]

_READ_SIZE = 64 * 1024


class Transport(Protocol):
    """A connected socket. Its methods raise OSError when the connection is broken."""

    def send(self, data: bytes) -> None:
        """Sends all of `data`."""

    def receive(self, seconds: float) -> bytes:
        """Returns the bytes that have arrived, b"" after the server's FIN.

        Raises:
            TimeoutError: nothing arrived within `seconds`.
        """

    def was_reset(self, seconds: float) -> bool:
        """Returns whether the server has reset the connection, or does so within `seconds`."""

    def half_close(self) -> None:
        """Closes this side only: sends a FIN, and can still receive."""

    def close(self) -> None: ...


class SocketTransport:
    """A `Transport` that is a socket."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        """Takes over `sock`. seconds: the time limit of a send."""
        self._sock = sock
        self._seconds = seconds

    def send(self, data: bytes) -> None:
        self._sock.settimeout(self._seconds)
        self._sock.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._sock.settimeout(max(seconds, 0.001))  # 0 would make the socket non-blocking
        return self._sock.recv(_READ_SIZE)

    def was_reset(self, seconds: float) -> bool:
        poll = select.poll()
        # poll(2) reports errors and hang-ups even for an empty set of events. A reset is both; the server's FIN alone
        # is neither.
        poll.register(self._sock, 0)
        return bool(poll.poll(seconds * 1000))

    def half_close(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


def open_socket(target: Target, seconds: float, tls: ssl.SSLContext | None = None) -> SocketTransport:
    """Connects to `target`.

    Args:
        target: where to.
        seconds: the time limit of the connect, and later of each send.
        tls: the TLS context; None for plain HTTP.

    Raises:
        OSError: the connection or the handshake failed.
    """
    sock = socket.create_connection((target.host, target.port), timeout=seconds)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=target.host.partition("%")[0])
        return SocketTransport(sock, seconds)
    except BaseException:
        sock.close()
        raise
