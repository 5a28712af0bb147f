"""The opening handshake (RFC 6455 §4.2), and servers without the package websockets."""

from __future__ import annotations

import pytest

from kaserve.asgi import application
from kaserve.asgi.websocket.settings import MISSING
from tests.tools.asgi import Receive, Scope, Send, respond
from tests.tools.websocket import KEY, MakeWebSocketNet, Recorder, echo, handshake


@pytest.mark.parametrize("version", ["12", "8", "13, 8", "", None])
def test_another_version(version: str | None, net: MakeWebSocketNet) -> None:
    """§4.4: the response names ours."""
    made = net(echo)
    client, _ = made.connect()
    client.send(handshake(version=version))
    made.settle()
    head = client.read().split(b"\r\n")
    assert head[0] == b"HTTP/1.1 426 Upgrade Required"
    assert {b"Sec-WebSocket-Version: 13", b"Upgrade: websocket", b"Connection: upgrade"} <= set(head)


@pytest.mark.parametrize("key", [None, "", "x", KEY[:-4], KEY + "AAAA", KEY[:-2], "\xe9" + KEY[1:]])
def test_a_key_that_is_none(key: str | None, net: MakeWebSocketNet) -> None:
    """§4.2.1: 16 bytes in base64."""
    made = net(echo)
    client, _ = made.connect()
    (answer,) = made.ask(client, handshake(key=key))
    assert answer.status == 400


def test_two_keys(net: MakeWebSocketNet) -> None:
    made = net(echo)
    client, _ = made.connect()
    (answer,) = made.ask(client, handshake(f"Sec-WebSocket-Key: {KEY}"))
    assert answer.status == 400


def test_no_body(net: MakeWebSocketNet) -> None:
    made = net(echo)
    client, _ = made.connect()
    client.send(handshake("Content-Length: 2") + b"xx")
    made.settle()
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert net(echo).open("Content-Length: 0").head[0] == "HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize(
    "request_",
    [
        handshake().replace(b"Connection: Upgrade\r\n", b""),  # §4.2.1
        handshake().replace(b"Upgrade: websocket", b"Upgrade: other"),
        handshake().replace(b"GET", b"POST"),
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_is_no_handshake_is_http(request_: bytes, net: MakeWebSocketNet) -> None:
    """RFC 9110 §7.8: a server may ignore an Upgrade."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await respond(send)

    made = net(app)
    client, _ = made.connect()
    client.send(request_)
    made.settle()
    assert client.read().startswith(b"HTTP/1.1 200 ")


def test_the_origin_is_the_business_of_the_application(net: MakeWebSocketNet) -> None:
    app = Recorder()
    assert net(app).open("Origin: https://other.example").head[0].startswith("HTTP/1.1 101 ")
    assert (b"origin", b"https://other.example") in app.scope["headers"]


class TestWithoutThePackage:
    def test_a_501(
        self, net: MakeWebSocketNet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        if not hasattr(application, "is_available"):
            pytest.skip("a compiled name")
        monkeypatch.setattr(application, "is_available", lambda: False)
        made = net(echo)
        client, _ = made.connect()
        for _ in range(2):
            (answer,) = made.ask(client, handshake())
            assert answer.status == 501
        assert caplog.text.count(MISSING) == 1
