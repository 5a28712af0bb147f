"""What an upstream is told about the client and its request: X-Forwarded-*, Forwarded (RFC 7239) and Via.

Knows these fields. Does not know which other ones pass (`fields`), nor how the settings choose the proxies that are
trusted: the middleware of the server (`handlers.middleware.forwarded`) has decided that, and replaced the client of a
request by the one that a trusted proxy named. So where that is not our peer, our peer is trusted.

What a trusted peer has sent is kept, and our peer is added to it: each proxy names the one before it. What anybody else
has sent is dropped, since it can be made up. Scheme and host are one value each, those that the server believes.

Both kinds of chain are sent, and name the same client, because an upstream that finds a contradiction believes neither.
So if a trusted peer sent one kind only, the other one begins with the client that it named.
"""

from __future__ import annotations

from ..http.address import AnyAddress
from ..http.memo import remember
from ..http.messages import Request

__all__ = ["MADE_HERE", "Introduction", "claims_to_forward"]

# What `Introduction` makes, and so does not pass otherwise.
MADE_HERE = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"})
_CLAIMS = frozenset({"forwarded", "x-real-ip"})
_MAX_REMEMBERED = 1024
_MAX_SIZE = 256


def claims_to_forward(name: str) -> bool:
    """Returns whether the field says for whom a request is forwarded, so that only a trusted peer may send it. All
    fields of that family count: X-Forwarded-Port and -Prefix change URLs, X-Forwarded-Ssl makes them secure.

    Args:
        name: in lower case.
    """
    return name.startswith("x-forwarded-") or name in _CLAIMS


class Introduction:
    """Makes the field lines that introduce a request to an upstream."""

    __slots__ = ("_memo", "_shows_prefix", "_via")

    def __init__(self, via: str, shows_prefix: bool) -> None:
        """Makes the lines of one proxy.

        Args:
            via: the name of this proxy in Via, a token or a host (RFC 9110 §7.6.3).
            shows_prefix: whether X-Forwarded-Prefix says which prefix was taken off the path.
        """
        self._via = via
        self._shows_prefix = shows_prefix
        self._memo: dict[tuple[str, str, str, str, int], bytes] = {}

    def lines(self, request: Request) -> bytes:
        """Returns the field lines for `request`."""
        owner = request.owner
        peer = request.client if owner is None else owner.client
        if request.client != peer:
            return self._lines_of_trusted(request, peer)
        # Nearly all requests of a connection have the same lines.
        key = peer.host, request.scheme, request.authority, request.mount, request.minor
        lines = self._memo.get(key)
        if lines is None:
            node = _node(peer)
            lines = self._encode(request, [node] if node else [], [_element(node, request)], "")
            if len(request.authority) + len(request.mount) <= _MAX_SIZE:
                remember(self._memo, key, lines, _MAX_REMEMBERED)
        return lines

    def _lines_of_trusted(self, request: Request, peer: AnyAddress) -> bytes:
        """Returns the lines for a request that a trusted proxy has forwarded.

        A peer without an address, at the other end of a Unix socket, is not added to X-Forwarded-For: there is no word
        for it, and what is no address ends the chain for a reader.
        """
        node, client = _node(peer), _node(request.client)
        chain = request.values("x-forwarded-for") or [client]
        elements = request.values("forwarded") or [_element(client, request)]
        if node:
            chain = [*chain, node]
        prefix = "".join(request.values("x-forwarded-prefix")[-1:])
        return self._encode(request, chain, [*elements, _element(node, request)], prefix)

    def _encode(self, request: Request, chain: list[str], elements: list[str], prefix: str) -> bytes:
        """Encodes the lines. `prefix` is what was taken off the path before."""
        lines = [f"X-Forwarded-For: {', '.join(chain)}"] if chain else []
        lines.append(f"X-Forwarded-Proto: {request.scheme}")
        if request.authority:
            lines.append(f"X-Forwarded-Host: {request.authority}")
        if self._shows_prefix:
            prefix = prefix.rstrip("/") + request.mount
        if prefix:
            lines.append(f"X-Forwarded-Prefix: {prefix}")
        lines.append(f"Forwarded: {', '.join(elements)}")
        lines.append(f"Via: 1.{request.minor} {self._via}\r\n")
        return "\r\n".join(lines).encode("latin-1")


def _node(address: AnyAddress) -> str:
    """Returns the address of a host as text; "" without one. A zone (`%eth0`) means something on this machine only. An
    IPv4 address is one, also where a socket for both versions shows it in IPv6 form."""
    host = address.host.partition("%")[0]
    return host[7:] if host[:7].lower() == "::ffff:" and "." in host else host


def _element(node: str, request: Request) -> str:
    """Returns one element of Forwarded (RFC 7239 §4, §6)."""
    text = f'"[{node}]"' if ":" in node else node or "unknown"
    host = f';host="{request.authority}"' if request.authority else ""
    return f"for={text}{host};proto={request.scheme}"
