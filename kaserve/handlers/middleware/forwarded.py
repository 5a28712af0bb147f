"""Forwarded: who the client is and what it asked for, as told by a proxy that is trusted.

Knows X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host, and the Forwarded field of RFC 7239. Does not know
sockets: the peer is `Request.client`. What anybody else tells is left alone, and so is whatever makes no sense; nothing
in here fails because of what a client sent.

The chain is read from its right end. Each hop was written by the one to the right of it, and the last by the peer; so a
hop counts as long as all to the right of it are trusted. The first one that is not trusted is the client, and what
stands to the left of it is the client's own invention.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from ...http.handler import Handler, HandlerResult
from ...http.messages import Address, Request
from ...http.target import is_host
from .base import Middleware

__all__ = ["Forwarded", "ForwardedClient", "Trusted"]

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_HOPS = 64  # no chain of proxies is this long
_MAX_TEXT = 8192  # nor what it writes into one field

# V4, V4:PORT, V6, [V6] or [V6]:PORT (RFC 7239 §6); the addresses themselves are for `ipaddress` to judge. A port may be
# hidden (§6.3).
_NODE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::(?:(?P<port>[0-9]{1,5})|_[0-9A-Za-z._\-]+))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)

# One pair of RFC 7239 §4 with what follows it; a pair may be missing between two separators. Nothing is given back that
# was matched once (`*+`), or a long row of spaces would be tried in every possible way.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(
    rf"[ \t]*+(?:(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|\"(?P<quoted>(?:[^\"\\]|\\.)*+)\"))?[ \t]*+(?P<end>[;,]|\Z)"
)


class Trusted:
    """Whom to believe: addresses and networks separated by commas, `unix` for whoever comes through a Unix socket, `*`
    for everybody.

    >>> ("10.1.2.3", 4711) in Trusted("127.0.0.1, 10.0.0.0/8")
    True
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is none of these."""
        items = [item.strip(" \t") for item in text.split(",")] if text else []
        self.everybody = "*" in items
        self._unix = "unix" in items
        self._networks = [ipaddress.ip_network(item) for item in items if item not in ("*", "unix")]

    def __contains__(self, address: Address) -> bool:
        if self.everybody:
            return True
        if not isinstance(address, tuple):
            return self._unix and address is not None
        ip = _read_ip(address[0].partition("%")[0])  # without the zone of a link-local one
        return ip is not None and any(ip in network for network in self._networks)


class _Told(NamedTuple):
    """What a proxy said; None where it said nothing, or nothing that makes sense."""

    client: Address = None
    scheme: str | None = None
    authority: str | None = None


class Forwarded(Middleware):
    """A handler in front of another one, which then sees `client`, `scheme` and `authority` as they were at the first
    proxy that is trusted. Port 0 stands for one that was not told.

    A request is rewritten before its body is received, and again before it is answered: the second time changes
    nothing, since the fields are the same, and the client found by the first is either as trusted as the peer was or
    believed no more.
    """

    def __init__(self, handler: Handler, trusted: Trusted) -> None:
        super().__init__(handler)
        self._trusted = trusted

    def __call__(self, request: Request) -> HandlerResult:
        self._rewrite(request)
        return self.inner(request)

    def before_body(self, request: Request) -> None:
        self._rewrite(request)
        super().before_body(request)

    def _rewrite(self, request: Request) -> None:
        if request.client not in self._trusted:
            return
        told = self._read(request)
        if told.client is not None:
            request.client = told.client
        if told.scheme is not None:
            request.scheme = told.scheme
        if told.authority is not None:
            request.authority = told.authority

    def _read(self, request: Request) -> _Told:
        return _agreement(_read_forwarded(request, self._trusted), _read_x_forwarded(request, self._trusted))


class ForwardedClient(Forwarded):
    """For proxies that set X-Forwarded-For and X-Forwarded-Proto and are not known to remove the others, which are the
    client's own invention then: nothing but these two is believed."""

    def _read(self, request: Request) -> _Told:
        return _read_x_forwarded(request, self._trusted)._replace(authority=None)


def _agreement(one: _Told, other: _Told) -> _Told:
    """What both sorts of fields say together. Where they contradict each other the proxy wrote only one of them, the
    client brought the other, and nobody can tell which: then neither counts."""
    if any(a is not None and b is not None and a != b for a, b in zip(one, other, strict=True)):
        return _Told()
    return _Told(one.client or other.client, one.scheme or other.scheme, one.authority or other.authority)


# X-Forwarded-For, -Proto, -Host: nobody's standard, and everybody's practice.


def _read_x_forwarded(request: Request, trusted: Trusted) -> _Told:
    """Of the scheme and the host it is the last value that counts, the one the peer wrote itself."""
    client: Address = None
    for item in reversed(",".join(request.values("x-forwarded-for")).rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
        hop = _read_node(item)
        if hop is None:
            break
        client = hop
        if hop not in trusted:
            break
    proto, host = (_last(request.values(name)) for name in ("x-forwarded-proto", "x-forwarded-host"))
    return _Told(client, _scheme(proto), _authority(host))


def _last(values: list[str]) -> str:
    return values[-1].rpartition(",")[2].strip(" \t") if values else ""


# Forwarded, RFC 7239.


def _read_forwarded(request: Request, trusted: Trusted) -> _Told:
    """Scheme and host are those of the hop that names the client."""
    values = request.values("forwarded")
    if not values:
        return _Told()
    told = _Told()
    for element in reversed(_parse_forwarded(", ".join(values))[-_MAX_HOPS:]):
        hop = _read_node(element.get("for", ""))
        told = _Told(hop or told.client, _scheme(element.get("proto", "")), _authority(element.get("host", "")))
        if hop is None or hop not in trusted:  # also "unknown" and "_hidden" (§6.2, §6.3): who wrote the next is open
            break
    return told


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """The elements, each with its parameters by their names in lower case; none at all when anything is malformed (§4),
    since then nobody knows where one hop ends and the next begins."""
    if len(text) > _MAX_TEXT:
        return []
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    position = 0
    end = ","
    while end:
        match = _PAIR.match(text, position)
        if match is None:
            return []
        name, token, quoted, end = match.group("name", "token", "quoted", "end")
        if name is not None:
            if name.lower() in element:  # §4: at most once
                return []
            element[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";" and element:
            elements.append(element)
            element = {}
        position = match.end()
    return elements


# The parts of both.


def _read_node(text: str) -> tuple[str, int] | None:
    """The address and port of a hop; None for one that says neither."""
    match = _NODE.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    ip = _read_ip(match["v6"] or match["v4"] or match["bare"])
    port = int(match["port"] or "0")
    if ip is None or port > 65535:
        return None
    return str(ip), port


@lru_cache(maxsize=1024)
def _read_ip(text: str) -> _IP | None:
    """A V4 address in the clothes of V6, as the sockets of both families have it, is taken for what it is."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _scheme(text: str) -> str | None:
    return text.lower() if text.isascii() and text.lower() in ("http", "https") else None


def _authority(text: str) -> str | None:
    return text if text and is_host(text) else None
