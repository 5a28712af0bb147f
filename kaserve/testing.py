"""For tests: a server on a free port for whatever is to be served, and connections that go wrong on request.

>>> from kaserve import Response
>>> with serve(lambda request: Response.text("hello")) as server:
...     server.url.startswith("http://127.0.0.1:")
True

`serve` runs a real server in a thread. `Faults` stands between its clients and it and does to them, answer by answer,
what networks and other servers do. Knows nothing of pytest; `kaserve.pytest_plugin` offers both as fixtures.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from .config import Config
from .handlers import Files
from .http.dates import format_date
from .http.handler import Handler
from .server import Server

__all__ = ["EarlyAnswer", "Fault", "Faults", "IdleClose", "Relay", "Reset", "Slow", "TruncatedBody", "serve"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
_CONTINUE = b"HTTP/1.1 100 "
_LINGER = 5.0  # seconds for a client to close after an orderly end
_SIZE = 65536


@contextmanager
def serve(
    handler: Handler | None = None,
    *,
    wsgi: Callable[..., Any] | None = None,
    directory: str | os.PathLike[str] | None = None,
    threads: int = 4,
    **settings: Any,
) -> Iterator[Server]:
    """A server for one of: a handler, a WSGI application, a directory. In a thread of its own, on a free port of
    127.0.0.1, without an access log, unless `settings` (those of `Config`) say otherwise.

    threads: those of a WSGI application; 0 runs it in the server's own.
    What is still running when the block ends is cut off. Raises OSError when an address cannot be listened on.
    """
    if [handler, wsgi, directory].count(None) != 2:
        raise TypeError("serve() takes one of: a handler, wsgi=, directory=")
    with ExitStack() as stack:
        if wsgi is not None:
            from .handlers.wsgi.application import WSGI

            application = WSGI(wsgi, threads)
            stack.callback(application.close)
            handler = application
        elif directory is not None:
            files = Files(directory)
            stack.callback(files.close)
            handler = files
        assert handler is not None
        server = stack.enter_context(Server(handler, Config(**{"port": 0, "access_log": False} | settings)))
        stack.callback(server.shutdown, 0.0)
        yield server


# What can happen to an answer.


class Fault(Protocol):
    """What happens to one request and its answer."""

    def begin(self, relay: Relay) -> bool:
        """The first bytes of the request are there. False ends the connection, and it never reaches the server."""

    def answer(self, relay: Relay, data: bytes) -> bool:
        """The server has answered `data`, or this much of it; what is to reach the client goes to `relay.send`. False
        ends the connection."""


class _Nothing(Fault):
    """The base of all faults: a request that meets none."""

    def begin(self, relay: Relay) -> bool:
        return True

    def answer(self, relay: Relay, data: bytes) -> bool:
        relay.send(data)
        return True


@dataclass(frozen=True)
class IdleClose(_Nothing):
    """The server closes an idle connection in the very moment in which the client sends its next request, which is not
    handled: the race that a client may answer by repeating what is idempotent (RFC 9110 §9.2.2).

    reset: not with an orderly end, but with a RST, as when the request meets a socket that is closed already.
    """

    reset: bool = False

    def begin(self, relay: Relay) -> bool:
        if self.reset:
            relay.reset()
        return False


@dataclass(frozen=True)
class Reset(_Nothing):
    """The request is handled, and the connection is reset after as many bytes of the answer as `after` says."""

    after: int = 0

    def answer(self, relay: Relay, data: bytes) -> bool:
        room = self.after - relay.answered
        relay.send(data[: max(0, room)])
        if len(data) < room:
            return True
        relay.reset()
        return False


@dataclass(frozen=True)
class Slow(_Nothing):
    """The answer arrives `size` bytes at a time, with a pause of `pause` seconds after each."""

    pause: float = 0.01
    size: int = 1

    def answer(self, relay: Relay, data: bytes) -> bool:
        for start in range(0, len(data), self.size):
            relay.send(data[start : start + self.size])
            if relay.pause(self.pause):
                return False
        return True


@dataclass(frozen=True)
class EarlyAnswer(_Nothing):
    """The server answers as soon as the request begins to arrive, reads no more of it, and closes: what a client gets
    that sends more than is wanted."""

    status: int = 413
    reason: str = "Content Too Large"

    def begin(self, relay: Relay) -> bool:
        lines = f"HTTP/1.1 {self.status} {self.reason}", f"Date: {format_date(int(time.time()))}"
        relay.send("\r\n".join((*lines, "Content-Length: 0", "Connection: close", "", "")).encode())
        return False


@dataclass(frozen=True)
class TruncatedBody(_Nothing):
    """The connection ends in an orderly way in the middle of the body: of its first chunk, or half-way to its
    Content-Length. Whoever takes that for the whole is wrong (RFC 9112 §8)."""

    def answer(self, relay: Relay, data: bytes) -> bool:
        relay.held += data
        end = _middle(relay.held)
        if end is None or len(relay.held) < end:
            return True
        relay.send(relay.held[:end])
        return False


def _middle(answer: bytes) -> int | None:
    """The index in the middle of the body; None until that can be told."""
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    body = len(head) + len(end)
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return body + int(value) // 2
        if name == b"transfer-encoding":
            digits, end, _ = rest.partition(b"\r\n")
            return body + len(digits) + len(end) + int(digits.partition(b";")[0], 16) // 2 if end else None
    return body


class Relay:
    """One connection of a client, as a fault sees it.

    answered: bytes of the present answer that have reached the client. held: those that a fault keeps for now.
    """

    def __init__(self, faults: Faults, client: socket.socket, server: socket.socket) -> None:
        self._faults = faults
        self._client = client
        self._server = server
        self._fault: Fault = _Nothing()
        self._is_answered = True  # what the client sends now is another request
        self.answered = 0
        self.held = b""

    def send(self, data: bytes) -> None:
        """To the client. Raises OSError when it is gone."""
        self._client.sendall(data)
        self.answered += len(data)

    def reset(self) -> None:
        """Has the connection end with a RST."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._client.close()

    def pause(self, seconds: float) -> bool:
        """Waits for `seconds`; whether everything is over meanwhile."""
        return self._faults.over.wait(seconds)

    @property
    def is_idle(self) -> bool:
        """Whether no answer is waited for."""
        return self._is_answered

    def stop(self) -> None:
        """Ends it from another thread, which wakes up its own."""
        try:
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is gone already
            pass

    def run(self) -> None:
        """Passes on what both ends say, until one of them, or a fault, has said enough."""
        try:
            while self._turn():
                pass
            self._part()
        except OSError:  # one of them is gone, and the other will see that
            pass
        finally:
            self._client.close()
            self._server.close()

    def _turn(self) -> bool:
        readable, _, _ = select.select([self._client, self._server], [], [])
        if self._client in readable:
            data = self._client.recv(_SIZE)
            if not data or (self._is_answered and not self._begin()):
                return False
            self._server.sendall(data)
        if self._server in readable:
            data = self._server.recv(_SIZE)
            if not data or not self._fault.answer(self, data):
                return False
            if not data.startswith(_CONTINUE):  # which is no answer yet
                self._is_answered = True
        return True

    def _begin(self) -> bool:
        self._is_answered = False
        self._fault = self._faults.take()
        self.answered = 0
        self.held = b""
        return self._fault.begin(self)

    def _part(self) -> None:
        """An orderly end: what the client still sends is read and forgotten, since a reset would destroy what it was
        sent."""
        if self._client.fileno() >= 0:
            self._client.shutdown(socket.SHUT_WR)
            self._client.settimeout(_LINGER)
            while self._client.recv(_SIZE):
                pass


