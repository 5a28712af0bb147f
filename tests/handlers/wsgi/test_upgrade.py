"""Applications that take over the socket of a request (`werkzeug.socket`), and those that leave it alone.

The applications are written here, so that each does exactly one thing. tests/end_to_end/test_frameworks.py has
flask-sock. The server runs in its own thread; nothing is waited for but what must happen.
"""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kaserve import Response, Server
from kaserve.handlers import WSGI, Mount
from kaserve.handlers.wsgi.application import Application
from kaserve.http.messages import Request
from kaserve.telemetry.endings import Ending
from tests.tools.net import open_descriptors
from tests.tools.server import PATIENCE, Client, connect, get, serving, wait_for
from tests.tools.tls import make_certificate

ASK = get("/up", "Connection: keep-alive, Upgrade", "Upgrade: echo, other", "X-Mine: 1")
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
SENT_HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
MUCH = bytes(range(256)) * 20_000  # 5 MB, more than fits between a thread and a client


class App:
    """An application that does one thing with its socket.

    Attributes:
        use: called with the socket in the application's thread.
        done: set when that has returned.
        environ: of the last request.
        has_failed: whether `use` has raised something.
    """

    def __init__(self, use: Callable[[socket.socket], object]) -> None:
        self.use = use
        self.done = threading.Event()
        self.environ: dict[str, Any] = {}
        self.has_failed = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.environ = environ
        sock = environ.pop("werkzeug.socket", None)
        try:
            if sock is not None:
                self.use(sock)
        except BaseException:
            self.has_failed = True
            raise
        finally:
            self.done.set()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]


def echo(sock: socket.socket) -> None:
    """Writes its 101, and then sends everything back until the client has finished."""
    sock.sendall(HEAD)
    while data := sock.recv(65536):
        sock.sendall(data)


@contextmanager
def served(
    app: Application, threads: int = 2, *, keeps_tracebacks: bool = False, **settings: Any
) -> Iterator[tuple[Server, Client]]:
    """A server with `app`, and a client of it. No descriptor is left open; unless pytest has a traceback of the log,
    and with it the socket of the application."""
    gc.collect()
    before = open_descriptors()
    handler = WSGI(app, threads)
    with serving(handler, **settings) as server, connect(server) as client:
        yield server, client
    handler.close(PATIENCE)
    if isinstance(app, App):
        app.environ = {}
    wait_for(lambda: gc.collect() >= 0 and (keeps_tracebacks or open_descriptors() <= before))


# Applications that use it.


def test_an_echo() -> None:
    app = App(echo)
    with served(app) as (server, client):
        client.send(ASK + b"early, ")
        assert client._until(SENT_HEAD) == SENT_HEAD
        assert client._exactly(7) == b"early, "
        client.send(b"later, ")
        assert client._exactly(7) == b"later, "
        client.send(b"last")
        client.finish()
        assert client.rest() == b"last"  # and no response of the application, which has made one
        assert app.done.wait(PATIENCE)
        wait_for(lambda: server.stats.closed == {Ending.TUNNEL_CLOSED: 1})
        assert server.stats.requests == 1
    assert not app.has_failed


def test_what_the_application_finds() -> None:
    """A socket that blocks, and what libraries check before they write a 101; nothing of that in other requests."""
    kinds: list[Any] = []
    app = App(lambda sock: kinds.extend([isinstance(sock, socket.socket), sock.getblocking(), sock.gettimeout()]))
    with served(app) as (_, client):
        assert client.exchange(ASK)[0].status == 200
        assert kinds == [True, True, None]
        assert app.environ["HTTP_UPGRADE"] == "echo, other"
        assert app.environ["HTTP_CONNECTION"] == "keep-alive, Upgrade"
        assert app.environ["HTTP_X_MINE"] == "1"
        for other in (
            get(),
            get("/", "Upgrade: echo"),
            get("/", "Connection: upgrade"),
            get("/", "TE: trailers", "Connection: TE"),
            get("/", "Connection: upgrade, keep-alive", "Upgrade: echo", version="1.0"),
        ):
            assert client.exchange(other)[0].status == 200
            assert not {"werkzeug.socket", "HTTP_UPGRADE", "HTTP_CONNECTION"} & set(app.environ)
    assert kinds == [True, True, None]


