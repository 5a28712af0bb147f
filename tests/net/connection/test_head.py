"""The HEAD phase: slow, incomplete and invalid request heads, and clients that are rejected before they send one."""

from __future__ import annotations

from kaserve.http.errors import HTTPError
from kaserve.http.phases import CLOSED, HEAD, IDLE, LINGER
from kaserve.telemetry.endings import Ending
from tests.tools.connections import WHEEL_DELAY, MakeNet, send, send_during_turn
from tests.tools.net import GET, Router


def test_the_deadline_of_a_head_is_absolute_from_its_first_byte(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.sleep(50)
    for byte in b"GET / HTTP/1.1\r\nX-Slow: yes-i":
        client.send(bytes([byte]))
        net.sleep(1)
        assert connection.phase == HEAD
    client.send(b"z")
    net.sleep(1 + WHEEL_DELAY)
    assert connection.phase == LINGER
    (response,) = client.answers("GET")
    assert response.status == 408
    assert not response.persists
    assert client.ended
    assert net.stats.refused == {408: 1}


def test_a_head_after_another_request_has_its_own_deadline(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET[:-1])
    net.sleep(20)
    client.send(GET[-1:] + GET[:-1])
    net.settle()
    assert connection.phase == HEAD
    assert net.time_left(connection) == 30


def test_nothing_is_read_as_a_request_after_an_invalid_one(make_net: MakeNet) -> None:
    net = make_net(router := Router())
    client, _ = net.connect()
    client.send(GET + b"GET /\r\n\r\n" + GET)
    net.settle()
    client.send(GET)
    net.settle()
    assert [response.status for response in client.answers("GET", "GET")] == [200, 400]
    assert len(router.requests) == 1


def test_a_rejected_client_gets_a_response_before_it_sends_a_request(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    connection.reject(HTTPError(503, "later"))
    (response,) = client.answers("GET")
    assert response.status == 503
    assert not response.persists
    assert connection.phase == LINGER
    send(net, client, GET)
    assert client.read() == b""
    assert net.stats.refused == {503: 1}
    assert net.stats.races_lost.total() == 0, "it got a response"
    client.close()
    net.settle()
    assert net.stats.closed == {"rejected": 1}


def test_the_rest_of_a_head_that_is_here_at_the_deadline_is_read(make_net: MakeNet) -> None:
    """It may have arrived while this process was stopped (SIGSTOP): the poller then sees only that time has passed."""
    net = make_net()
    client, connection = net.connect()
    client.send(GET[:-5])
    net.settle()
    net.clock.advance(1000)
    send_during_turn(net, client, GET[-5:])
    net.settle()
    (response,) = client.answers("GET")
    assert response.status == 200
    assert response.persists
    assert connection.phase == IDLE


def test_a_part_of_a_head_at_the_deadline_is_not_enough(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET[:-5])
    net.settle()
    net.clock.advance(31)
    send_during_turn(net, client, GET[-5:-1])
    net.settle()
    (response,) = client.answers("GET")
    assert response.status == 408
    assert connection.ending == Ending.HEADER_TIMEOUT


def test_a_client_that_has_reset_by_the_deadline_gets_no_response(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect(tcp=True)
    client.send(GET[:-5])
    net.settle()
    net.clock.advance(31)
    net.reactor.call(client.reset)
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"reset": 1}
