"""A line to the server under test: requests go out, answers come in, and how it ends is noted.

Knows sockets, TLS and time limits; not what any of it shows. Everything that waits does so for a bounded time, by a
clock that tests replace.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from ..http.limits import Limits
from ..http.responses import BadResponse, ReceivedResponse, ResponseReader

__all__ = ["ClientConnection", "NoAnswer", "SocketWire", "Target", "Transport", "open_socket", "read_url"]

CLOSED = "closed"  # with a FIN
RESET = "reset"

_IN_PATHS = "/%!$&'()*+,;=:@-._~"  # RFC 3986 §3.3, and what is encoded already
_LIMITS = Limits(body=16 << 20)
_READ_SIZE = 64 * 1024


@dataclass(frozen=True)
class Target:
    """What is probed. authority: as in Host (RFC 9112 §3.2). path: with its query."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    def request(self, method: str, *fields: str, path: str = "", version: str = "1.1", body: bytes = b"") -> bytes:
        lines = [f"{method} {path or self.path} HTTP/{version}", f"Host: {self.authority}", *fields]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_url(url: str) -> Target:
    """Raises ValueError, with one line for the user."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"takes a URL with http or https, not {url!r}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"not a port in {url!r}") from None
    try:
        host = parts.hostname.encode("ascii" if ":" in parts.hostname else "idna").decode()
    except UnicodeError:
        raise ValueError(f"not a host in {url!r}") from None
    name = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", safe=_IN_PATHS) + (
        f"?{quote(parts.query, safe=_IN_PATHS + '?')}" if parts.query else ""
    )
    default = 443 if parts.scheme == "https" else 80
    return Target(parts.scheme, host, port or default, name if port in (None, default) else f"{name}:{port}", path)


class Transport(Protocol):
    """A connected socket, as far as a line needs one. What it raises otherwise is an OSError."""

    def send(self, data: bytes) -> None:
        """Sends all of it."""

    def receive(self, seconds: float) -> bytes:
        """What has come, b"" at the end. Raises TimeoutError when nothing did."""

    def was_reset(self, seconds: float) -> bool:
        """Whether the other side has reset the connection, or does so within `seconds`."""

    def finish(self) -> None:
        """Closes this side only."""

    def close(self) -> None: ...


class SocketWire:
    """A `Transport` that is one. seconds: for a send."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds

    def send(self, data: bytes) -> None:
        self._sock.settimeout(self._seconds)
        self._sock.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._sock.settimeout(max(seconds, 0.001))  # 0 would mean: do not block
        return self._sock.recv(_READ_SIZE)

    def was_reset(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, 0)  # errors and hang-ups are always told; the other side's FIN alone is neither
        return bool(poll.poll(seconds * 1000))

    def finish(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


def open_socket(target: Target, seconds: float, tls: ssl.SSLContext | None = None) -> SocketWire:
    """Connects within `seconds`. Raises OSError."""
    sock = socket.create_connection((target.host, target.port), timeout=seconds)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=target.host)
        return SocketWire(sock, seconds)
    except BaseException:
        sock.close()
        raise


class NoAnswer(Exception):
    """No answer came, or what came is none; its text says which, in a few words."""


class ClientConnection:
    """One connection. Closed by the block it is used in.

    ended: "closed" or "reset" once the server has ended it. patience: seconds for an answer.
    """

    def __init__(self, wire: Transport, clock: Callable[[], float], patience: float) -> None:
        self._wire = wire
        self._clock = clock
        self._patience = patience
        self._reader = ResponseReader(_LIMITS)
        self.ended = ""

    def __enter__(self) -> ClientConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self._wire.close()

    def send(self, data: bytes, *methods: str) -> None:
        """Sends `data`, which has requests with `methods` in it. That it cannot be sent shows in what comes back."""
        for method in methods:
            self._reader.expect(method)
        try:
            self._wire.send(data)
        except OSError:
            pass

    def answer(self) -> ReceivedResponse:
        """The next one. Raises NoAnswer."""
        end = self._clock() + self._patience
        silent = True
        try:
            while (answer := self._reader.read()) is None:
                if self.ended:  # the reader has been told, and waits for nothing more
                    raise NoAnswer(self.ended)
                if not self._receive(end - self._clock()):
                    raise NoAnswer(f"{'nothing for' if silent else 'no whole answer in'} {self._patience:g} s")
                silent = False
            return answer
        except BadResponse as error:
            raise NoAnswer(self.ended if self.ended and not self._reader.unread else str(error)) from None

    def ask(self, method: str, request: bytes) -> ReceivedResponse:
        self.send(request, method)
        return self.answer()

    def wait_for_end(self, seconds: float) -> float | None:
        """How long it took the server to end the connection; None when it did not within `seconds`."""
        start = self._clock()
        while not self.ended:
            if not self._receive(start + seconds - self._clock()):
                return None
        return self._clock() - start

    def hears_more(self, seconds: float) -> bool:
        """Whether bytes come that belong to no request."""
        return bool(self._reader.unread) or (not self.ended and self._receive(seconds) and not self.ended)

    def was_reset(self, seconds: float) -> bool:
        return self.ended == RESET or self._wire.was_reset(seconds)

    def finish(self) -> None:
        """Sends nothing more."""
        try:
            self._wire.finish()
        except OSError:
            pass

    def _receive(self, seconds: float) -> bool:
        """Whether something has come, and be it the end."""
        if seconds <= 0:
            return False
        try:
            data = self._wire.receive(seconds)
        except TimeoutError:
            return False
        except OSError:
            data = b""
            self.ended = RESET
        if not data:
            self.ended = self.ended or CLOSED
        self._reader.receive(data)
        return True
