"""Tools for tests of the net package: fake clocks, a reactor turned by hand, clients at the other end of a socket pair.

Nothing here sleeps. A turn of the reactor handles what has arrived, and bytes sent through a socket pair or the
loopback device have arrived as soon as they were sent.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from kaserve.http.address import Address
from kaserve.http.file_span import FileSpan, Piece
from kaserve.http.handler import BaseHandler, Handler, HandlerResult, as_handler
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.net.connection import Connection
from kaserve.net.poller import NOTHING, Poller, new_poller
from kaserve.net.reactor import Reactor
from kaserve.net.service import AccessLog, Deadlines, Service
from kaserve.net.tls import TLS
from tests.tools.wire import Answer, read_answers

START = 1000.0
EPOCH = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
PEER = Address("192.0.2.1", 4711)
HERE = Address("192.0.2.2", 80)

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def post(body: bytes, *fields: str, path: str = "/") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def hello(request: Request) -> Response:
    """The handler of most tests."""
    return Response.text("hello")


class FakeClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class WatchedPoller:
    """A poller, a real one by default, that records what it waits for, which epoll does not tell."""

    def __init__(self, poller: Poller | None = None) -> None:
        self._poller = new_poller() if poller is None else poller
        self.watched: dict[int, int] = {}
        self.changes = 0

    def register(self, fd: int, events: int) -> None:
        self._poller.register(fd, events)
        self.watched[fd] = events
        self.changes += 1

    def modify(self, fd: int, events: int) -> None:
        self._poller.modify(fd, events)
        self.watched[fd] = events
        self.changes += 1

    def unregister(self, fd: int) -> None:
        self._poller.unregister(fd)
        del self.watched[fd]
        self.changes += 1

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._poller.poll(timeout)

    def fileno(self) -> int:
        return self._poller.fileno()

    def close(self) -> None:
        self._poller.close()


class Net:
    """A reactor with two fake clocks, a service, and the connections that clients make to it."""

    def __init__(
        self,
        handler: Handler = hello,
        *,
        deadlines: Deadlines | None = None,
        limits: Limits | None = None,
        keep_alive: KeepAlive | None = None,
        access_log: AccessLog | None = None,
        chance: Callable[[], float] = lambda: 0.0,
        poller: Poller | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.wall = FakeClock(EPOCH)
        self.poller = WatchedPoller(poller)
        self.reactor = Reactor(self.clock, self.wall, self.poller)
        self.service = Service(
            self.reactor,
            as_handler(handler),
            limits=limits,
            keep_alive=keep_alive,
            deadlines=deadlines,
            access_log=access_log,
            rng=chance,
        )
        self.stats = self.service.stats
        self._clients: list[Client] = []

    def connect(self, *, tcp: bool = False, send_buffer: int = 0, tls: TLS | None = None) -> tuple[Client, Connection]:
        """Returns a client and the connection that serves it.

        Args:
            tcp: over the loopback device instead of a socket pair.
            send_buffer: bytes of the server that the kernel buffers; 0 for the default.
            tls: the server speaks TLS; the client sends and receives what the test does.
        """
        theirs, accepted = tcp_pair() if tcp else socket.socketpair()
        ours = ServerSocket(accepted)
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, send_buffer)
        ours.setblocking(False)
        client = Client(theirs)
        self._clients.append(client)
        return client, Connection(self.service, ours if tls is None else tls.wrap(ours), PEER, HERE)

    def step(self) -> None:
        """Makes one turn."""
        self.reactor.step(0.0)

    @property
    def busy(self) -> bool:
        """Whether a turn would do something."""
        return self.reactor.timeout() == 0.0 or bool(self.reactor._poller.poll(0.0))

    def settle(self, most: int = 10_000) -> int:
        """Makes turns until nothing is left to do now, and returns how many."""
        for turns in range(most):
            if not self.busy:
                return turns
            self.step()
        raise AssertionError("the reactor does not come to rest")

    def sleep(self, seconds: float) -> None:
        """Lets time pass; each timer that becomes due fires at its time."""
        end = self.clock.now + seconds
        self.settle()
        while (wait := self.reactor.timeout()) is not None and self.clock.now + wait <= end:
            self.clock.advance(max(wait, 1e-6))  # at least enough to change the clock
            self.step()
            self.settle()
        self.clock.now = end
        self.settle()

    def interest(self, connection: Connection) -> int:
        """Returns the events that the poller waits for on the socket of `connection`."""
        return self.poller.watched.get(connection._sock.fileno(), NOTHING)

    def time_left(self, connection: Connection) -> float:
        """Returns the seconds until the deadline of `connection`, which is on the wheel exactly if it has one."""
        assert (connection._slot >= 0) == (connection.deadline < float("inf"))
        return connection.deadline - self.clock.now

    def ask(self, client: Client, *requests: bytes, methods: Iterable[str] = ()) -> list[Answer]:
        """Sends `requests` at once, and returns the responses when nothing is left to do."""
        wire = b"".join(requests)
        sent = 0
        while sent < len(wire):
            sent += client.send(wire[sent:])
            self.settle()
        return client.answers(*(methods or [request.split(b" ", 1)[0].decode() for request in requests]))

    def close(self) -> None:
        """Closes everything that a test left open."""
        for client in self._clients:
            client.close()
        for connection in list(self.service.connections):
            connection.abort()
        self.reactor.close()


class ServerSocket(socket.socket):
    """The server's end of a connection, which records how it is used."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.sends: list[tuple[int, int]] = []  # the bytes and the flags of each send
        self.aborted = False  # SO_LINGER was set, so that closing resets

    def send(self, data: Any, flags: int = 0) -> int:
        sent = super().send(data, flags)
        self.sends.append((sent, flags))
        return sent

    def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]  # it is overloaded there
        self.aborted = self.aborted or option == socket.SO_LINGER
        super().setsockopt(level, option, value)


