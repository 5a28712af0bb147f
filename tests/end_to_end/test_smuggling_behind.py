"""Request smuggling with kaserve as the proxy: what it passes on, other servers must read as the same requests.

The ambiguous messages of `test_smuggling`, in front of servers with parsers of their own: nginx, gunicorn, aiohttp and
http.server. Each writes a line for each request that it sees. kaserve may reject a message, and then the server sees
nothing of it; what it passes on must be what the server sees, one by one; and no client gets the response to another.
"""

from __future__ import annotations

import http.client
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from kaserve import Request
from kaserve.http.handler import HandlerResult
from kaserve.proxy.proxy import Proxy
from tests.end_to_end.test_smuggling import CASES, send
from tests.tools.proxies import Proxy as Address
from tests.tools.proxies import free_port, running
from tests.tools.server import PATIENCE, program, serving, wait_for

NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections 64; }}
http {{
    log_format seen '$request_method $request_uri';
    access_log {directory}/seen seen;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
    uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
    server {{
        listen 127.0.0.1:{port};
        location / {{ add_header X-Path $uri always; return 200 "ok"; }}
    }}
}}
"""

WSGI = """
def app(environ, start_response):
    environ["wsgi.input"].read()
    with open("{directory}/seen", "a", encoding="utf-8") as file:
        file.write(environ["REQUEST_METHOD"] + " " + environ["RAW_URI"] + "\\n")
    start_response("200 OK", [("X-Path", environ["RAW_URI"]), ("Content-Length", "2")])
    return [b"ok"]
"""

AIOHTTP = """
from aiohttp import web

async def respond(request):
    await request.read()
    with open("{directory}/seen", "a", encoding="utf-8") as file:
        file.write(request.method + " " + request.raw_path + "\\n")
    return web.Response(text="ok", headers={{"X-Path": request.raw_path}})

app = web.Application(client_max_size=1 << 24)
app.router.add_route("*", "/{{path:.*}}", respond)
web.run_app(app, host="127.0.0.1", port={port}, print=None)
"""

HTTP_SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open("{directory}/seen", "a", encoding="utf-8") as file:
            file.write(self.command + " " + self.path + "\\n")
        self.send_response(200)
        self.send_header("X-Path", self.path)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = do_DELETE = respond

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


Back = Callable[[Path, int], AbstractContextManager[None]]


@contextmanager
def nginx(directory: Path, port: int) -> Iterator[None]:
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port))
    binary = program("nginx", "/usr/sbin/nginx")
    with running(binary, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf"), port=port):
        yield


@contextmanager
def gunicorn(directory: Path, port: int) -> Iterator[None]:
    (directory / "seen_app.py").write_text(WSGI.format(directory=directory))
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "2"]
    with running(*command, "--chdir", str(directory), "--keep-alive", "30", "seen_app:app", port=port):
        yield


def script(text: str) -> Back:
    @contextmanager
    def run(directory: Path, port: int) -> Iterator[None]:
        (directory / "back.py").write_text(textwrap.dedent(text).format(directory=directory, port=port))
        with running(sys.executable, str(directory / "back.py"), port=port):
            yield

    return run


BACKS: dict[str, Back] = {
    "nginx": nginx,
    "gunicorn": gunicorn,
    "aiohttp": script(AIOHTTP),
    "http.server": script(HTTP_SERVER),
}


class Front(Proxy):
    """A proxy that notes what it passes on."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.passed: list[str] = []

    def __call__(self, request: Request) -> HandlerResult:
        query = f"?{request.query_string}" if request.query_string else ""
        result = super().__call__(request)
        self.passed.append(f"{request.method} {request.raw_path}{query}")
        return result


@pytest.mark.parametrize("name", BACKS)
def test_the_server_behind_sees_what_kaserve_passes_on(name: str, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "seen"
    log.touch()
    with BACKS[name](tmp_path, port):
        front = Front(f"http://127.0.0.1:{port}")
        with serving(front) as server:
            assert isinstance(server.address, tuple)
            address = Address(server.address, list)
            for number, (case, wire) in enumerate(CASES):
                try:
                    check(address, front, wire.replace(b"/case", b"/case-%d" % number, 1), number)
                except AssertionError as error:
                    raise AssertionError(f"{case}: {wire[:300]!r}: {error}") from error
            wait_for(lambda: f"/other-{len(CASES) - 1}\n" in log.read_text("latin-1"))
    seen = Counter(log.read_text("latin-1").splitlines())
    del seen["- -"]  # what nginx has rejected: methods in lower case, and OPTIONS *
    # A request whose body never ends is not seen by all of them, nor is one that they reject.
    assert seen <= Counter(front.passed), seen - Counter(front.passed)
    assert sum(line.split(" ")[1].startswith("/case") for line in seen) > 20  # not all of them are rejected


def check(address: Address, front: Front, wire: bytes, number: int) -> None:
    """Sends a message and two normal requests, of which the second one is another client's. The clients must get their
    own responses, in order."""
    before = len(front.passed)
    get = f"GET /next-{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    received = send(address, wire + get, b"X-Path: /next-%d\r\n" % number)
    with closing(http.client.HTTPConnection(*address.address, timeout=PATIENCE)) as other:
        other.request("GET", f"/other-{number}")
        response = other.getresponse()
        assert response.status == 200
        assert response.getheader("X-Path") == f"/other-{number}", "the response to another client"
    paths = re.findall(rb"(?i)\r\nX-Path: (\S+)\r\n", received)
    passed = iter([line.partition(" ")[2] for line in front.passed[before:]])
    assert all(path.decode() in passed for path in paths), f"responses {paths} to {front.passed[before:]}"
