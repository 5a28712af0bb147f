"""A QR code of the server's URL, for the camera of a phone.

Knows the library that draws the code, and how to find the address at which other machines reach this one. Does not know
the server, only the addresses it listens on.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from ..http.address import Address, AnyAddress

__all__ = ["draw", "find_library", "url_for_others"]

# By wildcard address: the family, and an address reserved for documentation (RFC 5737, RFC 3849). Nothing is sent to
# it; the system only chooses the interface that a packet to it would leave by.
_OUTSIDE = {"0.0.0.0": (socket.AF_INET, "192.0.2.1"), "::": (socket.AF_INET6, "2001:db8::1")}


def find_library() -> Any:
    """Returns the module that draws codes, segno.

    Raises:
        ImportError: it is not installed.
    """
    return importlib.import_module("segno")


def draw(url: str, encoding: str) -> str:
    """Returns a code for `url`, in characters that a terminal with that encoding can show."""
    out = io.StringIO()
    code = find_library().make_qr(url)
    code.terminal(out, compact=True)  # half blocks, two modules in a character
    try:
        out.getvalue().encode(encoding)
    except (LookupError, UnicodeEncodeError):  # spaces with coloured backgrounds instead, which every terminal has
        out = io.StringIO()
        code.terminal(out)
    return out.getvalue().rstrip("\n")


def url_for_others(scheme: str, addresses: Iterable[AnyAddress]) -> str | None:
    """Returns the URL at which another machine reaches this one.

    Args:
        scheme: "http" or "https".
        addresses: what the server listens on. A wildcard address stands for this machine's address in its network.

    Returns:
        The URL of the first address that other machines can reach, or None if there is none.
    """
    for address in addresses:
        if isinstance(address, Address):
            host: str | None = address.host
            if host in _OUTSIDE:
                host = _own_address(*_OUTSIDE[host])
            if host is not None and not _is_loopback(host):
                return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}/"
    return None


def _own_address(family: socket.AddressFamily, outside: str) -> str | None:
    """The address of this machine that packets to `outside` leave from; None without a network."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((outside, 9))  # sends nothing: connecting a datagram socket only looks up the route
            return str(sock.getsockname()[0])
    except OSError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
