"""Draining: a server that shuts down asks its connections to end."""

from __future__ import annotations

import pytest

from kaserve.http.messages import Response
from kaserve.http.phases import BODY, HEAD, IDLE, LINGER, SEND, Phase
from kaserve.net.connection import Connection
from kaserve.net.service import INCOMPLETE_REQUEST_GRACE, Deadlines
from tests.tools.connections import PHASE_STARTS, POST_HEAD, SMALL_BUFFER, WHEEL_DELAY, MakeNet, echo, large
from tests.tools.net import GET, Client, Net, post


def drain(net: Net, connection: Connection) -> None:
    """Drains one connection in a turn of the reactor, as a draining server does."""
    net.reactor.call(connection.drain)
    net.settle()


def drained(make_net: MakeNet, *, after: float) -> tuple[Net, Client, Connection]:
    """A connection that is drained when it has been idle for `after` seconds."""
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    net.sleep(after)
    net.service.keep_alive.enabled = False
    drain(net, connection)
    return net, client, connection


def test_a_drained_idle_connection_closes_at_once(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": it was idle for longer than RECENT_USE_GRACE."""
    net, client, connection = drained(make_net, after=1.01)
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended
    client.send(GET)
    net.settle()
    assert net.stats.races_lost.total() == 1


def test_a_recently_busy_connection_may_send_one_more_request(make_net: MakeNet) -> None:
    net, client, connection = drained(make_net, after=0.4)
    assert connection.phase == IDLE
    net.sleep(0.5)
    (response,) = net.ask(client, GET)
    assert not response.persists
    assert connection.phase == LINGER


def test_a_recently_busy_connection_without_a_request_closes_after_the_grace(make_net: MakeNet) -> None:
    net, client, connection = drained(make_net, after=0.4)
    net.sleep(0.59)
    assert connection.phase == IDLE
    net.sleep(0.01 + WHEEL_DELAY)
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended


def test_draining_does_not_wait_long_for_clients_that_do_not_close(make_net: MakeNet) -> None:
    """No response of theirs is at stake. One that was busy ends with the reason drain, not idle."""
    net = make_net()
    (client, _), (_, before) = net.connect(), net.connect()
    net.sleep(121 + WHEEL_DELAY)
    assert before.phase == LINGER
    busy, _ = net.connect()
    net.ask(busy, GET)
    net.service.keep_alive.enabled = False
    net.reactor.call(net.service.drain)
    net.sleep(0.5 + WHEEL_DELAY)
    assert len(net.service.connections) == 1
    net.sleep(1 + WHEEL_DELAY)
    assert net.service.connections == set()
    assert net.stats.closed == {"idle": 2, "drain": 1}
    client.read()
    assert client.ended


def test_an_idle_time_announced_before_the_drain_does_not_delay_it(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": a connection that becomes idle while draining gets RECENT_USE_GRACE,
    not the idle time that its response announced."""
    body = b"x" * 4_000_000
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect()
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    net.service.keep_alive.enabled = False
    net.service.drain()
    while connection.phase == SEND:
        client.read()
        net.settle()
    assert connection.phase == IDLE
    net.sleep(1 + WHEEL_DELAY)
    assert connection.phase != IDLE
    client.read()
    assert client.ended


def test_draining_responds_to_a_request_that_has_arrived(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.sleep(10)
    net.reactor.call(lambda: client.send(GET))
    drain(net, connection)
    (response,) = client.answers("GET")
    assert response.status == 200
    assert not response.persists
    assert net.stats.races_lost.total() == 0


@pytest.mark.parametrize("phase", [HEAD, BODY, SEND, LINGER], ids=lambda phase: phase.name)
def test_draining_does_not_interrupt_a_busy_connection(make_net: MakeNet, phase: Phase) -> None:
    net = make_net(large)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    PHASE_STARTS[phase][0](net, client)
    net.settle()
    left = net.time_left(connection)
    drain(net, connection)
    assert connection.phase == phase
    assert net.time_left(connection) == left


def test_a_request_that_is_incomplete_at_the_drain_gets_a_response_that_says_close(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(POST_HEAD)
    net.settle()
    net.service.keep_alive.enabled = False
    drain(net, connection)
    (response,) = net.ask(client, b"0123456789", methods=["POST"])
    assert response.status == 200
    assert not response.persists


@pytest.mark.parametrize("phase", [HEAD, BODY], ids=lambda phase: phase.name)
def test_an_incomplete_request_that_stalls_does_not_hold_the_drain(make_net: MakeNet, phase: Phase) -> None:
    net = make_net()
    client, connection = net.connect()
    PHASE_STARTS[phase][0](net, client)
    net.settle()
    net.service.keep_alive.enabled = False
    net.reactor.call(net.service.drain)
    net.sleep(INCOMPLETE_REQUEST_GRACE - 0.1)
    assert connection.phase == phase
    net.sleep(0.1 + WHEEL_DELAY)
    first, second = client.answers("GET", "GET")
    assert (first.status, second.status) == (200, 408)
    assert not second.persists
    client.close()
    net.settle()
    assert not net.service.connections


def test_a_body_that_moves_is_received_to_its_end_while_draining(make_net: MakeNet) -> None:
    """At the same --min-rate as before: 500 bytes per second, and so 2,500 within each 5 seconds."""
    net = make_net(echo)
    client, connection = net.connect()
    wire = post(b"x" * 25_000)
    head = len(wire) - 25_000
    client.send(wire[:head])
    net.settle()
    net.service.keep_alive.enabled = False
    net.reactor.call(net.service.drain)
    for start in range(head, len(wire), 2500):
        net.sleep(INCOMPLETE_REQUEST_GRACE - 0.1)
        assert connection.phase == BODY
        client.send(wire[start : start + 2500])
        net.settle()
    (response,) = client.answers("POST")
    assert response.status == 200
    assert response.body == b"x" * 25_000


def test_a_body_that_trickles_does_not_hold_the_drain(make_net: MakeNet) -> None:
    net = make_net()
    client, _connection = net.connect()
    client.send(post(b"x" * 100)[:-100])
    net.settle()
    net.reactor.call(net.service.drain)
    for _ in range(7):
        net.sleep(1)
        client.send(b"x")
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 408


def test_a_request_that_begins_while_draining_has_the_same_grace(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    net.service.keep_alive.enabled = False
    net.reactor.call(net.service.drain)
    net.settle()
    client.send(GET[:-2])
    net.settle()
    assert connection.phase == HEAD
    assert net.time_left(connection) == INCOMPLETE_REQUEST_GRACE


def test_a_shorter_timeout_of_the_settings_stays_while_draining(make_net: MakeNet) -> None:
    net = make_net(deadlines=Deadlines(header_timeout=2))
    client, connection = net.connect()
    client.send(GET[:-2])
    net.settle()
    net.sleep(1)
    net.reactor.call(net.service.drain)
    net.settle()
    assert connection.phase == HEAD
    assert net.time_left(connection) == 1
