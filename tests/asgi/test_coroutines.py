"""Handlers that are `async def`: in every way of running a server, with bodies both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from kaserve import BaseHandler, HTTPError, Request, Response, Server
from kaserve.handlers import Mount, Threaded
from kaserve.handlers.middleware.headers import HeaderMiddleware
from kaserve.http.handler import CoroutineHandler, as_handler
from tests.tools.asgi import LoopNet
from tests.tools.net import GET, get, post
from tests.tools.server import config, connect, serving


@pytest.fixture
def net() -> Iterator[Callable[[Any], LoopNet]]:
    nets: list[LoopNet] = []

    def make(handler: Any) -> LoopNet:
        nets.append(LoopNet(handler))
        return nets[-1]

    yield make
    for each in nets:
        each.close()


async def hello(request: Request) -> Response:
    return Response.text("hello")


async def slow(request: Request) -> Response:
    await asyncio.sleep(1)
    return Response.text("slow")


class Echo(BaseHandler):
    streams = True

    async def __call__(self, request: Request) -> Response:  # type: ignore[override]
        return Response(200, self.pieces(request))

    async def pieces(self, request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream:
            yield piece


class Count(BaseHandler):
    streams = True

    async def __call__(self, request: Request) -> Response:  # type: ignore[override]
        return Response.text(str(len(await request.read())))


class TestHandlers:
    def test_one_that_does_not_wait_responds_in_the_same_iteration(self, net: Any) -> None:
        made = net(hello)
        client, _ = made.connect()
        client.send(GET)
        made.step()
        assert client.answers("GET")[0].body == b"hello"

    def test_one_that_waits_keeps_nobody_else_waiting(self, net: Any) -> None:
        made = net(Mount({"/slow": slow, "/": hello}))
        first, _ = made.connect()
        second, _ = made.connect()
        first.send(get("/slow"))
        made.settle()
        assert made.ask(second, GET)[0].body == b"hello"
        made.sleep(1)
        assert first.answers("GET")[0].body == b"slow"

    def test_a_received_body(self, net: Any) -> None:
        """As for other handlers: `json` and `form` work, and `read` waits for nothing."""

        async def handler(request: Request) -> Response:
            assert request.json() == [1]
            return Response(200, await request.read())

        made = net(handler)
        client, _ = made.connect()
        assert made.ask(client, post(b"[1]"))[0].body == b"[1]"

    def test_a_streamed_body(self, net: Any) -> None:
        made = net(Count())
        client, _ = made.connect()
        client.send(post(b"x" * 10)[:-5])
        made.settle()
        client.send(b"xxxxx")
        made.settle()
        assert client.answers("POST")[0].body == b"10"

    def test_an_echo(self, net: Any) -> None:
        made = net(Echo())
        client, _ = made.connect()
        client.send(post(b"one two")[:-4])
        made.settle()
        assert client.read().endswith(b"3\r\none\r\n")
        client.send(b" two")
        made.settle()
        assert client.answers("POST")[0].body == b"one two"

    def test_an_asynchronous_body_is_made_as_fast_as_the_client_reads(self, net: Any) -> None:
        made_pieces = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal made_pieces
            for _ in range(1000):
                made_pieces += 1
                yield b"x" * 10_000

        async def handler(request: Request) -> Response:
            return Response(200, pieces())

        made = net(handler)
        client, _ = made.connect(send_buffer=16384)
        client.send(GET)
        made.settle()
        assert made_pieces < 50
        while made.busy or client.read():
            made.step()
        assert len(client.answers("GET")[0].body) == 10_000_000

    def test_an_asynchronous_body_is_closed_when_the_client_leaves(self, net: Any) -> None:
        closed: list[bool] = []

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                closed.append(True)

        async def handler(request: Request) -> Response:
            return Response(200, pieces())

        made = net(handler)
        client, _ = made.connect(send_buffer=16384)
        client.send(GET)
        made.settle()
        client.reset()
        made.settle()
        assert closed == [True]

    @pytest.mark.parametrize("waits", [False, True])
    def test_errors(self, waits: bool, net: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def handler(request: Request) -> Response:
            if waits:
                await asyncio.sleep(0)
            if request.path == "/418":
                raise HTTPError(418, "no")
            if request.path == "/odd":
                return "text"  # type: ignore[return-value]
            raise KeyError("a mistake")

        made = net(handler)
        client, _ = made.connect()
        answers = made.ask(client, get("/418"), get("/"), get("/odd"))
        assert [answer.status for answer in answers] == [418, 500, 500]
        assert "KeyError: 'a mistake'" in caplog.text
        assert "must return a Response, not str" in caplog.text

    def test_a_body_that_fails(self, net: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def pieces() -> AsyncIterator[Any]:
            yield b"x"
            yield "text"

        async def handler(request: Request) -> Response:
            return Response(200, pieces())

        made = net(handler)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.read()
        assert client.was_reset
        assert "a body is made of bytes, not of str" in caplog.text

    def test_middleware_gets_the_response(self, net: Any) -> None:
        made = net(HeaderMiddleware(slow, (("X-Mine", "1"),)))
        client, _ = made.connect()
        client.send(GET)
        made.sleep(1)
        assert client.answers("GET")[0].value("x-mine") == "1"

    def test_only_by_a_server(self) -> None:
        with pytest.raises(RuntimeError, match="an async handler can only be called by a running server"):
            as_handler(hello)(Request("GET", "/", 1, []))


class Hooks(BaseHandler):
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def __call__(self, request: Request) -> Response:  # type: ignore[override]
        return Response()

    def before_body(self, request: Request) -> None:
        self.calls.append("before_body")

    def body_sink(self, request: Request) -> None:
        self.calls.append("body_sink")

    def end_of_turn(self) -> None:
        self.calls.append("end_of_turn")

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        self.calls.append("protect")
        return page

    def make_private(self) -> None:
        self.calls.append("make_private")

    def close(self) -> None:
        self.calls.append("close")


def test_every_hook_reaches_the_handler() -> None:
    hooks = Hooks()
    handler = as_handler(hooks)
    assert isinstance(handler, CoroutineHandler)
    request = Request("GET", "/", 1, [])
    handler.before_body(request)
    handler.body_sink(request)
    handler.end_of_turn()
    handler.protect("/", handler)
    handler.make_private()
    handler.close()
    assert hooks.calls == ["before_body", "body_sink", "end_of_turn", "protect", "make_private", "close"]


class TestWays:
    def test_in_a_thread(self) -> None:
        with serving(hello) as server, connect(server) as client:
            assert client.ask().body == b"hello"

    def test_run(self) -> None:
        bodies: list[bytes] = []
        server = Server(slow, config())

        def visit() -> None:
            with connect(server) as client:
                bodies.append(client.ask().body)
            server.shutdown()

        server.on_start = lambda: asyncio.get_running_loop().run_in_executor(None, visit)
        server.run()
        assert bodies == [b"slow"]

    def test_not_in_worker_threads(self) -> None:
        """A coroutine belongs to the loop: `Threaded` calls the handler in another thread."""
        with pytest.raises(TypeError, match="an async handler needs no threads"):
            Threaded(hello)
