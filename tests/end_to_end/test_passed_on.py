"""Requests passed on to real servers: WebSockets and other upgrades through a Proxy, with and without TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kaserve import Request, Response, Tunnel, TunnelConnection
from kaserve.handlers import WSGI
from kaserve.http.handler import Handler
from kaserve.proxy.proxy import Proxy
from tests.tools.server import PATIENCE, connect, serving, wait_for
from tests.tools.tls import make_certificate

ASK = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: reverse\r\n\r\n"


class Reverse(Tunnel):
    """Sends what it received, backwards, once the client has finished sending."""

    def opened(self, connection: TunnelConnection) -> None:
        self.connection = connection
        self.data = b""

    def received(self, data: bytes) -> None:
        self.data += data

    def ended(self) -> None:
        self.connection.write(self.data[::-1])
        self.connection.finish()


def reverse(request: Request) -> Response:
    return Response.upgrade("reverse", Reverse())


@pytest.fixture(params=["http", "https"])
def passed_on(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Serves a handler behind a proxy, with which the upstream speaks TLS or not."""
    settings: dict[str, Any] = {}
    context = None
    if request.param == "https":
        certificate = make_certificate(tmp_path, "upstream", "localhost")
        settings = {"tls_cert": (certificate.cert,), "tls_key": (certificate.key,)}
        context = ssl.create_default_context(cafile=certificate.cert)

    @contextmanager
    def passed_on(handler: Handler) -> Iterator[Any]:
        with serving(handler, **settings) as upstream:
            assert isinstance(upstream.address, tuple)
            url = f"{request.param}://localhost:{upstream.address[1]}"
            with serving(Proxy([url], ssl_context=context)) as front:
                yield front

    return passed_on


def test_a_half_close_reaches_the_upstream_and_comes_back(passed_on: Any) -> None:
    content = bytes(range(256)) * 4000
    with passed_on(reverse) as front, connect(front) as client:
        sock: socket.socket = client.sock
        sock.sendall(ASK + content)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(1 << 16):
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert body == content[::-1]
        wait_for(lambda: not front.open_connections)
        assert front.stats.closed == {"tunnel closed": 1}


def test_a_websocket(passed_on: Any) -> None:
    flask, flask_sock, client_of = map(import_module, ("flask", "flask_sock", "websockets.sync.client"))
    app = flask.Flask("site")

    def echo(ws: Any) -> None:
        while True:
            ws.send(ws.receive())

    flask_sock.Sock(app).route("/echo")(echo)
    handler = WSGI(app, 4)
    with passed_on(handler) as front:
        url = f"ws{front.url.removeprefix('http').rstrip('/')}/echo"
        with client_of.connect(url, max_size=None, proxy=None) as client:
            for message in ("hello", b"bytes", "", "x" * 3_000_000):
                client.send(message)
                assert client.recv(timeout=PATIENCE) == message
        wait_for(lambda: front.stats.closed == {"tunnel closed": 1})
    handler.close(PATIENCE)
