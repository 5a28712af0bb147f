"""The servers that are compared, and how each is started.

Every one gets one process (or one worker), its access log off, an idle time-out of 120 s where it has one, and room for
the 10,000 connections of the idle workload; apart from that it runs as its own documentation recommends.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from processes import Command
from workloads import App

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
IDLE_SECONDS = 120
MAX_CONNECTIONS = 16_384
"""For the servers that must be told; well above what the idle workload opens."""


@dataclass(frozen=True)
class Site:
    """Where a server is to listen, and what it is to serve."""

    port: int
    directory: Path
    """The documents."""
    scratch: Path
    """For configuration files and logs; empty, and gone afterwards."""
    tls: tuple[Path, Path] | None = None
    """Certificate and key, both PEM; only for the peers that say `tls`."""

    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of the site, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{self.address}"


Start = Callable[[Site], Command]


@dataclass(frozen=True)
class Peer:
    """A server of the comparison."""

    name: str
    start: Mapping[App, Start]
    version: Callable[[], str]
    modules: tuple[str, ...] = ()
    """Python modules it needs, importable by the interpreter that runs the benchmark."""
    programs: tuple[str, ...] = ()
    """Executables it needs."""
    lacks: Mapping[App, str] = field(default_factory=dict)
    """Why there is no `start` for an app."""
    tls: bool = False
    """Whether `start` obeys `Site.tls`."""

    def missing(self) -> str:
        """What is not installed, as a phrase; empty when everything is."""
        absent = [f"module {name}" for name in self.modules if not _importable(name)]
        absent += [f"program {name}" for name in self.programs if shutil.which(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""


# --- kaserve ----------------------------------------------------------------------------------------------------------


def _kaserve_environment() -> dict[str, str]:
    """Let the child find the apps, and kaserve too: the installed one if there is one, else the checkout."""
    path = [str(APPS)] if _importable("kaserve") else [str(APPS), str(HERE.parent)]
    return {"PYTHONPATH": os.pathsep.join(path)}


def _kaserve(site: Site, *arguments: str, pure: bool) -> Command:
    tls = ("--tls-cert", str(site.tls[0]), "--tls-key", str(site.tls[1])) if site.tls else ()
    return Command(
        (sys.executable, "-m", "kaserve", str(site.port), "--no-access-log", *tls, *arguments),
        env=_kaserve_environment() | ({"KASERVE_PURE": "1"} if pure else {}),
    )


def _kaserve_handler(site: Site, *, handler: str, pure: bool) -> Command:
    return _kaserve(site, "--handler", handler, pure=pure)


def _kaserve_wsgi(site: Site, *, app: str, threads: int) -> Command:
    return _kaserve(site, "--wsgi", f"{app}:app", "--threads", str(threads), pure=False)


def _kaserve_files(site: Site, *, pure: bool) -> Command:
    return _kaserve(site, "--directory", str(site.directory), pure=pure)


def _kaserve_version(*, pure: bool) -> str:
    environment = _kaserve_environment() | ({"KASERVE_PURE": "1"} if pure else {})
    return _output((sys.executable, "-m", "kaserve", "--version"), environment)


# --- servers in Python ------------------------------------------------------------------------------------------------


def _python(site: Site, *arguments: str, chatty: bool = False) -> Command:
    """A Python program which finds the apps, and the directory they serve."""
    return Command(
        (sys.executable, *arguments),
        env={"PYTHONPATH": str(APPS), "BENCH_DIRECTORY": str(site.directory)},
        chatty=chatty,
    )


def _http_server(site: Site) -> Command:
    return _python(site, str(APPS / "run_http_server.py"), str(site.port))


def _http_server_files(site: Site) -> Command:
    # Its access log cannot be switched off, only thrown away.
    return _python(
        site, "-m", "http.server", str(site.port), "--protocol", "HTTP/1.1", "--bind", site.host,
        "--directory", str(site.directory), chatty=True,
    )  # fmt: skip


def _uvicorn(site: Site, *, app: str) -> Command:
    return _python(
        site, "-m", "uvicorn", f"{app}:app", "--host", site.host, "--port", str(site.port), "--loop", "uvloop",
        "--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning",
        "--timeout-keep-alive", str(IDLE_SECONDS),
    )  # fmt: skip


def _gunicorn(site: Site, *, app: str, kind: tuple[str, ...]) -> Command:
    return _python(
        site, "-m", "gunicorn", "--bind", site.address, "--workers", "1", "--worker-class", *kind,
        "--keep-alive", str(IDLE_SECONDS), "--worker-connections", str(MAX_CONNECTIONS), "--log-level", "warning",
        f"{app}:app",
    )  # fmt: skip


def _waitress(site: Site, *, app: str) -> Command:
    # poll, because select ends at 1,024 descriptors
    return _python(
        site, "-m", "waitress", "--listen", site.address, "--connection-limit", str(MAX_CONNECTIONS),
        "--channel-timeout", str(IDLE_SECONDS), "--asyncore-use-poll", f"{app}:app",
    )  # fmt: skip


def _cheroot(site: Site, *, app: str) -> Command:
    return _python(site, "-m", "cheroot", "--bind", site.address, "--timeout", str(IDLE_SECONDS), f"{app}:app")


def _aiohttp(site: Site, *, app: App) -> Command:
    return _python(site, str(APPS / "run_aiohttp.py"), str(site.port), app, str(site.directory))


def _bjoern(site: Site, *, app: str) -> Command:
    return _python(site, str(APPS / "run_bjoern.py"), str(site.port), app)


def _granian(site: Site, *extra: str, app: str, interface: str = "rsgi") -> Command:
    return _python(
        site, "-m", "granian", "--host", site.host, "--port", str(site.port), "--workers", "1",
        "--interface", interface, "--loop", "uvloop", "--runtime-mode", "st", "--no-ws", "--http", "1",
        "--backlog", "2048", "--backpressure", str(MAX_CONNECTIONS), "--no-access-log", "--log-level", "warning",
        *extra, f"{app}:app",
    )  # fmt: skip


def _granian_files(site: Site) -> Command:
    # It mounts a directory below a path, never at the root.
    return _granian(
        site, "--static-path-route", "/files", "--static-path-mount", str(site.directory / "files"), app="hello_rsgi"
    )


# --- servers in C and Go ----------------------------------------------------------------------------------------------

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
            # Started by root its worker would be somebody else, who may not read a temporary directory.
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


def _floor(site: Site) -> Command:
    program = site.scratch / "floor"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "floor.c")], check=True, timeout=60)
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


# --- the registry -----------------------------------------------------------------------------------------------------


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _output(argv: tuple[str, ...], environment: Mapping[str, str] | None = None) -> str:
    """The first line of what a program prints, on whichever of the two streams it does."""
    done = subprocess.run(
        argv, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=30, check=False
    )
    return ((done.stdout + done.stderr).strip().splitlines() or [""])[0]


def _installed_version(*distributions: str) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)


def _program_version(*argv: str) -> str:
    """Name and version out of a line like "nginx version: nginx/1.22.1" or "lighttpd/1.4.69 (ssl) - ..."."""
    line = _output(argv)
    found = re.search(r"[\w.-]+/[\d.]+", line)
    return found.group().replace("/", " ") if found else line


def _kaserve_peer(name: str, *, pure: bool) -> Peer:
    return Peer(
        name,
        {
            "hello": partial(_kaserve_handler, handler="hello_app:hello", pure=pure),
            "upload": partial(_kaserve_handler, handler="upload_app:upload", pure=pure),
            "files": partial(_kaserve_files, pure=pure),
        },
        version=partial(_kaserve_version, pure=pure),
        tls=True,
    )


def _kaserve_wsgi_peer(name: str, *, threads: int) -> Peer:
    return Peer(
        name,
        {
            "hello": partial(_kaserve_wsgi, app="hello_wsgi", threads=threads),
            "upload": partial(_kaserve_wsgi, app="upload_wsgi", threads=threads),
        },
        version=partial(_kaserve_version, pure=False),
        lacks={"files": "they are served by kaserve itself; see there"},
    )


def _wsgi_peer(name: str, distribution: str, start: "Callable[..., Command]", **options: object) -> Peer:
    """A WSGI server: its files are WhiteNoise's."""
    return Peer(
        name,
        {
            "hello": partial(start, app="hello_wsgi", **options),
            "upload": partial(start, app="upload_wsgi", **options),
            "files": partial(start, app="files_wsgi", **options),
        },
        version=partial(_installed_version, distribution, "whitenoise"),
        modules=(distribution, "whitenoise"),
    )


