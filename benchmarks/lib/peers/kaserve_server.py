"""kaserve as one of the compared servers: both builds, WSGI applications with and without threads, and ASGI."""

import sys
from functools import partial

from lib.environment import kaserve_environment
from lib.peers.peer import ASGI_APPS, Peer, Site, output
from lib.processes import Command


def _kaserve(site: Site, *arguments: str, pure: bool) -> Command:
    tls = ("--tls-cert", str(site.tls[0]), "--tls-key", str(site.tls[1])) if site.tls else ()
    return Command(
        (sys.executable, "-m", "kaserve", str(site.port), "--no-access-log", *tls, *arguments),
        env=kaserve_environment() | ({"KASERVE_PURE": "1"} if pure else {}),
    )


def _kaserve_handler(site: Site, *, handler: str, pure: bool) -> Command:
    return _kaserve(site, "--handler", handler, pure=pure)


def _kaserve_wsgi(site: Site, *, app: str, threads: int) -> Command:
    return _kaserve(site, "--wsgi", f"{app}:app", "--threads", str(threads), pure=False)


def _kaserve_asgi(site: Site, *, app: str, pure: bool) -> Command:
    return _kaserve(site, "--asgi", f"{app}:app", "--lifespan", "off", pure=pure)


def _kaserve_files(site: Site, *, pure: bool) -> Command:
    return _kaserve(site, "--directory", str(site.directory), pure=pure)


def _kaserve_version(*, pure: bool) -> str:
    environment = kaserve_environment() | ({"KASERVE_PURE": "1"} if pure else {})
    return output((sys.executable, "-m", "kaserve", "--version"), environment)


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


def _kaserve_asgi_peer(name: str, *, pure: bool) -> Peer:
    return Peer(
        name,
        {app: partial(_kaserve_asgi, app=f"{app}_asgi", pure=pure) for app in ASGI_APPS},
        version=partial(_kaserve_version, pure=pure),
        lacks={"files": "they are served by kaserve itself; see there"},
    )


PEERS = (
    _kaserve_peer("kaserve", pure=False),
    _kaserve_peer("kaserve-pure", pure=True),
    _kaserve_wsgi_peer("kaserve-wsgi", threads=0),
    _kaserve_wsgi_peer("kaserve-wsgi-threads", threads=4),
    _kaserve_asgi_peer("kaserve-asgi", pure=False),
    _kaserve_asgi_peer("kaserve-asgi-pure", pure=True),
)
