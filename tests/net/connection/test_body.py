"""The BODY phase: request bodies, their deadline and minimum rate, 100 (Continue), and bodies that are rejected."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, BodySink
from kaserve.http.messages import Request, Response
from kaserve.http.phases import BODY, CLOSED, HANDLER, IDLE, LINGER
from kaserve.net.connection import Connection
from kaserve.net.service import Deadlines
from tests.tools.connections import (
    CHUNKED_HEAD,
    CONTINUE,
    DEADLINES_WITH_RATE,
    EXPECT_HEAD,
    MIN_BYTES,
    POST_HEAD,
    WHEEL_DELAY,
    MakeNet,
    echo,
    logged_errors,
    send,
    send_during_turn,
)
from tests.tools.net import GET, HERE, PEER, Client, Net, Router, post


def test_without_a_minimum_rate_each_byte_of_a_body_extends_the_deadline(make_net: MakeNet) -> None:
    """RFC 9110 §15.5.9: a body that stops arriving gets a 408 with Connection: close."""
    net = make_net(deadlines=Deadlines(min_rate=0))
    client, connection = net.connect()
    client.send(POST_HEAD)
    for _ in range(9):
        net.sleep(59)
        client.send(b"x")
        net.settle()
        assert connection.phase == BODY
        assert net.time_left(connection) == 60
    net.sleep(60 + WHEEL_DELAY)
    (response,) = client.answers("POST")
    assert response.status == 408
    assert not response.persists
    assert connection.phase == LINGER
    assert net.stats.refused == {408: 1}


def begin_body(net: Net, length: int) -> tuple[Client, Connection]:
    client, connection = net.connect()
    send(net, client, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length)
    assert connection.phase == BODY
    return client, connection


def test_a_body_at_the_minimum_rate_arrives(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response.text(str(len(request.body.read()))), deadlines=DEADLINES_WITH_RATE)
    client, connection = begin_body(net, 20 * MIN_BYTES)
    for _ in range(20):
        assert connection.phase == BODY
        assert net.time_left(connection) == 10
        for size in (1, MIN_BYTES - 1):
            net.sleep(4.9)
            send(net, client, b"x" * size)
    (response,) = client.answers("POST")
    assert response.body == b"10000"


def test_a_body_below_the_minimum_rate_is_408(make_net: MakeNet) -> None:
    """A few bytes per second are not progress."""
    net = make_net(deadlines=DEADLINES_WITH_RATE)
    client, connection = begin_body(net, 20 * MIN_BYTES)
    for _ in range(9):
        net.sleep(1)
        send(net, client, b"x" * (MIN_BYTES // 10))
    send(net, client, b"x" * (MIN_BYTES // 10 - 1))
    assert net.time_left(connection) == 1
    net.sleep(1 + WHEEL_DELAY)
    (response,) = client.answers("POST")
    assert response.status == 408
    assert connection.phase == LINGER


def test_chunked_bodies_have_the_same_minimum_rate(make_net: MakeNet) -> None:
    net = make_net(deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect()
    send(net, client, CHUNKED_HEAD)
    for _ in range(12):
        send(net, client, b"1\r\nx\r\n")
        net.sleep(1)
    assert connection.phase == LINGER
    assert client.answers("POST")[0].status == 408


def test_bodies_reach_the_handler_in_order(make_net: MakeNet) -> None:
    net = make_net(router := Router())
    client, _ = net.connect()
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    responses = net.ask(client, post(b"first"), chunked, post(b""), GET, post(b"x" * 300_000))
    assert [response.status for response in responses] == [200] * 5
    assert router.bodies == [b"first", b"abcde", b"", b"", b"x" * 300_000]
    assert {(request.client, request.server) for request in router.requests} == {(PEER, HERE)}


def test_a_client_that_expects_100_continue_gets_it(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1."""
    net = make_net(router := Router())
    client, connection = net.connect()
    client.send(EXPECT_HEAD)
    net.settle()
    assert connection.phase == BODY
    assert client.read() == CONTINUE
    client.received = b""
    (response,) = net.ask(client, b"0123456789", methods=["POST"])
    assert response.status == 200
    assert response.persists
    assert router.bodies == [b"0123456789"]


def test_100_continue_follows_the_responses_to_earlier_requests(make_net: MakeNet) -> None:
    net = make_net()
    client, _ = net.connect()
    client.send(GET + EXPECT_HEAD)
    net.settle()
    client.read()
    assert client.received.endswith(b"hello" + CONTINUE)


