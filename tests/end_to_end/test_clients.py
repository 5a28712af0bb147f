"""Common clients: curl, wrk, ab, http.client and requests, each over persistent connections."""

from __future__ import annotations

import http.client
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from kaserve import Request, Response, Server
from tests.tools.server import PATIENCE, echo, program, serving, wait_for


def handler(request: Request) -> Response:
    """Small pages, the body that was sent, and a body of unknown length."""
    if request.method == "POST" or request.method == "PUT":
        return echo(request)
    if request.path == "/pieces":
        return Response(200, iter([b"one ", b"two"]))
    return Response.text(f"{request.method} {request.path}")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(handler) as server:
        yield server


def run(*command: str) -> str:
    """The output of a program, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


class TestCurl:
    @staticmethod
    def curl(*arguments: str) -> str:
        return run(program("curl"), "-sS", "--noproxy", "*", *arguments)

    def test_two_urls_over_one_connection(self, server: Server) -> None:
        form = "%{http_version} %{response_code} %{num_connects}\\n"
        output = self.curl("-o/dev/null", f"{server.url}1", "-o/dev/null", f"{server.url}2", "-w", form)
        assert output.splitlines() == ["1.1 200 1", "1.1 200 0"]
        assert (server.stats.accepted, server.stats.requests) == (1, 2)

    def test_http_10_closes(self, server: Server) -> None:
        form = "%{http_version} %{response_code} %{num_connects}\\n"
        output = self.curl("-0", "-o/dev/null", f"{server.url}1", "-o/dev/null", f"{server.url}2", "-w", form)
        assert output.splitlines() == ["1.1 200 1", "1.1 200 1"]
        assert server.stats.accepted == 2

    def test_http_10_with_keep_alive(self, server: Server) -> None:
        form = "%{response_code} %{num_connects}\\n"
        urls = ("-o/dev/null", f"{server.url}1", "-o/dev/null", f"{server.url}2")
        output = self.curl("-0", "-H", "Connection: keep-alive", *urls, "-w", form)
        assert output.splitlines() == ["200 1", "200 0"]

    def test_an_upload_that_expects_100_continue(self, server: Server, tmp_path: Path) -> None:
        body = "0123456789abcdef" * 128 * 1024
        (tmp_path / "upload").write_text(body)
        upload = ("--data-binary", f"@{tmp_path}/upload", "-H", "Expect: 100-continue")
        assert self.curl("--expect100-timeout", str(PATIENCE), *upload, server.url) == body

    def test_an_upload_in_chunks(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "upload").write_text("chunks")
        assert self.curl("-T", f"{tmp_path}/upload", "-H", "Transfer-Encoding: chunked", server.url) == "chunks"

    def test_head(self, server: Server) -> None:
        head = self.curl("--head", f"{server.url}x").lower()
        assert head.startswith("http/1.1 200 ok")
        assert "content-length: 7" in head  # that of "HEAD /x"
        assert "connection: keep-alive" in head
        assert "keep-alive: timeout=120, max=999" in head

    def test_chunks(self, server: Server) -> None:
        assert self.curl(f"{server.url}pieces", f"{server.url}pieces") == "one twoone two"
        assert server.stats.accepted == 1


def test_wrk(server: Server) -> None:
    """64 connections, each with many requests."""
    output = run(program("wrk"), "-t1", "-c64", "-d1s", server.url)
    assert "Socket errors" not in output
    assert "Non-2xx" not in output
    matched = re.search(r"(\d+) requests in", output)
    assert matched is not None
    assert int(matched[1]) > 100
    # One connection with which wrk tries the server, 64, and 64 more each time these have reached their maximum.
    used_up = server.stats.requests // (64 * server.config.keep_alive_requests)
    assert server.stats.accepted <= 65 + 64 * used_up
    assert not server.stats.refused
    assert server.stats.failed == 0


@pytest.mark.parametrize("keeps_alive", [True, False], ids=["keep-alive", "close"])
def test_ab(server: Server, keeps_alive: bool) -> None:
    """HTTP/1.0 with `Connection: Keep-Alive`, or without."""
    output = run(program("ab"), "-q", *(["-k"] if keeps_alive else []), "-n", "200", "-c", "4", server.url)
    figures = dict(re.findall(r"^([A-Z][A-Za-z0-9 -]+):\s+(\d+)", output, re.MULTILINE))
    assert (figures["Complete requests"], figures["Failed requests"]) == ("200", "0")
    assert figures.get("Keep-Alive requests") == ("200" if keeps_alive else None)
    assert "Non-2xx responses" not in figures
    assert server.stats.accepted <= 8 if keeps_alive else server.stats.accepted >= 200


class TestHTTPClient:
    """The client of the standard library opens a new connection only when the old one has closed."""

    @staticmethod
    def connection(server: Server) -> http.client.HTTPConnection:
        assert isinstance(server.address, tuple)
        return http.client.HTTPConnection(*server.address, timeout=PATIENCE)

    def test_one_connection(self, server: Server) -> None:
        with closing(self.connection(server)) as connection:
            for method, target, expected in (
                ("GET", "/1", b"GET /1"),
                ("HEAD", "/2", b""),
                ("GET", "/pieces", b"one two"),
                ("DELETE", "/3", b"DELETE /3"),
            ):
                connection.request(method, target)
                with connection.getresponse() as response:
                    assert (response.status, response.read(), response.will_close) == (200, expected, False)
        assert (server.stats.accepted, server.stats.requests) == (1, 4)

    def test_bodies(self, server: Server) -> None:
        with closing(self.connection(server)) as connection:
            for body in (b"x" * 100_000, iter([b"in ", b"chunks"])):
                connection.request("POST", "/", body)  # the second one of unknown length
                with connection.getresponse() as response:
                    assert response.read() == (body if isinstance(body, bytes) else b"in chunks")
        assert server.stats.accepted == 1

    def test_connections_close_when_announced(self) -> None:
        with serving(handler, keep_alive_requests=2) as server, closing(self.connection(server)) as connection:
            announced = []
            for _ in range(5):
                connection.request("GET", "/")
                with connection.getresponse() as response:
                    response.read()
                    announced.append(response.will_close)
            assert announced == [False, True, False, True, False]
            assert server.stats.accepted == 3


class TestRequests:
    def test_a_session_keeps_its_connection(self, server: Server) -> None:
        with requests.Session() as session:
            session.trust_env = False  # no proxies
            for number in range(20):
                response = session.get(f"{server.url}{number}", timeout=PATIENCE)
                assert (response.status_code, response.text) == (200, f"GET /{number}")
                assert response.headers["Keep-Alive"] == f"timeout=120, max={999 - number}"
            assert session.post(server.url, data=b"body", timeout=PATIENCE).content == b"body"
            assert session.post(server.url, data=iter([b"in ", b"chunks"]), timeout=PATIENCE).content == b"in chunks"
            assert session.get(f"{server.url}pieces", timeout=PATIENCE).content == b"one two"
            assert (server.stats.accepted, server.stats.requests) == (1, 23)

    def test_each_session_has_its_own_connection(self, server: Server) -> None:
        for _ in range(3):
            with requests.Session() as session:
                session.trust_env = False
                assert session.get(server.url, timeout=PATIENCE).status_code == 200
        assert server.stats.accepted == 3
        wait_for(lambda: server.open_connections == 0)
