"""Forwarded: the client and the URL of a request as a trusted proxy says them.

Knows X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host, and the Forwarded header of RFC 7239. Does not know
sockets: the peer is `Request.client`. Headers from a peer that is not trusted are ignored, and so are malformed ones:
no request is rejected because of them, since they are not needed to respond to it.

The chain of hops is read from its right end. Each proxy appends the address of its own peer, so a hop is as credible
as the proxy that wrote it, and that proxy is the next hop to the right; the last hop was written by our peer. So the
hops are followed while they are trusted. The first one that is not trusted is the client, which may have made up the
hops to the left of it.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from ...http.address import Address, AnyAddress
from ...http.handler import Handler, HandlerResult
from ...http.messages import Request
from ...http.target import is_host
from .base import Middleware

__all__ = ["Forwarded", "ForwardedClient", "Trusted"]

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_HOPS = 64  # no chain of proxies is this long
_MAX_TEXT = 8192  # characters; longer headers are not parsed

# V4, V4:PORT, V6, [V6] or [V6]:PORT (RFC 7239 §6); `ipaddress` checks the addresses. A port may be
# obfuscated (§6.3).
_NODE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::(?:(?P<port>[0-9]{1,5})|_[0-9A-Za-z._\-]+))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)

# One pair of RFC 7239 §4 and the separator after it; the pair may be missing between two separators. The possessive
# quantifiers (`*+`) never backtrack: otherwise a long row of spaces would be split in every possible way before the
# match fails, which takes quadratic time.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(
    rf"[ \t]*+(?:(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|\"(?P<quoted>(?:[^\"\\]|\\.)*+)\"))?[ \t]*+(?P<end>[;,]|\Z)"
)


class Trusted:
    """The proxies that are trusted, as a set of addresses: those of the setting `forwarded_allow_ips`.

    >>> Address("10.1.2.3", 4711) in Trusted("127.0.0.1, 10.0.0.0/8")
    True

    Attributes:
        everybody: whether every address is in the set.
    """

    def __init__(self, text: str) -> None:
        """Parses the setting.

        Args:
            text: addresses and networks, separated by commas; `unix` for connections through Unix sockets, `*` for all.

        Raises:
            ValueError: an item is none of these.
        """
        items = [item.strip(" \t") for item in text.split(",")] if text else []
        self.everybody = "*" in items
        self._unix = "unix" in items
        self._networks = [ipaddress.ip_network(item) for item in items if item not in ("*", "unix")]

    def __contains__(self, address: AnyAddress) -> bool:
        if self.everybody:
            return True
        if not isinstance(address, Address):
            return self._unix
        ip = _read_ip(address.host.partition("%")[0])  # without the zone of a link-local address, as in fe80::1%eth0
        return ip is not None and any(ip in network for network in self._networks)


class _Claims(NamedTuple):
    """What the headers of one kind say.

    Attributes:
        client: the address of the client.
        scheme: "http" or "https".
        authority: the host and port that the client's request was for.

    Each is None if the headers do not say it, or not in a form that can be understood.
    """

    client: Address | None = None
    scheme: str | None = None
    authority: str | None = None


class Forwarded(Middleware):
    """Sets `client`, `scheme` and `authority` of each request that comes from a trusted proxy to what the proxy says.

    The port of the client is 0 if the proxy does not tell it.

    A request is rewritten before its body is received, and again when it is complete, since hooks need the client, too.
    The second time changes nothing: the headers are the same, and the client that they named the first time is either
    trusted as the peer was, or not trusted, so that it may not change anything.
    """

    def __init__(self, handler: Handler, trusted: Trusted) -> None:
        """Puts itself in front of `handler`, and believes the proxies in `trusted`."""
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
        claims = self._read(request)
        if claims.client is not None:
            request.client = claims.client
        if claims.scheme is not None:
            request.scheme = claims.scheme
        if claims.authority is not None:
            request.authority = claims.authority

    def _read(self, request: Request) -> _Claims:
        return _merge(_read_forwarded(request, self._trusted), _read_x_forwarded(request, self._trusted))


class ForwardedClient(Forwarded):
    """Believes X-Forwarded-For and X-Forwarded-Proto only.

    For proxies that set these two, and may pass on the other headers as the client sent them.
    """

    def _read(self, request: Request) -> _Claims:
        return _read_x_forwarded(request, self._trusted)._replace(authority=None)


def _merge(one: _Claims, other: _Claims) -> _Claims:
    """Merges what the two kinds of headers say. If they contradict each other, neither is believed: the proxy wrote
    only one kind and passed on the other from the client, and nothing tells which."""
    if any(a is not None and b is not None and a != b for a, b in zip(one, other, strict=True)):
        return _Claims()
    return _Claims(one.client or other.client, one.scheme or other.scheme, one.authority or other.authority)


# X-Forwarded-For, -Proto, -Host. No standard describes them, but nearly every proxy can send them.


def _read_x_forwarded(request: Request, trusted: Trusted) -> _Claims:
    """Reads the client from X-Forwarded-For. Of the scheme and the host the last value counts, which the peer wrote."""
    client: Address | None = None
    for item in reversed(",".join(request.values("x-forwarded-for")).rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
        hop = _read_node(item)
        if hop is None:
            break
        client = hop
        if hop not in trusted:
            break
    proto, host = (_last(request.values(name)) for name in ("x-forwarded-proto", "x-forwarded-host"))
    return _Claims(client, _scheme(proto), _authority(host))


def _last(values: list[str]) -> str:
    """Returns the last member of a list header; "" without any."""
    return values[-1].rpartition(",")[2].strip(" \t") if values else ""


# Forwarded, RFC 7239.


def _read_forwarded(request: Request, trusted: Trusted) -> _Claims:
    """Reads the hops. Scheme and host are those of the hop that names the client."""
    values = request.values("forwarded")
    if not values:
        return _Claims()
    claims = _Claims()
    for element in reversed(_parse_forwarded(", ".join(values))[-_MAX_HOPS:]):
        hop = _read_node(element.get("for", ""))
        claims = _Claims(hop or claims.client, _scheme(element.get("proto", "")), _authority(element.get("host", "")))
        # "unknown" and "_hidden" (§6.2, §6.3) end the chain as well: it is unknown who wrote the hop to the left.
        if hop is None or hop not in trusted:
            break
    return claims


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """Returns the elements, each with its parameters by lower-case name.

    If anything is malformed (§4) there are none: it would be unclear where one hop ends and the next begins.
    """
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


# The values of both kinds.


def _read_node(text: str) -> Address | None:
    """Returns the address of a hop; None if it is hidden or malformed."""
    match = _NODE.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    ip = _read_ip(match["v6"] or match["v4"] or match["bare"])
    port = int(match["port"] or "0")
    if ip is None or port > 65535:
        return None
    return Address(str(ip), port)


@lru_cache(maxsize=1024)
def _read_ip(text: str) -> _IP | None:
    """Parses an address. An IPv4 address in IPv6 form, as dual-stack sockets show it (::ffff:192.0.2.1), becomes
    IPv4."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _scheme(text: str) -> str | None:
    return text.lower() if text.isascii() and text.lower() in ("http", "https") else None


def _authority(text: str) -> str | None:
    return text if text and is_host(text) else None
