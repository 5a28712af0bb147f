"""Pipelined requests: the order of responses, the work of one turn, and backpressure."""

from __future__ import annotations

import pytest

from kaserve.http.keep_alive import KeepAlive
from kaserve.http.messages import Response
from kaserve.http.phases import CLOSED, HANDLER, IDLE, SEND
from kaserve.net.poller import READ, WRITE
from kaserve.net.service import CLIENT_LEAVES
from tests.tools.connections import SMALL_BUFFER, MakeNet, server_socket, unread, unsent
from tests.tools.net import GET, Router, get


def test_the_responses_to_a_pipeline_leave_in_one_send(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response.text(request.path))
    client, connection = net.connect()
    responses = net.ask(client, *(get(f"/{number}") for number in range(20)))
    assert [response.body for response in responses] == [f"/{number}".encode() for number in range(20)]
    assert len(server_socket(connection).sends) == 1


def test_a_turn_handles_64_requests_of_a_pipeline(make_net: MakeNet) -> None:
    """So that one pipeline does not block other connections."""
    net = make_net(router := Router())
    client, connection = net.connect()
    client.send(GET * 200)
    other, _ = net.connect()
    other.send(GET)
    counts = []
    while net.busy:
        before = len(router.requests)
        net.step()
        counts.append(len(router.requests) - before)
        if len(counts) == 1:
            assert len(other.answers("GET")) == 1
    assert max(counts) <= 64 + 1
    assert counts[:3] == [65, 64, 64]
    assert len(client.answers(*["GET"] * 200)) == 200
    assert connection.phase == IDLE
    assert net.interest(connection) == READ
    assert net.time_left(connection) == 121


def test_nothing_is_read_while_requests_wait_for_the_next_turn(make_net: MakeNet) -> None:
    """This is the backpressure of a pipeline: nothing is read while requests wait for their responses, even if the
    client reads as fast as it writes."""
    net = make_net(router := Router(), keep_alive=KeepAlive(120, 0))
    client, connection = net.connect()
    unsent = GET * 20_000
    most = 0
    for _ in range(50):
        unsent = unsent[client.send(unsent) :]
        before = len(router.requests)
        net.step()
        assert len(router.requests) - before <= 64
        most = max(most, len(unread(connection)))
        client.read()
    assert unsent
    assert most <= 2 * 64 * 1024


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_pipeline_that_waits_for_the_next_turn_has_no_deadline(make_net: MakeNet, half_closed: bool) -> None:
    """The delay is the server's, not the client's."""
    net = make_net()
    client, connection = net.connect()
    client.send(GET * 100)
    if half_closed:
        client.finish()
    net.step()
    assert connection.phase == HANDLER
    assert net.interest(connection) == CLIENT_LEAVES
    assert net.reactor.timeout() == 0.0
    net.clock.advance(1000)
    net.settle()
    assert len(client.answers(*["GET"] * 100)) == 100
    assert connection.phase == (CLOSED if half_closed else IDLE)


def test_large_responses_to_a_pipeline_are_sent_before_more_are_made(make_net: MakeNet) -> None:
    response = b"x" * 30_000
    net = make_net(lambda request: Response(200, response))
    client, connection = net.connect()
    client.send(GET * 200)
    received = most = turns = 0
    while net.busy:
        net.step()
        turns += 1
        most = max(most, len(unsent(connection)))
        received += len(client.read())
    assert most < 200 * 1024
    assert [it.body == response for it in client.answers(*["GET"] * 200)] == [True] * 200
    assert turns < 500
    assert max(size for size, _ in server_socket(connection).sends) < 200 * 1024


def test_a_client_that_pipelines_and_never_reads_uses_bounded_memory(make_net: MakeNet) -> None:
    """Neither requests nor responses pile up in the server."""
    net = make_net(lambda request: Response.text(request.path), keep_alive=KeepAlive(120, 0))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    wire = b"".join(get(f"/{number}") for number in range(5000))
    sent = client.send(wire)
    net.settle()
    sent += client.send(wire[sent:])
    net.settle()
    assert connection.phase == SEND
    assert net.interest(connection) == WRITE, "it does not read"
    assert len(unsent(connection)) < 200 * 1024
    assert len(unread(connection)) < 200 * 1024
    for _ in range(10_000):
        client.read(65536)
        sent += client.send(wire[sent:])
        net.settle()
        assert len(unsent(connection)) < 200 * 1024
        assert len(unread(connection)) < 200 * 1024
        if client.received.endswith(b"/4999"):
            break
    responses = client.answers(*["GET"] * 5000)
    assert [response.body for response in responses] == [f"/{number}".encode() for number in range(5000)]
