"""What is printed when the server has started: what it serves, where, and how it keeps connections.

Knows words for the user. Does not know how anything of it works.
"""

from __future__ import annotations

import os
import sys

from .._version import __version__
from ..asgi.websocket.settings import MISSING, is_available
from ..config import Config, wsgi_threads
from ..effects import Served
from ..http.wire import IMPLEMENTATION
from ..probe.terminal import takes_color
from ..server import Server
from . import qr
from .load import Loaded

__all__ = ["BUILD", "banner", "print_banner", "print_stopped"]

BUILD = {"pure": "pure Python", "compiled": "compiled"}[IMPLEMENTATION]
"""Which build is running, in words."""

_BOLD_CYAN, _PLAIN = "\x1b[1;36m", "\x1b[0m"


def print_banner(server: Server, loaded: Loaded) -> None:
    """Prints the banner of `server`, which listens already, to stdout."""
    try:
        print(banner(server, loaded, color=takes_color(sys.stdout)), flush=True)
    except OSError:  # the reader of a pipe is gone, or the disk is full; the server can serve without a banner
        pass


def print_stopped() -> None:
    """Prints that the server has stopped, for a person at a terminal who has pressed Ctrl-C. A program that reads the
    banner from a pipe sees the end of the process instead."""
    try:
        if sys.stdout is not None and sys.stdout.isatty():
            print("\rstopped", flush=True)  # in place of the ^C that the terminal shows
    except (OSError, ValueError):  # the terminal is gone, or the program has closed stdout
        pass


def banner(server: Server, loaded: Loaded, *, color: bool = False) -> str:
    """Returns the banner of `server`, which listens already. Its last line says how to stop the server."""
    config = server.config
    strong, plain = (_BOLD_CYAN, _PLAIN) if color else ("", "")
    lines = [f"kaserve {__version__} ({BUILD}) {_what_it_does(config, loaded)}"]
    lines += [f"  at {strong}{server.url_of(address)}{plain}" for address in server.addresses]
    lines += [f"  in the network: {strong}{url}{plain}" for url in _network_urls(server)]
    for name, path in (("status", config.status), ("metrics", config.metrics)):
        if path is not None and server.url.startswith("http"):
            lines.append(f"  {name}: {server.url.rstrip('/')}{path}")
    if loaded.way.served is Served.ASGI and not is_available():
        lines.append(f"  {MISSING}")
    if config.tls_cert:
        lines.append(f"  TLS: {', '.join(config.tls_cert)}{_client_certificates(config)}")
    lines += _routes(config)
    lines.append(f"  keep-alive: {_keep_alive(config)} ({config.protocol})")
    if config.upload:
        lines.append(f"  accepts uploads{', which may replace files' if config.upload_overwrite else ''}")
    if config.auth or config.auth_file:
        lines.append(f"  asks for a password{'' if config.tls_cert else ', which is sent unencrypted: TLS is off'}")
    if config.access_log_file:
        lines.append(f"  access log: {config.access_log_file}")
    if config.error_log:
        lines.append(f"  error log: {config.error_log}")
    if config.qr:
        lines.append(_qr_code(server))
    lines.append("  Ctrl-C stops it")
    return "\n".join(lines)


def _what_it_does(config: Config, loaded: Loaded) -> str:
    if loaded.way.served is Served.PROXY:
        return f"passes requests on to {loaded.name}"
    return f"serves {_what_is_served(config, loaded)}"


def _routes(config: Config) -> list[str]:
    """A line for each path that is passed on."""
    if not config.proxy:
        return []
    from ..server.routes import routes_of

    return [
        f"  passes {route.prefix} on to {', '.join(map(str, route.upstreams))}"
        for route in routes_of(config)
        if route.prefix != "/"
    ]


def _what_is_served(config: Config, loaded: Loaded) -> str:
    if loaded.way.served is Served.WSGI:
        return f"WSGI application {loaded.name} ({_count(wsgi_threads(config), 'thread')})"
    if loaded.way.served is Served.ASGI:
        return f"ASGI application {loaded.name}"
    if loaded.way.served is Served.HANDLER:
        threads = f" ({_count(config.threads, 'thread')})" if config.threads else ""
        return f"handler {loaded.name}{threads}"
    # A name that is not UTF-8 arrives as surrogates, which stdout may not be able to encode.
    directory = os.fsencode(os.path.abspath(config.directory)).decode(errors="backslashreplace")
    return f"directory {directory}"


def _network_urls(server: Server) -> list[str]:
    """The URLs at which other machines reach a server that listens on all addresses; the line above has only the
    loopback address then."""
    scheme = server.url.partition(":")[0]
    urls = [qr.url_for_others(scheme, [each]) for each in server.addresses if each.host in ("0.0.0.0", "::")]
    return [url for url in urls if url is not None]


def _client_certificates(config: Config) -> str:
    return f", requires client certificates of {config.tls_ca}" if config.tls_ca else ""


def _keep_alive(config: Config) -> str:
    if not config.keep_alive:
        return "off"
    limits = []
    if config.keep_alive_requests:
        limits.append(_count(config.keep_alive_requests, "request"))
    if config.keep_alive_time:
        limits.append(f"{config.keep_alive_time:g} s")
    most = f"at most {' and '.join(limits)} per connection" if limits else "no limit per connection"
    return f"{config.keep_alive:g} s idle, {most}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _qr_code(server: Server) -> str:
    """The code for a phone's camera and its URL, or one line that says why there is none."""
    url = qr.url_for_others("https" if server.config.tls_cert else "http", server.addresses)
    if url is None:
        return "  no QR code: no other machine can reach this address; use --bind 0.0.0.0 to listen to the network"
    return f"{qr.draw(url, sys.stdout.encoding or 'ascii')}\n  {url}"
