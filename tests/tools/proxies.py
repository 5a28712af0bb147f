"""Real proxies for tests: nginx and HAProxy on free ports of the loopback device, which keep connections to a server.

The log of each says which requests it has forwarded.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.tools.server import program, refuses, wait_for

__all__ = ["PROXIES", "Forwarded", "Proxy", "free_port", "running"]


class Forwarded(NamedTuple):
    """A request as a proxy forwarded it."""

    method: str
    target: str  # in origin-form
    status: int  # of the response; 0 or less when there was none


class Proxy:
    """A running proxy."""

    def __init__(self, address: tuple[str, int], read_log: Callable[[], list[Forwarded]]) -> None:
        self.address = address
        self.read_log = read_log  # what it has forwarded since the last call


_NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections 1024; }}
http {{
    log_format forwarded '$request_method $request_uri $upstream_status $upstream_addr';
    access_log {directory}/log forwarded;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
    uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    underscores_in_headers on;       # pass on as much as possible
    ignore_invalid_headers off;
    merge_slashes off;
    large_client_header_buffers 8 32k;
    upstream server {{ server 127.0.0.1:{upstream}; keepalive {idle}; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
            proxy_ignore_client_abort on;
            proxy_next_upstream off;     # failures must be visible
        }}
    }}
}}
"""

_HAPROXY = """
global
    nbthread 1
    log {directory}/log len 65535 local0
    tune.bufsize 65536
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    log global
    log-format "%HM %HU %ST %s"
    retries 0
listen web
    bind 127.0.0.1:{port} backlog 1024
    http-reuse always
    server one 127.0.0.1:{upstream}
"""


@contextmanager
def nginx(directory: Path, upstream: int, idle: int = 1) -> Iterator[Proxy]:
    """upstream: the port of the server. idle: how many idle connections to it are kept."""
    port = free_port()
    log, configuration = directory / "log", directory / "nginx.conf"
    configuration.write_text(_NGINX.format(directory=directory, port=port, upstream=upstream, idle=idle))
    read = 0

    def read_log() -> list[Forwarded]:
        nonlocal read
        data = log.read_bytes()[read:]
        data = data[: data.rfind(b"\n") + 1]
        read += len(data)
        return [
            Forwarded(match[1], _origin_form(match[2]), int(match[3].replace("-", "0")))
            for match in re.finditer(r"^(\S+) (.*) (\d+|-) [^- ]\S+$", data.decode("latin-1"), re.MULTILINE)
        ]

    binary = program("nginx", "/usr/sbin/nginx")
    with running(binary, "-p", str(directory), "-e", "stderr", "-c", str(configuration), port=port):
        yield Proxy(("127.0.0.1", port), read_log)


@contextmanager
def haproxy(directory: Path, upstream: int, idle: int = 1) -> Iterator[Proxy]:
    """upstream: the port of the server. HAProxy decides how many idle connections are kept: `idle` has no effect."""
    port = free_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(_HAPROXY.format(directory=directory, port=port, upstream=upstream))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        log.bind(str(directory / "log"))
        log.setblocking(False)

        def read_log() -> list[Forwarded]:
            lines = []
            with suppress(BlockingIOError):
                while True:
                    lines.append(log.recv(65536).decode("latin-1").partition("]: ")[2])
            return [
                Forwarded(match[1], _origin_form(match[2]), int(match[3]))
                for match in (re.match(r"(\S+) (.*) (-?\d+) one$", line) for line in lines)
                if match is not None
            ]

        binary = program("haproxy", "/usr/sbin/haproxy")
        with running(binary, "-db", "-f", str(configuration), port=port):
            yield Proxy(("127.0.0.1", port), read_log)


PROXIES = {"nginx": nginx, "haproxy": haproxy}


def _origin_form(target: str) -> str:
    return re.sub("^[a-z]+://[^/?]*", "", target)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextmanager
def running(*command: str, port: int) -> Iterator[None]:
    """Runs a proxy while the block lasts; it accepts connections on `port` when the block begins."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(lambda: process.poll() is not None or not refuses(("127.0.0.1", port)))
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(process.stderr.read().decode())
            yield
        finally:
            process.send_signal(signal.SIGTERM)