def test_a_default_timeout_is_not_that_of_the_socket() -> None:
    seen: list[Any] = []
    app = App(lambda sock: seen.append(sock.gettimeout()))
    with served(app) as (_, client):
        socket.setdefaulttimeout(5.0)
        try:
            client.exchange(ASK)
        finally:
            socket.setdefaulttimeout(None)
    assert seen == [None]


def test_on_the_reactor_there_is_none() -> None:
    """An application that waits there would block every other client."""
    app = App(echo)
    with served(app, threads=0) as (_, client):
        assert client.exchange(ASK)[0].body == b"hello"
    assert app.done.is_set()
    assert not app.has_failed


def test_without_a_server_there_is_none() -> None:
    app = App(echo)
    handler = WSGI(app, 1)
    request = Request("GET", "/", 1, [("connection", "upgrade"), ("upgrade", "echo")], flags=512 | 16)
    result: Any = handler(request)
    assert result.result(PATIENCE).body == b"hello"
    handler.close(PATIENCE)


def test_in_a_mount() -> None:
    app = App(echo)
    handler = WSGI(app, 1)
    site = Mount({"/up": handler, "/": lambda request: Response.text("root")})
    with serving(site) as server, connect(server) as client:
        client.send(ASK + b"x")
        assert client._until(SENT_HEAD)
        assert client._exactly(1) == b"x"
    handler.close(PATIENCE)


