"""Upgrades through the proxy (RFC 9110 §7.8): who is asked, what a 101 must be, and then bytes both ways."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kaserve.http.phases import CLOSED, IDLE, TUNNEL
from tests.proxy.test_proxy import MakeProxy, make
from tests.proxy.upstream_side import OK, ProxyNet
from tests.tools.net import GET, Client

__all__ = ["make"]

ASK = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Key: abc\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Accept: def\r\n\r\n"
MANY = bytes(range(256)) * 4096  # 1 MiB: more than the small buffers take
TIMEOUT = 3600.0


def opened(make: MakeProxy, *, send_buffer: int = 0) -> tuple[ProxyNet, Client, Client]:
    """A net with a tunnel, its client and its upstream, which have read the heads."""
    net = make()
    net.connector.send_buffer = send_buffer
    client, connection = net.connect(send_buffer=send_buffer) if send_buffer else net.connect(tcp=True)
    net.pass_on(client, ASK)
    net.take()
    net.reply(SWITCH)
    assert client.read().startswith(b"HTTP/1.1 101 ")
    assert connection.phase == TUNNEL
    client.received = b""
    return net, client, net.peers[-1]


def move(net: ProxyNet, *ends: Client) -> None:
    """Turns, and has both ends read, until nothing moves any more."""
    while True:
        net.settle()
        if not [end for end in ends if end.read()]:
            return


def test_the_upgrade_is_passed_on_and_so_is_the_101(make: MakeProxy) -> None:
    net = make()
    client, connection = net.connect(tcp=True)
    net.pass_on(client, ASK)
    head = net.take().lower()
    assert b"\r\nconnection: upgrade\r\n" in head
    assert b"\r\nupgrade: websocket\r\n" in head
    assert b"\r\nx-key: abc\r\n" in head
    net.reply(SWITCH)
    head = client.read()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nConnection: upgrade\r\n" in head
    assert b"\r\nX-Accept: def\r\n" in head
    assert b"\r\nVia: 1.1 kaserve\r\n" in head
    assert head.count(b"grade: websocket") == 1
    assert connection.phase == TUNNEL


def test_bytes_go_both_ways(make: MakeProxy) -> None:
    net, client, upstream = opened(make)
    for word in (b"one", b"two"):
        client.send(word)
        upstream.send(word.upper())
        net.settle()
        assert (client.read(), upstream.read()) == (word.upper(), word)


def test_bytes_that_come_with_the_heads_are_not_lost(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, ASK + b"early bird")
    net.take()
    net.reply(SWITCH + b"early worm")
    assert client.read().endswith(b"\r\n\r\nearly worm")
    assert net.take() == b"early bird"


def test_the_head_and_the_bytes_after_it_in_pieces_of_one_byte(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    for octet in ASK + b"up":
        net.pass_on(client, bytes([octet]))
    assert net.take().endswith(b"\r\n\r\n")
    for octet in SWITCH + b"down":
        net.reply(bytes([octet]))
    assert client.read().endswith(b"\r\n\r\ndown")
    assert net.take() == b"up"


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_half_close_is_passed_on_after_the_last_bytes(make: MakeProxy, side: str) -> None:
    net, client, upstream = opened(make)
    first, second = (client, upstream) if side == "client" else (upstream, client)
    first.send(b"my last")
    first.finish()
    net.settle()
    assert (second.read(), second.ended) == (b"my last", True)
    second.send(MANY)
    second.finish()
    move(net, first)
    assert first.received[-len(MANY) :] == MANY
    assert (first.ended, first.was_reset, second.was_reset) == (True, False, False)
    assert not net.service.connections
    assert not net.proxy.upstreams[0].active


def test_a_client_that_has_finished_with_its_request(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    client.send(ASK + b"all I have")
    client.finish()
    net.settle()
    net.take()
    net.reply(SWITCH + b"yours")
    upstream = net.peers[-1]
    assert (upstream.read(), upstream.ended) == (b"all I have", True)
    upstream.send(b" and bye")
    upstream.finish()
    net.settle()
    assert client.read().endswith(b"\r\n\r\nyours and bye")
    assert (client.ended, client.was_reset) == (True, False)


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_reset_is_passed_on(make: MakeProxy, side: str) -> None:
    net, client, upstream = opened(make)
    first, second = (client, upstream) if side == "client" else (upstream, client)
    first.reset()
    net.settle()
    second.read()
    assert (second.ended, second.was_reset) == (True, True)
    assert not net.service.connections


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_slow_reader_stops_the_other_side(make: MakeProxy, side: str) -> None:
    net, client, upstream = opened(make, send_buffer=4096)
    fast, slow = (upstream, client) if side == "client" else (client, upstream)
    sent = 0
    while count := fast.send(MANY[sent:]):
        sent += count
        net.settle()
    assert sent < len(MANY) // 2  # what the kernel has, and a piece or two
    while sent < len(MANY):
        slow.read()
        net.settle()
        sent += fast.send(MANY[sent:])
    fast.finish()
    move(net, slow)
    assert (slow.received, slow.ended, slow.was_reset) == (MANY, True, False)


def test_an_upstream_that_takes_no_more_is_read_to_its_end(make: MakeProxy) -> None:
    """Its last words reach the client, which is then told that nobody listens."""
    net, client, upstream = opened(make)
    upstream.send(b"last words")
    upstream.close()  # nothing is unread, so it ends with a FIN, and what comes later is answered with a reset
    net.settle()
    assert client.read() == b"last words"
    for _ in range(3):
        client.send(b"hello?")
        net.settle()
    client.read()
    assert client.ended
    client.finish()
    net.settle()
    assert not net.service.connections


def test_the_response_timeout_does_not_count(make: MakeProxy) -> None:
    net, client, upstream = opened(make)
    connection: Any = next(iter(net.service.connections))
    assert net.time_left(connection) == TIMEOUT
    net.sleep(TIMEOUT - 1)
    upstream.send(b"still here")
    net.settle()
    assert client.read() == b"still here"
    net.sleep(TIMEOUT - 1)
    assert connection.phase == TUNNEL
    net.sleep(2)
    assert connection.phase == CLOSED
    upstream.read()
    assert upstream.was_reset


def test_an_upstream_may_decline(make: MakeProxy) -> None:
    net = make()
    client, connection = net.connect()
    net.pass_on(client, ASK)
    net.take()
    net.reply(OK)
    [answer] = client.answers("GET")
    assert (answer.status, answer.body, connection.phase) == (200, b"ok", IDLE)
    net.pass_on(client, GET)
    net.reply(OK)
    assert len(net.peers) == 1  # the connection is used again
    assert len(client.answers("GET")) == 1


def test_h2c_is_not_passed_on(make: MakeProxy) -> None:
    """It would hide further requests from the proxy."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, ASK.replace(b"websocket", b"h2c").replace(b"X-Key", b"HTTP2-Settings"))
    head = net.take().lower()
    assert b"upgrade" not in head
    assert b"http2-settings" not in head


