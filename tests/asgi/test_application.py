"""The messages of an application over a connection: bodies both ways, order, departures, extensions."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgiref.sync import AsyncToSync, iscoroutinefunction

from kaserve import ASGI, ClientDisconnected, Request, Response
from kaserve.asgi.body import MAX_AHEAD
from kaserve.handlers import Mount
from kaserve.http.body_stream import BodyStream
from kaserve.http.limits import Limits
from kaserve.telemetry.endings import Ending
from tests.tools.asgi import START, Application, AsgiNet, LoopNet, Receive, Scope, Send, body, read_body, respond, start
from tests.tools.net import GET, Client, get, post
from tests.tools.server import wait_for

MakeNet = Callable[..., AsgiNet]


@pytest.fixture
def net() -> Iterator[MakeNet]:
    nets: list[AsgiNet] = []

    def make(app: Application, **settings: Any) -> AsgiNet:
        nets.append(AsgiNet(app, **settings))
        return nets[-1]

    yield make
    for each in nets:
        each.close()


class TestResponses:
    def test_a_whole_response_leaves_in_one_send(self, net: MakeNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello", (b"content-type", b"text/plain"), (b"content-length", b"5"))

        made = net(app)
        client, connection = made.connect()
        (answer,) = made.ask(client, GET)
        assert (answer.status, answer.body, answer.value("content-type")) == (200, b"hello", "text/plain")
        assert answer.values("content-length") == ["5"]
        assert len(connection._sock.sends) == 1  # type: ignore[union-attr]

    def test_it_leaves_in_the_same_iteration_if_the_application_does_not_wait(self, net: MakeNet) -> None:
        made = net(lambda scope, receive, send: respond(send))
        client, _ = made.connect()
        client.send(GET)
        made.step()
        assert client.answers("GET")[0].body == b"hello"

    def test_it_leaves_in_the_same_iteration_as_the_last_step_of_the_application(self, net: MakeNet) -> None:
        """Without the wakeup descriptor, and without another look at the poller."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0)
            await respond(send)

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.step()
        woken = made.reactor._wakeup._is_awake
        made.step()
        assert client.answers("GET")[0].body == b"hello"
        assert not woken

    def test_messages_that_come_at_once_leave_as_one(self, net: MakeNet) -> None:
        """What middleware makes of nearly every response: the body with more to come, and then nothing."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start((b"content-length", b"5")))
            await send(body(b"hel", more=True))
            await send(body(b"lo", more=True))
            await send(body(b""))

        made = net(app)
        client, connection = made.connect()
        (answer,) = made.ask(client, GET)
        assert (answer.body, answer.values("content-length")) == (b"hello", ["5"])
        assert len(connection._sock.sends) == 1  # type: ignore[union-attr]

    def test_pieces_that_come_later_are_chunks(self, net: MakeNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send(body(b"one ", more=True))
            await asyncio.sleep(1)
            await send(body(b"two", more=True))
            await asyncio.sleep(1)
            await send(body(b""))

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.settle()
        assert client.read().endswith(b"\r\n\r\n4\r\none \r\n")
        made.sleep(1)
        assert client.read() == b"3\r\ntwo\r\n"
        made.sleep(1)
        assert client.answers("GET")[0].body == b"one two"

    def test_an_http_1_0_client_gets_no_chunks(self, net: MakeNet) -> None:
        """RFC 9112 §6.1: it does not know them; the end of the connection is the end of the body."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["http_version"] == "1.0"
            await send(START)
            await send(body(b"one ", more=True))
            await asyncio.sleep(1)
            await send(body(b"two"))

        made = net(app)
        client, _ = made.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        made.sleep(1)
        data = client.read()
        assert data.endswith(b"\r\n\r\none two")
        assert b"transfer-encoding" not in data.lower()
        assert client.ended

    def test_a_stream_with_a_length(self, net: MakeNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start((b"content-length", b"8")))
            await send(body(b"1234", more=True))
            await asyncio.sleep(1)
            await send(body(b"5678"))

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.sleep(1)
        (answer,) = client.answers("GET")
        assert (answer.body, answer.values("content-length")) == (b"12345678", ["8"])

    def test_head(self, net: MakeNet) -> None:
        """RFC 9110 §9.3.2: no content, and a length only if that of the content is known."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/length":
                await respond(send, b"", (b"content-length", b"5"))
            else:
                await respond(send, b"" if scope["path"] == "/nothing" else b"hello")

        made = net(app)
        client, _ = made.connect()
        for path, length in (("/", ["5"]), ("/length", ["5"]), ("/nothing", [])):
            (answer,) = made.ask(client, get(path).replace(b"GET", b"HEAD"))
            assert (answer.body, answer.values("content-length")) == (b"", length), path

    def test_a_stream_in_response_to_head_ends(self, net: MakeNet) -> None:
        """Nobody receives it, so an application that listens for the client's leaving is told."""
        received: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(START)
            await send(body(b"event", more=True))
            received.append((await receive())["type"])

        made = net(app)
        client, _ = made.connect()
        assert made.ask(client, GET.replace(b"GET", b"HEAD"))[0].status == 200
        assert received == ["http.disconnect"]

    @pytest.mark.parametrize("name", [b"transfer-encoding", b"keep-alive", b"connection"])
    def test_hop_by_hop_headers_are_the_servers(self, name: bytes, net: MakeNet) -> None:
        """RFC 9110 §7.6.1; the specification says so of Transfer-Encoding."""
        made = net(lambda scope, receive, send: respond(send, b"x", (name, b"chunked"), (b"x-mine", b"1")))
        client, _ = made.connect()
        (answer,) = made.ask(client, GET)
        assert (answer.body, answer.value("x-mine"), answer.persists) == (b"x", "1", True)
        assert answer.values("transfer-encoding") == []

    def test_the_application_may_close_the_connection(self, net: MakeNet) -> None:
        made = net(lambda scope, receive, send: respond(send, b"x", (b"connection", b"close")))
        client, _ = made.connect()
        assert not made.ask(client, GET)[0].persists

    def test_an_application_goes_on_after_its_response(self, net: MakeNet) -> None:
        """Background tasks do, and the connection is free meanwhile."""
        done: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send)
            done.append((await receive())["type"])
            await asyncio.sleep(5)
            done.append(scope["path"])

        made = net(app)
        client, _ = made.connect()
        made.ask(client, get("/a"), get("/b"))
        assert done == ["http.disconnect"] * 2
        made.sleep(5)
        assert done[2:] == ["/a", "/b"]

    def test_trailers(self, net: MakeNet) -> None:
        """RFC 9110 §6.5: after the content."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert "http.response.trailers" in scope["extensions"]
            await send(start((b"trailer", b"x-sum"), trailers=True))
            await send(body(b"hello"))
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
            await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.settle()
        data = client.read()
        assert b"trailer: x-sum\r\n" in data.lower()
        assert data.endswith(b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n")

    def test_early_hints(self, net: MakeNet) -> None:
        """RFC 8297."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
            await asyncio.sleep(1)
            await respond(send)

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.settle()
        assert client.read() == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        made.sleep(1)
        assert client.read().startswith(b"HTTP/1.1 200 ")

    def test_a_file(self, net: MakeNet, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x" * 100_000)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert "http.response.pathsend" in scope["extensions"]
            await send(start((b"content-length", b"100000")))
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

        made = net(app)
        client, _ = made.connect()
        (answer,) = made.ask(client, GET)
        assert (answer.body, answer.values("content-length")) == (b"x" * 100_000, ["100000"])

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("kind", ["directory", "FIFO"])
    def test_what_is_no_file_is_not_sent(
        self, kind: str, method: str, net: MakeNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A directory can be opened, but not sent; and to open a FIFO would block until somebody writes into it."""
        os.mkdir(tmp_path / "path") if kind == "directory" else os.mkfifo(tmp_path / "path")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "path")})

        made = net(app)
        client, _ = made.connect()
        (answer,) = made.ask(client, GET.replace(b"GET", method.encode()))
        assert answer.status == 500
        assert "needs the path of a file" in caplog.text

    def test_a_file_with_trailers(self, net: MakeNet, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"hello")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start(trailers=True))
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})
            await asyncio.sleep(1)
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.sleep(1)
        assert client.read().endswith(b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")

    def test_a_file_whose_trailers_do_not_come_is_closed(self, net: MakeNet, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"hello")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start(trailers=True))
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

        made = net(app)
        client, _ = made.connect()
        before = len(os.listdir("/dev/fd"))
        assert made.ask(client, GET)[0].status == 500
        assert len(os.listdir("/dev/fd")) == before

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            (b"x-a", b"1\r\nx-b: 2", "not a field value"),
            (b"x-a", b"\x00", "not a field value"),
            (b"x-a\r\nx-b", b"1", "not a field name"),
            (b"x a", b"1", "not a field name"),
            (b":status", b"200", "not a field name"),
            (b"", b"1", "not a field name"),
            (b"content-length", b"+5", "not a Content-Length"),
            (b"content-length", b"-1", "not a Content-Length"),
            (b"content-length", b"5, 5", "not a Content-Length"),
        ],
    )
    @pytest.mark.parametrize("streams", [False, True])
    def test_headers_that_cannot_be_sent(
        self, name: bytes, value: bytes, reason: str, streams: bool, net: MakeNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        """RFC 9110 §5.1, §5.5, §8.6. Nothing of them may reach the client, for whom a line break would begin a header,
        or a response, of somebody else's making."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start((name, value)))
            await send(body(b"hel", more=streams))
            if streams:
                await asyncio.sleep(1)
                await send(body(b"lo"))

        made = net(app)
        client, _ = made.connect()
        client.send(GET)
        made.sleep(1)
        (answer,) = client.answers("GET")
        assert (answer.status, answer.persists) == (500, True)
        assert reason in caplog.text

    @pytest.mark.parametrize("length", [b"3", b"9"])
    def test_a_length_that_is_wrong(self, length: bytes, net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
        """RFC 9112 §6.2: a client would take a part for the whole, or wait for the rest."""
        made = net(lambda scope, receive, send: respond(send, b"hello", (b"content-length", length)))
        client, _ = made.connect()
        (answer,) = made.ask(client, GET)
        assert (answer.status, answer.persists) == (500, True)
        assert f"Content-Length says {length.decode()}, but the body has 5 bytes" in caplog.text

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [204, 304])
    def test_a_body_that_must_not_be(self, status: int, method: str, net: MakeNet) -> None:
        """RFC 9110 §6.4.1."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start((b"content-length", b"5"), status=status))
            await send(body(b"hel", more=True))
            await asyncio.sleep(1)
            await send(body(b"lo"))

        made = net(app)
        client, _ = made.connect()
        client.send(GET.replace(b"GET", method.encode()) * 2)
        made.sleep(2)
        answers = client.answers(method, method)
        assert [(answer.status, answer.body, answer.persists) for answer in answers] == [(status, b"", True)] * 2
        assert answers[0].values("content-length") == ([] if status == 204 else ["5"])

    def test_an_http_1_0_client_gets_neither_hints_nor_trailers(self, net: MakeNet) -> None:
        """RFC 9110 §15.2: no 1xx; and trailers need chunks."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await send(start(trailers=True))
            await send(body(b"hello"))
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

        made = net(app)
        client, _ = made.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        made.settle()
        data = client.read()
        assert data.startswith(b"HTTP/1.1 200 ")
        assert data.endswith(b"\r\n\r\nhello")


class TestRequests:
    def test_the_scope(self, net: MakeNet) -> None:
        scopes: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await respond(send)

        made = net(app)
        client, _ = made.connect()
        made.ask(client, b"GET /caf%C3%A9/a%2Fb?x=%20 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\n\r\n")
        (scope,) = scopes
        assert scope["type"] == "http"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}
        assert (scope["method"], scope["scheme"], scope["http_version"]) == ("GET", "http", "1.1")
        assert (scope["path"], scope["raw_path"]) == ("/café/a/b", b"/caf%C3%A9/a%2Fb")
        assert (scope["query_string"], scope["root_path"]) == (b"x=%20", "")
        assert scope["headers"] == [(b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"2")]
        assert (scope["client"], scope["server"]) == (("192.0.2.1", 4711), ("192.0.2.2", 80))

    def test_no_body(self, net: MakeNet) -> None:
        messages: list[Any] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            messages.append(await receive())
            await respond(send)
            messages.append(await receive())

        made = net(app)
        client, _ = made.connect()
        made.ask(client, GET)
        assert messages == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    def test_a_body_in_pieces(self, net: MakeNet) -> None:
        pieces: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                message = await receive()
                pieces.append(message["body"])
                if not message["more_body"]:
                    break
            await respond(send, b"".join(pieces))

        made = net(app)
        client, _ = made.connect()
        client.send(post(b"hello world")[:-6])
        made.settle()
        assert pieces == [b"hello"]
        client.send(b" world")
        made.settle()
        assert pieces == [b"hello", b" world"]
        assert client.answers("POST")[0].body == b"hello world"

    def test_chunks(self, net: MakeNet) -> None:
        made = net(_echo)
        client, _ = made.connect()
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        (answer,) = made.ask(client, head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert answer.body == b"abcde"

    def test_100_continue_comes_with_the_first_receive(self, net: MakeNet) -> None:
        """RFC 9110 §10.1.1."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(1)
            await respond(send, await read_body(receive))

        made = net(app)
        client, _ = made.connect()
        client.send(post(b"hello", "Expect: 100-continue")[:-5])
        made.settle()
        assert client.read() == b""
        made.sleep(1)
        assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.received = b""
        client.send(b"hello")
        made.settle()
        assert client.answers("POST")[0].body == b"hello"

    def test_a_refusal_without_100_says_close(self, net: MakeNet) -> None:
        """RFC 9110 §10.1.1: the client may send the body or not, and nothing would tell it from the next request."""
        made = net(lambda scope, receive, send: respond(send, b"no"))
        client, _ = made.connect()
        client.send(post(b"hello", "Expect: 100-continue")[:-5])
        made.settle()
        (answer,) = client.answers("POST")
        assert (answer.body, answer.persists) == (b"no", False)

    def test_an_unread_body_is_skipped(self, net: MakeNet) -> None:
        made = net(lambda scope, receive, send: respond(send, scope["path"].encode()))
        client, _ = made.connect()
        answers = made.ask(client, post(b"x" * 1000, path="/a"), get("/b"))
        assert [answer.body for answer in answers] == [b"/a", b"/b"]

    def test_no_more_is_read_than_the_application_receives(self, net: MakeNet) -> None:
        done = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await done.wait()
            await respond(send, b"%d" % len(await read_body(receive)))

        made = net(app)
        client, _ = made.connect(send_buffer=16384)
        request = post(b"x" * 2_000_000)
        sent = client.send(request)
        made.settle()
        sent += client.send(request[sent:])
        made.settle()
        received = made.stats.received
        assert received < 200_000
        assert client.send(request[sent:]) < 1_000_000
        made.settle()
        assert made.stats.received - received <= 64 * 1024
        client.reset()
        done.set()
        made.settle()

    def test_a_receive_that_is_cancelled_loses_nothing(self, net: MakeNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with asyncio.timeout(1):
                    await receive()
            except TimeoutError:
                pass
            await respond(send, await read_body(receive))

        made = net(app)
        client, _ = made.connect()
        client.send(post(b"hello")[:-5])
        made.sleep(2)
        client.send(b"hello")
        made.settle()
        assert client.answers("POST")[0].body == b"hello"

    def test_two_may_receive_at_once(self, net: MakeNet) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            first, second = await asyncio.gather(receive(), receive())
            await respond(send, first["body"] + second["body"])

        made = net(app)
        client, _ = made.connect()
        client.send(post(b"ab")[:-2])
        made.settle()
        client.send(b"a")
        made.settle()
        client.send(b"b")
        made.settle()
        assert client.answers("POST")[0].body == b"ab"

    def test_an_absolute_target_overrules_host(self, net: MakeNet) -> None:
        """RFC 9112 §3.2.2."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, dict(scope["headers"])[b"host"])

        made = net(app)
        client, _ = made.connect()
        (answer,) = made.ask(client, b"GET http://example.org/ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.body == b"example.org"


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, await read_body(receive))


class TestMounting:
    @pytest.mark.parametrize("root_path", ["", "/behind"])
    def test_the_paths(self, root_path: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, f"{scope['root_path']} {scope['path']} {scope['raw_path'].decode()}".encode())

        net = LoopNet(Mount({"/": ASGI(app, root_path=root_path), "/a%20b": ASGI(app, root_path=root_path)}))
        client, _ = net.connect()
        assert net.ask(client, get("/x%21"))[0].body.decode() == f"{root_path} {root_path}/x! {root_path}/x%21"
        net.close()

    def test_beside_other_handlers(self) -> None:
        net = LoopNet(Mount({"/asgi": ASGI(_echo), "/": lambda request: Response.text("a function")}))
        client, _ = net.connect()
        answers = net.ask(client, post(b"body", path="/asgi/"), get("/"))
        assert [answer.body for answer in answers] == [b"body", b"a function"]
        net.close()

    def test_only_by_a_server(self) -> None:
        with pytest.raises(RuntimeError, match="can only be called by a running server"):
            ASGI(_echo)(Request("GET", "/", 1, []))

    @pytest.mark.parametrize("path", ["api", "/api/", "/"])
    def test_a_root_path_that_is_none(self, path: str) -> None:
        with pytest.raises(ValueError, match="root_path must begin with a slash and not end in one"):
            ASGI(_echo, root_path=path)

    def test_a_lifespan_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="lifespan must be auto, on or off, not 'maybe'"):
            ASGI(_echo, lifespan="maybe")

    def test_asgi_2(self) -> None:
        """The specification, "Legacy Applications": called with the scope, and then with the rest."""

        class App:
            def __init__(self, scope: Scope) -> None:
                self.scope = scope

            async def __call__(self, receive: Receive, send: Send) -> None:
                await respond(send, self.scope["path"].encode())

        def function(scope: Scope) -> App:
            return App(scope)

        for app in (App, function):
            net = LoopNet(ASGI(app))
            client, _ = net.connect()
            assert net.ask(client, get("/x"))[0].body == b"/x"
            net.close()


class TestDepartures:
    @pytest.mark.parametrize("leave", [Client.finish, Client.close, Client.reset], ids=["FIN", "close", "reset"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_receive_is_told_at_once(
        self, leave: Callable[[Client], None], method: str, net: MakeNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        messages: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while not messages or messages[-1] != "http.disconnect":
                messages.append((await receive())["type"])

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET if method == "GET" else post(b"hello")[:-2])
        made.settle()
        assert messages == ["http.request"]
        leave(client)
        made.step()
        made.step()
        assert messages == ["http.request", "http.disconnect"]
        made.settle()
        assert caplog.messages == []

    def test_a_half_closed_client_gets_what_is_sent(self, net: MakeNet) -> None:
        """It may have finished sending, and wait for the response (RFC 9112 §9.6)."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await receive()
            await respond(send, b"still here")

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.finish()
        made.settle()
        assert client.answers("GET")[0].body == b"still here"

    @pytest.mark.parametrize("streams", [False, True])
    def test_send_raises_an_error_of_its_own(
        self, streams: bool, net: MakeNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        errors: list[BaseException] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if streams:
                await send(START)
                await send(body(b"x", more=True))
            await asyncio.sleep(1)
            try:
                await send(body(b"x", more=True) if streams else START)
            except OSError as error:
                errors.append(error)
                raise

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.reset()
        made.sleep(1)
        assert [type(error) for error in errors] == [ClientDisconnected]
        assert caplog.messages == []
        assert made.stats.closed == {Ending.DISCONNECTED: 1}

    @pytest.mark.parametrize("how", ["again", "chained", "hidden", "group", "ClientDisconnect"])
    def test_no_traceback_in_whatever_shape_it_comes(
        self, how: str, net: MakeNet, caplog: pytest.LogCaptureFixture
    ) -> None:
        class ClientDisconnect(Exception):
            """What Starlette raises where it is told http.disconnect."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await receive()
            if how == "ClientDisconnect":
                raise ClientDisconnect
            try:
                await send(START)
            except OSError as error:
                if how == "again":
                    raise
                if how == "group":
                    raise ExceptionGroup("tasks", [error]) from None
                raise RuntimeError("a framework") from (error if how == "chained" else None)

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.reset()
        made.settle()
        assert caplog.messages == []

    def test_what_has_another_reason_is_logged(self, net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await receive()
            raise KeyError("a mistake")

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.reset()
        made.settle()
        assert caplog.messages == ["the application failed after its response to <Request GET / HTTP/1.1>"]

    def test_a_task_is_not_cancelled(self, net: MakeNet) -> None:
        """A pool of database connections, say, may not survive that."""
        done: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(5)
            done.append("done")

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(GET)
        made.settle()
        client.reset()
        made.sleep(5)
        assert done == ["done"]

    def test_an_incomplete_body(self, net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
        """RFC 9112 §8: a part must not look like the whole."""
        messages: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(2):
                messages.append((await receive())["type"])

        made = net(app)
        client, _ = made.connect(tcp=True)
        client.send(post(b"hello")[:-2])
        client.finish()
        made.settle()
        assert messages == ["http.request", "http.disconnect"]
        assert client.answers("POST")[0].status == 400
        assert caplog.messages == []


class TestFlowControl:
    def test_send_waits_for_a_slow_client(self, net: MakeNet) -> None:
        sent = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            await send(START)
            for _ in range(1000):
                await send(body(b"x" * 10_000, more=True))
                sent += 10_000
            await send(body(b""))

        made = net(app)
        client, _ = made.connect(send_buffer=16384)
        client.send(GET)
        made.settle()
        accepted = made.stats.sent
        assert sent - accepted <= MAX_AHEAD + 10_000
        while made.busy or client.read():
            made.step()
        (answer,) = client.answers("GET")
        assert (len(answer.body), sent) == (10_000_000, 10_000_000)

    def test_a_client_that_leaves_ends_the_wait(self, net: MakeNet) -> None:
        errors: list[BaseException] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await send(START)
                while True:
                    await send(body(b"x" * 10_000, more=True))
            except ClientDisconnected as error:
                errors.append(error)

        made = net(app)
        client, _ = made.connect(send_buffer=16384)
        client.send(GET)
        made.settle()
        assert not errors
        client.reset()
        made.settle()
        assert len(errors) == 1


class TestFaults:
    @pytest.fixture
    def outcome(self, net: MakeNet, caplog: pytest.LogCaptureFixture) -> Callable[[Application], tuple[Client, Any]]:
        def run(app: Application) -> tuple[Client, Any]:
            made = net(app)
            client, _ = made.connect(tcp=True)
            client.send(GET)
            made.sleep(1)
            client.read()
            return client, made

        return run

    @pytest.mark.parametrize("waits", [False, True])
    def test_an_exception_is_a_500(self, waits: bool, outcome: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if waits:
                await asyncio.sleep(0)
            raise KeyError("a mistake")

        client, _ = outcome(app)
        (answer,) = client.answers("GET")
        assert (answer.status, answer.persists) == (500, True)
        assert caplog.messages == ["the handler failed on <Request GET / HTTP/1.1>"]
        assert "KeyError: 'a mistake'" in caplog.text

    @pytest.mark.parametrize("waits", [False, True])
    def test_in_mid_response_it_is_a_reset(self, waits: bool, outcome: Any, caplog: pytest.LogCaptureFixture) -> None:
        """RFC 9112 §8: only an incomplete message tells the client."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send(body(b"x", more=True))
            if waits:
                await asyncio.sleep(0)
            raise KeyError("a mistake")

        client, _ = outcome(app)
        assert client.was_reset
        assert "KeyError: 'a mistake'" in caplog.text
        assert len(caplog.records) == 1

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [
            ([], "returned without a response"),
            ([START], "returned before its response was complete"),
            ([body(b"")], "has sent 'http.response.body', but http.response.start must come first"),
            ([START, START], "has sent 'http.response.start', but the body of the response must come now"),
            ([{"type": "websocket.accept"}], "has sent 'websocket.accept', but http.response.start must come first"),
            ([{**START, "status": 99}, body(b"")], "status of a response must be"),
            ([{**START, "headers": [("name", b"value")]}], "headers of a response must be pairs of bytes, not of str"),
            ([START, {"type": "http.response.body", "body": "text"}], "body of a response must be bytes, not str"),
            ([START, {"type": "http.response.pathsend", "path": "/no/such/file"}], "No such file"),
        ],
    )
    def test_messages_that_may_not_come(
        self, messages: list[Any], reason: str, outcome: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for message in messages:
                await send(message)

        client, _ = outcome(app)
        assert client.answers("GET")[0].status == 500
        assert reason in caplog.text

    def test_after_the_response(self, outcome: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send)
            await send(body(b"more"))

        client, _ = outcome(app)
        assert client.answers("GET")[0].body == b"hello"
        assert caplog.messages == ["the application failed after its response to <Request GET / HTTP/1.1>"]
        assert "but the response is complete" in caplog.text

    def test_the_task_is_a_task(self, outcome: Any) -> None:
        """What asyncio's own tools need: a current task, timeouts, task groups, context variables."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            task = asyncio.current_task()
            assert task is not None
            assert task.get_loop() is asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                inner = group.create_task(asyncio.sleep(0.1, "slept"))
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.Event().wait()
            except TimeoutError:
                await respond(send, inner.result().encode())
            assert asyncio.current_task() is task

        client, _ = outcome(app)
        assert client.answers("GET")[0].body == b"slept"

    def test_what_it_awaits_is_a_coroutine_for_libraries(self, outcome: Any, recwarn: pytest.WarningsRecorder) -> None:
        """anyio starts it in task groups, asyncio makes tasks of it, and asgiref calls it from threads."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            assert all(map(iscoroutinefunction, (receive, send)))
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                group.start_soon(send, START)
            await asyncio.wait_for(send(body(b"one ", more=True)), 1)
            async_to_sync: Any = AsyncToSync(send)
            await asyncio.gather(asyncio.create_task(send(body(b"two ", more=True))))
            await asyncio.to_thread(async_to_sync, body(b"three"))

        client, made = outcome(app)
        wait_for(lambda: client.received.endswith(b"0\r\n\r\n"), lambda: (made.settle(), client.read()))
        assert client.answers("GET")[0].body == b"one two three"
        assert not recwarn.list

    @pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, StopAsyncIteration, BaseException])
    @pytest.mark.parametrize("waits", [False, True])
    def test_exceptions_with_a_meaning_to_the_loop(
        self, error: type[BaseException], waits: bool, outcome: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if waits:
                await asyncio.sleep(0)
            raise error

        client, _ = outcome(app)
        assert client.answers("GET")[0].status == 500
        assert caplog.messages == ["the handler failed on <Request GET / HTTP/1.1>"]

    def test_context_variables_are_those_of_one_request(self, net: MakeNet) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            before = variable.get()
            variable.set(scope["path"])
            await asyncio.sleep(1)
            await respond(send, f"{before} {variable.get()}".encode())

        made = net(app)
        clients = [made.connect()[0] for _ in range(2)]
        for number, client in enumerate(clients):
            client.send(get(f"/{number}"))
        made.sleep(1)
        assert [client.answers("GET")[0].body for client in clients] == [b"unset /0", b"unset /1"]

    def test_a_limit_on_bodies_is_a_413(self, net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
        """RFC 9110 §15.5.14, for a body whose size is only found out while it arrives."""
        messages: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["type"] == "http.request":
                messages.append(message["type"])

        made = net(app, limits=Limits(body=10))
        client, _ = made.connect()
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"8\r\n12345678\r\n")
        made.settle()
        client.send(b"8\r\n12345678\r\n")
        made.settle()
        assert client.answers("POST")[0].status == 413
        assert messages == ["http.request"]
        assert caplog.messages == []


def test_a_stream_says_whether_it_is_at_its_end() -> None:
    stream = BodyStream()
    assert not stream.is_at_end
    stream.finish()
    assert stream.is_at_end


def test_nothing_is_logged_as_an_error_by_asyncio(net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        raise KeyError("a mistake")

    made = net(app)
    client, _ = made.connect()
    assert made.ask(client, GET)[0].status == 500
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.DEBUG] == []
