"""The IDLE phase: when it expires, requests that arrive at that moment, eviction, and what an idle connection holds."""

from __future__ import annotations

from kaserve.http.messages import Request, Response
from kaserve.http.phases import CLOSED, HEAD, IDLE, LINGER, SEND
from tests.tools.connections import (
    SMALL_BUFFER,
    WHEEL_DELAY,
    MakeNet,
    holds_request,
    holds_response,
    large,
    read_some,
    send,
    send_during_turn,
    unread,
    unsent,
)
from tests.tools.net import GET, get, hello, post


def test_an_idle_connection_closes_silently_after_the_announced_time_and_a_grace(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": announce T, close at T + 1 s."""
    net = make_net()
    client, connection = net.connect()
    net.sleep(100)
    (response,) = net.ask(client, GET)
    assert response.value("keep-alive").startswith("timeout=120,")
    net.sleep(121 - 0.01)
    assert connection.phase == IDLE
    net.sleep(0.01 + WHEEL_DELAY)
    assert connection.phase == LINGER
    assert client.read() == b"", "an unsolicited 408 would be read as the response to the next request"
    assert client.ended
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"idle": 1}
    assert net.stats.races_lost == 0


def test_a_connection_without_a_request_closes_silently_as_well(make_net: MakeNet) -> None:
    net = make_net()
    client, _ = net.connect()
    net.sleep(121 + WHEEL_DELAY)
    assert client.read() == b""
    assert client.ended
    assert net.stats.requests == 0


def test_the_idle_time_counts_from_the_last_response(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    for _ in range(5):
        net.sleep(100)
        net.ask(client, GET)
    assert net.time_left(connection) == 121


def test_the_idle_time_counts_from_the_end_of_a_slow_response(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": a client that honours the announced time never meets a close, even
    after a slow handler."""

    def slow(request: Request) -> Response:
        net.clock.advance(50)
        return hello(request)

    net = make_net(slow)
    client, connection = net.connect()
    net.ask(client, GET)
    assert net.time_left(connection) == 121


def test_empty_lines_do_not_extend_the_idle_time(make_net: MakeNet) -> None:
    """RFC 9112 §2.2: empty lines before a request line are ignored."""
    net = make_net()
    client, connection = net.connect()
    for _ in range(12):
        client.send(b"\r\n")
        net.sleep(10)
    assert connection.phase == IDLE
    assert net.time_left(connection) == 1
    client.send(b"\r")
    net.sleep(1 + WHEEL_DELAY)
    assert client.read() == b""
    assert client.ended


def test_a_request_that_arrives_with_the_idle_expiry_gets_the_last_response(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": a last look for a request before an idle connection closes."""
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    net.clock.advance(121 + WHEEL_DELAY)
    send_during_turn(net, client, GET)
    net.step()
    (response,) = client.answers("GET")
    assert response.status == 200
    assert not response.persists
    assert client.ended
    assert connection.phase == LINGER
    assert net.stats.races_lost == 0


def test_a_request_that_is_readable_at_the_idle_expiry_is_handled_normally(make_net: MakeNet) -> None:
    """A turn handles readable connections before expired ones."""
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    client.send(GET)
    net.clock.advance(121 + WHEEL_DELAY)
    net.step()
    (response,) = client.answers("GET")
    assert response.persists
    assert connection.phase == IDLE
    assert net.time_left(connection) == 121


def test_a_pipeline_that_arrives_with_the_idle_expiry_gets_one_response(make_net: MakeNet) -> None:
    """RFC 9112 §9.6: no request is processed after the response that says close."""
    net = make_net()
    client, _ = net.connect()
    net.clock.advance(121 + WHEEL_DELAY)
    send_during_turn(net, client, GET * 3)
    net.settle()
    (response,) = client.answers("GET")
    assert not response.persists
    client.send(GET)
    net.settle()
    assert net.stats.races_lost == 0, "a request sent after a response with close is not a lost race"
    client.close()
    net.settle()
    assert net.stats.closed == {"answered": 1}


def test_a_head_that_begins_at_the_idle_expiry_has_the_whole_header_timeout(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.clock.advance(121 + WHEEL_DELAY)
    send_during_turn(net, client, GET[:5])
    net.step()
    assert connection.phase == HEAD
    assert net.time_left(connection) == 30
    net.sleep(20)
    (response,) = net.ask(client, GET[5:], methods=["GET"])
    assert response.status == 200
    assert not response.persists


def test_bytes_after_the_idle_close_are_one_lost_race(make_net: MakeNet) -> None:
    """docs/keep-alive.md, "The close policy": requests that are lost to a close are counted."""
    net = make_net()
    client, connection = net.connect()
    net.sleep(121 + WHEEL_DELAY)
    client.send(GET)
    net.settle()
    client.send(GET)
    net.settle()
    assert net.stats.races_lost == 1
    assert client.read() == b""
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert sum(net.stats.closed.values()) == 1


def test_a_client_that_closes_while_idle_is_no_lost_race(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"client": 1}
    assert net.stats.races_lost == 0


def test_an_idle_connection_holds_no_buffers(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    for _ in range(50):
        net.ask(client, GET)
        net.ask(client, post(b"x" * 1000))
    assert connection.phase == IDLE
    assert unsent(connection) == unread(connection) == b""
    assert not holds_response(connection)
    assert not holds_request(connection)


def test_an_evicted_connection_closes_silently(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    connection.evict()
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended
    send(net, client, GET)
    assert net.stats.races_lost == 1
    connection.evict()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"evicted, race lost": 1}


def test_an_evicted_connection_responds_to_a_request_that_has_arrived(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET)
    connection.evict()
    (response,) = client.answers("GET")
    assert response.status == 200
    assert not response.persists
    assert net.stats.races_lost == 0


def test_idle_since(make_net: MakeNet) -> None:
    net = make_net(large)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    assert connection.idle_since == net.clock.now
    net.sleep(10)
    send(net, client, get("/large"))
    assert connection.phase == SEND
    assert connection.idle_since == float("inf")
    while connection.phase == SEND:
        read_some(net, client, 65536)
    answered = net.clock.now
    net.sleep(10)
    assert connection.idle_since == answered
    net.sleep(111 + WHEEL_DELAY)
    assert connection.phase == LINGER
    assert answered + 121 <= connection.idle_since <= net.clock.now
