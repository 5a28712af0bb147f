"""The compared servers that are written for Python, and how each is started."""

import sys
from collections.abc import Callable
from functools import partial

from lib.environment import APPS
from lib.peers.peer import ASGI_APPS, IDLE_SECONDS, MAX_CONNECTIONS, Peer, Site, installed_version
from lib.processes import Command
from lib.workloads import App


def _python(site: Site, *arguments: str, logs_requests: bool = False) -> Command:
    """A Python program which finds the apps, and the directory they serve."""
    return Command(
        (sys.executable, *arguments),
        env={"PYTHONPATH": str(APPS), "BENCH_DIRECTORY": str(site.directory)},
        logs_requests=logs_requests,
    )


def _http_server(site: Site) -> Command:
    return _python(site, str(APPS / "run_http_server.py"), str(site.port))


def _http_server_files(site: Site) -> Command:
    # Its access log cannot be switched off, only thrown away.
    return _python(
        site, "-m", "http.server", str(site.port), "--protocol", "HTTP/1.1", "--bind", site.host,
        "--directory", str(site.directory), logs_requests=True,
    )  # fmt: skip


def _uvicorn(site: Site, *, app: str) -> Command:
    return _python(
        site, "-m", "uvicorn", f"{app}:app", "--host", site.host, "--port", str(site.port), "--loop", "uvloop",
        "--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning",
        "--timeout-keep-alive", str(IDLE_SECONDS),
    )  # fmt: skip


def _hypercorn(site: Site, *, app: str) -> Command:
    return _python(
        site, "-m", "hypercorn", "--bind", site.address, "--worker-class", "uvloop", "--workers", "0",
        "--keep-alive", str(IDLE_SECONDS), "--log-level", "warning", f"{app}:app",
    )  # fmt: skip


def _daphne(site: Site, *, app: str) -> Command:
    return _python(
        site, "-m", "daphne", "--bind", site.host, "--port", str(site.port), "--verbosity", "0", "--no-server-name",
        f"{app}:app",
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


def _wsgi_peer(name: str, distribution: str, start: Callable[..., Command], **options: object) -> Peer:
    """A WSGI server: its files are WhiteNoise's."""
    return Peer(
        name,
        {
            "hello": partial(start, app="hello_wsgi", **options),
            "upload": partial(start, app="upload_wsgi", **options),
            "files": partial(start, app="files_wsgi", **options),
        },
        version=partial(installed_version, distribution, "whitenoise"),
        modules=(distribution, "whitenoise"),
    )


PEERS = (
    Peer(
        "http.server",
        {"hello": _http_server, "upload": _http_server, "files": _http_server_files},
        version=lambda: f"Python {sys.version.split()[0]}",
    ),
    Peer(
        "uvicorn",
        {
            **{app: partial(_uvicorn, app=f"{app}_asgi") for app in ASGI_APPS},
            "files": partial(_uvicorn, app="files_asgi"),
        },
        version=partial(installed_version, "uvicorn", "httptools", "uvloop", "starlette"),
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
        version=partial(installed_version, "aiohttp", "uvloop"),
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
        version=partial(installed_version, "granian", "uvloop"),
        modules=("granian", "uvloop"),
    ),
    Peer(
        "granian-asgi",
        {app: partial(_granian, app=f"{app}_asgi", interface="asginl") for app in ASGI_APPS},
        version=partial(installed_version, "granian", "uvloop"),
        modules=("granian", "uvloop"),
    ),
    Peer(
        "hypercorn",
        {app: partial(_hypercorn, app=f"{app}_asgi") for app in ASGI_APPS},
        version=partial(installed_version, "hypercorn", "uvloop"),
        modules=("hypercorn", "uvloop"),
    ),
    Peer(
        "daphne",
        {app: partial(_daphne, app=f"{app}_asgi") for app in ASGI_APPS},
        version=partial(installed_version, "daphne"),
        modules=("daphne",),
    ),
    _wsgi_peer("granian-wsgi", "granian", _granian, interface="wsgi"),
)
