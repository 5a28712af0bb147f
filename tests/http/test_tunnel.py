"""Upgrades (RFC 9110 §7.8): what a client asks for, the 101, and the body that carries the tunnel there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.wire import DATE, Implementation, new_outgoing, send

ASK = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket, echo/2\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n"


class Counting:
    """A tunnel that counts the calls of `closed`."""

    closings = 0

    def closed(self) -> None:
        self.closings += 1


def ready(implementation: Implementation, wire: bytes) -> Any:
    """A protocol that has read the head in `wire`, and its body if that is there."""
    protocol = implementation.protocol()
    protocol.receive(wire)
    assert protocol.read_head() is not None
    if implementation.phase(protocol) == "BODY":
        protocol.read_body()
    return protocol


def upgrade(implementation: Implementation, protocol: str = "websocket", headers: Any = ()) -> Any:
    return implementation.module("messages").Response.upgrade(protocol, Counting(), headers)


def head_of(implementation: Implementation, wire: bytes, response: Any) -> bytes:
    """The head of a 101, after which nothing is sent."""
    protocol = ready(implementation, wire)
    outgoing = new_outgoing(protocol)
    protocol.prepare(outgoing, response, DATE, True)
    assert (outgoing.has_content, outgoing.is_inline) == (False, False)
    head: bytes = outgoing.head
    return head


def cannot_be_sent(implementation: Implementation, wire: bytes, response: Any, message: str) -> None:
    """Another response can be sent instead."""
    protocol = ready(implementation, wire)
    with pytest.raises(ValueError, match=message):
        protocol.prepare(new_outgoing(protocol), response, DATE, True)
    assert send(protocol, implementation.module("messages").Response.text("hello"))[0].startswith(b"HTTP/1.1 200 ")


# What a client asks for.


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Connection: Upgrade", "Upgrade: websocket"], ["websocket"]),
        (
            ["Connection: keep-alive,  UPGRADE ", "Upgrade: HTTP/2.0, SHTTP/1.3,, IRC/6.9"],
            ["http/2.0", "shttp/1.3", "irc/6.9"],
        ),
        (["Connection: close", "Connection: upgrade", "Upgrade: a", "Upgrade: b"], ["a", "b"]),
        (["Connection: Upgrade"], []),
        (["Upgrade: websocket"], []),
        (["Connection: upgrades, x-upgrade", "Upgrade: websocket"], []),
        (["Connection: Upgrade", "Upgrade: ,"], []),
        ([], []),
    ],
)
def test_the_protocols_that_a_client_asks_for(
    implementation: Implementation, lines: list[str], expected: list[str]
) -> None:
    """RFC 9110 §7.8: Upgrade has its effect only if Connection names it."""
    wire = "\r\n".join(["GET / HTTP/1.1", "Host: h", *lines]) + "\r\n\r\n"
    assert ready(implementation, wire.encode()).request.upgrades == expected


def test_an_http_1_0_client_cannot_ask(implementation: Implementation) -> None:
    """RFC 9110 §7.8: a server must ignore an Upgrade header of HTTP/1.0."""
    old = ASK.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert ready(implementation, old).request.upgrades == []
    cannot_be_sent(implementation, old, upgrade(implementation), "has not asked to switch to 'websocket'")


# The 101.


def test_the_head(implementation: Implementation) -> None:
    """RFC 9110 §7.8: Upgrade says to which protocol, and Connection names Upgrade (§7.6.1)."""
    response = upgrade(implementation, headers={"Sec-WebSocket-Accept": "x", "Server": "s"})
    assert head_of(implementation, ASK, response) == (
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nServer: s\r\n"
        b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    )


def test_headers_that_are_the_servers(implementation: Implementation) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: a 1xx has neither Content-Length nor Transfer-Encoding. Middlewares add headers."""
    headers = [
        ("Connection", "close"),
        ("Connection", "Upgrade, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("X-Kept", "1"),
    ]
    assert head_of(implementation, ASK, upgrade(implementation, "echo/2", headers)) == (
        b"HTTP/1.1 101 Switching Protocols\r\nX-Kept: 1\r\nUpgrade: echo/2\r\nConnection: upgrade\r\n\r\n"
    )


def test_a_reason_phrase(implementation: Implementation) -> None:
    response = upgrade(implementation)
    response.reason = "Web Socket Protocol Handshake"
    assert head_of(implementation, ASK, response).startswith(b"HTTP/1.1 101 Web Socket Protocol Handshake\r\n")


@pytest.mark.parametrize("protocol", ["echo/2, websocket", "ECHO/2"])
def test_protocols_that_were_asked_for(implementation: Implementation, protocol: str) -> None:
    """RFC 9110 §7.8: several are named if they are layers of each other; their case does not matter."""
    assert b"Upgrade: %b\r\n" % protocol.encode() in head_of(implementation, ASK, upgrade(implementation, protocol))


@pytest.mark.parametrize("protocol", ["h2c", "echo", "echo/3", "websocket, h2c", ""])
def test_protocols_that_were_not_asked_for(implementation: Implementation, protocol: str) -> None:
    """RFC 9110 §7.8: a server must not switch to a protocol that the client has not named."""
    cannot_be_sent(implementation, ASK, upgrade(implementation, protocol), "has not asked to switch to")


def test_headers_that_cannot_be_sent(implementation: Implementation) -> None:
    cannot_be_sent(implementation, ASK, upgrade(implementation, headers=[("X", "a\r\nB: c")]), "field value")


@pytest.mark.parametrize("body", [b"", [b"x"]])
def test_a_101_without_a_tunnel(implementation: Implementation, body: Any) -> None:
    response = implementation.module("messages").Response(101, body, {"Upgrade": "websocket"})
    cannot_be_sent(implementation, ASK, response, "Response.upgrade makes those")


def test_a_tunnel_is_used_once(implementation: Implementation) -> None:
    response = upgrade(implementation)
    response.body.take()
    cannot_be_sent(implementation, ASK, response, "makes those, once")


def test_the_body_of_the_request_comes_first(implementation: Implementation) -> None:
    """RFC 9110 §7.8: what comes after the request belongs to the new protocol, so the request must be complete."""
    cannot_be_sent(implementation, POST + b"hell", upgrade(implementation), "received completely")
    protocol = ready(implementation, POST + b"hello" + b"frame")
    assert send(protocol, upgrade(implementation))[0].startswith(b"HTTP/1.1 101 ")
    protocol.begin_tunnel()
    assert protocol.take_received() == b"frame"


def test_a_streamed_body_must_be_complete_as_well(implementation: Implementation) -> None:
    for rest, allowed in ((b"hell", False), (b"hello", True)):
        protocol = implementation.protocol()
        protocol.receive(POST + rest)
        protocol.read_head()
        protocol.sink = implementation.module("body_stream").BodyStream()
        protocol.begin_stream()
        if allowed:
            assert send(protocol, upgrade(implementation))[0].startswith(b"HTTP/1.1 101 ")
        else:
            with pytest.raises(ValueError, match="received completely"):
                protocol.prepare(new_outgoing(protocol), upgrade(implementation), DATE, True)


@pytest.mark.parametrize("wire", [ASK, POST + b"hello"])
def test_100_comes_before_101(implementation: Implementation, wire: bytes) -> None:
    """RFC 9110 §7.8: for a request with both Upgrade and Expect, a 100 must come before the 101."""
    expecting = wire.replace(b"Host: h\r\n", b"Host: h\r\nExpect: 100-continue\r\n")
    head = head_of(implementation, expecting, upgrade(implementation))
    assert head.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n")
    assert head_of(implementation, wire, upgrade(implementation)).startswith(b"HTTP/1.1 101 ")


def test_what_was_received_belongs_to_the_tunnel(implementation: Implementation) -> None:
    protocol = ready(implementation, ASK + b"GET / HTTP/1.1\r\n\r\n")
    send(protocol, upgrade(implementation))
    protocol.begin_tunnel()
    assert implementation.phase(protocol) == "TUNNEL"
    assert protocol.take_received() == b"GET / HTTP/1.1\r\n\r\n"
    assert not protocol.has_received()
    for data in (b"one", b"two"):
        protocol.receive(data)
    assert protocol.take_received() == b"onetwo"
    assert protocol.take_received() == b""
    assert protocol.request.target == "/chat"  # for the log
    protocol.receive(b"three")
    protocol.close()
    assert protocol.request is None
    assert not protocol.has_received()


# A 426.


def test_a_426_says_to_which_protocol(implementation: Implementation, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9110 §15.5.22: it must have Upgrade, which Connection must name (§7.8)."""
    messages = implementation.module("messages")
    for connection in ([], [("Connection", "Upgrade")]):
        error = implementation.module("errors").HTTPError(
            426, "speak websocket", [("Upgrade", "websocket"), *connection]
        )
        head = send(ready(implementation, ASK), messages.error_response(error))[0]
        assert b"\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" in head
        assert head.count(b"Connection: ") == 2
        assert b"Connection: keep-alive\r\n" in head
        assert not caplog.records


def test_no_other_response_has_upgrade(implementation: Implementation, caplog: pytest.LogCaptureFixture) -> None:
    response = implementation.module("messages").Response(200, b"", [("Upgrade", "websocket")])
    assert b"Upgrade" not in send(ready(implementation, ASK), response)[0]
    assert "dropped: Upgrade" in caplog.text


# The body that carries the tunnel.


def test_the_body_has_no_content(implementation: Implementation) -> None:
    response = upgrade(implementation)
    assert (response.status, list(response.body)) == (101, [])


def test_a_response_that_is_dropped_closes_its_tunnel_once(implementation: Implementation) -> None:
    response = upgrade(implementation)
    tunnel = response.body._tunnel
    response.close()
    response.close()
    assert tunnel.closings == 1
    assert response.body.is_used


def test_a_tunnel_that_was_taken_is_not_closed(implementation: Implementation) -> None:
    response = upgrade(implementation)
    tunnel = response.body.take()
    response.close()
    assert tunnel.closings == 0


def test_the_methods_of_the_base_class_do_nothing(implementation: Implementation) -> None:
    tunnel = implementation.module("tunnel").Tunnel()
    tunnel.opened(None)
    tunnel.received(b"x")
    for method in (tunnel.ended, tunnel.drained, tunnel.stopping, tunnel.closed):
        method()
