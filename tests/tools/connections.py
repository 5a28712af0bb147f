"""For tests of connections: requests, ways to bring a connection into each phase, and expectations of the log."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import h11
import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.messages import Request, Response
from kaserve.http.phases import BODY, HEAD, IDLE, LINGER, SEND, Phase
from kaserve.net.connection import Connection
from kaserve.net.poller import READ, WRITE
from kaserve.net.service import Deadlines, Handler
from tests.tools.net import GET, LAST_GET, Body, Client, Net, Router, ServerSocket, file_span, get, hello

PROGRESS_CHECKS = 8  # at an answer that the kernel takes nothing more of, until its deadline

WHEEL_DELAY = 0.2  # seconds; the wheel is at most a tick of 0.125 late

SMALL_BUFFER = 4096  # bytes: a kernel that takes little is a slow client

POST_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
EXPECT_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
CHUNKED_HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class MakeNet(Protocol):
    """Makes the one Net of a test, closed afterwards."""

    def __call__(self, handler: Handler = hello, **settings: Any) -> Net: ...


@contextmanager
def logged_errors(caplog: pytest.LogCaptureFixture, *expected: str) -> Iterator[None]:
    """What is logged meanwhile, in order; every one of it an error."""
    caplog.clear()
    yield
    messages = [f"{record.getMessage()}\n{record.exc_text or ''}" for record in caplog.records]
    assert len(messages) == len(expected), messages
    for message, pattern in zip(messages, expected, strict=True):
        assert re.search(pattern, message), message
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    caplog.clear()


def server_socket(connection: Connection) -> ServerSocket:
    sock = connection._sock
    assert isinstance(sock, ServerSocket)
    return sock


def send(net: Net, client: Client, data: bytes) -> None:
    """Sends `data`; whatever can be done about it now is done."""
    client.send(data)
    net.settle()


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


PHASE_STARTS: dict[Phase, tuple[Callable[[Net, Client], None], int, float]] = {
    IDLE: (reach_idle, READ, 120 + 1),
    HEAD: (reach_head, READ, 30),
    BODY: (reach_body, READ, 60),
    SEND: (reach_send, WRITE, 60 / PROGRESS_CHECKS),
    LINGER: (reach_linger, READ, 5),
}


def large(request: Request) -> Response:
    return Response.text("x" * 1_000_000) if request.path == "/large" else hello(request)


DEADLINES_WITH_RATE = Deadlines(body_timeout=10, send_timeout=10, min_rate=50)

MIN_BYTES = 500  # bytes that start a deadline of DEADLINES_WITH_RATE anew


def read_some(net: Net, client: Client, most: int) -> None:
    """Reads `most` bytes; whatever follows from that happens."""
    client.read(most)
    net.settle()


def send_during_turn(net: Net, client: Client, data: bytes) -> None:
    """Lets `data` arrive in the next turn after readiness was asked for, and before the deadlines are looked at."""
    net.reactor.call(lambda: client.send(data))


def read_slowly(net: Net, client: Client, count: int, seed: int = 0) -> list[Any]:
    """The answers to `count` GETs, read in pieces of random sizes."""
    chance = random.Random(seed)
    while True:
        net.settle()
        if not client.read(chance.choice([1, 100, 5000, 100_000])):
            return list(client.answers(*["GET"] * count))


CONTENT = random.Random(4).randbytes(150_000)


def echo(request: Request) -> Response:
    return Response(200, request.body.read())


def all_routes() -> Router:
    def in_pieces() -> Body:
        return Body(CONTENT[start : start + 7000] for start in range(0, len(CONTENT), 7000))

    length = {"Content-Length": str(len(CONTENT))}
    router = Router(
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
    """The content of the first answer in `data`, whether it says close, its status, and what follows; None when it is
    not complete. Raises h11.RemoteProtocolError."""
    if not data:
        return None  # which to h11 would be the end of the connection
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
                event = client.next_event()  # the end of a body that is delimited by it
            except h11.RemoteProtocolError:
                return None
        if isinstance(event, h11.Response):
            status = event.status_code
            close = (b"connection", b"close") in event.headers
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            return content, close, status, client.trailing_data[0]