@pytest.mark.parametrize(
    ("ask", "reply", "reason"),
    [
        (GET, SWITCH, "a 101 came that the request did not ask for"),
        (ASK, SWITCH.replace(b"Upgrade: websocket", b"Upgrade: other"), "a protocol that the request did not ask for"),
        (ASK, SWITCH.replace(b"Upgrade: websocket", b"Upgrade: websocket, other"), "did not ask for"),
        (ASK, SWITCH.replace(b"Connection: Upgrade", b"Connection: close"), "does not say to what"),
        (ASK, SWITCH.replace(b"HTTP/1.1", b"HTTP/1.0"), "does not say to what"),
        (ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), SWITCH, "did not ask for"),
        (
            ASK.replace(b"GET", b"POST").replace(b"X-Key: abc", b"Content-Length: 5") + b"12",
            SWITCH,
            "before it had the request",
        ),
    ],
)
def test_a_101_that_may_not_come(
    make: MakeProxy, caplog: pytest.LogCaptureFixture, ask: bytes, reply: bytes, reason: str
) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, ask)
    net.take()
    net.reply(reply)
    client.read()
    assert client.received.startswith(b"HTTP/1.1 502 ")
    assert b"101" not in client.received
    assert any(reason in record.getMessage() for record in caplog.records)
    net.peers[-1].read()
    assert net.peers[-1].ended


def test_an_upgrade_with_a_body(make: MakeProxy) -> None:
    """The whole request goes first, and then the bytes of the other protocol."""
    net = make()
    client, connection = net.connect(tcp=True)
    net.pass_on(client, ASK.replace(b"GET", b"POST").replace(b"X-Key: abc", b"Content-Length: 5") + b"12345first")
    assert net.take().endswith(b"\r\n\r\n12345")
    net.reply(SWITCH)
    assert connection.phase == TUNNEL
    assert net.take() == b"first"


def test_a_client_that_leaves_before_the_101_arrives(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, ASK)
    net.take()
    client.reset()
    net.settle()
    net.reply(SWITCH)
    upstream = net.peers[-1]
    upstream.read()
    assert upstream.ended
    assert not net.proxy.upstreams[0].active


def test_the_log_has_the_upstream_of_a_tunnel(make: MakeProxy) -> None:
    net, client, _ = opened(make)
    connection: Any = next(iter(net.service.connections))
    request = connection.protocol.request
    assert request is not None
    assert request.log_fields["upstream"] == "http://up"
    client.close()


def test_the_kernel_probes_an_upstream_that_is_silent(make: MakeProxy) -> None:
    net, _, _ = opened(make)
    [connection] = net.proxy.upstreams[0].active
    assert connection._sock is not None
    sock = socket.socket(fileno=connection._sock.fileno())
    try:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    finally:
        sock.detach()


def test_shutting_down_leaves_a_tunnel_open_until_it_is_aborted(make: MakeProxy) -> None:
    net, client, upstream = opened(make)
    [connection] = net.service.connections
    connection.drain()
    client.send(b"still")
    net.settle()
    assert upstream.read() == b"still"
    connection.abort()
    net.settle()
    client.read()
    upstream.read()
    assert (client.was_reset, upstream.was_reset) == (True, True)
