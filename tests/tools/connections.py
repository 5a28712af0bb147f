"""For tests of connections: requests, ways to bring a connection into each phase, and expectations of the log."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

import h11
import pytest

from kaserve.http.body_stream import BodyStream
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BodySink, Handler, HandlerResult
from kaserve.http.messages import Request, Response
from kaserve.http.phases import BODY, HEAD, IDLE, LINGER, SEND, Phase
from kaserve.net.connection import Connection
from kaserve.net.poller import READ, WRITE
from kaserve.net.service import Deadlines
from tests.tools.net import GET, LAST_GET, Body, Client, Net, Router, ServerSocket, file_span, get, hello

PROGRESS_CHECKS = 8  # per send_timeout: how often a connection looks whether the kernel has sent something
WHEEL_DELAY = 0.2  # seconds: more than the timer wheel is ever late (one tick, 0.125 s)
SMALL_BUFFER = 4096  # bytes of send buffer, so that a client that does not read looks slow immediately
POST_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
EXPECT_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
CHUNKED_HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class MakeNet(Protocol):
    """The type of the fixture `make_net`: makes a Net that is closed after the test."""

    def __call__(self, handler: Handler = hello, **settings: Any) -> Net: ...


@contextmanager
def logged_errors(caplog: pytest.LogCaptureFixture, *expected: str) -> Iterator[None]:
    """Checks that exactly the `expected` patterns are logged meanwhile, in this order, all of them as errors."""
    caplog.clear()
    yield
    messages = [f"{record.getMessage()}\n{record.exc_text or ''}" for record in caplog.records]
    assert len(messages) == len(expected), messages
    for message, pattern in zip(messages, expected, strict=True):
        assert re.search(pattern, message), message
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    caplog.clear()


def server_socket(connection: Connection) -> ServerSocket:
    """The server's socket, which records how it is used."""
    sock = connection._sock
    assert isinstance(sock, ServerSocket)
    return sock


def send(net: Net, client: Client, data: bytes) -> None:
    """Sends `data` and runs the reactor until nothing is left to do."""
    client.send(data)
    net.settle()


# Looks inside a connection, for tests of memory and backpressure: bytes that it holds are visible in no other way.


def unsent(connection: Connection) -> bytes | memoryview:
    """The output that the kernel has not accepted yet."""
    return connection._writer.buffer


def unread(connection: Connection) -> bytes:
    """The received bytes that are not parsed yet."""
    return connection.protocol._received


def holds_response(connection: Connection) -> bool:
    """Whether the connection still refers to a response, its body, or a Future of one."""
    return connection._exchange is not None or connection._writer.source is not None


def holds_request(connection: Connection) -> bool:
    """Whether the connection still refers to a request, its sink or its decoder."""
    protocol = connection.protocol
    return not (protocol.request is None and protocol.sink is None and protocol._decoder is None)


def is_called_again(net: Net, connection: Connection) -> bool:
    """Whether the next turn of the reactor calls the connection, even without an event."""
    return connection in net.reactor._again


# Each of these sends what brings a connection into one phase.


def reach_idle(net: Net, client: Client) -> None:
    client.send(GET)


def reach_head(net: Net, client: Client) -> None:
    client.send(GET + b"G")


def reach_body(net: Net, client: Client) -> None:
    client.send(GET + POST_HEAD + b"12345")


def reach_send(net: Net, client: Client) -> None:
    client.send(GET + get("/large"))


def reach_linger(net: Net, client: Client) -> None:
    client.send(GET + LAST_GET)


# How to enter a phase, the events that the connection then waits for, and the seconds until its deadline.
PHASE_STARTS: dict[Phase, tuple[Callable[[Net, Client], None], int, float]] = {
    IDLE: (reach_idle, READ, 120 + 1),
    HEAD: (reach_head, READ, 30),
    BODY: (reach_body, READ, 60),
    SEND: (reach_send, WRITE, 60 / PROGRESS_CHECKS),
    LINGER: (reach_linger, READ, 5),
}


