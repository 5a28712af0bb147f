"""Which header fields pass through the proxy, and what it adds.

Knows RFC 9110 §7.6, RFC 7239 and the X-Forwarded fields. Does not know connections.

**From the client to the upstream.** The fields of one hop end here, and so do those that the client's Connection field
names (RFC 9110 §7.6.1). What is added afterwards (Host, Via, the forwarding fields, the framing) cannot be taken away
by naming it there. Forwarding fields of a client are believed, and added to, only if they come from a proxy that the
settings trust; otherwise they are replaced, since anybody can write them. Three more fields are dropped: `Proxy`, which
CGI programs would take for their own setting (httpoxy); `HTTP2-Settings`, with which a client asks for HTTP/2 behind
our back; and `Expect`, unless the upstream is to be asked.

**From the upstream to the client.** The fields of one hop end here. A `Location` that leads to the upstream itself is
made relative to this server.
"""

from __future__ import annotations

from typing import NamedTuple

from ..http.address import Address, AnyAddress
from ..http.headers import FLAGS, TRANSFER_ENCODING, FieldLine
from ..http.memo import remember
from ..http.messages import Request
from ..http.responses import ResponseHead
from ..http.wire import encode_head
from .location import UpstreamURL

__all__ = ["Forwarding", "encode_request", "interim_fields", "may_go_further", "response_fields"]

_NAME = "kaserve"  # in Via
_FORWARDING = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"})
# Not passed on, in addition to the hop-by-hop ones in FLAGS; see above. `te` is made anew.
_DROPPED = frozenset({"host", "proxy", "http2-settings", "expect", "proxy-authorization"})
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "upgrade", "transfer-encoding"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Forwarding(NamedTuple):
    """How requests are rewritten.

    Attributes:
        url: the upstream's; of several, the first one's.
        host: what the upstreams get as Host; None for what the client sent.
    """

    url: UpstreamURL
    host: str | None = None


def encode_request(request: Request, settings: Forwarding, *, upgrade: str | None, expect_continue: bool) -> bytes:
    """Returns the head of `request` for an upstream.

    Args:
        request: as it came from the client.
        settings: how it is rewritten.
        upgrade: the protocol that it asks to switch to; None for none.
        expect_continue: whether the upstream is asked if it wants the body (RFC 9110 §10.1.1).
    """
    named = _named_by_connection(request.values("connection"))
    passed = [line for line in request.fields if line[0] not in named and not _ends_here(line[0])]
    if request.method in ("OPTIONS", "TRACE"):
        passed = [(name, _one_less(value) if name == "max-forwards" else value) for name, value in passed]
    added = _forwarding_lines(request)
    added.append(("via", _via(request.values("via"), request.minor)))
    if upgrade is not None:
        tail = b"Upgrade: %b\r\nConnection: upgrade\r\n" % upgrade.encode("latin-1")
    elif "trailers" in ",".join(request.values("te")).lower():
        tail = b"TE: trailers\r\nConnection: TE\r\n"
    else:
        tail = b""
    host = settings.host if settings.host is not None else request.authority or settings.url.authority
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b%b\r\n" % (
        request.method.encode("latin-1"),
        _target(request, settings.url).encode("latin-1"),
        host.encode("latin-1"),
        encode_head([(_spelling(name), value) for name, value in (*passed, *added)])[0],
        _framing_line(request),
        b"Expect: 100-continue\r\n" if expect_continue else b"",
        tail,
    )


def may_go_further(request: Request) -> bool:
    """Whether the request may be passed on, as far as its Max-Forwards says (RFC 9110 §7.6.2)."""
    return request.method not in ("OPTIONS", "TRACE") or "0" not in request.values("max-forwards")


def _one_less(value: str) -> str:
    """Returns the value of Max-Forwards for the next hop; one that is no number stays."""
    return str(int(value) - 1) if value.isascii() and value.isdigit() and len(value) < 10 else value


def _target(request: Request, url: UpstreamURL) -> str:
    """Returns the request target in origin-form (RFC 9112 §3.2.1). It is made of what was parsed, so that nothing that
    another reader could understand differently goes out."""
    if request.raw_path == "*":
        return "*"
    path = url.base.rstrip("/") + request.raw_path if url.base else request.mount + request.raw_path
    return f"{path or '/'}?{request.query_string}" if "?" in request.target else path or "/"


def _framing_line(request: Request) -> bytes:
    """Returns the field that says how the body ends: one, made anew (RFC 9112 §6.1, §6.2)."""
    if request.flags & TRANSFER_ENCODING:
        return b"Transfer-Encoding: chunked\r\n"
    length = request.content_length
    if length is None:
        return b"Content-Length: 0\r\n" if request.method in _WITH_BODY else b""
    return b"Content-Length: %d\r\n" % length


def _ends_here(name: str) -> bool:
    return name in _HOP_BY_HOP or name in _DROPPED or name in _FORWARDING or name == "via" or name == "content-length"


