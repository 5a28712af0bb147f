"""Bodies that the handler reads while they arrive: flow control, deadlines, faults, early responses, departures."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaserve.http.body_stream import BodyStream, ClientDisconnected
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, Handler, HandlerResult
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.http.phases import BODY, CLOSED, HANDLER, IDLE, LINGER, SEND
from kaserve.net.connection import Connection
from kaserve.net.poller import READ, SelectorPoller
from kaserve.net.service import CLIENT_LEAVES
from kaserve.net.streaming import StreamedRequest
from kaserve.net.tls import TLS
from tests.tools.connections import (
    CHUNKED_HEAD,
    CONTINUE,
    DEADLINES_WITH_RATE,
    EXPECT_HEAD,
    MIN_BYTES,
    POST_HEAD,
    SMALL_BUFFER,
    WHEEL_DELAY,
    MakeNet,
    echo,
    holds_request,
    logged_errors,
    mirror,
    send,
    send_during_turn,
    unread,
)
from tests.tools.net import GET, Client, Net, get, post
from tests.tools.tls import TLSClient, make_certificate
from tests.tools.wire import Answer, Case, bytewise, load_corpus, whole

CONTENT = random.Random(14).randbytes(300_000)
LARGE_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n"


class Collect(BaseHandler):
    """Responds with the body, once all of it has been read."""

    streams = True

    def __init__(self) -> None:
        self.pieces: list[list[bytes]] = []
        self.trailers: list[Any] = []

    def __call__(self, request: Request) -> HandlerResult:
        pieces: list[bytes] = []
        self.pieces.append(pieces)

        def respond() -> Response:
            self.trailers.append(request.stream.trailers)
            return Response(200, b"".join(pieces))

        return request.stream.consume(pieces.append, respond)


class Echo(BaseHandler):
    """Sends each piece back as it comes."""

    streams = True

    def __call__(self, request: Request) -> Response:
        return Response(200, mirror(request.stream))


class Held(BaseHandler):
    """A handler that the test plays: it has the requests, and completes the Futures of the responses."""

    streams = True

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.responses: list[Future[Response]] = []

    def __call__(self, request: Request) -> HandlerResult:
        self.requests.append(request)
        self.responses.append(Future())
        return self.responses[-1]

    @property
    def stream(self) -> BodyStream:
        return self.requests[-1].stream

    def respond(self, *arguments: Any, **keywords: Any) -> None:
        self.responses[-1].set_result(Response(*arguments, **keywords))


def waits(stream: BodyStream, n: int = 65536) -> Future[bytes]:
    """A read that finds nothing here."""
    future = stream.read(n)
    assert isinstance(future, Future)
    assert not future.done()
    return future


def chunked(body: bytes, size: int, trailers: bytes = b"") -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n%b\r\n" % trailers


def ask(net: Net, client: Client, *requests: bytes) -> list[Answer]:
    """Sends `requests` and reads the responses meanwhile, since an echo goes on only then."""
    exchange(net, client, b"".join(requests))
    return client.answers(*[request.split(b" ", 1)[0].decode() for request in requests])


def exchange(net: Net, client: Client, wire: bytes) -> None:
    while wire:
        wire = wire[client.send(wire) :]
        net.settle()
        client.read()
    net.settle()
    while client.read():
        net.settle()


def begin(make_net: MakeNet, wire: bytes = POST_HEAD, **settings: Any) -> tuple[Held, Net, Client, Connection]:
    """A connection whose handler has been called at the head of a request."""
    handler = Held()
    net = make_net(handler, **settings)
    client, connection = net.connect(tcp=True)
    send(net, client, wire)
    assert len(handler.requests) == 1
    return handler, net, client, connection


# The body.


@pytest.mark.parametrize("handler", [Collect, Echo])
@pytest.mark.parametrize(
    "wire",
    [
        post(CONTENT),
        CHUNKED_HEAD + chunked(CONTENT, 7000),
        CHUNKED_HEAD + chunked(CONTENT[:3000], 1),
        post(b""),
        CHUNKED_HEAD + chunked(b"", 1),
        GET,
    ],
    ids=["length", "chunks", "tiny chunks", "length 0", "no chunks", "no body"],
)
def test_the_body_reaches_the_handler(make_net: MakeNet, handler: Callable[[], BaseHandler], wire: bytes) -> None:
    net = make_net(handler())
    client, connection = net.connect()
    body = {b"GET": b""}.get(wire[:3], CONTENT if len(wire) > 100_000 else CONTENT[:3000] if len(wire) > 999 else b"")
    for _ in range(3):  # the connection persists
        (response,) = ask(net, client, wire)
        assert response.body == body
        assert response.persists
    assert connection.phase == IDLE
    assert net.stats.requests == 3


@pytest.mark.parametrize("wire", [post(b"0123456789"), CHUNKED_HEAD + chunked(b"0123456789", 3, b"A: b\r\n")])
def test_byte_by_byte(make_net: MakeNet, wire: bytes) -> None:
    net = make_net(handler := Collect())
    client, _ = net.connect()
    for byte in wire:
        send(net, client, bytes([byte]))
    (response,) = client.answers("POST")
    assert response.body == b"0123456789"
    assert len(handler.pieces[0]) == 10
    assert handler.trailers == [[("a", "b")] if b"chunked" in wire else []]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_splits(data: st.DataObject) -> None:
    """RFC 9112 §7.1: nothing depends on how the bytes arrive. Pipelined, with other requests between them."""
    net = Net(data.draw(st.sampled_from([Collect, Echo]))())
    try:
        client, _ = net.connect()
        requests, bodies = [], []
        for _ in range(data.draw(st.integers(1, 4))):
            body = CONTENT[: data.draw(st.sampled_from([0, 1, 10, 1000, 70_000]))]
            size = data.draw(st.sampled_from([1, 7, 1000, 50_000])) if len(body) < 5000 else 4000
            kinds = {"length": post(body), "chunks": CHUNKED_HEAD + chunked(body, size), "none": GET}
            kind = data.draw(st.sampled_from(sorted(kinds)))
            requests.append(kinds[kind])
            bodies.append(b"" if kind == "none" else body)
        wire = b"".join(requests)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
        for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            exchange(net, client, wire[start:stop])
        responses = client.answers(*[request.split(b" ", 1)[0].decode() for request in requests])
        assert [response.body for response in responses] == bodies
    finally:
        net.close()


@pytest.mark.parametrize("split", [whole, bytewise])
@pytest.mark.parametrize("case", load_corpus(), ids=str)
def test_the_corpus_means_the_same(case: Case, split: Callable[[bytes], list[bytes]]) -> None:
    """Whether a handler streams makes no difference to a byte of what the client gets, nor to the connection."""
    streamed, buffered = (play(case, split, handler) for handler in (Collect(), echo))
    assert streamed == buffered


def play(case: Case, split: Callable[[bytes], list[bytes]], handler: Handler) -> tuple[bytes, int, str | None]:
    net = Net(handler, limits=Limits(**dict(case.limits)))
    try:
        client, connection = net.connect()
        for piece in split(case.wire):
            exchange(net, client, piece)
        if case.eof:
            client.finish()
            exchange(net, client, b"")
        return client.received, connection.phase, connection.ending
    finally:
        net.close()


def test_clients_that_leave_are_noticed_without_epoll(make_net: MakeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the selectors of other systems."""
    monkeypatch.setattr("tests.tools.net.new_poller", SelectorPoller)
    handler, net, client, connection = begin(make_net)
    assert connection.phase == HANDLER
    read = waits(handler.stream)
    net.settle()
    send(net, client, b"01234")
    assert read.result(0) == b"01234"
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    with pytest.raises(ClientDisconnected):
        handler.stream.read()


