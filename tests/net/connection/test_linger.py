"""The LINGER phase: its total deadline, error responses in spite of unread input, and lost races."""

from __future__ import annotations

import pytest

from kaserve.http.limits import Limits
from kaserve.http.phases import CLOSED, LINGER
from tests.tools.connections import WHEEL_DELAY, MakeNet, send_during_turn
from tests.tools.net import GET, LAST_GET


def test_lingering_is_limited_in_total(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(LAST_GET)
    for _ in range(5):
        net.settle()
        assert connection.phase == LINGER
        client.send(b"more")
        net.sleep(0.99)
    net.sleep(0.05 + WHEEL_DELAY)
    assert connection.phase == CLOSED


def test_lingering_ends_when_the_client_closes_too(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.ask(client, LAST_GET)
    assert connection.phase == LINGER
    assert client.ended
    client.finish()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"client asked": 1}


def test_bytes_at_the_end_of_lingering_are_a_lost_race_too(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.sleep(121 + WHEEL_DELAY)
    assert connection.phase == LINGER
    net.clock.advance(5 + WHEEL_DELAY)
    send_during_turn(net, client, GET)
    net.step()
    assert connection.phase == CLOSED
    assert net.stats.races_lost == {"idle": 1}
    assert net.stats.closed == {"idle": 1}


def test_bytes_that_arrive_when_the_server_aborts_are_a_lost_race_too(make_net: MakeNet) -> None:
    net = make_net()
    (client, connection), (silent, other) = net.connect(), net.connect()
    client.send(GET)
    connection.abort()
    other.abort()
    assert net.stats.races_lost == {"shutdown": 1}
    assert net.stats.closed == {"shutdown": 2}
    silent.read()
    assert silent.ended


@pytest.mark.parametrize("tcp", [pytest.param(False, id="socket pair"), pytest.param(True, id="TCP")])
def test_an_error_response_reaches_a_client_that_keeps_sending(make_net: MakeNet, tcp: bool) -> None:
    """RFC 9112 §9.6: a socket that is closed with unread input sends RST, which may destroy the response on its way."""
    net = make_net(limits=Limits(body=1000))
    client, connection = net.connect(tcp=tcp)
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n")
    net.step()
    for _ in range(60):
        client.send(b"x" * 65536)
        net.settle()
    assert connection.phase == LINGER
    client.finish()
    net.settle()
    (response,) = client.answers("POST")
    assert response.status == 413
    assert not response.persists
    assert client.ended
    assert not client.was_reset
    assert net.stats.closed == {"refused": 1}
