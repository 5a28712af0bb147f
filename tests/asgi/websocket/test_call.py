"""WebSockets of ASGI applications: the messages in both directions, and every way in which one ends."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kaserve import ClientDisconnected
from kaserve.asgi.websocket.connection import CLOSE_TIMEOUT
from kaserve.http.phases import CLOSED, IDLE, LINGER, TUNNEL
from tests.tools.asgi import Message, Receive, Scope, Send, respond
from tests.tools.websocket import ACCEPT, MakeWebSocketNet, Recorder, accept, binary, close, echo, handshake, text

pytest.importorskip("websockets")


class TestHandshake:
    def test_accept(self, net: MakeWebSocketNet) -> None:
        client = net(echo).open()
        assert client.head[0] == "HTTP/1.1 101 Switching Protocols"
        assert f"Sec-WebSocket-Accept: {ACCEPT}" in client.head
        assert client.connection.phase == TUNNEL

    def test_subprotocol_and_headers(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["subprotocols"] == ["a", "b", "c"]
            await accept(receive, send, subprotocol="b", headers=[(b"x-mine", b"1")])
            await receive()

        client = net(app).open("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c")
        assert {"Sec-WebSocket-Protocol: b", "x-mine: 1"} <= set(client.head)

    def test_a_server_header_is_an_error(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send, headers=[(b"Sec-WebSocket-Protocol", b"a")])

        assert net(app).open().head[0] == "HTTP/1.1 500 Internal Server Error"
        assert "subprotocol is a key" in caplog.text

    def test_the_scope(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        net(app).open(path="/a%20b?c=d")
        scope = app.scope
        assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "ws", "/a b")
        assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b", b"c=d")
        assert (scope["subprotocols"], scope["extensions"]) == ([], {"websocket.http.response": {}})
        assert "method" not in scope
        assert (b"upgrade", b"websocket") in scope["headers"]

    def test_what_the_client_sends_at_once_is_received(self, net: MakeWebSocketNet) -> None:
        made = net(echo)
        client, _ = made.connect()
        client.send(handshake() + text("early"))
        made.settle()
        assert client.read().endswith(b"\x81\x05early")

    def test_what_the_application_sends_at_once_arrives(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.send", "text": "one"})
            await send({"type": "websocket.send", "bytes": b"two"})
            await receive()

        assert net(app).open().messages() == ["one", b"two"]

    def test_an_application_that_waits_first(self, net: MakeWebSocketNet) -> None:
        go = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await go.wait()
            await echo(scope, receive, send)

        made = net(app)
        client, _ = made.connect()
        client.send(handshake())
        made.settle()
        assert client.read() == b""
        go.set()
        made.host.loop.call_soon(lambda: None)
        made.settle()
        assert client.read().startswith(b"HTTP/1.1 101 ")

    def test_rejected(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            assert (await receive())["type"] == "websocket.disconnect"

        made = net(app)
        client = made.open()
        assert client.head[0] == "HTTP/1.1 403 Forbidden"
        assert client.connection.phase == IDLE  # it is HTTP, and goes on

    @pytest.mark.parametrize("waits", [False, True])
    def test_denial(self, waits: bool, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if waits:
                await asyncio.sleep(0)
            start = {"status": 401, "headers": [(b"www-authenticate", b"Basic"), (b"content-length", b"4")]}
            await send({"type": "websocket.http.response.start", **start})
            if waits:
                await asyncio.sleep(0)
            await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"pe"})

        made = net(app)
        client, _ = made.connect()
        (answer,) = made.ask(client, handshake())
        assert (answer.status, answer.body, answer.value("www-authenticate")) == (401, b"nope", "Basic")

    def test_a_denial_that_is_not_completed(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})

        assert net(app).open().head[0] == "HTTP/1.1 500 Internal Server Error"
        assert "before its response was complete" in caplog.text

    @pytest.mark.parametrize("raises", [False, True])
    def test_an_application_that_decides_nothing(
        self, raises: bool, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if raises:
                raise LookupError("its fault")

        assert net(app).open().head[0] == "HTTP/1.1 500 Internal Server Error"
        assert ("its fault" if raises else "returned without accepting") in caplog.text

    def test_an_application_that_knows_no_websocket(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send)

        assert net(app).open().head[0] == "HTTP/1.1 500 Internal Server Error"

    def test_the_client_leaves_first(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        app = Recorder()
        received: list[Message] = []

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            received.append(await receive())
            received.append(await receive())
            await send({"type": "websocket.accept"})

        made = net(slow)
        client, _ = made.connect()
        client.send(handshake())
        made.settle()
        client.close()
        made.settle()
        assert received[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert not caplog.records
        assert app.received == []


class TestMessages:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
    def test_sizes(self, size: int, net: MakeWebSocketNet) -> None:
        client = net(echo).open()
        client.send(text("x" * size))
        client.send(binary(b"x" * size))
        assert client.messages() == ["x" * size, b"x" * size]

    def test_several_at_once(self, net: MakeWebSocketNet) -> None:
        client = net(echo).open()
        client.send(text("a") + binary(b"b") + text("c"))
        assert client.messages() == ["a", b"b", "c"]

    def test_sent_as_bytes_likes(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            for data in (bytearray(b"a"), memoryview(b"b")):
                await send({"type": "websocket.send", "bytes": data, "text": None})
            await receive()

        assert net(app).open().messages() == [b"a", b"b"]

    @pytest.mark.parametrize("message", [{}, {"text": b"x"}, {"bytes": "x"}, {"text": None, "bytes": None}])
    def test_malformed(self, message: Message, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.send", **message})

        assert net(app).open().closing() == (1011, "")
        assert "TypeError" in caplog.text

    @pytest.mark.parametrize(
        ("kinds", "expected"),
        [
            (["websocket.send"], "must come first"),
            (["websocket.accept", "websocket.accept"], "must come now"),
            (["websocket.accept", "websocket.http.response.start"], "must come now"),
            (["websocket.accept", "websocket.close", "websocket.send"], "is closed"),
            (["websocket.close", "websocket.accept"], "is closed"),
            (["http.response.start"], "must come first"),
        ],
    )
    def test_the_order(
        self, kinds: list[str], expected: str, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        raised: list[Exception] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            for kind in kinds[:-1]:
                await send({"type": kind})
            with pytest.raises(RuntimeError) as caught:
                await send({"type": kinds[-1], "text": "", "status": 200})
            raised.append(caught.value)

        net(app).open()
        assert expected in str(raised[0])


class TestClosing:
    def test_by_the_client(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app).open()
        client.send(text("a") + close(4001, "enough"))
        assert app.received[0] == {"type": "websocket.receive", "text": "a"}
        assert app.end == (4001, "enough")
        assert client.closing() == (4001, "enough")  # §5.5.1
        assert client.ended
        assert client.connection.phase == LINGER

    def test_without_a_code(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app).open()
        client.send(b"\x88\x80\1\2\3\4")
        assert app.end == (1005, "")
        assert client.closing() == (1005, "")
        assert client.ended

    @pytest.mark.parametrize(
        ("message", "code", "reason"),
        [
            ({}, 1000, ""),
            ({"code": 4000, "reason": "why"}, 4000, "why"),
            ({"code": 1003, "reason": None}, 1003, ""),
            ({"code": 1000, "reason": "\u20ac" * 50}, 1000, "\u20ac" * 41),  # 123 bytes at most (§5.5)
        ],
    )
    def test_by_the_application(self, message: Message, code: int, reason: str, net: MakeWebSocketNet) -> None:
        received: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.close", **message})
            received.append(await receive())

        client = net(app).open()
        assert client.closing() == (code, reason)
        assert not client.ended
        assert received[0]["code"] == code
        client.send(text("late") + close(code))
        assert client.ended

    @pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 5000])
    def test_with_a_code_that_cannot_be_sent(
        self, code: int, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.close", "code": code})

        assert net(app).open().closing() == (1011, "")
        assert "ValueError" in caplog.text

    def test_a_client_that_does_not_respond_to_it(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.close"})

        made = net(app)
        client = made.open()
        made.sleep(CLOSE_TIMEOUT - 1)
        assert not client.ended
        made.sleep(2)
        assert client.ended

    def test_the_application_returns(self, net: MakeWebSocketNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)

        assert net(app).open().closing() == (1000, "")

    def test_the_application_raises(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            raise LookupError("its fault")

        assert net(app).open().closing() == (1011, "")
        assert "its fault" in caplog.text

    @pytest.mark.parametrize("half", [True, False])
    def test_the_client_vanishes(self, half: bool, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        app = Recorder()
        made = net(app)
        client = made.open(tcp=True)
        if half:
            client.client.finish()
        else:
            client.client.reset()
        made.settle()
        assert app.end == (1006, "")
        assert client.connection.phase == CLOSED
        assert not caplog.records

    def test_send_raises_then(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        raised: list[OSError] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            assert (await receive())["type"] == "websocket.disconnect"
            try:
                await send({"type": "websocket.send", "text": "late"})
            except OSError as error:
                raised.append(error)
                raise LookupError("a framework's own") from error

        made = net(app)
        client = made.open()
        client.client.close()
        made.settle()
        assert isinstance(raised[0], ClientDisconnected)
        assert not caplog.records

    def test_an_error_after_the_end_is_logged(self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await receive()
            raise LookupError("its fault")

        made = net(app)
        client = made.open()
        client.send(close(1000))
        assert "its fault" in caplog.text

    def test_shutdown(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        made = net(app)
        client = made.open()
        made.service.drain()
        made.settle()
        code, _ = client.closing()
        assert (code, app.end[0]) == (1001, 1001)
        client.send(close(1001))
        assert client.ended

    def test_nothing_is_logged_as_an_error_by_asyncio(
        self, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        made = net(echo)
        client = made.open()
        client.send(text("a"))
        client.client.reset()
        made.settle()
        assert not caplog.records
