"""--proxy: what is passed on beside a directory, an application or a handler, and in place of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kaserve import ConfigError, Request, Response, Server
from kaserve.effects import Served, Way
from kaserve.handlers import WSGI
from kaserve.server.directory import new_directory
from kaserve.server.routes import new_proxy, route_of_everything, routes_of
from tests.tools.server import config, connect, post, serving
from tests.tools.wire import Answer


def describe(request: Request) -> Response:
    """The upstream: says what it was asked."""
    said = {name: request.headers.get(name) for name in ("host", "x-forwarded-for", "authorization")}
    return Response.json({"target": request.target, "body": request.body.read().decode()} | said)


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with serving(describe) as server:
        yield server.url.rstrip("/")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("the page")
    (tmp_path / "api.txt").write_text("a file")
    return tmp_path


def said(answer: Answer) -> Any:
    return json.loads(answer.body)


def ask(server: Server, target: str, *fields: str) -> Answer:
    with connect(server) as client:
        return client.ask(target, *fields)


class TestBesideADirectory:
    def serving(self, site: Path, *proxy: str, **settings: Any) -> Any:
        made = config(directory=str(site), proxy=proxy, **settings)
        return serving_way(new_directory(made), Served.DIRECTORY, made)

    def test_paths_are_whole_segments(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}") as server:
            assert ask(server, "/").body == b"the page"
            assert ask(server, "/api.txt").body == b"a file"
            assert said(ask(server, "/api"))["target"] == "/api"
            assert said(ask(server, "/api/users?q=1"))["target"] == "/api/users?q=1"

    def test_a_path_in_the_url_replaces_the_prefix(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}/v1") as server:
            assert said(ask(server, "/api/users"))["target"] == "/v1/users"

    def test_the_page_of_an_app_is_not_a_response_of_the_api(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}", spa=True) as server:
            assert ask(server, "/some/view", "Accept: text/html").body == b"the page"
            assert said(ask(server, "/api/view", "Accept: text/html"))["target"] == "/api/view"

    def test_a_body_is_passed_on(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}") as server, connect(server) as client:
            client.send(post(b"content", target="/api/items"))
            assert said(client.answer())["body"] == "content"

    def test_headers_of_the_settings_are_added_once(self, site: Path, upstream: str) -> None:
        settings = {"header": ("X-Mine: 1",), "cache_control": ("max-age=60",)}
        with self.serving(site, f"/api={upstream}", **settings) as server:
            assert ask(server, "/").values("x-mine") == ["1"]
            passed = ask(server, "/api/x")
            assert passed.values("x-mine") == ["1"]
            assert passed.values("cache-control") == []  # a rule for files

    def test_a_password_protects_it_as_well(self, site: Path, upstream: str) -> None:
        from tests.handlers.middleware.test_basic_auth import fast_hash

        with self.serving(site, f"/api={upstream}", auth=(f"ann:{fast_hash(b'secret')}",)) as server:
            assert ask(server, "/api/x").status == 401
            assert ask(server, "/api/x", "Authorization: Basic YW5uOnNlY3JldA==").status == 200

    def test_the_live_page_is_in_front(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}", metrics="/api/metrics") as server:
            assert b"kaserve_" in ask(server, "/api/metrics").body

    def test_several_routes(self, site: Path, upstream: str) -> None:
        with self.serving(site, f"/api={upstream}", f"/api/old={upstream}/legacy") as server:
            assert said(ask(server, "/api/x"))["target"] == "/api/x"
            assert said(ask(server, "/api/old/x"))["target"] == "/legacy/x"


def serving_way(handler: Any, served: Served, made: Any) -> Any:
    return Server(handler, made, way=Way(served=served))


def test_beside_a_handler_and_an_application(upstream: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["SCRIPT_NAME"].encode() + b" " + environ["PATH_INFO"].encode()]

    with serving(lambda request: Response.text("here"), proxy=f"/api={upstream}", header=("X-Mine: 1",)) as server:
        assert ask(server, "/").body == b"here"
        passed = ask(server, "/api/x")
        assert said(passed)["target"] == "/api/x"
        assert passed.values("x-mine") == ["1"]
    with serving(WSGI(app, 0), proxy=f"/api={upstream}") as server:
        assert ask(server, "/a/b").body == b" /a/b"


def test_everything(upstream: str) -> None:
    made = config(proxy=(upstream, f"/v1={upstream}/v2"))
    route = route_of_everything(made)
    assert route is not None
    with serving_way(new_proxy(made, route), Served.PROXY, made) as server:
        assert said(ask(server, "/"))["target"] == "/"
        assert said(ask(server, "/x/y?z"))["target"] == "/x/y?z"
        assert said(ask(server, "/v1/x"))["target"] == "/v2/x"


def test_everything_leaves_nothing_for_a_handler(upstream: str) -> None:
    with pytest.raises(ConfigError, match=r"proxy without a path passes everything on, .*: write PATH=URL"):
        Server(describe, config(proxy=upstream))


@pytest.mark.parametrize(
    ("host", "expected"), [(None, "example.com"), ("app.example:8443", "app.example:8443"), ("upstream", None)]
)
def test_the_host(upstream: str, host: str | None, expected: str | None) -> None:
    with serving(describe, proxy=f"/api={upstream}", proxy_host=host) as server, connect(server) as client:
        client.send(b"GET /api/x HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert said(client.answer())["host"] == (expected or upstream.partition("://")[2])


def test_forwarding_is_believed_from_trusted_proxies_alone(upstream: str) -> None:
    for trusted, expected in (("", "127.0.0.1"), ("127.0.0.1", "192.0.2.7, 127.0.0.1")):
        with serving(describe, proxy=f"/api={upstream}", forwarded_allow_ips=trusted) as server:
            answer = ask(server, "/api/x", "X-Forwarded-For: 192.0.2.7")
            assert said(answer)["x-forwarded-for"] == expected, trusted


def test_the_settings_reach_the_proxy() -> None:
    made = config(
        proxy=("/a=http://one", "/a=http://two", "/b=https://three"), proxy_timeout=2.0, proxy_connect_timeout=3.0,
        proxy_connections=4, proxy_insecure=True,
    )  # fmt: skip
    first, second = routes_of(made)
    proxy = new_proxy(made, first)
    assert [upstream.name for upstream in proxy.upstreams] == ["http://one", "http://two"]
    settings = proxy.upstreams[0].settings
    assert (settings.timeout, settings.connect_timeout, settings.connections) == (2.0, 3.0, 4)
    context = new_proxy(made, second).upstreams[0].tls
    assert context is not None
    assert not context.check_hostname


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proxy": "127.0.0.1:9000"}, r"proxy is not \[PATH=\]URL: an upstream must be a URL such as http://"),
        ({"proxy": "/api=ftp://x"}, r"proxy is not \[PATH=\]URL: an upstream must be a URL"),
        ({"proxy": "/a/../b=http://x"}, r"proxy is not \[PATH=\]URL: the path in front of '=' must be that of a URL"),
        ({"proxy": ("/a=http://x", "/a/=http://y/v1")}, "several proxy for one path must have the same path"),
        ({"proxy": "http://x", "proxy_host": "a b"}, "proxy_host must be a host, perhaps with a port"),
        ({"proxy_timeout": 5.0}, "proxy_timeout needs proxy"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_the_figures_of_the_upstream(upstream: str) -> None:
    with serving(describe, proxy=f"/api={upstream}", status="/status", status_public=True) as server:
        for _ in range(3):
            ask(server, "/api/x")
        with connect(server) as client:
            [shown] = said(client.ask("/status", "Accept: application/json"))["upstreams"]
        assert shown["name"] == upstream
        assert (shown["requests"], shown["opened"], shown["reused"], shown["idle"]) == (3, 1, 2, 1)
        assert (shown["failed"], shown["is_left_out"], shown["idle_limit"]) == (0, False, None)
        assert shown["received"] > shown["sent"] > 0
    assert server.snapshot().upstreams == ()


def test_connections_are_closed_with_the_server(upstream: str) -> None:
    server = Server(describe, config(proxy=f"/api={upstream}"))
    mount: Any = server._handler
    [upstream_of_proxy] = mount._find("/api/x").handler.upstreams
    with server:
        ask(server, "/api/x")
        assert len(upstream_of_proxy.pool.idle) == 1
    assert not upstream_of_proxy.pool.idle


def test_an_upstream_that_goes_away_is_a_502_and_no_more() -> None:
    with ExitStack() as stack:
        first = stack.enter_context(serving(describe))
        with serving(describe, proxy=f"/api={first.url.rstrip('/')}") as server, connect(server) as client:
            assert client.ask("/api/1").status == 200
            stack.close()  # nobody listens there any more
            failed = client.ask("/api/2")
            assert (failed.status, failed.persists) == (502, True)
            assert client.ask("/").status == 200
