"""The compared servers in C and Go: nginx, lighttpd, net/http, and `c_loop.c`, the lower bound."""

import os
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path

from lib.environment import APPS, BENCHMARKS
from lib.peers.peer import IDLE_SECONDS, MAX_CONNECTIONS, Peer, Site, output, program_version
from lib.processes import Command

NGINX = """\
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
pid {scratch}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    types {{ text/html html; }}
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout {idle}s;
    {cache}
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy; fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
    server {{
        listen {address} {tls};
        location / {{ {location} }}
    }}
}}
"""


def _nginx(site: Site, *, location: str, cache: str = "") -> Command:
    configuration = site.scratch / "nginx.conf"
    configuration.write_text(
        NGINX.format(
            # Started by root its worker would be another user, who may not read a temporary directory.
            user="user root;" if os.geteuid() == 0 else "",
            descriptors=MAX_CONNECTIONS + 512,
            scratch=site.scratch,
            connections=MAX_CONNECTIONS,
            idle=IDLE_SECONDS,
            cache=cache,
            address=site.address,
            tls=f"ssl; ssl_certificate {site.tls[0]}; ssl_certificate_key {site.tls[1]}" if site.tls else "",
            location=location,
        )
    )
    return Command(("nginx", "-e", "stderr", "-p", str(site.scratch), "-c", str(configuration)))


def _nginx_hello(site: Site) -> Command:
    return _nginx(site, location='default_type text/plain; return 200 "hello";')


def _nginx_files(site: Site) -> Command:
    return _nginx(site, location=f"root {site.directory};")


def _nginx_cached_files(site: Site) -> Command:
    return _nginx(site, location=f"root {site.directory};", cache="open_file_cache max=1000;")


LIGHTTPD = """\
server.bind = "{host}"
server.port = {port}
server.document-root = "{directory}"
server.max-fds = {descriptors}
server.max-connections = {connections}
server.max-keep-alive-idle = {idle}
server.max-keep-alive-requests = 1000
mimetype.assign = ( ".html" => "text/html", "" => "application/octet-stream" )
"""


def _lighttpd_files(site: Site) -> Command:
    configuration = site.scratch / "lighttpd.conf"
    configuration.write_text(
        LIGHTTPD.format(
            host=site.host,
            port=site.port,
            directory=site.directory,
            descriptors=MAX_CONNECTIONS + 512,
            connections=MAX_CONNECTIONS,
            idle=IDLE_SECONDS,
        )
    )
    return Command(("lighttpd", "-D", "-f", str(configuration)))


def _c_loop(site: Site) -> Command:
    program = site.scratch / "c_loop"
    subprocess.run(["cc", "-O2", "-o", str(program), str(BENCHMARKS / "c_loop.c")], check=True, timeout=60)
    return Command((str(program), str(site.port)))


@cache
def _go_build() -> "tempfile.TemporaryDirectory[str]":
    """Where the server in Go is; built at the first need, since that takes seconds, and gone when this program ends."""
    directory = tempfile.TemporaryDirectory(prefix="bench-go-")
    command = ("go", "build", "-o", directory.name, str(APPS / "server.go"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise OSError(f"go build failed: {done.stderr.strip()}")
    return directory


def _go(site: Site, *, files: bool) -> Command:
    program = Path(_go_build().name, "server")
    return Command((str(program), str(site.port), *([str(site.directory)] if files else [])))


_nginx_peer = partial(Peer, version=partial(program_version, "nginx", "-v"), programs=("nginx",))

PEERS = (
    Peer(
        "go",
        {
            "hello": partial(_go, files=False),
            "upload": partial(_go, files=False),
            "files": partial(_go, files=True),
        },
        version=partial(output, ("go", "version")),
        programs=("go",),
    ),
    _nginx_peer(
        "nginx",
        {"hello": _nginx_hello, "files": _nginx_files},
        lacks={"upload": "it runs no handler"},
        tls=True,
    ),
    _nginx_peer(
        "nginx-cached",
        {"files": _nginx_cached_files},
        lacks={"hello": "open_file_cache is about files; see nginx", "upload": "it runs no handler"},
    ),
    Peer(
        "lighttpd",
        {"files": _lighttpd_files},
        version=partial(program_version, "lighttpd", "-v"),
        programs=("lighttpd",),
        lacks={"hello": "it serves files, and runs no handler", "upload": "it runs no handler"},
    ),
    Peer(
        "c-loop",
        {"hello": _c_loop},
        version=partial(output, ("cc", "--version")),
        programs=("cc",),
        lacks={"files": "it responds with a constant", "upload": "it reads no bodies"},
    ),
)
