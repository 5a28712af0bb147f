"""Informational responses of a handler, and whether the client has finished sending."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from kaserve.http.handler import HandlerResult
from kaserve.http.messages import Request, Response
from tests.tools.connections import MakeNet
from tests.tools.net import GET

HINT = ("Link", "</style.css>; rel=preload")


def test_early_hints_leave_before_the_response(make_net: MakeNet) -> None:
    """RFC 9110 §15.2: a client parses any number of them before the final response."""
    future: Future[Response] = Future()
    requests: list[Request] = []

    def handler(request: Request) -> HandlerResult:
        requests.append(request)
        assert request.inform(103, [HINT])
        return future

    net = make_net(handler)
    client, _ = net.connect()
    client.send(GET)
    net.settle()
    client.read()
    assert client.received == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    assert requests[0].inform(102)
    net.settle()
    client.read()
    assert client.received.endswith(b"\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    client.received = b""
    future.set_result(Response.text("final"))
    net.settle()
    [answer] = client.answers("GET")
    assert (answer.status, answer.body) == (200, b"final")
    assert not requests[0].inform(103, [HINT])  # it is too late
    net.settle()
    assert client.read() == b""


def test_http_1_0_gets_none(make_net: MakeNet) -> None:
    """RFC 9110 §15.2: a server must not send a 1xx response to an HTTP/1.0 client."""
    sent = []

    def handler(request: Request) -> Response:
        sent.append(request.inform(103, [HINT]))
        return Response.text("x")

    net = make_net(handler)
    client, _ = net.connect()
    [answer] = net.ask(client, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.status == 200
    assert sent == [False]


@pytest.mark.parametrize("status", [99, 101, 200])
def test_other_statuses_are_rejected(status: int, make_net: MakeNet) -> None:
    faults = []

    def handler(request: Request) -> Response:
        with pytest.raises(ValueError, match="informational response") as caught:
            request.inform(status)
        faults.append(caught.value)
        return Response.text("x")

    net = make_net(handler)
    client, _ = net.connect()
    [answer] = net.ask(client, GET)
    assert (answer.status, len(faults)) == (200, 1)


def test_hop_by_hop_headers_are_left_out(make_net: MakeNet) -> None:
    """RFC 9110 §7.6.1, and §8.6: a 1xx response has no Content-Length."""

    def handler(request: Request) -> Response:
        request.inform(103, [HINT, ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Content-Length", "5")])
        return Response.text("x")

    net = make_net(handler)
    client, _ = net.connect()
    client.send(GET)
    net.settle()
    client.read()
    assert client.received.partition(b"\r\n\r\n")[0].count(b"\r\n") == 1


def test_a_request_without_a_connection_informs_nobody() -> None:
    assert not Request("GET", "/", 1, []).inform(103)
    assert not Request("GET", "/", 1, []).half_closed


def test_a_handler_sees_that_the_client_has_finished_sending(make_net: MakeNet) -> None:
    future: Future[Response] = Future()
    requests: list[Request] = []

    def handler(request: Request) -> HandlerResult:
        requests.append(request)
        return future

    net = make_net(handler)
    client, _ = net.connect(tcp=True)
    client.send(GET)
    net.settle()
    assert not requests[0].half_closed
    client.finish()
    net.settle()
    [half_closed] = [request.half_closed for request in requests]
    assert half_closed
    future.set_result(Response.text("still"))
    net.settle()
    [answer] = client.answers("GET")
    assert answer.body == b"still"
