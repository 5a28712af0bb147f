"""The same wire for ASGI: what Starlette's test client would call goes through kaserve.

Takes the place of the transport of `starlette.testclient.TestClient`, which FastAPI's tests use as well. Each request
is sent over a persistent connection to a server that runs in this process; h11 parses what comes back, as it comes.

What HTTP cannot carry is handed over beside it: the state of the application, the address of the client that a test has
made up, what the application raises, and what Starlette's templates tell the tests ("http.response.debug"). WebSockets,
and the lifespan, stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import h11

from kaserve import ASGI, Server
from kaserve.testing import serve
from tests.suites.wire import WireConnection, end_to_end
from tests.tools.server import PATIENCE

_NUMBER = b"x-wire-exchange"  # the header that says which exchange a request belongs to; no application sees it


@dataclass
class _Exchange:
    """One request, seen from both sides. beside: what goes into the scope without being sent. over: the application has
    returned."""

    app: Any
    beside: dict[str, Any]
    called: bool = False
    error: BaseException | None = None
    debug: dict[str, Any] | None = None
    has_trailers: bool = False
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class AsgiWire:
    """A server for whatever application a request is meant for, and connections to it, which are kept.

    sent: requests so far.
    """

    def __init__(self) -> None:
        self._exchanges: dict[bytes, _Exchange] = {}
        self._idle: list[WireConnection] = []
        self._stack = ExitStack()
        self.sent = 0

    def __enter__(self) -> AsgiWire:
        app = ASGI(self._call, lifespan="off")
        self.server: Server = self._stack.enter_context(serve(app, forwarded_allow_ips="127.0.0.1"))
        return self

    def __exit__(self, *exception: object) -> None:
        for connection in self._idle:
            connection.close()
        self._stack.close()

    # The client.

    def handle_request(self, transport: Any, request: Any) -> Any:
        """In place of `_TestClientTransport.handle_request`."""
        self.sent += 1
        number = b"%d" % self.sent
        beside = {
            "client": transport.client,
            "root_path": transport.root_path,
            "server": (request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)),
            "state": transport.app_state.copy(),
        }
        exchange = self._exchanges[number] = _Exchange(transport.app, beside)
        connection = self._idle.pop() if self._idle else WireConnection(self.server)
        try:
            head = connection.ask(*_request(request, number))
        except BaseException:
            connection.close()
            self._end(number, exchange, transport.raise_server_exceptions)
            raise
        pieces = self._pieces(connection, number, exchange, transport.raise_server_exceptions)
        if exchange.error is not None and transport.raise_server_exceptions and head.status_code == 500:
            for _ in pieces:  # raises it
                pass
        response = _httpx(request).Response(
            head.status_code, headers=end_to_end(head), stream=_stream(_httpx(request), pieces), request=request
        )
        exchange.trailers = (
            response.extensions.setdefault("http.response.trailers", []) if exchange.has_trailers else []
        )
        if exchange.debug is not None:
            response.extensions["http.response.debug"] = exchange.debug
            if "template" in exchange.debug:
                response.template = exchange.debug["template"]
                response.context = exchange.debug["context"]
        return response

    def _pieces(self, connection: WireConnection, number: bytes, exchange: _Exchange, raises: bool) -> Iterator[bytes]:
        """The content as it comes. A client that does not want the rest closes its connection."""
        try:
            yield from connection.pieces()
            exchange.trailers += connection.trailers
        except GeneratorExit:
            connection.close()
            with suppress(BaseException):
                self._end(number, exchange, False)
            raise
        except BaseException:
            connection.close()
            self._end(number, exchange, raises)
            raise
        if connection.persists:
            self._idle.append(connection)
        else:
            connection.close()
        self._end(number, exchange, raises)

    def _end(self, number: bytes, exchange: _Exchange, raises: bool) -> None:
        """Waits until the application has returned, as the client in place of which this is does."""
        if exchange.called:
            assert exchange.over.wait(PATIENCE), "the application has not returned"
        self._exchanges.pop(number, None)
        if exchange.error is not None and raises:
            raise exchange.error

    # The server.

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        """The application of everything: calls the one that is meant."""
        number = dict(scope["headers"])[_NUMBER]
        scope["headers"] = [line for line in scope["headers"] if line[0] != _NUMBER]
        scope["extensions"]["http.response.debug"] = {}
        exchange = self._exchanges[number]
        exchange.called = True
        scope |= exchange.beside

        async def send_or_keep(message: Any) -> None:
            exchange.has_trailers = exchange.has_trailers or bool(message.get("trailers"))
            if message["type"] == "http.response.debug":
                exchange.debug = message["info"]
            else:
                await send(message)

        try:
            await exchange.app(scope, receive, send_or_keep)
        except BaseException as error:
            exchange.error = error
            raise
        finally:
            exchange.over.set()


def _httpx(request: Any) -> Any:
    """The library that the client is of: httpx, or what follows it."""
    import importlib

    return importlib.import_module(type(request).__module__.partition(".")[0])


def _stream(httpx: Any, pieces: Iterator[bytes]) -> Any:
    class Stream(httpx.SyncByteStream):  # type: ignore[misc]  # known only when the tests run
        def __iter__(self) -> Iterator[bytes]:
            return pieces

        def close(self) -> None:
            pieces.close()  # type: ignore[attr-defined]  # it is a generator

    return Stream()


def _request(request: Any, number: bytes) -> tuple[h11.Request, bytes]:
    body = request.read()
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"transfer-encoding"]
    headers.append((_NUMBER, number))
    if body and b"content-length" not in {name.lower() for name, _ in headers}:
        headers.append((b"Transfer-Encoding", b"chunked"))
    if request.url.scheme == "https":
        headers.append((b"X-Forwarded-Proto", b"https"))
    return h11.Request(method=request.method, target=request.url.raw_path, headers=headers), body
