"""Tools for tests of WebSockets: a client in memory, on the sans-I/O protocol of the package websockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, Protocol, State

from kaserve.asgi.application import ASGI
from kaserve.net.connection import Connection
from tests.tools.asgi import Application, LoopNet, Message, Receive, Scope, Send
from tests.tools.net import Client

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455 §1.3,
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # and what responds to it


def handshake(*lines: str, path: str = "/", version: str | None = "13", key: str | None = KEY) -> bytes:
    """The request of a client, with `lines` in addition."""
    head = [f"GET {path} HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket"]
    head += [] if version is None else [f"Sec-WebSocket-Version: {version}"]
    head += [] if key is None else [f"Sec-WebSocket-Key: {key}"]
    return "\r\n".join([*head, *lines]).encode() + b"\r\n\r\n"


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, rsv1: bool = False, mask: bool = True) -> bytes:
    """A frame of a client, whatever it says: `Frame.serialize` would check it."""
    head = bytes([0x80 * fin | 0x40 * rsv1 | opcode])
    size = len(data)
    length = bytes([0x80 * mask | (size if size < 126 else 126 if size < 65536 else 127)])
    more = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
    key = b"\1\2\3\4" if mask else b""
    return head + length + more + key + (bytes(each ^ (i % 4 + 1) for i, each in enumerate(data)) if mask else data)


def text(data: str, **more: Any) -> bytes:
    return frame(Opcode.TEXT, data.encode(), **more)


def binary(data: bytes, **more: Any) -> bytes:
    return frame(Opcode.BINARY, data, **more)


def close(code: int, reason: str = "") -> bytes:
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())


class WebSocketNet(LoopNet):
    """A `LoopNet` that runs an application with the given settings of WebSockets."""

    def __init__(self, app: Application, *, ws: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(ASGI(app, **(ws or {})), **settings)

    def open(self, *lines: str, path: str = "/", **settings: Any) -> WebSocketClient:
        """Returns a client whose handshake is complete."""
        client, connection = self.connect(**settings)
        client.send(handshake(*lines, path=path))
        self.settle()
        return WebSocketClient(self, client, connection)


class WebSocketClient:
    """The client's end of a WebSocket.

    Attributes:
        head: the response to the handshake, as lines; what follows it is `frames`.
        ended: whether the server has closed its side.
    """

    def __init__(self, net: LoopNet, client: Client, connection: Connection) -> None:
        self.net = net
        self.client = client
        self.connection = connection
        self._protocol = Protocol(CLIENT, state=State.OPEN, max_size=None)
        head, _, rest = client.read().partition(b"\r\n\r\n")
        self.head = head.decode().split("\r\n")
        self._protocol.receive_data(rest)

    def send(self, data: bytes) -> None:
        """Sends bytes, and lets the server do what it has to do."""
        sent = 0
        while sent < len(data):
            sent += self.client.send(data[sent:])
            self.net.settle()
        self.net.settle()

    def frames(self) -> list[Frame]:
        """Returns the frames that have arrived since the last call."""
        data = self.client.read()
        while data:
            self._protocol.receive_data(data)
            self.net.settle()
            data = self.client.read()
        return [event for event in self._protocol.events_received() if isinstance(event, Frame)]

    def messages(self) -> list[str | bytes]:
        """The same as messages: there must be nothing else."""
        frames = self.frames()
        assert all(frame.fin for frame in frames)
        assert {frame.opcode for frame in frames} <= {Opcode.TEXT, Opcode.BINARY}
        return [bytes(each.data).decode() if each.opcode is Opcode.TEXT else bytes(each.data) for each in frames]

    def closing(self) -> tuple[int, str]:
        """Returns the code and the reason of the server's close frame, which must be the only frame."""
        (received,) = self.frames()
        assert received.opcode is Opcode.CLOSE
        parsed = Close.parse(received.data)
        return parsed.code, parsed.reason

    @property
    def ended(self) -> bool:
        self.client.read()
        return self.client.ended


MakeWebSocketNet = Callable[..., WebSocketNet]


# Applications.


async def accept(receive: Receive, send: Send, **more: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Recorder:
    """An application that accepts, and records what it receives."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.received: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await accept(receive, send)
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            self.received.append(await receive())

    @property
    def end(self) -> tuple[int, str]:
        """The code and the reason of the disconnect."""
        assert self.received[-1]["type"] == "websocket.disconnect"
        return self.received[-1]["code"], self.received[-1]["reason"]
