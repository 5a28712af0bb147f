"""How a persistent connection ends: number of requests, age, announced idle time, and `KeepAlive.enabled`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.messages import Request, Response
from kaserve.http.phases import IDLE, LINGER, SEND
from kaserve.net.service import Deadlines
from tests.tools.connections import SMALL_BUFFER, WHEEL_DELAY, MakeNet, large, read_some, send
from tests.tools.net import GET, Router, get, hello


def test_the_response_to_the_last_request_says_close(make_net: MakeNet) -> None:
    net = make_net(keep_alive=KeepAlive(120, 3))
    client, connection = net.connect()
    responses = net.ask(client, GET, GET, GET, GET, methods=["GET"] * 3)
    assert [response.values("keep-alive") for response in responses] == [
        ["timeout=120, max=2"],
        ["timeout=120, max=1"],
        [],
    ]
    assert [response.persists for response in responses] == [True, True, False]
    assert connection.phase == LINGER


@pytest.mark.parametrize("requests", [3, 2, 1])
def test_the_request_limit_is_counted_as_the_reason_even_if_it_was_lowered(make_net: MakeNet, requests: int) -> None:
    """`KeepAlive.requests` may be changed while the server runs, also below what a connection has served."""
    keep_alive = KeepAlive(120, 100)
    net = make_net(keep_alive=keep_alive)
    client, _ = net.connect()
    net.ask(client, GET, GET)
    keep_alive.requests = requests
    assert not net.ask(client, GET)[0].persists
    client.close()
    net.settle()
    assert net.stats.closed == {"request limit": 1}


@pytest.mark.parametrize("requests", [pytest.param(0, id="no limit"), pytest.param(3, id="limit not reached")])
def test_a_close_that_the_client_asks_for_is_no_limit(make_net: MakeNet, requests: int) -> None:
    net = make_net(keep_alive=KeepAlive(120, requests))
    client, _ = net.connect()
    assert not net.ask(client, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")[0].persists
    client.close()
    net.settle()
    assert net.stats.closed == {"client asked": 1}


HANDLER_CLOSES = Response(200, b"", {"Connection": "close"})
HTTP_1_0 = b"GET / HTTP/1.0\r\nHost: h\r\n%b\r\n"
UNTIL_CLOSE = HTTP_1_0 % b"Connection: keep-alive\r\n"


@pytest.mark.parametrize(
    ("reason", "answer", "request_"),
    [
        pytest.param("client asked", hello, get("/")[:-2] + b"Connection: close\r\n\r\n", id="the client"),
        pytest.param("client asked", hello, HTTP_1_0 % b"", id="HTTP/1.0"),
        pytest.param("client asked", HANDLER_CLOSES, HTTP_1_0 % b"", id="the client and the handler"),
        pytest.param("handler asked", HANDLER_CLOSES, GET, id="the handler"),
        pytest.param("handler asked", HTTPError(403, "no", close=True), GET, id="the handler, by an HTTPError"),
        pytest.param("last response", lambda _: Response(200, iter([b"a"])), UNTIL_CLOSE, id="a body until the close"),
    ],
)
def test_the_reason_of_a_close_is_whoever_asked_for_it(
    make_net: MakeNet, reason: str, answer: Any, request_: bytes
) -> None:
    net = make_net(Router(**{"": answer}))
    client, _ = net.connect()
    assert not net.ask(client, request_)[0].persists
    client.close()
    net.settle()
    assert net.stats.closed == {reason: 1}


def test_keep_alive_that_is_off_is_the_reason_even_if_the_client_asks_for_a_close_as_well(make_net: MakeNet) -> None:
    net = make_net(keep_alive=KeepAlive(0, 100))
    for request in (GET, HTTP_1_0 % b""):
        client, _ = net.connect()
        assert not net.ask(client, request)[0].persists
        client.close()
    net.settle()
    assert net.stats.closed == {"keep-alive off": 2}


def test_a_connection_of_maximum_age_closes_with_its_next_response(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": never by closing an idle socket of a client that was told it may send."""
    net = make_net(deadlines=Deadlines(age=300))
    client, connection = net.connect()
    for _ in range(2):
        net.sleep(100)
        assert net.ask(client, GET)[0].persists
    net.sleep(110)
    assert connection.phase == IDLE
    (response,) = net.ask(client, GET)
    assert response.status == 200
    assert not response.persists
    assert connection.phase == LINGER


