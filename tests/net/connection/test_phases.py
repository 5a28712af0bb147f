"""What a connection waits for in each phase and for how long: the table `PHASES`, and connections that follow it."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from kaserve.http.handler import BaseHandler, HandlerResult
from kaserve.http.messages import Request, Response
from kaserve.http.phases import BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND, TUNNEL, Phase
from kaserve.net.poller import NOTHING, READ, WRITE
from kaserve.net.service import CLIENT_LEAVES, PHASES, Deadlines
from tests.tools.connections import (
    PHASE_STARTS,
    POST_HEAD,
    PROGRESS_CHECKS,
    SMALL_BUFFER,
    MakeNet,
    large,
    send,
    server_socket,
)
from tests.tools.net import GET


def test_each_phase_waits_for_its_event_and_has_its_deadline() -> None:
    assert {phase: (row.waits_for, row.deadline) for phase, row in PHASES.items()} == {
        HANDSHAKE: (READ, "header_timeout"),
        IDLE: (READ, "keep_alive"),
        HEAD: (READ, "header_timeout"),
        BODY: (READ, "body_timeout"),
        HANDLER: (CLIENT_LEAVES, "half_close_timeout"),
        SEND: (WRITE, "send_timeout"),
        TUNNEL: (READ, "tunnel_timeout"),
        LINGER: (READ, "linger"),
    }


@pytest.mark.parametrize("phase", PHASE_STARTS, ids=lambda phase: phase.name)
def test_a_connection_that_enters_a_phase_has_the_event_and_deadline_of_the_table(
    make_net: MakeNet, phase: Phase
) -> None:
    reach, events, seconds = PHASE_STARTS[phase]
    net = make_net(large)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    net.clock.advance(7)  # deadlines count from here, not from the accept
    reach(net, client)
    net.settle()
    assert connection.phase == phase
    assert net.interest(connection) == events
    assert net.time_left(connection) == seconds


def test_a_new_connection_is_idle(make_net: MakeNet) -> None:
    net = make_net()
    _, connection = net.connect()
    assert connection.phase == IDLE
    assert net.interest(connection) == READ
    assert net.time_left(connection) == 121


@pytest.mark.parametrize("phase", PHASE_STARTS, ids=lambda phase: phase.name)
def test_the_deadline_of_a_phase_is_its_setting(make_net: MakeNet, phase: Phase) -> None:
    net = make_net(
        large,
        deadlines=Deadlines(keep_alive=11, header_timeout=12, body_timeout=13, send_timeout=16, linger=15),
    )
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    PHASE_STARTS[phase][0](net, client)
    net.settle()
    assert (
        net.time_left(connection) == {IDLE: 11 + 1, HEAD: 12, BODY: 13, SEND: 16 / PROGRESS_CHECKS, LINGER: 15}[phase]
    )


def test_repeated_gets_never_change_the_poller_registration(make_net: MakeNet) -> None:
    net = make_net()
    client, _ = net.connect()
    changes = net.poller.changes
    for _ in range(100):
        net.ask(client, GET)
        net.sleep(1)
    assert net.poller.changes == changes


@pytest.mark.parametrize("phase", PHASE_STARTS, ids=lambda phase: phase.name)
def test_calls_on_a_closed_connection_have_no_effect(make_net: MakeNet, phase: Phase) -> None:
    net = make_net(large)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    PHASE_STARTS[phase][0](net, client)
    net.settle()
    connection.abort()
    sent = server_socket(connection).sends[:]
    for events in (NOTHING, READ, WRITE, READ | WRITE):
        connection.ready(events)
    connection.drain()
    connection.abort()
    assert connection.phase == CLOSED
    assert server_socket(connection).sends == sent
    assert net.stats.closed == {"client asked" if phase == LINGER else "shutdown": 1}


def test_a_connection_that_was_to_be_called_again_may_end_before_that(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET * 100)
    net.step()
    connection.abort()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.requests == 64


def test_the_phases_of_a_streamed_request(make_net: MakeNet) -> None:
    """HANDLER while the handler waits for nothing of the client, BODY while it waits for bytes, SEND for room."""

    class Held(BaseHandler):
        streams = True

        def __call__(self, request: Request) -> HandlerResult:
            requests.append(request)
            return response

    requests: list[Request] = []
    response: Future[Response] = Future()
    net = make_net(Held())
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, POST_HEAD)
    assert (connection.phase, net.interest(connection)) == (HANDLER, CLIENT_LEAVES)
    for wire in (b"01234", b"56789"):
        read = requests[0].stream.read()
        net.settle()
        assert (connection.phase, net.interest(connection)) == (BODY, READ)
        assert net.time_left(connection) == 60
        send(net, client, wire)
        assert isinstance(read, Future)
        assert read.result(0) == wire
        assert (connection.phase, net.interest(connection)) == (HANDLER, CLIENT_LEAVES)
    response.set_result(Response.text("x" * 1_000_000))
    net.settle()
    assert (connection.phase, net.interest(connection)) == (SEND, WRITE)
    while client.read():
        net.settle()
    assert (connection.phase, net.interest(connection)) == (IDLE, READ)
