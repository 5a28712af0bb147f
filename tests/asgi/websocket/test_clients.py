"""Servers with WebSockets, and the clients and frameworks of other people."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

import kaserve
from kaserve import Config, Server
from kaserve.testing import serve
from tests.tools.server import config
from tests.tools.websocket import echo

SIZES = (0, 1, 125, 126, 65_535, 65_536, 300_000)


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with serve(asgi=echo, loop=request.param) as server:
        yield server


def url_of(server: Server) -> str:
    return server.url.replace("http", "ws", 1)


class TestClients:
    @pytest.mark.parametrize("compression", ["deflate", None])
    def test_websockets(self, server: Server, compression: str | None) -> None:
        with connect(url_of(server), compression=compression, max_size=None) as client:
            for size in SIZES:
                for message in ("x" * size, b"x" * size):
                    client.send(message)
                    assert client.recv() == message
            client.send(["in ", "three ", "fragments"])
            assert client.recv() == "in three fragments"
            assert client.ping().wait(10)
            client.close(4000, "done")
            assert (client.protocol.close_code, client.protocol.close_reason) == (4000, "done")

    def test_aiohttp(self, server: Server) -> None:
        aiohttp = pytest.importorskip("aiohttp")

        async def run() -> None:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(url_of(server), compress=15, max_msg_size=0) as client,
            ):
                for size in SIZES:
                    await client.send_str("x" * size)
                    assert (await client.receive()).data == "x" * size
                await client.close(code=1000)
                assert client.close_code == 1000

        asyncio.run(run())

    def test_wsproto(self, server: Server) -> None:
        wsproto = pytest.importorskip("wsproto")
        from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        address = server.addresses[0]
        with socket.create_connection((address.host, address.port), timeout=10) as sock:

            def exchange(event: Any) -> Any:
                sock.sendall(client.send(event))
                while True:
                    client.receive_data(sock.recv(65536))
                    for event in client.events():
                        return event

            assert isinstance(exchange(Request(host="h", target="/")), AcceptConnection)
            assert exchange(TextMessage(data="hello")).data == "hello"
            assert isinstance(exchange(Ping(payload=b"1")), Pong)
            assert exchange(CloseConnection(code=4001, reason="")).code == 4001

    def test_many_at_once(self, server: Server) -> None:
        async def talk(number: int) -> None:
            async with connect_async(url_of(server)) as client:
                for i in range(20):
                    await client.send(f"{number} {i}")
                    assert await client.recv() == f"{number} {i}"

        async def run() -> None:
            await asyncio.gather(*(talk(number) for number in range(50)))

        asyncio.run(run())
        assert server.stats.requests == 50


def _starlette() -> Any:
    applications = pytest.importorskip("starlette.applications")
    from starlette.responses import JSONResponse
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="a")
        async for message in websocket.iter_text():
            await websocket.send_text(message)

    async def denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"no": True}, status_code=401))

    return applications.Starlette(routes=[WebSocketRoute("/", endpoint), WebSocketRoute("/denied", denied)])


def _fastapi() -> Any:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    async def endpoint(websocket: Any) -> None:
        await websocket.accept(subprotocol="a")
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except fastapi.WebSocketDisconnect:
            pass

    async def denied(websocket: Any) -> None:
        raise fastapi.HTTPException(401, "no")

    for path, function in (("/", endpoint), ("/denied", denied)):
        function.__annotations__["websocket"] = fastapi.WebSocket
        app.websocket(path)(function)
    return app


def _quart() -> Any:
    quart = pytest.importorskip("quart")
    app: Any = quart.Quart(__name__)

    async def endpoint() -> None:
        await quart.websocket.accept(subprotocol="a")
        while True:
            await quart.websocket.send(await quart.websocket.receive())

    async def denied() -> None:
        quart.abort(401)

    app.websocket("/")(endpoint)
    app.websocket("/denied")(denied)
    return app


@pytest.mark.parametrize("make", [_starlette, _fastapi, _quart])
def test_frameworks(make: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    with serve(asgi=make()) as server:
        with connect(url_of(server), subprotocols=["a", "b"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "a"
            client.send("hello")
            assert client.recv() == "hello"
        with pytest.raises(websockets.InvalidStatus) as caught, connect(url_of(server) + "denied"):
            pass
        assert caught.value.response.status_code == 401
        with connect(url_of(server), subprotocols=["a"]) as client:  # type: ignore[list-item]
            client.socket.close()
    assert not [record for record in caplog.records if record.name == "kaserve"]


def test_in_a_loop_that_runs() -> None:
    async def run() -> None:
        started: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            kaserve.serve(echo, Config(port=0, access_log=False), on_start=started.set_result)
        )
        server = await started
        async with connect_async(url_of(server)) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            server.shutdown()
            with pytest.raises(websockets.ConnectionClosedOK):
                await client.recv()
            assert client.protocol.close_code == 1001
        await serving

    asyncio.run(run())


def test_the_figures_show_them() -> None:
    with serve(asgi=echo, metrics="/metrics") as server, connect(url_of(server)) as client:
        client.send("x")
        client.recv()
        address = server.addresses[0]
        with socket.create_connection((address.host, address.port), timeout=10) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\nHost: h\r\n\r\n")
            text = b""
            while data := sock.recv(65536):
                text += data
        assert b'kaserve_connections_open{phase="TUNNEL"} 1' in text


def test_beside_other_handlers() -> None:
    """`config` is what a program gives to `Server`."""
    site = kaserve.handlers.Mount({"/": lambda request: kaserve.Response.text("http"), "/ws/": kaserve.ASGI(echo)})
    with Server(site, config()) as server, connect(url_of(server) + "ws/") as client:
        client.send("hello")
        assert client.recv() == "hello"
