"""WebSocket: pings, flow control, compression, size limits, and what is on the wire at the end."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest
from websockets.frames import Opcode

from kaserve.asgi.websocket.connection import MAX_UNREAD
from kaserve.http.phases import CLOSED, LINGER, TUNNEL
from kaserve.net.poller import READ
from tests.tools.asgi import Message, Receive, Scope, Send
from tests.tools.connections import SMALL_BUFFER
from tests.tools.websocket import MakeWebSocketNet, Recorder, accept, binary, close, echo, frame, text

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def deflate(data: bytes) -> bytes:
    """The payload of a compressed message (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class TestErrorsOfTheClient:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(Opcode.TEXT, b"a", mask=False), 1002),
            (frame(Opcode.TEXT, b"\xff"), 1007),
            (binary(b"x" * 1001), 1009),
            (frame(Opcode.BINARY, b"x" * 1000, fin=False) + frame(Opcode.CONT, b"x"), 1009),
        ],
    )
    def test_a_close_frame_says_what(self, data: bytes, code: int, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app, ws={"ws_max_size": 1000}).open()
        client.send(text("before") + data)
        assert app.received[0]["text"] == "before"
        assert app.end[0] == code
        assert client.closing()[0] == code
        assert client.ended

    def test_a_compression_bomb(self, net: MakeWebSocketNet) -> None:
        """It is decompressed no further than the limit."""
        app = Recorder()
        client = net(app, ws={"ws_max_size": 100_000}).open(DEFLATE)
        client.send(frame(Opcode.BINARY, deflate(bytes(50_000_000)), rsv1=True))
        assert app.end[0] == client.closing()[0] == 1009

    def test_a_bomb_in_fragments(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app, ws={"ws_max_size": 100_000}).open(DEFLATE)
        data = deflate(bytes(200_000))
        client.send(frame(Opcode.BINARY, data[:10], rsv1=True, fin=False) + frame(Opcode.CONT, data[10:]))
        assert app.end[0] == client.closing()[0] == 1009

    def test_bad_compression(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app).open(DEFLATE)
        client.send(frame(Opcode.BINARY, b"\xff\xff\xff", rsv1=True))
        assert app.end[0] == client.closing()[0] == 1002

    def test_what_follows_is_ignored(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app).open()
        client.send(frame(Opcode.TEXT, b"\xff") + text("after"))
        client.send(text("late"))
        assert [each["type"] for each in app.received] == ["websocket.disconnect"]
        assert client.connection.phase == LINGER