def large(request: Request) -> Response:
    """A handler: a response that no small buffer holds for /large, `hello` for other paths."""
    return Response.text("x" * 1_000_000) if request.path == "/large" else hello(request)


DEADLINES_WITH_RATE = Deadlines(body_timeout=10, send_timeout=10, min_rate=50)
MIN_BYTES = 500  # that extend a deadline of DEADLINES_WITH_RATE: 50 bytes/s for 10 s


def read_some(net: Net, client: Client, most: int) -> None:
    """Reads at most `most` bytes and runs the reactor until nothing is left to do."""
    client.read(most)
    net.settle()


def send_during_turn(net: Net, client: Client, data: bytes) -> None:
    """Lets `data` arrive during the next turn: after the poll, before the deadlines are checked."""
    net.reactor.call(lambda: client.send(data))


def read_slowly(net: Net, client: Client, count: int, seed: int = 0) -> list[Any]:
    """The responses to `count` GETs, read in pieces of random sizes."""
    rng = random.Random(seed)
    while True:
        net.settle()
        if not client.read(rng.choice([1, 100, 5000, 100_000])):
            return list(client.answers(*["GET"] * count))


CONTENT = random.Random(4).randbytes(150_000)


def echo(request: Request) -> Response:
    """A handler that responds with the body of the request."""
    return Response(200, request.body.read())


class StreamRouter(Router):
    """A router that also has paths whose bodies are read while they arrive: `take` responds with the body when it is
    complete, `mirror` with each piece as it comes, and `skip` at once."""

    def body_sink(self, request: Request) -> BodySink:
        return BodyStream() if request.path in ("/take", "/mirror", "/skip") else None

    def __call__(self, request: Request) -> HandlerResult:
        if request.path == "/take":
            pieces: list[bytes] = []
            return request.stream.consume(pieces.append, lambda: Response(200, b"".join(pieces)))
        if request.path == "/mirror":
            return Response(200, mirror(request.stream))
        return hello(request) if request.path == "/skip" else super().__call__(request)


def mirror(stream: BodyStream) -> Iterator[bytes | Future[bytes]]:
    """The pieces of a body as they come, for a response."""
    while True:
        piece = stream.read()
        yield piece
        if not (piece.result() if isinstance(piece, Future) else piece):
            return


def all_routes() -> Router:
    """A handler with one path for each kind of response and failure."""

    def in_pieces() -> Body:
        return Body(CONTENT[start : start + 7000] for start in range(0, len(CONTENT), 7000))

    length = {"Content-Length": str(len(CONTENT))}
    router = StreamRouter(
        bytes=lambda request: Response(200, CONTENT),
        file=lambda request: Response(200, file_span(CONTENT)),
        empty=lambda request: Response(200, file_span(b"")),
        pieces=lambda request: Response(200, in_pieces()),
        counted=lambda request: Response(200, in_pieces(), length),
        fails=RuntimeError("the handler's own fault"),
        no=HTTPError(403, "no"),
        last=Response(200, b"bye", {"Connection": "close"}),
        late=lambda request: Response(200, Body([b"x"] * 9, fails_after=5)),
        echo=echo,
    )
    router.answers["fails-first"] = lambda request: Response(200, Body([b"x"], fails_after=0))
    router.refusals["unwanted"] = HTTPError(401, "no")
    return router


def take_response(data: bytes, method: str, ended: bool) -> tuple[bytes, bool, int, bytes] | None:
    """Parses the first response in `data` with h11.

    Returns:
        Its content, whether it says close, its status, and the bytes after it; None if it is incomplete.

    Raises:
        h11.RemoteProtocolError: It is not a valid response to `method`.
    """
    if not data:
        return None  # h11 takes b"" for the end of the connection
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    content, status, close = b"", 0, False
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            if not ended or status == 0 or client.their_state is not h11.SEND_BODY:
                return None
            ended = False
            try:
                client.receive_data(b"")
                event = client.next_event()  # the end of the connection ends such a body
            except h11.RemoteProtocolError:
                return None
        if isinstance(event, h11.Response):
            status = event.status_code
            close = (b"connection", b"close") in event.headers
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            return content, close, status, client.trailing_data[0]