def test_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "site", "localhost")
    context = ssl.create_default_context(cafile=certificate.cert)
    app = App(echo)
    with served(app, tls_cert=(certificate.cert,), tls_key=(certificate.key,)) as (_, plain):
        with (
            socket.create_connection(plain.sock.getpeername()) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            client = Client(sock)
            client.send(ASK)
            assert client._until(SENT_HEAD) == SENT_HEAD
            client.send(MUCH[:200_000])
            assert client._exactly(200_000) == MUCH[:200_000]
        assert app.done.wait(PATIENCE)
        plain.close()


def test_flow_control_from_the_application() -> None:
    """A client that does not read holds the thread, and not the memory of the server."""
    app = App(lambda sock: sock.sendall(HEAD + MUCH))
    with served(app) as (server, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        (connection,) = server._service.connections
        most = 0
        while len(client._received) < len(MUCH):
            tunnel: Any = connection._exchange.tunnel  # type: ignore[attr-defined]
            most = max(most, sum(map(len, tunnel._queue)) + len(tunnel._writer.buffer)) if tunnel else most
            client._receive()
        assert most <= 200_000
        assert client.rest() == MUCH
    assert not app.has_failed


def test_flow_control_to_the_application() -> None:
    """An application that does not read has its client wait."""
    gate = threading.Event()
    received = bytearray()

    def read_late(sock: socket.socket) -> None:
        sock.sendall(HEAD)
        assert gate.wait(PATIENCE)
        while data := sock.recv(65536):
            received.extend(data)

    app = App(read_late)
    with served(app) as (_, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        client.sock.settimeout(0)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 50_000_000:
                sent += client.sock.send(MUCH[:65536])
        assert sent < 50_000_000
        gate.set()
        client.sock.settimeout(PATIENCE)
        client.finish()
        assert client.rest() == b""
        assert app.done.wait(PATIENCE)
    assert len(received) == sent


def test_an_application_that_finishes_first() -> None:
    """It shuts its socket down for sending, and reads on."""
    received = bytearray()

    def finish(sock: socket.socket) -> None:
        sock.sendall(HEAD + b"bye")
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            received.extend(data)

    app = App(finish)
    with served(app) as (server, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + b"bye"
        client.send(b"still here")
        client.finish()
        assert app.done.wait(PATIENCE)
        wait_for(lambda: server.stats.closed == {Ending.TUNNEL_CLOSED: 1})
    assert received == b"still here"


def test_an_application_that_closes_its_socket_and_works_on() -> None:
    gate = threading.Event()

    def close(sock: socket.socket) -> None:
        sock.sendall(HEAD + b"bye")
        sock.close()
        assert gate.wait(PATIENCE)

    app = App(close)
    with served(app) as (server, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + b"bye"
        client.send(b"nobody reads this")
        gate.set()
        client.finish()
        wait_for(lambda: server.stats.closed == {Ending.TUNNEL_CLOSED: 1})
    assert not app.has_failed


@pytest.mark.parametrize("rest", [b"", b"bye", MUCH])
def test_an_application_that_returns(rest: bytes) -> None:
    """Everything that it has sent arrives, and then the connection ends. Its response is dropped."""
    app = App(lambda sock: sock.sendall(HEAD + rest))
    with served(app) as (server, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + rest
        client.send(b"late")
        client.finish()
        wait_for(lambda: server.stats.closed == {Ending.TUNNEL_CLOSED: 1})
    assert not app.has_failed


def test_a_socket_that_outlives_its_application_is_at_its_end() -> None:
    """As in the threads of simple-websocket, which read it."""
    seen: list[bytes] = []

    def leave_a_thread(sock: socket.socket) -> None:
        sock.sendall(HEAD)
        thread = threading.Thread(target=lambda: seen.append(sock.recv(10)))
        thread.start()
        threads.append(thread)

    threads: list[threading.Thread] = []
    app = App(leave_a_thread)
    with served(app) as (_, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD
        client.close()
        threads[0].join(PATIENCE)
        assert seen == [b""]


class Silent(App):
    """Uses the socket, and then returns without a call of start_response, or fails."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.use(environ.pop("werkzeug.socket"))
        return []


def test_an_application_need_not_call_start_response(caplog: pytest.LogCaptureFixture) -> None:
    app = Silent(lambda sock: sock.sendall(HEAD + b"bye"))
    with served(app) as (_, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + b"bye"
    assert caplog.records == []


def test_an_application_that_uses_it_while_its_result_is_iterated(caplog: pytest.LogCaptureFixture) -> None:
    class Lazy(App):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            sock = environ.pop("werkzeug.socket")
            sock.sendall(HEAD + b"bye")
            yield b""

    app = Lazy(echo)
    with served(app) as (_, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + b"bye"
    assert caplog.records == []


def test_an_application_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A reset, so that the client does not take what it has for the whole."""

    def fail(sock: socket.socket) -> None:
        sock.sendall(HEAD)
        sock.recv(1)
        raise RuntimeError("the application's own fault")

    with served(App(fail), keeps_tracebacks=True) as (server, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        client.send(b"x")
        with pytest.raises(ConnectionResetError):
            client.rest()
        wait_for(lambda: server.stats.closed == {Ending.TUNNEL_RESET: 1})
        assert caplog.messages == ["the application failed on the socket of <Request GET /up HTTP/1.1>"]


# Clients that leave, and a server that stops.


@pytest.mark.parametrize("leaves", ["finishes", "resets"])
def test_an_application_that_waits_sees_that_its_client_has_left(leaves: str) -> None:
    app = App(echo)
    with served(app) as (_, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        if leaves == "resets":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            client.finish()
            assert client.rest() == b""
        assert app.done.wait(PATIENCE)
    assert not app.has_failed


def test_an_application_that_reads_before_it_has_decided() -> None:
    """It gets nothing, since the client must not send anything before the 101; but it sees that it has left."""
    app = App(lambda sock: sock.recv(100))
    with served(app) as (server, client):
        client.send(ASK)
        wait_for(lambda: bool(app.environ))
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert app.done.wait(PATIENCE)
        wait_for(lambda: server.stats.closed == {Ending.DISCONNECTED: 1})
    assert not app.has_failed


def test_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    app = App(echo)
    with served(app) as (server, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        server.shutdown(0.0)
        assert app.done.wait(PATIENCE)
        with pytest.raises(ConnectionResetError):
            client.rest()
    assert not app.has_failed
    assert caplog.messages == ["1 tunnel (WebSocket, for instance) was cut off"]


def test_the_server_stops_while_it_is_undecided() -> None:
    app = App(lambda sock: sock.recv(100))
    with served(app) as (server, client):
        client.send(ASK)
        wait_for(lambda: bool(app.environ))
        server.shutdown(0.0)
        assert app.done.wait(PATIENCE)
    assert not app.has_failed


def test_a_graceful_shutdown_waits_for_it() -> None:
    app = App(echo)
    with served(app, graceful_timeout=60) as (server, client):
        client.send(ASK)
        assert client._until(SENT_HEAD) == SENT_HEAD
        server.shutdown(60.0)
        wait_for(lambda: server._service.draining)
        client.send(b"still here")
        assert client._exactly(10) == b"still here"
        client.finish()
        assert client.rest() == b""


def test_a_request_that_waits_for_a_thread_while_its_client_leaves() -> None:
    gate = threading.Event()
    entered = threading.Semaphore(0)

    def wait(sock: socket.socket) -> None:
        entered.release()
        gate.wait(PATIENCE)

    app = App(wait)
    with served(app, threads=1) as (server, client), connect(server) as second:
        client.send(ASK)
        assert entered.acquire(timeout=PATIENCE)
        second.send(ASK)
        wait_for(lambda: server.open_connections == 2)
        second.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        second.close()
        wait_for(lambda: server.open_connections == 1)
        gate.set()
        assert client.answer().status == 200
    assert not entered.acquire(blocking=False)


# Applications that do not use it, or not as they should.


def test_an_application_that_leaves_it_alone() -> None:
    app = App(lambda sock: None)
    with served(app) as (server, client):
        for _ in range(3):
            (answer,) = client.exchange(ASK)
            assert (answer.status, answer.body, answer.persists) == (200, b"hello", True)
        assert server.stats.accepted == 1


def test_a_response_that_is_streamed() -> None:
    ends: list[bytes] = []

    class Streams(App):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            sock = environ.pop("werkzeug.socket")
            start_response("200 OK", [])
            yield b"one "
            ends.append(sock.recv(10))  # from now on there is no tunnel
            yield b"two"

    with served(Streams(echo)) as (_, client):
        (answer,) = client.exchange(ASK)
        assert answer.body == b"one two"
    assert ends == [b""]


def test_an_application_that_fails_without_using_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(sock: socket.socket) -> None:
        raise RuntimeError("the application's own fault")

    with served(App(fail), keeps_tracebacks=True) as (_, client):
        (answer,) = client.exchange(ASK)
        assert (answer.status, answer.persists) == (500, True)
        assert "the application's own fault" in caplog.text


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "the status is 200, not 101"),
        (b"SSH-2.0-x\r\n\r\n", "the status line is malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ec", "the head of a response has no end"),
        (b"x" * 70_000, "the head of a response has no end"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tea\r\n\r\n", "has not asked to switch to 'tea'"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "has not asked to switch to ''"),
    ],
)
@pytest.mark.parametrize("returns", [True, False])
def test_something_else_than_a_101(
    written: bytes, reason: str, returns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def write(sock: socket.socket) -> None:
        try:
            sock.sendall(written)
            if not returns:
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1)
        except OSError:
            pass

    with served(App(write)) as (_, client):
        (answer,) = client.exchange(ASK)
        assert (answer.status, answer.persists) == (500, True)
    assert reason in caplog.text


def test_a_head_that_comes_in_pieces() -> None:
    app: App

    def write(sock: socket.socket) -> None:
        for index in range(len(HEAD)):
            sock.sendall(HEAD[index : index + 1])
        sock.sendall(b"bye")

    app = App(write)
    with served(app) as (_, client):
        client.send(ASK)
        assert client.rest() == SENT_HEAD + b"bye"


def test_the_headers_of_the_application() -> None:
    """Those of its 101 are sent, except for those that are the server's."""
    head = HEAD[:-2] + b"sec-websocket-accept: x\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n"
    head = head.replace(b"Switching Protocols", b"Web Socket Protocol Handshake")
    app = App(lambda sock: sock.sendall(head))
    with served(app) as (_, client):
        client.send(ASK)
        assert client.rest() == (
            b"HTTP/1.1 101 Web Socket Protocol Handshake\r\nSec-Websocket-Accept: x\r\n"
            b"Upgrade: echo\r\nConnection: upgrade\r\n\r\n"
        )


def test_without_descriptors_there_is_no_socket(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Any:
        raise OSError(24, "Too many open files")

    app = App(echo)
    with served(app) as (_, client), monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "kaserve"):
        patched.setattr("kaserve.net.socket_tunnel.socket.socketpair", refuse)
        assert client.exchange(ASK)[0].body == b"hello"
    assert app.done.is_set()
    assert caplog.messages == ["there is no socket for <Request GET /up HTTP/1.1>: [Errno 24] Too many open files"]
