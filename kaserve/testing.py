"""For tests: a real server on a free port, and connections that fail in the ways that networks do.

>>> from kaserve import Response
>>> with serve(lambda request: Response.text("hello")) as server:
...     server.url.startswith("http://127.0.0.1:")
True

`serve` runs a server in a thread. `Faults` is a relay between its clients and it, which does to chosen responses what
networks and other servers do. Knows nothing of pytest; `kaserve.pytest_plugin` offers both as fixtures.
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

from .cli.load import new_asgi
from .config import new_config, wsgi_threads
from .effects import Runner, Served, Way
from .handlers import WSGI
from .http.address import Address
from .http.dates import format_date
from .http.handler import Handler
from .server import Server
from .server.directory import new_directory

__all__ = ["EarlyResponse", "Fault", "Faults", "IdleClose", "Relay", "Reset", "Slow", "TruncatedBody", "serve"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0: close() sends a RST
_CONTINUE = b"HTTP/1.1 100 "
_LINGER = 5.0  # seconds for a client to close its side
_READ_SIZE = 65536


@contextmanager
def serve(
    handler: Handler | None = None,
    *,
    wsgi: Callable[..., Any] | None = None,
    asgi: Callable[..., Any] | None = None,
    directory: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """Runs a server in a thread of its own while the block runs.

    Requests that are still running at the end of the block are aborted.

    Args:
        handler: a handler. Exactly one of `handler`, `wsgi`, `asgi` and `directory` must be given.
        wsgi: a WSGI application.
        asgi: an ASGI application.
        directory: the path of a directory of files.
        settings: those of `Config`, also those of a directory (`compress=True`) and of a WSGI application (`threads=0`
            runs it on the server's own thread). By default the server listens on a free port of 127.0.0.1 and has no
            access log.

    Returns:
        A context manager, whose value is the server.

    Raises:
        ConfigError: a value is not accepted, or a setting has no effect on what is served.
        TypeError: none or several of the four were given, or what was given cannot be called; or there is no setting
            of such a name.
        OSError: an address cannot be listened on, or the directory or another file cannot be read.
    """
    if [handler, wsgi, asgi, directory].count(None) != 3:
        raise TypeError("serve() needs exactly one of: a handler, wsgi=, asgi=, directory=")
    for name, application in (("wsgi", wsgi), ("asgi", asgi)):
        if application is not None and not callable(application):
            raise TypeError(f"{name} must be an application, not {type(application).__name__}")
    with ExitStack() as stack:
        if directory is not None:
            settings["directory"] = os.fsdecode(directory)
        config = new_config({"port": 0, "access_log": False} | settings)
        served = Served.HANDLER
        if wsgi is not None:
            served = Served.WSGI
            threaded = WSGI(wsgi, wsgi_threads(config))
            stack.callback(threaded.close)
            handler = threaded
        elif asgi is not None:
            served = Served.ASGI
            handler = new_asgi(config, asgi)
        elif directory is not None:
            served = Served.DIRECTORY
            files = new_directory(config)
            stack.callback(files.close)
            handler = files
        assert handler is not None
        server = stack.enter_context(Server(handler, config, way=Way(Runner.LIBRARY, served)))
        stack.callback(server.shutdown, 0.0)
        yield server


# What can happen to a response.


class Fault(Protocol):
    """What happens to one request and its response."""

    def on_request(self, relay: Relay) -> bool:
        """Called when the first bytes of the request are there.

        Returns:
            False to end the connection, so that the request does not reach the server.
        """

    def on_response(self, relay: Relay, data: bytes) -> bool:
        """Called with each part of the response, as it comes from the server. Nothing reaches the client but what this
        gives to `relay.send`.

        Returns:
            False to end the connection.
        """


class _NoFault(Fault):
    """The base of all faults: passes everything on."""

    def on_request(self, relay: Relay) -> bool:
        return True

    def on_response(self, relay: Relay, data: bytes) -> bool:
        relay.send(data)
        return True


@dataclass(frozen=True)
class IdleClose(_NoFault):
    """The server closes an idle connection at the moment in which the client sends its next request.

    The request is not handled. A client may repeat it on another connection if it is idempotent (RFC 9110 §9.2.2).

    Attributes:
        reset: close with a RST, as when the request reaches a socket that is closed already.
    """

    reset: bool = False

    def on_request(self, relay: Relay) -> bool:
        if self.reset:
            relay.reset()
        return False


@dataclass(frozen=True)
class Reset(_NoFault):
    """The request is handled, and the connection is reset during the response.

    Attributes:
        after: bytes of the response before the reset. A response that is not longer arrives unharmed.
    """

    after: int = 0

    def on_response(self, relay: Relay, data: bytes) -> bool:
        left = self.after - relay.sent
        relay.send(data[: max(0, left)])
        if len(data) < left:
            return True
        relay.reset()
        return False


@dataclass(frozen=True)
class Slow(_NoFault):
    """The response arrives slowly.

    Attributes:
        pause: seconds after each part.
        size: bytes of a part.
    """

    pause: float = 0.01
    size: int = 1

    def on_response(self, relay: Relay, data: bytes) -> bool:
        for start in range(0, len(data), self.size):
            relay.send(data[start : start + self.size])
            if relay.pause(self.pause):
                return False
        return True


@dataclass(frozen=True)
class EarlyResponse(_NoFault):
    """The server responds as soon as the request begins to arrive, reads no more of it, and closes: what a client gets
    for a body that is too large.

    Attributes:
        status: of the response, which has no content.
        reason: its reason phrase.
    """

    status: int = 413
    reason: str = "Content Too Large"

    def on_request(self, relay: Relay) -> bool:
        lines = f"HTTP/1.1 {self.status} {self.reason}", f"Date: {format_date(int(time.time()))}"
        relay.send("\r\n".join((*lines, "Content-Length: 0", "Connection: close", "", "")).encode())
        return False


@dataclass(frozen=True)
class TruncatedBody(_NoFault):
    """The connection ends in an orderly way in the middle of the body: of its first chunk, or half-way to its
    Content-Length. A client must not mistake that for the whole (RFC 9112 §8)."""

    def on_response(self, relay: Relay, data: bytes) -> bool:
        relay.held += data
        end = _middle_of_body(relay.held)
        if end is None or len(relay.held) < end:
            return True
        relay.send(relay.held[:end])
        return False


def _middle_of_body(response: bytes) -> int | None:
    """The index of the middle of the body; None until enough of the response is there to tell."""
    head, end, rest = response.partition(b"\r\n\r\n")
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
    """One client's connection through `Faults`, and the connection to the server that belongs to it.

    Attributes:
        sent: bytes of the current response that the client was sent.
        held: for a fault that needs to keep a part of the response; empty when a request begins.
    """

    def __init__(self, faults: Faults, client: socket.socket, server: socket.socket) -> None:
        self._faults = faults
        self._client = client
        self._server = server
        self._fault: Fault = _NoFault()
        self._is_idle = True  # so that the next bytes of the client begin a request
        self.sent = 0
        self.held = b""

    def send(self, data: bytes) -> None:
        """Sends `data` to the client. Raises OSError if the client has left."""
        self._client.sendall(data)
        self.sent += len(data)

    def reset(self) -> None:
        """Closes the client's connection with a RST."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._client.close()

    def pause(self, seconds: float) -> bool:
        """Waits for `seconds`. Returns True at once if the `Faults` are being closed."""
        return self._faults.closing.wait(seconds)

    @property
    def is_idle(self) -> bool:
        """Whether the client waits for no response."""
        return self._is_idle

    def stop(self) -> None:
        """Ends the connection, from any thread: the relay's own wakes up."""
        try:
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed already
            pass

    def run(self) -> None:
        """Relays until one side, or a fault, ends the connection."""
        try:
            while self._relay_once():
                pass
            self._linger()
        except OSError:  # one side has left; closing tells the other
            pass
        finally:
            self._client.close()
            self._server.close()

    def _relay_once(self) -> bool:
        """Waits for bytes and passes them on. Returns False if the connection is to end."""
        readable, _, _ = select.select([self._client, self._server], [], [])
        if self._client in readable:
            data = self._client.recv(_READ_SIZE)
            if not data or (self._is_idle and not self._begin_request()):
                return False
            self._server.sendall(data)
        if self._server in readable:
            data = self._server.recv(_READ_SIZE)
            if not data or not self._fault.on_response(self, data):
                return False
            if not data.startswith(_CONTINUE):  # an interim response; the client still waits for the final one
                self._is_idle = True
        return True

    def _begin_request(self) -> bool:
        self._is_idle = False
        self._fault = self._faults.take()
        self.sent = 0
        self.held = b""
        return self._fault.on_request(self)

    def _linger(self) -> None:
        """Closes in an orderly way: reads and drops what the client still sends, since closing a socket with unread
        bytes sends a RST, which destroys what is on its way to the client (RFC 9112 §9.6)."""
        if self._client.fileno() >= 0:
            self._client.shutdown(socket.SHUT_WR)
            self._client.settimeout(_LINGER)
            while self._client.recv(_READ_SIZE):
                pass


class Faults:
    """A relay between clients and a server, which makes chosen requests fail. Without a fault it passes everything on.

    >>> from kaserve import Response
    >>> with serve(lambda request: Response.text("hello")) as server, Faults(server) as faults:
    ...     faults.next(Reset(after=10), Slow(pause=0.001))  # for the next two requests

    A context manager: it relays while the block runs.

    Args:
        server: a running server that listens on TCP.

    Attributes:
        address: (host, port) for clients, instead of the server's own.
        url: the same as a URL.
        closing: set when the block has ended.

    Raises:
        TypeError: the server does not listen on TCP.
        OSError: there is no free port.
    """

    def __init__(self, server: Server) -> None:
        if not isinstance(server.address, Address):
            raise TypeError(f"Faults needs a server that listens on TCP, not on {server.address!r}")
        self._server = server.address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._faults: deque[Fault] = deque()
        self._relays: dict[Relay, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="kaserve faults", daemon=True)
        self.closing = threading.Event()
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.url = f"http://{self.address[0]}:{self.address[1]}/"

    def next(self, *faults: Fault) -> None:
        """Each of `faults` happens to one request, in this order, on whichever connection the request comes. Requests
        after that have no fault."""
        self._faults.extend(faults)

    def take(self) -> Fault:
        """The fault for a request that has just begun."""
        try:
            return self._faults.popleft()
        except IndexError:
            return _NoFault()

    def close_idle(self) -> int:
        """Closes every connection whose client waits for no response. Returns how many."""
        idle = self._idle_relays()
        for relay in idle:
            relay.stop()
        return len(idle)

    @property
    def open_connections(self) -> int:
        """Number of connected clients."""
        with self._lock:
            return len(self._relays)

    @property
    def idle_connections(self) -> int:
        """Number of connected clients that wait for no response."""
        return len(self._idle_relays())

    def _idle_relays(self) -> list[Relay]:
        with self._lock:
            return [relay for relay in self._relays if relay.is_idle]

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread up from accept(), which close() would not
        self._thread.join()
        self._listener.close()
        with self._lock:
            relays = dict(self._relays)
        for relay, thread in relays.items():
            relay.stop()
            thread.join()

    def _accept(self) -> None:
        """Accepts clients until the block ends, in a thread."""
        while not self.closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener was shut down
                return
            self._start(client)

    def _start(self, client: socket.socket) -> None:
        """Starts the relay of `client`, in another thread."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = socket.create_connection(self._server)
        except OSError:  # the server has stopped, so the client's connection ends as well
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