def _named_by_connection(values: list[str]) -> set[str]:
    """Returns the names in Connection fields, in lower case."""
    return {name.strip(" \t").lower() for value in values for name in value.split(",")} if values else set()


def _via(values: list[str], minor: int) -> str:
    """Returns the value of Via: what came, and this proxy (RFC 9110 §7.6.3)."""
    return ", ".join([*values, f"1.{minor} {_NAME}"])


def _forwarding_lines(request: Request) -> list[FieldLine]:
    """Returns the fields that tell the upstream who the client is, and how it asked.

    If a trusted proxy in front said who the client is, its peer, which is that proxy, is added to what it said.
    """
    peer: AnyAddress = request.client if request.owner is None else request.owner.client
    chain, forwarded = [peer.label], [_forwarded(request, peer)]
    if request.client != peer:
        chain = [*request.values("x-forwarded-for"), peer.label]
        forwarded = [*request.values("forwarded"), _forwarded(request, peer)]
    lines = [
        ("x-forwarded-for", ", ".join(chain)),
        ("x-forwarded-proto", request.scheme),
        ("forwarded", ", ".join(forwarded)),
    ]
    if request.authority:
        lines.append(("x-forwarded-host", request.authority))
    return lines


def _forwarded(request: Request, peer: AnyAddress) -> str:
    """Returns the element of this proxy (RFC 7239 §4)."""
    if not isinstance(peer, Address):
        node = "unknown"
    else:
        node = f'"[{peer.host}]"' if ":" in peer.host else peer.host
    host = f';host="{request.authority}"' if request.authority else ""
    return f"for={node}{host};proto={request.scheme}"


# Responses.


def response_fields(
    head: ResponseHead, settings: Forwarding, request: Request, *, passes_trailers: bool = False
) -> list[FieldLine]:
    """Returns the fields of `head` for the client. Content-Length stays: it is checked against what is sent.

    Args:
        head: of the final response.
        settings: how it is rewritten.
        request: what it is the response to.
        passes_trailers: whether trailers may follow. Otherwise none are announced.
    """
    named = _named_by_connection(head.headers.get_all("connection")) if head.flags & FLAGS["connection"] else set()
    fields = [
        (_spelling(name), _rewrite_location(value, settings.url, request) if name == "location" else value)
        for name, value in head.fields
        if name not in named
        and name not in _HOP_BY_HOP
        and name != "via"
        and (passes_trailers or name != "trailer")
        and not _is_idle_length(name, head)
    ]
    fields.append(("Via", _via(head.headers.get_all("via"), head.minor)))
    return fields


def _is_idle_length(name: str, head: ResponseHead) -> bool:
    """Whether it is a Content-Length that another field overrides, or that must not be there (RFC 9110 §8.6)."""
    return name == "content-length" and (head.flags & TRANSFER_ENCODING != 0 or head.status == 204)


def interim_fields(head: ResponseHead) -> list[FieldLine]:
    """Returns the fields of an interim response for the client."""
    named = _named_by_connection(head.headers.get_all("connection"))
    return [(_spelling(name), value) for name, value in head.fields if name not in named and name not in _HOP_BY_HOP]


def _rewrite_location(value: str, url: UpstreamURL, request: Request) -> str:
    """Returns a Location that leads to the upstream as one that leads here, and any other as it is."""
    own = f"{url.scheme}://{url.authority}"
    if not value.startswith(own) or value[len(own) :][:1] not in ("", "/", "?"):
        return value
    path = value[len(own) :] or "/"
    base = url.base.rstrip("/")
    if url.base and path.startswith(base):
        path = request.mount + path[len(base) :]
    return path


# Names. Field names are case-insensitive (RFC 9110 §5.1), but old servers look for the usual spelling.

_SPELLINGS = {
    "te": "TE",
    "dnt": "DNT",
    "etag": "ETag",
    "www-authenticate": "WWW-Authenticate",
    "content-md5": "Content-MD5",
    "x-xss-protection": "X-XSS-Protection",
    "x-ua-compatible": "X-UA-Compatible",
    "sec-websocket-key": "Sec-WebSocket-Key",
    "sec-websocket-version": "Sec-WebSocket-Version",
    "sec-websocket-protocol": "Sec-WebSocket-Protocol",
    "sec-websocket-extensions": "Sec-WebSocket-Extensions",
    "sec-websocket-accept": "Sec-WebSocket-Accept",
    "sec-gpc": "Sec-GPC",
    "sec-ch-ua": "Sec-CH-UA",
}
_MAX_REMEMBERED = 1024


def _spelling(name: str) -> str:
    """Returns the usual spelling of a name in lower case: `Content-Type`."""
    spelling = _SPELLINGS.get(name)
    if spelling is None:
        spelling = "-".join(map(str.capitalize, name.split("-")))
        remember(_SPELLINGS, name, spelling, _MAX_REMEMBERED)
    return spelling
