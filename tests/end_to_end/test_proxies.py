"""kaserve behind real proxies with the configurations of docs/proxies.md."""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kaserve import Request, Response, Server
from kaserve.config import options
from tests.tools.proxies import free_port, running
from tests.tools.server import PATIENCE, ROOT, connect, get, program, serving

PROXIES = ROOT / "docs" / "proxies.md"
FORGED = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil", "Forwarded: for=6.6.6.6")


def describe_request(request: Request) -> Response:
    host = request.client[0] if isinstance(request.client, tuple) else None
    return Response.json([host, request.scheme, request.authority, request.method, len(request.body.read())])


def configuration(language: str, mark: str) -> str:
    """The block of docs/proxies.md in `language` that contains `mark`."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PROXIES.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if mark in block)
    return block


@contextmanager
def nginx(directory: Path, server: Server) -> Iterator[tuple[str, int]]:
    binary = program("nginx", "/usr/sbin/nginx")
    port, text = free_port(), configuration("nginx", "upstream")
    assert isinstance(server.address, tuple)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.address[1]}").replace(
        "listen 80", f"listen 127.0.0.1:{port}"
    )
    paths = "".join(
        f"{each}_temp_path {directory}/{each}; " for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    full = (
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; client_max_body_size 100m; {paths}\n{text}}}\n"
    )
    (directory / "nginx.conf").write_text(full)
    with running(binary, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf"), port=port):
        yield "127.0.0.1", port


@contextmanager
def haproxy(directory: Path, server: Server, text: str) -> Iterator[tuple[str, int]]:
    binary = program("haproxy", "/usr/sbin/haproxy")
    port = free_port()
    assert isinstance(server.address, tuple)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.address[1]}").replace(
        "bind :80", f"bind 127.0.0.1:{port}"
    )
    (directory / "haproxy.cfg").write_text(text)
    with running(binary, "-db", "-f", str(directory / "haproxy.cfg"), port=port):
        yield "127.0.0.1", port


@pytest.fixture(params=["nginx", "haproxy"])
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, tuple[str, int]]]:
    with serving(describe_request, forwarded_allow_ips="127.0.0.1") as server:
        proxy: Any = (
            nginx(tmp_path, server)
            if request.param == "nginx"
            else haproxy(tmp_path, server, configuration("haproxy", "mode http"))
        )
        with proxy as address:
            yield server, address


def ask(address: tuple[str, int], *fields: str, body: bytes | None = None) -> tuple[int, Any]:
    """The status and the content of the response to one request on a new connection."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        headers = {"Host": "h"} | dict(field.split(": ") for field in fields)
        connection.request("GET" if body is None else "POST", "/", body, headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status != 200 or response.getheader("Keep-Alive") is None
        return response.status, json.loads(content) if response.status == 200 else None
    finally:
        connection.close()


def test_forwarding_headers_of_the_proxy_count_and_those_of_clients_do_not(
    upstream: tuple[Server, tuple[str, int]],
) -> None:
    _, address = upstream
    for fields in ((), FORGED):
        assert ask(address, *fields) == (200, ["127.0.0.1", "http", "h", "GET", 0])


def test_one_upstream_connection_serves_many_clients(upstream: tuple[Server, tuple[str, int]]) -> None:
    server, address = upstream
    for _ in range(10):
        assert ask(address)[0] == 200
        assert ask(address, body=b"x" * 100_000) == (200, ["127.0.0.1", "http", "h", "POST", 100_000])
    assert server.stats.requests == 20
    assert server.stats.accepted < 20  # the threads of the proxy do not share connections


def test_no_request_is_lost_when_the_server_stops(upstream: tuple[Server, tuple[str, int]]) -> None:
    """Meanwhile every request gets a response; afterwards the proxy sends its own error."""
    server, address = upstream
    assert ask(address)[0] == 200
    server.shutdown()
    while not server.stopped:
        assert ask(address)[0] in (200, 502, 503)
    assert server.stats.races_lost.total() == 0
    assert ask(address)[0] in (502, 503)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_the_proxy_protocol(tmp_path: Path, version: str) -> None:
    text = configuration("haproxy", "mode tcp").replace("send-proxy-v2", version)
    with serving(describe_request, proxy_protocol=True) as server, haproxy(tmp_path, server, text) as address:
        with connect(address) as client:
            for _ in range(2):
                client.send(get())
                assert client.answer().body == b'["127.0.0.1","http","h","GET",0]'
        assert server.stats.accepted >= 1


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_unix_socket_and_workers_of_another_user(umask: int) -> None:
    """A master of nginx that root has started runs its workers as `nobody`, and they connect to the socket."""
    if os.geteuid() != 0:
        pytest.skip("only root can start nginx with workers of another user")
    binary, port = program("nginx", "/usr/sbin/nginx"), free_port()
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    with tempfile.TemporaryDirectory() as made:  # the directories of pytest are closed to other users
        directory = Path(made)
        directory.chmod(0o755)
        paths = "".join(
            f"{each}_temp_path {directory}/{each}; " for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"user nobody {group}; daemon off; pid {directory}/pid; error_log stderr;\nevents {{}}\n"
            f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port};"
            f" location / {{ proxy_pass http://unix:{directory}/socket; }} }} }}\n"
        )
        before = os.umask(umask)
        try:
            with serving(describe_request, bind=(f"unix:{directory}/socket",)):
                command = (binary, "-p", made, "-e", "stderr", "-c", str(directory / "nginx.conf"))
                with running(*command, port=port):
                    assert ask(("127.0.0.1", port))[0] == 200
        finally:
            os.umask(before)


def test_the_options_of_the_page_exist() -> None:
    text = re.sub(r"^```.*?^```$", "", PROXIES.read_text(), flags=re.MULTILINE | re.DOTALL)
    known = {"--" + name.replace("_", "-") for name in options()}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known
