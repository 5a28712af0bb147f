"""What is printed when the server has started: what it serves, where, and how it keeps connections.

Knows words for the user. Does not know how anything of it works.
"""

from __future__ import annotations

import os
import sys

from .. import __version__
from ..cli import qr
from ..config import Config, wsgi_threads
from ..probe.terminal import takes_color
from ..server import Server
from .arguments import BUILD

__all__ = ["banner", "print_banner"]

_BOLD_CYAN, _PLAIN = "\x1b[1;36m", "\x1b[0m"


def print_banner(server: Server) -> None:
    """Prints the banner of `server`, which listens already, to stdout."""
    try:
        print(banner(server, color=takes_color(sys.stdout)), flush=True)
    except OSError:  # the reader of a pipe is gone, or the disk is full; the server can serve without a banner
        pass


def banner(server: Server, *, color: bool = False) -> str:
    """Returns the banner of `server`, which listens already. Its last line says how to stop the server."""
    config = server.config
    strong, plain = (_BOLD_CYAN, _PLAIN) if color else ("", "")
    lines = [f"kaserve {__version__} ({BUILD}) serves {_what_is_served(config)}"]
    lines += [f"  at {strong}{server.url_of(address)}{plain}" for address in server.addresses]
    for name, path in (("status", config.status), ("metrics", config.metrics)):
        if path is not None and server.url.startswith("http"):
            lines.append(f"  {name}: {server.url.rstrip('/')}{path}")
    lines.append(f"  keep-alive: {_keep_alive(config)} ({config.protocol})")
    if config.upload:
        lines.append(f"  accepts uploads{', which may replace files' if config.upload_overwrite else ''}")
    if config.auth or config.auth_file:
        lines.append(f"  asks for a password{'' if config.tls_cert else ', which is sent unencrypted: TLS is off'}")
    if config.qr:
        lines.append(_qr_code(server))
    lines.append("  Ctrl-C stops it")
    return "\n".join(lines)


def _what_is_served(config: Config) -> str:
    if config.wsgi:
        return f"WSGI application {config.wsgi} ({_count(wsgi_threads(config), 'thread')})"
    if config.handler:
        threads = f" ({_count(config.threads, 'thread')})" if config.threads else ""
        return f"handler {config.handler}{threads}"
    # A name that is not UTF-8 arrives as surrogates, which stdout may not be able to encode.
    directory = os.fsencode(os.path.abspath(config.directory)).decode(errors="backslashreplace")
    return f"directory {directory}"


def _keep_alive(config: Config) -> str:
    if not config.keep_alive:
        return "off"
    requests = f"{config.keep_alive_requests}" if config.keep_alive_requests else "any number of"
    return (
        f"{config.keep_alive:g} s idle, {requests} request{'' if requests == '1' else 's'}, "
        f"{config.keep_alive_time:g} s of age per connection"
    )


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _qr_code(server: Server) -> str:
    """The code for a phone's camera and its URL, or one line that says why there is none."""
    url = qr.url_for_others("https" if server.config.tls_cert else "http", server.addresses)
    if url is None:
        return "  no QR code: no other machine can reach this address; use --bind 0.0.0.0 to listen to the network"
    return f"{qr.draw(url, sys.stdout.encoding or 'ascii')}\n  {url}"