class TestCompression:
    def test_both_ways(self, net: MakeWebSocketNet) -> None:
        client = net(echo).open(DEFLATE)
        head = next(line for line in client.head if line.startswith("Sec-WebSocket-Extensions"))
        assert "permessage-deflate" in head
        assert "server_no_context_takeover" in head  # an idle WebSocket has no windows
        assert "client_no_context_takeover" in head
        data = b"kaserve " * 1000
        client.send(frame(Opcode.BINARY, deflate(data), rsv1=True))
        raw = client.client.read()
        assert raw[0] == 0xC2  # final, RSV1, binary
        assert len(raw) < 200
        assert zlib.decompressobj(wbits=-15).decompress(raw[2 if raw[1] < 126 else 4 :] + b"\0\0\xff\xff") == data

    def test_short_messages_are_sent_as_they_are(self, net: MakeWebSocketNet) -> None:
        client = net(echo).open(DEFLATE)
        client.send(frame(Opcode.TEXT, deflate(b"short"), rsv1=True))
        assert client.messages() == ["short"]

    def test_in_fragments(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        client = net(app).open(DEFLATE)
        data = deflate(b"kaserve " * 10)
        client.send(frame(Opcode.TEXT, data[:5], rsv1=True, fin=False) + frame(Opcode.CONT, data[5:]))
        assert app.received == [{"type": "websocket.receive", "text": "kaserve " * 10}]

    def test_off(self, net: MakeWebSocketNet) -> None:
        client = net(echo, ws={"ws_per_message_deflate": False}).open(DEFLATE)
        assert not any(line.startswith("Sec-WebSocket-Extensions") for line in client.head)

    @pytest.mark.parametrize("offer", ["permessage-deflate; server_max_window_bits=7", "permessage-bzip2", "x; y=1"])
    def test_an_offer_that_is_declined(self, offer: str, net: MakeWebSocketNet) -> None:
        client = net(echo).open(f"Sec-WebSocket-Extensions: {offer}")
        assert not any(line.startswith("Sec-WebSocket-Extensions") for line in client.head)
        client.send(text("a"))
        assert client.messages() == ["a"]

    def test_a_malformed_offer(self, net: MakeWebSocketNet) -> None:
        assert net(echo).open("Sec-WebSocket-Extensions: ;;").head[0] == "HTTP/1.1 400 Bad Request"


class TestPings:
    def test_of_the_client(self, net: MakeWebSocketNet) -> None:
        client = net(echo).open()
        client.send(frame(Opcode.PING, b"1") + text("a"))
        assert {(each.opcode, bytes(each.data)) for each in client.frames()} == {
            (Opcode.PONG, b"1"),
            (Opcode.TEXT, b"a"),
        }

    def test_of_the_server(self, net: MakeWebSocketNet) -> None:
        made = net(echo, ws={"ws_ping_interval": 10.0, "ws_ping_timeout": 5.0})
        client = made.open()
        for _ in range(5):
            made.sleep(9)
            assert client.frames() == []
            made.sleep(2)
            (ping,) = client.frames()
            assert ping.opcode is Opcode.PING
            client.send(frame(Opcode.PONG, bytes(ping.data)))
            made.clock.advance(-1)  # the interval begins with the pong
        assert client.connection.phase == TUNNEL

    @pytest.mark.parametrize("pong", [None, b"", b"wrong"])
    def test_without_the_pong(self, pong: bytes | None, net: MakeWebSocketNet) -> None:
        app = Recorder()
        made = net(app, ws={"ws_ping_interval": 10.0, "ws_ping_timeout": 5.0})
        client = made.open()
        made.sleep(11)
        assert [each.opcode for each in client.frames()] == [Opcode.PING]
        if pong is not None:
            client.send(frame(Opcode.PONG, pong))
        made.sleep(3)
        assert client.connection.phase == TUNNEL
        made.sleep(3)
        assert client.closing() == (1011, "no response to a ping")
        assert app.end == (1006, "")
        assert client.ended

    @pytest.mark.parametrize(
        ("settings", "pings"),
        [({"ws_ping_interval": 0.0}, 0), ({"ws_ping_interval": 10.0, "ws_ping_timeout": 0.0}, 9)],
    )
    def test_off(self, settings: dict[str, Any], pings: int, net: MakeWebSocketNet) -> None:
        made = net(echo, ws=settings)
        client = made.open()
        made.sleep(99)
        assert len(client.frames()) == pings
        assert client.connection.phase == TUNNEL

    def test_none_while_the_application_does_not_receive(self, net: MakeWebSocketNet) -> None:
        """A pong would not be read."""
        go = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await go.wait()

        made = net(app, ws={"ws_ping_interval": 10.0, "ws_ping_timeout": 5.0})
        client = made.open()
        client.send(binary(b"x" * MAX_UNREAD))
        made.sleep(100)
        assert client.frames() == []
        assert client.connection.phase == TUNNEL

    def test_a_slow_client_is_not_gone(self, net: MakeWebSocketNet) -> None:
        """The ping waits behind a message that the client receives slowly."""
        size = 40_000_000

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.send", "bytes": bytes(size)})
            await receive()

        made = net(app, ws={"ws_ping_interval": 10.0, "ws_ping_timeout": 5.0})
        client = made.open(tcp=True)
        for _ in range(10):
            made.sleep(4)
            sent = made.stats.sent
            for _ in range(10_000):
                client.client.read(100_000)
                made.settle()
                if made.stats.sent > sent:
                    break
        assert client.connection.phase == TUNNEL
        made.sleep(30)
        assert client.connection.phase != TUNNEL  # it has stopped receiving

    def test_many_pings_of_a_client_that_does_not_receive(self, net: MakeWebSocketNet) -> None:
        """§5.5.3: only the last one needs a response."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await send({"type": "websocket.send", "bytes": bytes(20_000_000)})
            await receive()

        made = net(app)
        client = made.open(tcp=True)
        for number in range(1000):
            client.send(frame(Opcode.PING, b"%d" % number))
        frames = client.frames()
        while len(frames) < 2:
            frames += client.frames()
            made.settle()
        assert [each.opcode for each in frames] == [Opcode.BINARY, Opcode.PONG]
        assert frames[1].data == b"999"


class TestFlowControl:
    def test_an_application_that_does_not_receive_stops_the_reading(self, net: MakeWebSocketNet) -> None:
        go = asyncio.Event()
        received: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await go.wait()
            while len(received) < 1000:
                received.append(await receive())

        made = net(app)
        client = made.open(tcp=True)
        message = binary(b"x" * 10_000)
        sent, stuck = 0, 0
        for _ in range(1000):
            piece = message
            while piece and not stuck:
                count = client.client.send(piece)
                made.settle()
                stuck = not count
                piece = piece[count:]
            sent += not stuck
        assert made.interest(client.connection) & READ == 0
        assert made.stats.received < MAX_UNREAD + 4 * 65536
        go.set()
        made.host.loop.call_soon(lambda: None)
        made.settle()
        assert made.interest(client.connection) & READ
        assert len(received) >= sent

    def test_empty_messages_count(self, net: MakeWebSocketNet) -> None:
        go = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await go.wait()

        made = net(app)
        client = made.open()
        for _ in range(2):
            client.client.send(text("") * 1000)
            made.settle()
        assert made.interest(client.connection) & READ == 0

    def test_send_waits_for_a_slow_client(self, net: MakeWebSocketNet) -> None:
        sent = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            await accept(receive, send)
            for _ in range(50):
                await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
                sent += 1

        made = net(app)
        client = made.open(tcp=True)
        made.settle()
        stuck = sent
        assert stuck < 30  # what the kernel buffers
        made.sleep(1)
        assert sent == stuck
        received = 0
        for _ in range(100_000):
            received += len(client.client.read(500_000))
            client.client.received = client.client.received[-10:]
            made.settle()
            if client.client.received.endswith(b"\x88\x02\x03\xe8"):
                break
        assert sent == 50
        client.send(close(1000))
        assert client.ended

    @pytest.mark.parametrize("how", ["reset", "close frame"])
    def test_a_client_that_leaves_ends_the_wait(
        self, how: str, net: MakeWebSocketNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        raised: list[OSError] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
            except OSError as error:
                raised.append(error)
                raise

        made = net(app)
        client = made.open(tcp=True, send_buffer=SMALL_BUFFER)
        made.settle()
        if how == "reset":
            client.client.reset()
        else:
            client.client.send(close(1000))
        made.settle()
        assert len(raised) == 1
        assert not caplog.records

    def test_a_wait_that_is_given_up_leaves_nothing_behind(self, net: MakeWebSocketNet) -> None:
        done = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            for _ in range(100):
                waiting = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            assert receive.__self__._waiters == []  # type: ignore[attr-defined]
            done.set()
            assert (await receive())["text"] == "a"
            await send({"type": "websocket.send", "text": "b"})

        made = net(app)
        client = made.open()
        made.settle()
        assert done.is_set()
        client.send(text("a"))
        assert [bytes(each.data) for each in client.frames()] == [b"b", b"\x03\xe8"]


class TestTheEnd:
    def test_of_the_server_while_the_client_does_not_respond(self, net: MakeWebSocketNet) -> None:
        app = Recorder()
        made = net(app)
        client = made.open()
        made.service.drain()
        made.settle()
        assert client.closing()[0] == 1001
        made.sleep(4)
        assert client.connection.phase == TUNNEL
        made.sleep(12)
        assert client.connection.phase == CLOSED

    def test_a_paused_one_reads_the_close_frame(self, net: MakeWebSocketNet) -> None:
        """After our close frame nothing but that of the client is waited for."""
        go = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            await go.wait()
            await send({"type": "websocket.close", "code": 4000})

        made = net(app)
        client = made.open()
        client.send(binary(b"x" * MAX_UNREAD))
        client.client.send(binary(b"x" * 1000) + close(4000))
        assert made.interest(client.connection) & READ == 0
        go.set()
        made.host.loop.call_soon(lambda: None)
        made.settle()
        assert client.closing()[0] == 4000
        assert client.ended

    def test_nothing_is_left(self, net: MakeWebSocketNet) -> None:
        made = net(echo)
        for _ in range(3):
            client = made.open()
            client.send(text("a") + close(1000))
            client.client.close()
            made.settle()
        assert len(made.service.connections) == 0
        assert len(made.reactor.wheel) == 0
