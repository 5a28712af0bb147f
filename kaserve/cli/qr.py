"""A code for the camera of a phone, which shows where the server is.

Knows the library that draws it, and how to find out by which address other machines reach this one. Does not know the
server; it is told the addresses it listens at.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from ..http.messages import Address

__all__ = ["draw", "find_library", "url_for_others"]

# Addresses for documentation (RFC 5737, RFC 3849): nothing is sent there, but the system chooses a way to them.
_ANYWHERE = {"0.0.0.0": (socket.AF_INET, "192.0.2.1"), "::": (socket.AF_INET6, "2001:db8::1")}


def find_library() -> Any:
    """The library, segno. Raises ImportError without it."""
    return importlib.import_module("segno")


def draw(url: str, encoding: str) -> str:
    """A code for `url`, in characters that a terminal of `encoding` has."""
    out = io.StringIO()
    code = find_library().make_qr(url)
    code.terminal(out, compact=True)
    try:
        out.getvalue().encode(encoding)
    except (LookupError, UnicodeEncodeError):  # coloured spaces instead of blocks
        out = io.StringIO()
        code.terminal(out)
    return out.getvalue().rstrip("\n")


def url_for_others(scheme: str, addresses: Iterable[Address]) -> str | None:
    """The URL of the first of `addresses` at which another machine finds this one; None when there is none.

    A wildcard address becomes the one that this machine has towards others.
    """
    for address in addresses:
        if isinstance(address, tuple):
            host: str | None = address[0]
            if host in _ANYWHERE:
                host = _own_address(*_ANYWHERE[host])
            if host is not None and not _is_loopback(host):
                return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address[1]}/"
    return None


def _own_address(family: socket.AddressFamily, there: str) -> str | None:
    """None without a network."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((there, 9))  # a datagram socket only looks up the way
            return str(sock.getsockname()[0])
    except OSError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
