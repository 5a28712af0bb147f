"""Tools for tests of the asgi package: a `Net` whose reactor is run by an event loop, and small applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kaserve.asgi.application import ASGI
from kaserve.asgi.host import LoopHost
from kaserve.http.handler import Handler
from kaserve.net.reactor import Reactor
from tests.tools.net import Net

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def start(*headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def respond(send: Send, data: bytes = b"hello", *headers: tuple[bytes, bytes]) -> None:
    await send(start(*headers))
    await send(body(data))


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send)


async def read_body(receive: Receive) -> bytes:
    """Reads the whole body of a request."""
    data: bytes = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        data += message["body"]
        if not message["more_body"]:
            return data


class LoopNet(Net):
    """A `Net` with an event loop, on the same fake clock. It is turned by the test."""

    def __init__(self, handler: Handler, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self.service.new_host = self._new_host
        self.service.handler.attach(self.service)

    def _new_host(self, reactor: Reactor) -> LoopHost:
        self.host = LoopHost(reactor)
        return self.host

    def step(self) -> None:
        self.host.step(0.0)

    @property
    def busy(self) -> bool:
        return self.host.timeout() == 0.0 or bool(self.reactor._poller.poll(0.0))

    def sleep(self, seconds: float) -> None:
        end = self.clock.now + seconds
        self.settle()
        while (wait := self.host.timeout()) is not None and self.clock.now + wait <= end:
            self.clock.advance(max(wait, 1e-6))
            self.step()
            self.settle()
        self.clock.now = end
        self.settle()

    def close(self) -> None:
        for connection in list(self.service.connections):
            connection.abort()
        self.settle()
        self.host.close()
        super().close()


class AsgiNet(LoopNet):
    """A `LoopNet` that runs an application, without a lifespan."""

    def __init__(self, app: Application = hello, **settings: Any) -> None:
        super().__init__(ASGI(app), **settings)
