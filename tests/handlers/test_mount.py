"""Mount: which handler responds, and what it sees of the path."""

from __future__ import annotations

import doctest
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import kaserve.handlers.mount
from kaserve import HTTPError, Request, Response
from kaserve.handlers import WSGI, Files, Mount
from kaserve.http.handler import BaseHandler
from kaserve.http.sinks import DrainSink
from tests.tools import hooks
from tests.tools.server import connect, get, post, serving


def asked(target: str) -> Request:
    request = Request("GET", target, 1, [])
    request.raw_path, _, request.query = target.partition("?")
    return request


class Named(BaseHandler):
    """A handler that responds with its name and what it saw."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = 0

    def __call__(self, request: Request) -> Response:
        return Response.text(f"{self.name} {request.mount} {request.raw_path}")

    def close(self) -> None:
        self.closed += 1


def mount(*prefixes: str) -> Mount:
    return Mount({prefix: Named(prefix) for prefix in prefixes})


def respond(site: Mount, target: str) -> str:
    """What the handler of `target` saw, or status and location."""
    response = hooks.respond(site, asked(target))
    assert isinstance(response.body, bytes)
    if response.status == 200:
        return response.body.decode()
    return f"{response.status} {response.headers.get('location', '')}".strip()


def test_the_example_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.handlers.mount)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/", "/  /"),
        ("/x/y", "/  /x/y"),
        ("/api", "/api /api "),
        ("/api/", "/api /api /"),
        ("/api/users?x", "/api /api /users"),
        ("/apis", "/  /apis"),
        ("/api/v2", "/api/v2 /api/v2 "),
        ("/api/v2/users", "/api/v2 /api/v2 /users"),
        ("/api/v22", "/api /api /v22"),
        ("/static", "301 static/"),
        ("/static?x=/y", "301 static/?x=/y"),
        ("/static/", "/static/ /static /"),
        ("/static/a/b", "/static/ /static /a/b"),
        ("/%61pi/%61", "/api /%61pi /%61"),  # the same path, RFC 3986 §6.2.2.2
        ("/%73tatic", "301 %73tatic/"),
        ("/c:d", "301 ./c:d/"),  # RFC 3986 §4.2: it would be a scheme
        ("/api%2Fv2", "/  /api%2Fv2"),  # another path
        ("/a%20b/c", "/a b /a%20b /c"),
        ("/%C3%A4/c", "/\xe4 /%C3%A4 /c"),
        ("//api", "/  //api"),  # passed on as it is: the handler decides what it means
        ("/x/../api", "/  /x/../api"),
        ("/api/../x", "/api /api /../x"),
        ("*", "/  *"),
    ],
)
def test_the_handler_with_the_longest_prefix_responds(target: str, seen: str) -> None:
    assert respond(mount("/", "/api", "/api/v2", "/static/", "/a b", "/\xe4", "/c:d/"), target) == seen


def test_a_path_without_a_handler_is_a_404() -> None:
    site = mount("/api")
    for target in ("/", "/x", "/ap", "/apis", "*"):
        assert respond(site, target) == "404"
    assert respond(site, "/api") == "/api /api "


def test_mounts_within_mounts() -> None:
    site = Mount({"/a": Mount({"/": Named("root"), "/b/": Named("b")}), "/c": mount("/d")})
    assert respond(site, "/a/b/c") == "b /a/b /c"
    assert respond(site, "/a/b") == "301 b/"
    assert respond(site, "/a/x") == "root /a /x"
    assert respond(site, "/a") == "root /a "
    assert respond(site, "/c") == "404"


@pytest.mark.parametrize("prefix", ["", "api", "//api", "/a//b"])
def test_prefixes_are_paths(prefix: str) -> None:
    with pytest.raises(ValueError, match="a prefix must be a path"):
        mount(prefix)


def test_a_prefix_is_given_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        mount("/api", "/api/")


def test_closing_closes_all() -> None:
    one, other = Named("a"), Named("b")
    Mount({"/": one, "/b": other, "/c": lambda request: Response()}).close()
    assert (one.closed, other.closed) == (1, 1)


class Choosy(Named):
    """A handler with both hooks for bodies."""

    def before_body(self, request: Request) -> None:
        if request.raw_path == "/no":
            raise HTTPError(413, f"not for {request.mount}")

    def body_sink(self, request: Request) -> DrainSink:
        return DrainSink()


def test_hooks_see_the_request_as_their_handler_does() -> None:
    site = Mount({"/a": Choosy("a"), "/b": Named("b")})
    for target, refused in (("/a/no", True), ("/a/yes", False), ("/b/no", False)):
        request = asked(target)
        if refused:
            with pytest.raises(HTTPError, match="not for /a"):
                site.before_body(request)
        else:
            site.before_body(request)
        sink: object = site.body_sink(request)
        assert isinstance(sink, DrainSink) if target.startswith("/a") else sink is None
        assert (request.mount, request.raw_path) == ("", target)  # as before


def environ_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|".encode("latin-1") + environ["wsgi.input"].read()]


def test_files_and_an_application(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("hello")
    files = Files(tmp_path)
    app = WSGI(environ_app, 1)
    site = Mount({"/": app, "/static": files, "/app": WSGI(environ_app, 0)})
    with serving(site) as server, connect(server) as client:
        assert client.ask("/static/a/b.txt").body == b"hello"
        assert client.ask("/static").value("location") == "static/"
        assert client.ask("/static/a").value("location") == "a/"
        assert b"b.txt" in client.ask("/static/a/").body
        assert client.ask("/app/x%20y").body == b"/app|/x y|"
        assert client.ask("/app").body == b"/app||"
        client.send(post(b"body", target="/x"))
        assert client.answer().body == b"|/x|body"
        client.send(post(b"body", target="/app/x"))
        assert client.answer().body == b"/app|/x|body"
        client.send(get("/static/missing"))
        assert client.answer().status == 404
    site.close()


def test_a_body_in_memory_stays_there() -> None:
    request = asked("/b/c")
    request.body = io.BytesIO(b"x")
    Mount({"/b": Named("b")})(request)
    assert request.body.read() == b"x"