PEERS = {
    peer.name: peer
    for peer in (
        _kaserve_peer("kaserve", pure=False),
        _kaserve_peer("kaserve-pure", pure=True),
        _kaserve_wsgi_peer("kaserve-wsgi", threads=0),
        _kaserve_wsgi_peer("kaserve-wsgi-threads", threads=4),
        Peer(
            "http.server",
            {"hello": _http_server, "upload": _http_server, "files": _http_server_files},
            version=lambda: f"Python {sys.version.split()[0]}",
        ),
        Peer(
            "uvicorn",
            {
                "hello": partial(_uvicorn, app="hello_asgi"),
                "upload": partial(_uvicorn, app="upload_asgi"),
                "files": partial(_uvicorn, app="files_asgi"),
            },
            version=partial(_installed_version, "uvicorn", "httptools", "uvloop", "starlette"),
            modules=("uvicorn", "httptools", "uvloop", "starlette"),
        ),
        _wsgi_peer("gunicorn-sync", "gunicorn", _gunicorn, kind=("sync",)),
        _wsgi_peer("gunicorn-gthread", "gunicorn", _gunicorn, kind=("gthread", "--threads", "4")),
        _wsgi_peer("waitress", "waitress", _waitress),
        _wsgi_peer("cheroot", "cheroot", _cheroot),
        Peer(
            "aiohttp",
            {
                "hello": partial(_aiohttp, app="hello"),
                "upload": partial(_aiohttp, app="upload"),
                "files": partial(_aiohttp, app="files"),
            },
            version=partial(_installed_version, "aiohttp", "uvloop"),
            modules=("aiohttp", "uvloop"),
        ),
        _wsgi_peer("bjoern", "bjoern", _bjoern),
        Peer(
            "granian",
            {
                "hello": partial(_granian, app="hello_rsgi"),
                "upload": partial(_granian, app="upload_rsgi"),
                "files": _granian_files,
            },
            version=partial(_installed_version, "granian", "uvloop"),
            modules=("granian", "uvloop"),
        ),
        _wsgi_peer("granian-wsgi", "granian", _granian, interface="wsgi"),
        Peer(
            "go",
            {
                "hello": partial(_go, files=False),
                "upload": partial(_go, files=False),
                "files": partial(_go, files=True),
            },
            version=partial(_output, ("go", "version")),
            programs=("go",),
        ),
        Peer(
            "nginx",
            {"hello": _nginx_hello, "files": _nginx_files},
            version=partial(_program_version, "nginx", "-v"),
            programs=("nginx",),
            lacks={"upload": "it runs no handler"},
            tls=True,
        ),
        Peer(
            "nginx-cached",
            {"files": _nginx_cached_files},
            version=partial(_program_version, "nginx", "-v"),
            programs=("nginx",),
            lacks={"hello": "open_file_cache is about files; see nginx", "upload": "it runs no handler"},
        ),
        Peer(
            "lighttpd",
            {"files": _lighttpd_files},
            version=partial(_program_version, "lighttpd", "-v"),
            programs=("lighttpd",),
            lacks={"hello": "it serves files, and runs no handler", "upload": "it runs no handler"},
        ),
        Peer(
            "floor",
            {"hello": _floor},
            version=partial(_output, ("cc", "--version")),
            programs=("cc",),
            lacks={"files": "it answers with a constant", "upload": "it reads no bodies"},
        ),
    )
}
