"""Every handler in every middleware and in Mount, with the server's own pages in front: each hook reaches its owner.

Each link of a chain stands in front of the links before it. All chains of up to three links are
tried around a handler that notes each call, so that protection or notification cannot be lost in a composition that
nobody thought of.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaserve import Server
from kaserve.handlers import WSGI, Files, Mount, Threaded
from kaserve.handlers.middleware.base import Middleware
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.cors import CORSPreflight
from kaserve.handlers.middleware.forwarded import Forwarded, Trusted
from kaserve.handlers.middleware.headers import HeaderMiddleware
from kaserve.handlers.middleware.own_paths import OwnPaths
from kaserve.handlers.uploads.upload import Uploads
from kaserve.http.body_stream import BodyStream
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, BodySink, FunctionHandler, HandlerResult
from kaserve.http.messages import Request, Response
from kaserve.http.sinks import DrainSink, Sink
from tests.handlers.middleware.test_basic_auth import fast_hash
from tests.tools.hooks import respond
from tests.tools.server import config, connect, post, serving

USERS = {"ann": fast_hash(b"secret")}
ANN = "Basic " + base64.b64encode(b"ann:secret").decode()

Link = Callable[[BaseHandler], BaseHandler]

LINKS: dict[str, Link] = {
    "Middleware": Middleware,
    "OwnPaths": lambda handler: OwnPaths(handler, {"/of-the-server": FunctionHandler(lambda request: Response())}),
    "HeaderMiddleware": lambda handler: HeaderMiddleware(handler, (("X-More", "1"),)),
    "CORSPreflight": CORSPreflight,
    "Forwarded": lambda handler: Forwarded(handler, Trusted("*")),
    "BasicAuth": lambda handler: BasicAuth(handler, USERS),
    "Threaded": lambda handler: Threaded(handler, 1),
    "Mount": lambda handler: Mount({"/": handler}),
    "Mount/a": lambda handler: Mount({"/a": handler, "/other": lambda request: Response.text("other")}),
}

CHAINS = [
    chain for length in range(4) for chain in itertools.product(LINKS, repeat=length) if chain.count("Mount/a") < 2
]


class Owner(BaseHandler):
    """A handler that overrides every hook, and notes each call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sink: Sink | None = DrainSink()

    def __call__(self, request: Request) -> HandlerResult:
        self.calls.append("call")
        return Response.text(request.remote_user)

    def before_body(self, request: Request) -> None:
        self.calls.append("before_body")
        if request.method == "PATCH":
            raise HTTPError(418, "no")

    def body_sink(self, request: Request) -> BodySink:
        self.calls.append("body_sink")
        return self.sink or super().body_sink(request)

    def attach(self, service: Any) -> None:
        self.calls.append("attach")

    def detach(self) -> None:
        self.calls.append("detach")

    def end_of_turn(self) -> None:
        self.calls.append("end_of_turn")

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        self.calls.append("protect")
        return HeaderMiddleware(page, (("X-Protected", "1"),))

    def make_private(self) -> None:
        self.calls.append("make_private")

    def close(self) -> None:
        self.calls.append("close")


def request(method: str = "PUT") -> Request:
    return Request(method, "/a/b", 1, [("authorization", ANN), ("content-length", "1")])


def begin_body(handler: BaseHandler, request: Request) -> None:
    handler.before_body(request)
    handler.body_sink(request)


def compose(chain: tuple[str, ...], owner: BaseHandler) -> BaseHandler:
    for name in reversed(chain):
        owner = LINKS[name](owner)
    return owner


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "(".join(chain) or "alone")
def test_every_hook_reaches_its_owner(chain: tuple[str, ...], owner: Owner) -> None:
    outermost = compose(chain, owner)
    assert owner.calls == ["make_private"] * chain.count("BasicAuth")
    owner.calls.clear()
    first = respond(outermost, request())  # also has the password checked, so that the hooks find a verdict
    assert first.body == (b"ann" if "BasicAuth" in chain else b"")
    assert owner.calls == ["call"]
    outermost.before_body(request())
    assert outermost.body_sink(request()) is owner.sink
    assert "before_body" in owner.calls
    with pytest.raises(HTTPError, match="418"):
        begin_body(outermost, request("PATCH"))
    owner.streams = True  # and so does whether the body is read while it arrives, for each request
    owner.sink = None
    sinks = [outermost.body_sink(request()) for _ in range(2)]
    assert all(isinstance(sink, BodyStream) for sink in sinks)
    assert sinks[0] is not sinks[1]
    outermost.attach(None)
    assert owner.calls[-1] == "attach"
    outermost.detach()
    assert owner.calls[-1] == "detach"
    outermost.end_of_turn()
    assert owner.calls[-1] == "end_of_turn"
    outermost.close()
    assert owner.calls[-1] == "close"
    assert owner.calls.count("close") == 1


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "(".join(chain) or "alone")
def test_the_pages_of_the_server_are_protected_by_whoever_their_path_belongs_to(
    chain: tuple[str, ...], owner: Owner
) -> None:
    page = compose(chain, owner).protect("/a/status", FunctionHandler(lambda request: Response.text("page")))
    anonymous = respond(page, Request("GET", "/a/status", 1, []))
    if "BasicAuth" in chain:
        assert anonymous.status == 401
    else:
        assert owner.calls == ["protect"]
        assert anonymous.headers["x-protected"] == "1"
    compose(chain, owner).close()