class Client:
    """The client's end of a connection; it reads only when a test does."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.received = b""  # and not returned by `answers` yet
        self.ended = False  # the server closed its side, or both
        self.was_reset = False

    def send(self, data: bytes) -> int:
        """Sends `data`, and returns how many bytes of it the kernel took."""
        sent = 0
        try:
            while sent < len(data):
                sent += self.sock.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
        except ConnectionError:  # the server is gone: the bytes are lost
            return len(data)
        return sent

    def read(self, most: int = 1 << 62) -> bytes:
        """Reads at most `most` bytes that have arrived, and adds them to `received`."""
        pieces = []
        while most > 0 and not self.ended:
            try:
                piece = self.sock.recv(min(most, 65536))
            except BlockingIOError:
                break
            except ConnectionError:
                self.was_reset = True
                piece = b""
            self.ended = not piece
            pieces.append(piece)
            most -= len(piece)
        data = b"".join(pieces)
        self.received += data
        return data

    def answers(self, *methods: str) -> list[Answer]:
        """Returns what has arrived, which must be exactly the responses to requests with `methods`."""
        self.read()
        received, self.received = self.received, b""
        return read_answers(received, methods)

    def finish(self) -> None:
        """Closes the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Disappears; over TCP with a RST."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Returns a client's and a server's end of a connection over the loopback device."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for sock in (theirs, ours):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return theirs, ours


def open_descriptors() -> int:
    """Returns how many descriptors are open. Fewer than before is no error: garbage of an earlier test may be collected
    at any time."""
    return len(os.listdir("/dev/fd"))


class Body:
    """An iterable body that records its calls."""

    def __init__(self, pieces: Iterable[Piece | Future[Piece]], fails_after: int = -1) -> None:
        """fails_after: raise an exception in place of the piece with this index."""
        self.pulled = 0
        self.closed = 0
        self._pieces = iter(pieces)
        self._fails_after = fails_after

    def __iter__(self) -> Iterator[Piece | Future[Piece]]:
        return self

    def __next__(self) -> Piece | Future[Piece]:
        assert not self.closed, "pulled after close()"
        if self.pulled == self._fails_after:
            raise RuntimeError("the handler's own fault")
        piece = next(self._pieces)
        self.pulled += 1
        return piece

    def close(self) -> None:
        self.closed += 1


class Router(BaseHandler):
    """A handler that responds to each path as a test says, and records the requests; it has the hook `before_body`."""

    def __init__(self, **answers: Callable[[Request], Response] | Response | Exception) -> None:
        """`answers`: for each path a function that is called, a response, or an exception that is raised."""
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.answers = answers
        self.refusals: dict[str, Exception] = {}

    def __call__(self, request: Request) -> HandlerResult:
        self.requests.append(request)
        self.bodies.append(request.body.read())
        request.body.seek(0)
        answer = self.answers.get(request.path.strip("/"), hello)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else answer(request)

    def before_body(self, request: Request) -> None:
        refusal = self.refusals.get(request.path.strip("/"))
        if refusal is not None:
            raise refusal


def file_span(data: bytes, offset: int = 0, length: int = -1) -> FileSpan:
    """Returns a span of an unlinked file that contains `data`."""
    fd = os.memfd_create("span") if hasattr(os, "memfd_create") else _unnamed_file()
    os.write(fd, data)
    return FileSpan(fd, offset, len(data) - offset if length < 0 else length)


def _unnamed_file() -> int:
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd
