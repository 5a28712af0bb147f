"""The HANDLER phase: handlers that fail, return no response, or return a Future of one."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.messages import Request, Response
from kaserve.http.phases import CLOSED, HANDLER, IDLE, LINGER
from kaserve.net.connection import Connection
from kaserve.net.service import CLIENT_LEAVES
from tests.tools.connections import MakeNet, logged_errors, send
from tests.tools.net import GET, Body, Client, Net, Router, get, hello


def test_an_exception_is_a_500_that_keeps_the_connection(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net(Router(bad=ZeroDivisionError("secret")))
    client, connection = net.connect()
    with logged_errors(caplog, r"the handler failed on <Request GET /bad HTTP/1.1>[^$]*ZeroDivisionError: secret"):
        first, second = net.ask(client, get("/bad"), GET)
    assert first.status == 500
    assert first.persists
    assert b"secret" not in first.body
    assert b"Traceback" not in first.body
    assert second.status == 200
    assert net.stats.failed == 1
    assert net.stats.requests == 2
    assert connection.phase == IDLE


@pytest.mark.parametrize("fault", [GeneratorExit, asyncio.CancelledError, pytest.fail.Exception])
def test_a_base_exception_is_a_500_that_keeps_the_connection(
    fault: type[BaseException], make_net: MakeNet, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: Request) -> Response:
        raise fault("the handler's own")

    net = make_net(handler)
    client, connection = net.connect()
    with logged_errors(caplog, "the handler failed on <Request GET / "):
        [response] = net.ask(client, GET)
    assert (response.status, connection.phase) == (500, IDLE)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_exceptions_of_signals_are_raised_from_the_turn(fault: type[BaseException], make_net: MakeNet) -> None:
    """Ctrl-C may interrupt a handler in the main thread when another event loop runs the server. The exception belongs
    to that program."""

    def handler(request: Request) -> Response:
        raise fault

    net = make_net(handler)
    client, connection = net.connect()
    client.send(GET)
    with pytest.raises(fault):
        net.step()
    connection.abort()


def test_an_http_error_is_its_status_and_the_connection_persists(make_net: MakeNet) -> None:
    net = make_net(Router(no=HTTPError(405, "only GET", (("Allow", "GET"),))))
    client, connection = net.connect()
    first, second = net.ask(client, get("/no"), GET)
    assert (first.status, second.status) == (405, 200)
    assert first.value("allow") == "GET"
    assert connection.phase == IDLE
    assert net.stats.refused == {405: 1}


def test_an_http_error_may_close_the_connection(make_net: MakeNet) -> None:
    net = make_net(Router(no=HTTPError(405, "only GET", (("Allow", "GET"),), close=True)))
    client, connection = net.connect()
    (response,) = net.ask(client, get("/no"), GET, methods=["GET"])
    assert response.status == 405
    assert not response.persists
    assert client.ended
    assert connection.phase == LINGER
    assert net.stats.refused == {405: 1}


_untyped: Any = Response  # for values of types that it does not accept


@pytest.mark.parametrize(
    "response",
    [
        None,
        "text",
        b"bytes",
        (200, b""),
        _untyped(200, "text"),
        _untyped(200, ["text"]),
        _untyped(200, bytearray(b"text")),
        _untyped(200, 5),
        _untyped(200, None),
        Response(100),
        Response(99),
        Response(600),
        Response(200, b"four", {"Content-Length": "5"}),
        Response(200, b"four", {"Content-Length": "four"}),
        Response(200, [b"four"], {"Content-Length": "-1"}),
        Response(200, b"", {"A b": "c"}),
        Response(200, b"", {"X": "a\nb"}),
        Response(200, b"", {"X": "€"}),
        _untyped(200, b"", [("X", 5)]),
    ],
    ids=repr,
)
def test_an_invalid_response_is_a_500_that_keeps_the_connection(
    make_net: MakeNet, response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    net = make_net(lambda request: response if request.path == "/bad" else hello(request))
    client, connection = net.connect()
    first, second = net.ask(client, get("/bad"), GET)
    assert caplog.records
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    caplog.clear()
    assert first.status == 500
    assert first.persists
    assert second.status == 200
    assert net.stats.failed == 1
    assert connection.phase == IDLE


def test_a_future_response_blocks_no_other_connection(make_net: MakeNet) -> None:
    later: Future[Response] = Future()
    net = make_net(lambda request: later if request.path == "/later" else hello(request))
    client, connection = net.connect()
    other, _ = net.connect()
    send(net, client, get("/later") + get("/next"))
    assert client.read() == b""
    assert connection.phase == HANDLER
    assert net.interest(connection) == CLIENT_LEAVES
    assert not net.busy, "the connection polls the Future"
    [response] = net.ask(other, GET)
    assert response.body == b"hello"
    later.set_result(Response.text("at last"))
    net.settle()
    assert [response.body for response in client.answers("GET", "GET")] == [b"at last", b"hello"]
    assert connection.phase == IDLE


def waiting(make_net: MakeNet) -> tuple[Future[Response], Net, Client, Connection]:
    """A Future, and a connection that waits for it."""
    later: Future[Response] = Future()
    net = make_net(lambda request: later)
    client, connection = net.connect()
    send(net, client, GET)
    return later, net, client, connection


def test_a_future_may_be_completed_by_another_thread(make_net: MakeNet) -> None:
    later, net, client, connection = waiting(make_net)
    thread = threading.Thread(target=lambda: later.set_result(Response.text("from afar")))
    thread.start()
    thread.join()
    assert net.busy, "the reactor was not woken"
    net.settle()
    [response] = client.answers("GET")
    assert response.body == b"from afar"
    assert connection.phase == IDLE


def test_a_completed_future_is_used_in_the_same_turn(make_net: MakeNet) -> None:
    later: Future[Response] = Future()
    later.set_result(Response.text("at once"))
    net = make_net(lambda request: later)
    client, _ = net.connect()
    client.send(GET)
    net.step()
    [response] = client.answers("GET")
    assert response.body == b"at once"


def test_a_future_that_fails_is_a_500_that_keeps_the_connection(
    make_net: MakeNet, caplog: pytest.LogCaptureFixture
) -> None:
    later, net, client, connection = waiting(make_net)
    with logged_errors(caplog, "the handler failed on <Request GET / "):
        later.set_exception(RuntimeError("the handler's own fault"))
        net.settle()
    [response] = client.answers("GET")
    assert response.status == 500
    assert connection.phase == IDLE


def test_an_http_error_of_a_future_is_its_status(make_net: MakeNet) -> None:
    later, net, client, connection = waiting(make_net)
    later.set_exception(HTTPError(410, "gone"))
    net.settle()
    [response] = client.answers("GET")
    assert response.status == 410
    assert connection.phase == IDLE


def test_the_future_of_an_aborted_connection_is_cancelled(make_net: MakeNet) -> None:
    later, net, _, connection = waiting(make_net)
    connection.abort()
    assert later.cancelled()
    net.settle()
    assert connection.phase == CLOSED


def test_a_future_response_that_comes_too_late_is_closed(make_net: MakeNet) -> None:
    later, net, _, connection = waiting(make_net)
    later.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    connection.abort()
    body = Body([b"too late"])
    later.set_result(Response(200, body))
    net.settle()
    assert (body.pulled, body.closed) == (0, 1)