class Upper(BaseHandler):
    """Streams: responds with the body in upper case, and with its trailers."""

    streams = True

    def __call__(self, request: Request) -> HandlerResult:
        pieces: list[bytes] = []
        return request.stream.consume(
            lambda piece: pieces.append(piece.upper()),
            lambda: Response(200, b"".join(pieces), dict(request.stream.trailers)),
        )


@pytest.mark.parametrize("link", [None, *(name for name in LINKS if name != "Threaded")], ids=str)
def test_a_handler_streams_in_every_middleware(link: str | None) -> None:
    """Cases: while a password is checked the client gets no 100 Continue, and the body is not read."""
    handler = Upper() if link is None else LINKS[link](Upper())
    head = f"POST /a/b HTTP/1.1\r\nHost: h\r\nAuthorization: {ANN}\r\nTransfer-Encoding: chunked\r\n"
    with serving(handler) as server, connect(server) as client:
        for _ in range(2):
            client.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            client.send(b"5\r\nhello\r\n")
            client.send(b"2\r\n y\r\n0\r\nX-Last: z\r\n\r\n")
            answer = client.answer()
            assert (answer.body, answer.values("x-last")) == (b"HELLO Y", ["z"])
        client.send(f"{head.replace('secret', 'x')}\r\n0\r\n\r\n".encode())
        assert client.answer().status == 200
    if link == "BasicAuth":
        with serving(handler) as server, connect(server) as client:
            client.send(b"POST /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            assert client.answer().status == 401
    handler.close()


def test_a_mount_streams_by_route() -> None:
    site = Mount({"/stream": Upper(), "/": lambda request: Response(200, request.body.read())})
    with serving(site) as server, connect(server) as client:
        answers = client.exchange(post(b"x", target="/stream"), post(b"y", target="/"), post(b"z", target="/stream"))
        assert [answer.body for answer in answers] == [b"X", b"y", b"Z"]
    site.close()


def test_a_middleware_must_not_set_streams() -> None:
    """It would have no effect, since the inner handler is asked."""
    with pytest.raises(TypeError, match="a middleware streams if its inner handler does"):

        class Wrong(Middleware):
            streams = True


# The handlers themselves, on a server, with its own pages.


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("REMOTE_USER", "").encode()]


HANDLERS: dict[str, Callable[[Path], BaseHandler]] = {
    "function": lambda directory: FunctionHandler(lambda request: Response.text(request.remote_user)),
    "Files": Files,
    "Uploads": lambda directory: Uploads(Files(directory), directory),
    "WSGI on the reactor": lambda directory: WSGI(app, 0),
    "WSGI in threads": lambda directory: WSGI(app, 1),
    "Mount": lambda directory: Mount({"/": Files(directory), "/app": WSGI(app, 0)}),
    "Threaded": lambda directory: Threaded(lambda request: Response.text(request.remote_user), 1),
}


@pytest.fixture(params=HANDLERS)
def handler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseHandler]:
    (tmp_path / "index.html").write_text("hello")
    made = HANDLERS[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("around", [None, *LINKS], ids=str)
def test_a_password_protects_every_page_of_every_handler(handler: BaseHandler, around: str | None) -> None:
    """Cases: the pages of the server were public when the password was inside of a Mount."""
    protected: BaseHandler = BasicAuth(handler, USERS)
    if around == "Mount/a":
        protected = Mount({"/a": lambda request: Response(), "/": protected})
    elif around is not None:
        protected = LINKS[around](protected)
    with (
        serving(protected, status="/status", status_public=True, metrics="/metrics") as server,
        connect(server) as client,
    ):
        for path in ("/", "/status", "/status?json", "/metrics"):
            assert client.ask(path).status == 401, path
            assert client.ask(path, f"Authorization: {ANN}").status == 200, path
    protected.close()


def test_a_path_that_belongs_to_nobody_is_rejected_before_its_body() -> None:
    """RFC 9110 §10.1.1: a final status that the head decides is sent at once, instead of 100 Continue."""
    with serving(Mount({"/a/": lambda request: Response()})) as server:
        with connect(server) as client:
            client.send(
                b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 200000000\r\nExpect: 100-continue\r\n\r\n"
            )
            assert client.answer().status == 404
        with connect(server) as client:
            client.send(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 200000000\r\n\r\n")
            assert client.answer().status == 404
        with connect(server) as client:  # a small body is drained, and the connection persists
            answers = client.exchange(post(b"small", target="/nowhere"), post(b"again", target="/nowhere"))
            assert [answer.status for answer in answers] == [404, 404]


def test_the_access_log_shows_the_user_behind_a_mount() -> None:
    lines: list[bytes] = []
    site = Mount({"/a": Mount({"/b": BasicAuth(lambda request: Response(), USERS)})})
    with Server(site, config(access_log=True), log_lines=lines.append) as server, connect(server) as client:
        assert client.ask("/a/b/c", f"Authorization: {ANN}", "Connection: close").status == 200
    assert b" - ann [" in lines[0]
    site.close()
