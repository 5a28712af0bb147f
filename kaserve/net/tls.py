"""TLS: a socket that encrypts, with the manners of a plain one that does not block.

Knows the standard library's `ssl`, and nothing of connections: to them its methods are those of a socket, which raise
BlockingIOError when they would have to wait, and another OSError when the peer is gone or speaks something else.
"""

from __future__ import annotations

import socket
import ssl

__all__ = ["TLSSocket", "make_context"]


def make_context(certificate: str, key: str | None = None, password: str | None = None) -> ssl.SSLContext:
    """What all connections of a server share: its certificate (PEM, with its chain), and key, which may be in the same
    file. TLS 1.2 or later; ALPN offers `http/1.1` (RFC 7301).

    Raises OSError (ssl.SSLError is one) when they cannot be read or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A password that is wrong or missing must be an error: asking for it would block.
    context.load_cert_chain(certificate, key, password if password is not None else "")
    return context


class TLSSocket:
    """The server's end of a TLS connection. `handshake` comes first."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Takes over `sock`, which is connected and does not block."""
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def handshake(self) -> None:
        """Goes on with the handshake. Raises BlockingIOError until it is done."""
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv(self, size: int) -> bytes:
        """A record of at most `size` bytes, which holds all that was decrypted if it is 16 KiB or more."""
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """How much of `data` was taken. flags: for plain sockets; a record is sent at once anyhow."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Says close_notify (RFC 8446 §6.1), so that the client knows the end for the end, and then as a plain socket.
        What is read afterwards is not decrypted any more."""
        try:
            self._sock.unwrap()
        except (OSError, ValueError):
            pass  # it waits for the client's close_notify, which `LINGER` does as well, or the client is gone
        self._sock.shutdown(how)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self._sock.setsockopt(level, option, value)

    def close(self) -> None:
        self._sock.close()