@pytest.mark.parametrize(
    "begun", [pytest.param(b"0", id="first byte here"), pytest.param(b"0123456789", id="all of it here")]
)
def test_no_100_continue_once_the_body_has_begun_to_arrive(make_net: MakeNet, begun: bytes) -> None:
    """RFC 9110 §10.1.1: the server may omit it then."""
    net = make_net()
    client, _ = net.connect()
    (response,) = net.ask(client, EXPECT_HEAD + begun, b"0123456789"[len(begun) :], methods=["POST"])
    assert response.status == 200


def test_no_100_continue_to_http_1_0(make_net: MakeNet) -> None:
    """RFC 9110 §15.2: HTTP/1.0 does not define 1xx status codes."""
    net = make_net()
    client, connection = net.connect()
    client.send(EXPECT_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"))
    net.settle()
    assert connection.phase == BODY
    assert client.read() == b""
    (response,) = net.ask(client, b"0123456789", methods=["POST"])
    assert response.status == 200


def test_no_100_continue_to_a_request_without_a_body(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1: without content there is nothing to wait for."""
    net = make_net()
    client, _ = net.connect()
    (response,) = net.ask(client, b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n")
    assert response.status == 200
    assert response.persists


def test_a_rejected_body_gets_a_final_status_instead_of_100_continue(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1: the final status is sent immediately, and no 100."""
    router = Router()
    router.refusals["no"] = HTTPError(401, "who are you?", (("WWW-Authenticate", "Basic"),))
    net = make_net(router)
    client, connection = net.connect()
    (response,) = net.ask(client, EXPECT_HEAD.replace(b"/ ", b"/no "))
    assert response.status == 401
    assert response.value("www-authenticate") == "Basic"
    assert not response.persists
    assert connection.phase == LINGER
    assert router.requests == []


def test_a_rejection_does_not_wait_for_a_large_body(make_net: MakeNet) -> None:
    router = Router()
    router.refusals["no"] = HTTPError(413, "too much")
    net = make_net(router)
    client, connection = net.connect()
    (response,) = net.ask(client, b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n")
    assert response.status == 413
    assert not response.persists
    assert connection.phase == LINGER
    assert router.requests == []


def test_a_small_rejected_body_is_drained_and_the_connection_persists(make_net: MakeNet) -> None:
    router = Router()
    router.refusals["no"] = HTTPError(413, "too much")
    net = make_net(router)
    client, connection = net.connect()
    send(net, client, POST_HEAD.replace(b"/ ", b"/no "))
    assert client.received == b""
    rejected, again = net.ask(client, b"0123456789", GET)
    assert (rejected.status, again.status) == (413, 200)
    assert connection.phase == IDLE
    assert [request.method for request in router.requests] == ["GET"]
    assert net.stats.refused == {413: 1}


def test_a_rejected_body_in_chunks_is_drained_up_to_a_limit(make_net: MakeNet) -> None:
    router = Router()
    router.refusals["echo"] = HTTPError(403, "not for you")
    net = make_net(router)
    small, connection = net.connect()
    rejected, again = net.ask(small, CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n", GET)
    assert (rejected.status, again.status) == (403, 200)
    large, connection = net.connect()
    (rejected,) = net.ask(large, CHUNKED_HEAD + b"10001\r\n" + bytes(0x10001))
    assert (rejected.status, rejected.persists) == (403, False)
    assert connection.phase == LINGER


@pytest.mark.parametrize("fault", [ZeroDivisionError(), FileNotFoundError()], ids=repr)
def test_a_failing_before_body_hook_is_a_500(
    make_net: MakeNet, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.refusals["no"] = fault
    net = make_net(router)
    client, _ = net.connect()
    with logged_errors(caplog, type(fault).__name__):
        (response,) = net.ask(client, post(b"x", path="/no"))
    assert response.status == 500
    assert not response.persists


class Sink:
    """Discards a body and raises `fault` in the methods named by `places`."""

    def __init__(self, fault: Exception, *places: str) -> None:
        self._fault = fault
        self._places = places
        self.abandoned = 0

    def _may_fail(self, place: str) -> None:
        if place in self._places:
            raise self._fault

    def write(self, data: bytes) -> None:
        self._may_fail("write")

    def finish(self) -> Any:
        self._may_fail("finish")

    def abandon(self) -> None:
        self.abandoned += 1
        self._may_fail("abandon")


class SinkRouter(Router):
    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self.sink = sink

    def body_sink(self, request: Request) -> BodySink:
        return self.sink


@pytest.mark.parametrize("place", ["write", "finish"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(HTTPError(413, "no more"), 413, id="HTTPError"),
        pytest.param(OSError(28, "disk full"), 500, id="disk full"),
        pytest.param(RuntimeError(), 500, id="other exception"),
    ],
)
def test_the_error_of_a_failing_sink_reaches_the_client(
    make_net: MakeNet, place: str, fault: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(fault, place)
    net = make_net(router := SinkRouter(sink))
    client, _ = net.connect()
    (response,) = net.ask(client, post(b"0123456789"))
    assert response.status == status
    assert not response.persists
    assert sink.abandoned == 1
    assert router.requests == []
    assert len(caplog.records) == (status == 500)
    caplog.clear()


def test_the_sink_of_an_incomplete_body_is_abandoned(make_net: MakeNet) -> None:
    sink = Sink(OSError())
    net = make_net(SinkRouter(sink))
    client, connection = net.connect()
    client.send(POST_HEAD + b"12345")
    net.settle()
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert sink.abandoned == 1


@pytest.mark.parametrize("size", [10, 150_000])
def test_the_rest_of_a_body_that_is_here_at_the_deadline_is_read(make_net: MakeNet, size: int) -> None:
    """It may have arrived while this process was stopped (SIGSTOP). A large one takes more than one look."""
    net = make_net(echo, deadlines=Deadlines(min_rate=size))
    client, _ = net.connect()
    wire = post(b"x" * size)
    client.send(wire[:-size])
    net.settle()
    net.clock.advance(1000)
    send_during_turn(net, client, wire[-size:])
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 200
    assert response.body == b"x" * size


class Undecided(BaseHandler):
    """A handler that decides about a body once its Future is done."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.calls: list[str] = []
        self.error: HTTPError | None = None

    def before_body(self, request: Request) -> None:
        self.calls.append("before_body")

    def body_sink(self, request: Request) -> BodySink:
        self.calls.append("body_sink")
        if not self.future.done():
            return self.future
        if self.error is not None:
            raise self.error
        return None

    def __call__(self, request: Request) -> Response:
        return echo(request)


def test_100_continue_waits_for_an_undecided_handler(make_net: MakeNet) -> None:
    """RFC 9110 §10.1.1."""
    net = make_net(handler := Undecided())
    client, connection = net.connect()
    send(net, client, EXPECT_HEAD)
    assert connection.phase == HANDLER
    assert client.read() == b""
    handler.future.set_result(None)
    net.settle()
    assert client.read() == CONTINUE
    assert handler.calls == ["before_body", "body_sink", "body_sink"]
    assert net.time_left(connection) == 60
    client.received = b""
    (response,) = net.ask(client, b"0123456789", methods=["POST"])
    assert response.body == b"0123456789"


@pytest.mark.parametrize("begun", [b"", b"01234"])
def test_no_body_is_read_while_a_handler_is_undecided(make_net: MakeNet, begun: bytes) -> None:
    net = make_net(handler := Undecided())
    client, connection = net.connect()
    send(net, client, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n" + begun)
    received = net.stats.received
    client.send(b"x" * 50_000)
    net.settle()
    net.sleep(3600)
    assert (net.stats.received, connection.phase) == (received, HANDLER)
    handler.error = HTTPError(401, "who are you?")
    handler.future.set_result(None)
    net.settle()
    (response,) = client.answers("POST")
    assert (response.status, response.persists) == (401, False)
    assert net.stats.refused == {401: 1}


def test_a_small_body_is_there_when_a_handler_decides(make_net: MakeNet) -> None:
    net = make_net(handler := Undecided())
    client, connection = net.connect()
    send(net, client, post(b"body") + GET)
    assert connection.phase == HANDLER
    handler.future.set_result(None)
    net.settle()
    first, second = client.answers("POST", "GET")
    assert (first.body, second.status) == (b"body", 200)


def test_an_undecided_handler_that_fails(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net(handler := Undecided())
    client, _ = net.connect()
    send(net, client, POST_HEAD)
    with logged_errors(caplog, "broken"):
        handler.future.set_exception(OSError("broken"))
        net.settle()
    (response,) = client.answers("POST")
    assert response.status == 500


def test_a_client_that_leaves_an_undecided_handler(make_net: MakeNet) -> None:
    """Its Future is cancelled; if another request waits for the same Future, its handler is asked again."""
    net = make_net(handler := Undecided())
    (client, connection), (other, _) = net.connect(), net.connect()
    send(net, client, POST_HEAD)
    send(net, other, EXPECT_HEAD)
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.future.cancelled()
    assert other.read() == CONTINUE