def test_a_connection_without_a_maximum_age_persists(make_net: MakeNet) -> None:
    net = make_net(deadlines=Deadlines(age=math.inf, keep_alive=20_000))
    client, _ = net.connect()
    for _ in range(3):
        net.sleep(10_000)
        assert net.ask(client, GET)[0].persists


@pytest.mark.parametrize(
    ("jitter", "age"),
    [
        pytest.param(0.0, 300.0, id="no jitter"),
        pytest.param(0.5, 285.0, id="half of it"),
        pytest.param(0.999, 270.1, id="all of it"),
    ],
)
def test_the_maximum_age_is_randomised(make_net: MakeNet, jitter: float, age: float) -> None:
    """So that connections that were opened together, after a restart for example, do not end together. Jitter only
    shortens the age."""
    net = make_net(deadlines=Deadlines(age=300), chance=lambda: jitter)
    client, _ = net.connect()
    for _ in range(3):
        net.sleep((age - 0.3) / 3)
        assert net.ask(client, GET)[0].persists
    net.sleep(0.4)
    assert not net.ask(client, GET)[0].persists


def test_an_announced_idle_time_holds_when_later_responses_announce_less(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy", also when the server gets crowded and announces less."""
    net = make_net()
    (first, one), (second, two) = net.connect(), net.connect()
    assert net.ask(first, GET)[0].value("keep-alive").startswith("timeout=120,")
    net.service.announce(10)
    assert net.ask(second, GET)[0].value("keep-alive") == "timeout=10, max=999"
    net.sleep(11 - 0.01)
    assert (one.phase, two.phase) == (IDLE, IDLE)
    net.sleep(0.01 + WHEEL_DELAY)
    assert (one.phase, two.phase) == (IDLE, LINGER)
    net.sleep(110 - WHEEL_DELAY - 0.01)
    assert one.phase == IDLE
    assert net.ask(first, GET)[0].value("keep-alive") == "timeout=10, max=998"
    net.sleep(11 + WHEEL_DELAY)
    assert one.phase == LINGER


def test_the_idle_time_announced_by_a_slow_response_holds_after_it(make_net: MakeNet) -> None:
    net = make_net(large)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, get("/large"))
    net.service.announce(10)
    while connection.phase == SEND:
        net.clock.advance(10)
        read_some(net, client, 65536)
    assert b"Keep-Alive: timeout=120," in client.received
    assert connection.phase == IDLE
    assert net.time_left(connection) == 121


def test_persistence_is_switched_off_and_on_at_run_time(make_net: MakeNet) -> None:
    """docs/keep-alive.md, section 10; the same as Go's Server.SetKeepAlivesEnabled."""
    net = make_net()
    keep_alive = net.service.keep_alive
    first, one = net.connect()
    second, two = net.connect()
    assert net.ask(first, GET)[0].persists
    assert net.ask(second, GET)[0].persists
    keep_alive.enabled = False
    assert one.phase == IDLE, "its client was told that it may send"
    assert not net.ask(first, GET)[0].persists
    assert one.phase == LINGER
    keep_alive.enabled = True
    assert net.ask(second, GET)[0].persists
    assert two.phase == IDLE


def test_persistence_is_decided_when_the_response_is_made(make_net: MakeNet) -> None:
    """Not when the request arrives."""

    def handler(request: Request) -> Response:
        net.service.keep_alive.enabled = False
        return hello(request)

    net = make_net(handler)
    client, _ = net.connect()
    assert not net.ask(client, GET)[0].persists