def test_a_read_returns_what_is_here_and_at_most_what_was_asked_for(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net, POST_HEAD + b"01234")
    stream = handler.stream
    assert [stream.read(2), stream.read(2), stream.read(2)] == [b"01", b"23", b"4"]
    more = waits(stream, 3)
    net.settle()
    send(net, client, b"56789")
    assert more.result(0) == b"567"
    assert [stream.read(), stream.read(), stream.read()] == [b"89", b"", b""]
    handler.respond(200, b"done")
    net.settle()
    assert client.answers("POST")[0].body == b"done"


def test_http_1_0_bodies_have_a_length(make_net: MakeNet) -> None:
    """RFC 9112 §6.1: no chunks in HTTP/1.0. The response ends with the connection, unless its length is known."""
    net = make_net(Echo())
    client, connection = net.connect()
    client.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello")
    net.settle()
    client.read()
    assert client.received.endswith(b"\r\n\r\nhello")
    assert connection.phase == LINGER


def test_over_tls(make_net: MakeNet, tmp_path: Any) -> None:
    """A record of 16 KiB is decrypted as a whole: the poller must not wait for what is here already."""
    net = make_net(Echo())
    client = TLSClient(net, TLS([make_certificate(tmp_path, "h", "h.example")])).handshake()
    for size in (10, 40_000):
        client.received = b""
        client.write(post(CONTENT[:size]))
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = client.read()
            assert piece
            received += piece
        assert unchunk(received.partition(b"\r\n\r\n")[2]) == CONTENT[:size]


def unchunk(data: bytes) -> bytes:
    content = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if size == b"0":
            return content
        content += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]


# Flow control.


def test_nothing_is_read_while_the_handler_does_not_ask(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    assert connection.phase == HANDLER
    assert net.interest(connection) == CLIENT_LEAVES
    received = net.stats.received
    sent = 0
    while (taken := client.send(b"x" * 1_000_000)) == 1_000_000:  # until the buffers of the kernel are full
        sent += taken
        net.settle()
    assert net.stats.received == received
    for _ in range(20):
        handler.stream.read()
        net.settle()
        assert net.stats.received - received <= 64 * 1024
        received = net.stats.received
        assert not unread(connection)


def test_a_slow_reader_has_at_most_64_kib_in_user_space(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net, LARGE_HEAD)
    stream = handler.stream
    taken = 0
    for _ in range(2000):
        client.send(b"x" * 100_000)
        piece = stream.read(100)
        net.settle()
        taken += len(piece.result(0) if isinstance(piece, Future) else piece)
        assert net.stats.received - len(LARGE_HEAD) - taken <= 64 * 1024
    assert taken > 190_000


def test_an_echo_reads_no_more_than_it_can_send(make_net: MakeNet) -> None:
    """A client that does not read gets nothing more, and nothing more is read from it; then it goes on."""
    net = make_net(Echo())
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    wire = post(CONTENT)
    sent = 0
    for _ in range(100):
        sent += client.send(wire[sent:])
        net.settle()
    assert sent < len(wire)
    assert connection.phase == SEND
    assert net.stats.received - net.stats.sent <= 64 * 1024 + 2 * SMALL_BUFFER
    while sent < len(wire):
        client.read()
        net.settle()
        sent += client.send(wire[sent:])
        net.settle()
    while client.read():
        net.settle()
    assert client.answers("POST")[0].body == CONTENT
    assert connection.phase == IDLE


def test_one_read_at_a_time(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net)
    first = waits(handler.stream)
    with pytest.raises(RuntimeError, match="still waiting"):
        handler.stream.read()
    assert first.cancel()
    second = waits(handler.stream)
    net.settle()
    send(net, client, b"01234")
    assert second.result(0) == b"01234"
    with pytest.raises(ValueError, match="1 or more"):
        handler.stream.read(0)


def test_a_cancelled_read_loses_no_bytes(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net)
    waits(handler.stream)
    net.settle()
    assert connection.phase == BODY
    handler.stream._waiting.cancel()  # type: ignore[union-attr]
    send(net, client, b"01234")
    assert connection.phase == HANDLER
    assert handler.stream.read() == b"01234"


def test_the_future_of_consume_can_be_cancelled(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net)
    pieces: list[bytes] = []
    done = handler.stream.consume(pieces.append, lambda: pytest.fail("it was cancelled"))
    send(net, client, b"01")
    assert done.cancel()
    send(net, client, b"23")
    assert pieces == [b"01"]
    assert handler.stream.read() == b"23"


@pytest.mark.parametrize("place", ["write", "then"])
def test_an_exception_in_consume_is_that_of_its_future(
    make_net: MakeNet, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Any:
        raise OSError(28, "disk full")

    class Failing(BaseHandler):
        streams = True

        def __call__(self, request: Request) -> HandlerResult:
            return request.stream.consume(*((fail, Response) if place == "write" else (len, fail)))

    net = make_net(Failing())
    client, _ = net.connect()
    with logged_errors(caplog, "disk full"):
        (response,) = net.ask(client, post(b"0123456789"))
    assert response.status == 500
    assert response.persists


# 100 (Continue).


def test_100_continue_is_sent_when_the_body_is_first_asked_for(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1."""
    handler, net, client, connection = begin(make_net, EXPECT_HEAD)
    assert client.read() == b""
    read = waits(handler.stream)
    net.settle()
    assert client.read() == CONTINUE
    assert connection.phase == BODY
    client.received = b""
    send(net, client, b"01234")
    assert read.result(0) == b"01234"
    rest = waits(handler.stream)
    send(net, client, b"56789")
    assert rest.result(0) == b"56789"
    handler.respond(200, b"done")
    net.settle()
    (response,) = client.answers("POST")  # and no second 100
    assert response.persists


def test_no_100_continue_once_the_body_has_begun_to_arrive(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1: a server may omit it then."""
    net = make_net(Collect())
    client, _ = net.connect()
    (response,) = net.ask(client, EXPECT_HEAD + b"0", b"123456789", methods=["POST"])
    assert response.body == b"0123456789"


def test_a_response_instead_of_100_continue_announces_that_the_connection_closes(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1: the client may send the body or not, so the next request could not be told from it."""
    handler, net, client, connection = begin(make_net, EXPECT_HEAD)
    handler.respond(200, b"no need")
    net.settle()
    (response,) = client.answers("POST")
    assert response.body == b"no need"
    assert not response.persists
    assert connection.phase == LINGER
    assert connection.ending == "refused"


def test_no_100_continue_after_the_head_of_the_response(make_net: MakeNet) -> None:
    """RFC 9110 §15.2: 1xx responses come before the final one."""

    def pieces(stream: BodyStream) -> Iterator[bytes | Future[bytes]]:
        yield b"first "
        yield from mirror(stream)

    class Late(BaseHandler):
        streams = True

        def __call__(self, request: Request) -> Response:
            return Response(200, pieces(request.stream))

    net = make_net(Late())
    client, _ = net.connect()
    (response,) = net.ask(client, EXPECT_HEAD, b"0123456789", methods=["POST"])
    assert response.body == b"first 0123456789"


def test_an_echo_sends_100_continue_before_its_head(make_net: MakeNet) -> None:
    net = make_net(Echo())
    client, _ = net.connect()
    send(net, client, EXPECT_HEAD)
    client.read()
    assert client.received.startswith(CONTINUE + b"HTTP/1.1 200 OK\r\n")
    client.received = client.received.removeprefix(CONTINUE)
    (response,) = net.ask(client, b"0123456789", methods=["POST"])
    assert response.body == b"0123456789"


def test_a_body_that_was_never_invited_may_not_come(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1: it was asked for too late, so the next request could not be told from it."""
    handler, net, client, connection = begin(make_net, EXPECT_HEAD)
    piece: Future[bytes] = Future()
    handler.respond(200, iter([b"a", piece]))
    net.settle()
    read = waits(handler.stream)
    net.settle()
    assert connection.phase == BODY
    piece.set_result(b"b")
    net.settle()
    assert client.answers("POST")[0].body == b"ab"
    assert connection.phase == LINGER
    assert connection.ending == "refused"
    with pytest.raises(RuntimeError, match="the response is complete"):
        read.result(0)


# Deadlines.


def test_a_handler_that_does_not_ask_has_no_deadline(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, deadlines=DEADLINES_WITH_RATE)
    net.sleep(10_000)
    assert connection.phase == HANDLER
    send(net, client, b"0123456789")
    read = handler.stream.read()
    net.settle()
    assert isinstance(read, Future)
    assert read.result(0) == b"0123456789"


def test_a_stalled_client_gets_408(make_net: MakeNet) -> None:
    """RFC 9110 §15.5.9."""
    handler, net, client, connection = begin(make_net, POST_HEAD + b"01234", deadlines=DEADLINES_WITH_RATE)
    net.sleep(100)
    assert handler.stream.read() == b"01234"
    read = waits(handler.stream)
    net.settle()
    assert net.interest(connection) == READ
    assert net.time_left(connection) == 10
    net.sleep(10 + WHEEL_DELAY)
    (response,) = client.answers("POST")
    assert response.status == 408
    assert not response.persists
    assert connection.phase == LINGER
    assert net.stats.refused == {408: 1}
    assert handler.responses[0].cancelled()
    with pytest.raises(HTTPError, match="408"):
        read.result(0)
    with pytest.raises(HTTPError, match="408"):
        handler.stream.read()
    client.close()
    net.settle()
    assert net.stats.closed == {"body timeout": 1}


def test_a_stalled_client_is_reset_once_the_response_has_begun(make_net: MakeNet) -> None:
    net = make_net(Echo(), deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect(tcp=True)
    send(net, client, POST_HEAD + b"01234")
    assert connection.phase == BODY
    net.sleep(10 + WHEEL_DELAY)
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert net.stats.closed == {"body timeout": 1}


def test_the_rest_that_is_here_at_the_deadline_is_read(make_net: MakeNet) -> None:
    net = make_net(Collect())
    client, _ = net.connect()
    send(net, client, POST_HEAD)
    net.clock.advance(1000)
    send_during_turn(net, client, b"0123456789")
    net.settle()
    assert client.answers("POST")[0].body == b"0123456789"


def test_the_deadline_counts_only_while_the_handler_asks(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD, deadlines=DEADLINES_WITH_RATE)
    for left in (10, 7, 4, 1):
        waits(handler.stream)
        net.settle()
        assert net.time_left(connection) == pytest.approx(left)
        net.sleep(3 if left > 1 else 0)
        send(net, client, b"x")  # a byte is no progress
        assert connection.phase == HANDLER
        net.sleep(100)
    waits(handler.stream)
    net.sleep(1 + WHEEL_DELAY)
    assert client.answers("POST")[0].status == 408


def test_progress_begins_a_new_deadline(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD, deadlines=DEADLINES_WITH_RATE)
    for _ in range(5):
        for size in (1, MIN_BYTES - 1):
            waits(handler.stream)
            net.sleep(4.5)
            send(net, client, b"x" * size)
    waits(handler.stream)
    net.settle()
    assert net.time_left(connection) == 10


def test_a_client_that_does_not_read_an_echo_is_reset(make_net: MakeNet) -> None:
    net = make_net(Echo(), deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    for _ in range(10):
        send(net, client, LARGE_HEAD + b"x" * 200_000)
    assert connection.phase == SEND
    net.sleep(10 + 2 * WHEEL_DELAY)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"send timeout": 1}


# Faults.


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (CHUNKED_HEAD + b"5\r\nhello\r\nno\r\n", 400),
        (CHUNKED_HEAD + b"5\r\nhellooo\r\n", 400),
        (CHUNKED_HEAD + b"ffff\r\n", 413),
        (CHUNKED_HEAD + b"4\r\nfour\r\n" * 26, 413),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_fault_in_the_body_becomes_the_response(make_net: MakeNet, wire: bytes, status: int, split: bool) -> None:
    """RFC 9112 §7.1, RFC 9110 §15.5.14. What came before it can be read."""
    net = make_net(Collect(), limits=Limits(body=100))
    client, connection = net.connect()
    for piece in map(bytes, zip(wire)) if split else [wire]:
        send(net, client, piece)
    send(net, client, GET)  # nothing after it is taken for a request
    (response,) = client.answers("POST")
    assert response.status == status
    assert not response.persists
    assert connection.phase == LINGER
    assert connection.ending == "refused"
    assert net.stats.refused == {status: 1}


def test_a_length_beyond_the_limit_is_413_before_the_handler(make_net: MakeNet) -> None:
    net = make_net(handler := Collect(), limits=Limits(body=100))
    client, _ = net.connect()
    (response,) = net.ask(client, LARGE_HEAD, methods=["POST"])
    assert response.status == 413
    assert handler.pieces == []


def test_a_fault_after_the_response_has_begun_cuts_it_off(make_net: MakeNet) -> None:
    """It is the client's fault, so no traceback is logged, and it does not count as a failure of the handler."""
    net = make_net(Echo())
    client, _ = net.connect(tcp=True)
    send(net, client, CHUNKED_HEAD + b"5\r\nhello\r\n")
    send(net, client, b"no\r\n")
    client.read()
    assert b"hello" in client.received
    assert client.was_reset
    assert net.stats.failed == 0
    assert net.stats.refused == {400: 1}
    assert net.stats.closed == {"refused": 1}


def test_a_fault_of_the_handler_while_it_reads_is_logged(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    def pieces(stream: BodyStream) -> Iterator[bytes | Future[bytes]]:
        yield stream.read()
        raise HTTPError(400, "too late for that")

    class Failing(BaseHandler):
        streams = True

        def __call__(self, request: Request) -> Response:
            return Response(200, pieces(request.stream))

    net = make_net(Failing())
    client, _ = net.connect(tcp=True)
    with logged_errors(caplog, "too late for that"):
        send(net, client, CHUNKED_HEAD + b"5\r\nhello\r\n")
    assert net.stats.failed == 1
    assert net.stats.closed == {"failed": 1}


@pytest.mark.parametrize(
    ("handler", "end"),
    [
        (Collect, "complete"),
        (Collect, "fault"),
        (Collect, "fin"),
        (Collect, "reset"),
        (Echo, "complete"),
        (Echo, "reset"),
    ],
)
def test_a_streamed_request_leaves_no_reference_cycle(
    make_net: MakeNet, handler: Callable[[], BaseHandler], end: str
) -> None:
    """Reference counts free it. (An exception in a piece of a response is a cycle of its own: its traceback.)"""
    net = make_net(handler())
    gc.collect()
    gc.disable()
    try:
        client, connection = net.connect(tcp=True)
        send(net, client, CHUNKED_HEAD + b"5\r\nhello\r\n")
        assert sum(type(each) is BodyStream for each in gc.get_objects()) == 1
        if end in ("complete", "fault"):
            exchange(net, client, b"0\r\n\r\n" if end == "complete" else b"no\r\n")
        else:
            client.finish() if end == "fin" else client.reset()
            net.settle()
        assert not holds_request(connection)
        assert not any(type(each) in (BodyStream, StreamedRequest) for each in gc.get_objects())
    finally:
        gc.enable()


def test_a_handler_may_respond_to_a_fault_itself(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net, CHUNKED_HEAD + b"no\r\n")
    with pytest.raises(HTTPError, match="400"):
        handler.stream.read()
    handler.respond(422, b"mine")
    net.settle()
    (response,) = client.answers("POST")
    assert (response.status, response.body) == (422, b"mine")
    assert not response.persists


def test_before_body_still_rejects(make_net: MakeNet) -> None:
    class Picky(Collect):
        def before_body(self, request: Request) -> None:
            raise HTTPError(403, "no")

    net = make_net(handler := Picky())
    client, _ = net.connect()
    (response, other) = net.ask(client, post(b"small"), GET)
    assert (response.status, other.status) == (403, 200)
    assert len(handler.pieces) == 1


# Early responses, and what is unread then.


@pytest.mark.parametrize("here", [0, 5, 10])
def test_a_small_rest_is_skipped(make_net: MakeNet, here: int) -> None:
    """RFC 9112 §9.3: what is left of the body must not be taken for the next request."""
    handler, net, client, connection = begin(make_net, POST_HEAD + b"0123456789"[:here])
    handler.respond(200, b"early")
    net.settle()
    (response,) = client.answers("POST")
    assert response.body == b"early"
    assert response.persists
    assert connection.phase == IDLE
    send(net, client, b"0123456789"[here:] + GET)
    handler.respond(200, b"next")
    net.settle()
    assert client.answers("GET")[0].body == b"next"
    with pytest.raises(RuntimeError, match="the response is complete"):
        handler.requests[0].stream.read()


def test_the_rest_of_chunks_is_skipped(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net, CHUNKED_HEAD + b"5\r\nhello\r\n3\r")
    handler.respond(200, b"early")
    net.settle()
    send(net, client, b"\nabc\r\n0\r\nA: b\r\n\r\n" + GET)
    handler.respond(200, b"next")
    net.settle()
    assert [response.body for response in client.answers("POST", "GET")] == [b"early", b"next"]


def test_an_error_of_the_handler_does_not_close(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net)
    handler.responses[0].set_exception(HTTPError(403, "no"))
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 403
    assert response.persists


def test_a_large_rest_ends_the_connection_and_the_response_says_so(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    while client.send(b"x" * 1_000_000) == 1_000_000:
        net.settle()
    handler.respond(413, b"early")  # while the client is sending
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 413
    assert not response.persists
    assert connection.phase == LINGER
    assert connection.ending == "refused"
    net.sleep(1)
    client.close()
    net.settle()
    assert net.stats.closed == {"refused": 1}


def test_a_large_rest_of_chunks_ends_the_connection(make_net: MakeNet) -> None:
    """Its size is not known at the head of the response."""
    handler, net, client, connection = begin(make_net, CHUNKED_HEAD)
    handler.respond(200, b"early")
    net.settle()
    assert client.answers("POST")[0].persists
    assert connection.phase == IDLE
    send(net, client, chunked(b"x" * 100_000, 1000) + GET)
    assert client.read() == b""
    assert client.ended
    assert connection.phase == LINGER
    assert connection.ending == "refused"


@pytest.mark.parametrize("rest", [b"no\r\n", b"1000000000\r\n", b"10001\r\n" + b"x" * 65537])
def test_a_fault_in_the_rest_gets_no_second_response(make_net: MakeNet, rest: bytes) -> None:
    handler, net, client, connection = begin(make_net, CHUNKED_HEAD)
    handler.respond(200, b"early")
    net.settle()
    assert client.answers("POST")[0].persists
    send(net, client, rest)
    assert client.read() == b""
    assert connection.phase == LINGER


def test_an_idle_connection_waits_for_the_rest_no_longer_than_for_a_request(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net)
    handler.respond(200, b"early")
    net.settle()
    for _ in range(9):
        send(net, client, b"x")
        net.sleep(12)
    assert connection.phase == IDLE
    net.sleep(13 + WHEEL_DELAY)
    assert connection.phase == LINGER
    assert connection.ending == "idle"


def test_a_response_in_pieces_may_leave_a_large_rest(make_net: MakeNet) -> None:
    """It might have read on, so its head cannot announce it; the connection ends anyway."""
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    handler.respond(200, iter([b"a", b"b"]))
    net.settle()
    (response,) = client.answers("POST")
    assert response.body == b"ab"
    assert connection.phase == LINGER
    assert connection.ending == "refused"


def test_pipelined_after_a_streamed_request(make_net: MakeNet) -> None:
    net = make_net(Collect())
    client, _ = net.connect()
    responses = ask(net, client, post(CONTENT), GET, CHUNKED_HEAD + chunked(b"abc", 1), post(b"x"), get("/z"))
    assert [response.body for response in responses] == [CONTENT, b"", b"abc", b"x", b""]


# Departures.


@pytest.mark.parametrize("asks", [False, True])
def test_a_reset_is_noticed(make_net: MakeNet, asks: bool) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    read = waits(handler.stream) if asks else None
    net.settle()
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.requests[0].disconnected
    assert handler.responses[0].cancelled()
    with pytest.raises(ClientDisconnected):
        handler.stream.read()
    if read is not None:
        with pytest.raises(ClientDisconnected):
            read.result(0)
    assert net.stats.closed == {"reset" if asks else "disconnected": 1}


def test_a_piece_that_waits_for_the_body_is_cancelled(make_net: MakeNet) -> None:
    net = make_net(Echo())
    client, connection = net.connect(tcp=True)
    send(net, client, LARGE_HEAD + b"x")
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"reset": 1}


def test_a_fin_within_the_body_is_an_incomplete_body(make_net: MakeNet) -> None:
    """RFC 9112 §8."""
    handler, net, client, _ = begin(make_net, POST_HEAD + b"01234")
    client.finish()
    net.settle()
    assert handler.stream.read() == b"01234"
    read = waits(handler.stream)
    net.settle()
    with pytest.raises(HTTPError, match="incomplete"):
        read.result(0)
    handler.responses[0].set_exception(read.exception(0))
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 400
    assert not response.persists
    assert client.ended


def test_a_client_that_half_closes_after_the_body_is_served(make_net: MakeNet) -> None:
    """RFC 9112 §9.6. The bytes before its FIN are read, however late the handler asks."""
    handler, net, client, connection = begin(make_net)
    send(net, client, b"0123456789")
    client.finish()
    net.sleep(20)
    assert connection.phase == HANDLER
    read = handler.stream.read()
    net.settle()
    assert isinstance(read, Future)
    assert read.result(0) == b"0123456789"
    net.sleep(20)
    handler.respond(200, b"done")
    net.settle()
    assert client.answers("POST")[0].body == b"done"
    assert not client.was_reset


def test_a_half_closed_client_has_its_deadline_while_the_handler_does_not_ask(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net)
    client.finish()
    net.sleep(30 + WHEEL_DELAY)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"half-close timeout": 1}
    assert handler.requests[0].disconnected


def test_what_is_unread_when_the_client_leaves_does_not_look_like_the_whole(make_net: MakeNet) -> None:
    handler, net, client, _ = begin(make_net, POST_HEAD + b"0123456789")
    assert handler.stream.read(3) == b"012"
    client.reset()
    net.settle()
    with pytest.raises(ClientDisconnected):
        handler.stream.read()


# The rest of a connection's life.


def test_a_shutdown_shortens_the_wait_for_a_body(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    waits(handler.stream)
    net.settle()
    net.service.drain()
    assert net.time_left(connection) == 5
    send(net, client, b"x")
    waits(handler.stream)
    net.settle()
    assert net.time_left(connection) == 5
    net.sleep(5 + WHEEL_DELAY)
    (response,) = client.answers("POST")
    assert response.status == 408


def test_a_shutdown_shortens_a_wait_that_is_interrupted(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net, LARGE_HEAD)
    waits(handler.stream)
    net.settle()
    send(net, client, b"x")
    assert connection.phase == HANDLER
    net.service.drain()
    waits(handler.stream)
    net.settle()
    assert net.time_left(connection) == 5


def test_a_shutdown_waits_for_a_streamed_request(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net)
    net.service.drain()
    net.sleep(100)
    assert connection.phase == HANDLER
    handler.respond(200, b"done")
    net.settle()
    assert client.answers("POST")[0].body == b"done"
    net.sleep(1 + WHEEL_DELAY)
    assert connection.ending == "drain"


def test_eviction_passes_by_a_streamed_request(make_net: MakeNet) -> None:
    handler, net, _, connection = begin(make_net)
    assert connection.idle_since == float("inf")
    waits(handler.stream)
    net.settle()
    assert connection.idle_since == float("inf")


def test_eviction_while_a_rest_is_skipped(make_net: MakeNet) -> None:
    handler, net, client, connection = begin(make_net)
    handler.respond(200, b"early")
    net.settle()
    send(net, client, b"012")
    connection.evict()
    assert connection.phase == LINGER
    assert connection.ending == "evicted"


def test_an_abort_ends_it(make_net: MakeNet) -> None:
    handler, net, _, connection = begin(make_net)
    read = waits(handler.stream)
    net.settle()
    connection.abort()
    assert net.stats.closed == {"shutdown": 1}
    with pytest.raises(ClientDisconnected):
        read.result(0)


def test_the_request_limit_counts_streamed_requests(make_net: MakeNet) -> None:
    net = make_net(Collect(), keep_alive=KeepAlive(120, 2))
    client, connection = net.connect()
    first, second = net.ask(client, post(b"a"), post(b"b"))
    assert (first.persists, second.persists) == (True, False)
    assert connection.ending == "request limit"


def test_the_times_of_a_streamed_request(make_net: MakeNet) -> None:
    """The request arrives with its head; from then on the handler is at work."""
    logged: list[tuple[float, float, float, int]] = []

    class Log:
        timed = True

        def log(self, exchange: Any) -> None:
            logged.append((*exchange.durations(), exchange.bytes_sent))

    net = make_net(Collect(), access_log=Log())
    client, _ = net.connect()
    send(net, client, POST_HEAD[:-1])
    net.clock.advance(1)
    send(net, client, POST_HEAD[-1:])
    net.clock.advance(2)
    send(net, client, b"0123456789")
    assert client.answers("POST")[0].status == 200
    assert logged == [(1, 2, 0, 10)]
    assert net.stats.received == len(POST_HEAD) + 10


def test_the_body_of_a_streamed_request_is_not_in_a_file(make_net: MakeNet) -> None:
    handler, _, _, _ = begin(make_net)
    with pytest.raises(RuntimeError, match=r"request\.stream"):
        handler.requests[0].body  # noqa: B018
    with pytest.raises(RuntimeError, match=r"request\.stream"):
        handler.requests[0].form()


def test_a_handler_decides_for_each_request(make_net: MakeNet) -> None:
    class Both(BaseHandler):
        def body_sink(self, request: Request) -> BodyStream | None:
            return BodyStream() if request.path == "/stream" else None

        def __call__(self, request: Request) -> HandlerResult:
            pieces: list[bytes] = []
            return request.stream.consume(pieces.append, lambda: Response(200, b"".join(pieces)))

    net = make_net(Both())
    client, _ = net.connect()
    responses = ask(net, client, post(b"one"), post(b"two", path="/stream"), post(CONTENT), GET)
    assert [response.body for response in responses] == [b"one", b"two", CONTENT, b""]