class Faults:
    """Stands between clients and `server`, at an `address` and `url` of its own. As long as nothing is asked for, it
    passes everything on. Raises TypeError for a server that does not listen on TCP, OSError without a free port.

    >>> from kaserve import Response
    >>> with serve(lambda request: Response.text("hello")) as server, Faults(server) as faults:
    ...     faults.next(Reset(after=10), Slow(pause=0.001))  # for the next two requests
    """

    def __init__(self, server: Server) -> None:
        """server: with an address of TCP."""
        if not isinstance(server.address, tuple):
            raise TypeError("faults need a server that listens on TCP")
        self._server = server.address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._faults: deque[Fault] = deque()
        self._relays: dict[Relay, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="kaserve faults", daemon=True)
        self.over = threading.Event()
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.url = f"http://{self.address[0]}:{self.address[1]}/"

    def next(self, *faults: Fault) -> None:
        """Each of `faults` happens to one request, on whichever connection that comes, in this order; those after them
        meet none."""
        self._faults.extend(faults)

    def take(self) -> Fault:
        """The fault of a request that has just begun."""
        try:
            return self._faults.popleft()
        except IndexError:
            return _Nothing()

    def close_idle(self) -> int:
        """Closes, now, every connection that waits for no answer; how many."""
        idle = self._idle()
        for relay in idle:
            relay.stop()
        return len(idle)

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        with self._lock:
            return len(self._relays)

    @property
    def idle_connections(self) -> int:
        """How many wait for no answer."""
        return len(self._idle())

    def _idle(self) -> list[Relay]:
        with self._lock:
            return [relay for relay in self._relays if relay.is_idle]

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes up the thread that waits for it
        self._thread.join()
        self._listener.close()
        with self._lock:
            relays = dict(self._relays)
        for relay, thread in relays.items():
            relay.stop()
            thread.join()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # over
                return
            self._start(client)

    def _start(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = socket.create_connection(self._server)
        except OSError:  # the server is gone, and so is the connection
            client.close()
            return
        relay = Relay(self, client, server)
        thread = threading.Thread(target=self._run, args=(relay,), name="kaserve faults: a connection", daemon=True)
        with self._lock:
            self._relays[relay] = thread
        thread.start()

    def _run(self, relay: Relay) -> None:
        try:
            relay.run()
        finally:
            with self._lock:
                del self._relays[relay]
