"""Which header fields pass through the proxy, and how the head of a request looks to an upstream.

Knows RFC 9110 §7.6 and what it means for each field. Does not know connections. What is told to the upstream about the
client is in `forwarded`, references in responses are in `references`, the target is in `target`.

**Both ways** the fields of one hop end here: those that always are of one hop, and those that Connection names (RFC
9110 §7.6.1). A field that is meant for all recipients must not be named there (same section), and stays where it is: a
client in front of which another proxy adds a field, and passes Connection on, could otherwise take that field away, and
the upstream would see a request without the credentials, the length or the conditions that were checked in front of it.
Nor can a client take away what is added here, since that happens afterwards.

**From the client to the upstream** these are dropped, too: `Proxy`, which CGI programs take for a setting of their own
(httpoxy); `HTTP2-Settings`, with which a client asks the upstream for HTTP/2, past this proxy; `Proxy-Authorization`,
which is for this proxy (RFC 9110 §11.7.2), as is `Expect`, unless the upstream is to be asked; claims about the client
from a peer that is not trusted; and names that differ only by an underscore from one of these or from a field that
every server knows, since CGI and WSGI take `X_Forwarded_For` and `X-Forwarded-For` for the same. The framing of the
client is replaced by our own: one field, or none (RFC 9112 §6.1, §6.2).

**From the upstream to the client** Content-Length stays where it counts, and Date and Server are the upstream's.

Persistent connections repeat themselves, so what becomes of a field line is remembered.
"""

from __future__ import annotations

from ..http.errors import HTTPError
from ..http.framing import CHUNKED, NO_LENGTH
from ..http.grammar import DIGITS, TOKEN_TEXT
from ..http.headers import CONNECTION, CONTENT_LENGTH, HOP_BY_HOP, TRANSFER_ENCODING, FieldLine
from ..http.memo import remember
from ..http.messages import Request
from ..http.responses import ResponseHead
from ..http.target import is_host
from ..http.wire import encode_head, join
from .forwarded import MADE_HERE, Introduction, claims_to_forward
from .location import UpstreamURL
from .references import ClientView, client_view
from .spelling import spelling
from .target import check_path, upstream_target

__all__ = [
    "Forwarding",
    "check_request",
    "encode_request",
    "interim_fields",
    "may_go_further",
    "passed_framing",
    "passed_trailers",
    "requested_upgrade",
    "response_fields",
]

# Fields of one hop (RFC 9110 §7.6.1, §11.7), in both directions. Trailer is there only if there are trailers.
_ONE_HOP = frozenset(
    """
    connection keep-alive proxy-connection te trailer transfer-encoding upgrade
    proxy-authenticate proxy-authentication-info proxy-authorization
    """.split()
)
# What else does not pass to an upstream; see above. Host and the length are our own.
_NOT_PASSED = _ONE_HOP | {"host", "content-length", "expect", "http2-settings", "proxy"}

# Fields for all recipients of a message, which must not be named in Connection, and do not end here if they are.
_END_TO_END = frozenset(
    """
    accept accept-charset accept-encoding accept-language accept-ranges access-control-request-headers
    access-control-request-method age allow authentication-info authorization cache-control content-disposition
    content-encoding content-language content-length content-location content-range content-security-policy
    content-type cookie date etag expect expires forwarded from host if-match if-modified-since if-none-match if-range
    if-unmodified-since last-modified location max-forwards origin pragma range referer retry-after server set-cookie
    strict-transport-security transfer-encoding user-agent vary via www-authenticate x-http-method-override
    x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-real-ip
    """.split()
)

# Methods whose request has a length even if it has no content (RFC 9110 §8.6).
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_COUNTS_HOPS = frozenset({"OPTIONS", "TRACE"})  # RFC 9110 §7.6.2
# Protocols that a request may not change to. HTTP/2 and TLS would hide further requests from this proxy.
_NO_UPGRADE = frozenset({"h2", "h2c", "h3", "http", "tls"})
_MAX_LOOPS = 8  # chains of more proxies with our name are loops

_DROPPED: FieldLine = ("", "")
_MAX_REMEMBERED = 1024
_MAX_SIZE = 512  # characters of a line

_request_lines: dict[FieldLine, bytes] = {}  # b"" for a field that is dropped
_response_fields: dict[FieldLine, FieldLine] = {}
_options: dict[str, frozenset[str]] = {}
_REFERENCES = frozenset({"location", "content-location", "refresh", "set-cookie"})


class Forwarding:
    """How the requests to an upstream and its responses are rewritten.

    Attributes:
        url: of the upstream.
        host: what upstreams get as Host; None for what the client asked for.
        via: the name of this proxy in Via.
        introduction: makes the fields that tell upstreams about clients.
        via_fields: what this proxy adds to responses, for HTTP/1.0 and HTTP/1.1. Always the same objects, which the
            encoder of heads remembers.
    """

    __slots__ = ("host", "introduction", "url", "via", "via_fields")

    def __init__(self, url: UpstreamURL, host: str | None = None, via: str = "kaserve") -> None:
        """Makes the rules.

        Args:
            url: as in the attributes.
            host: as in the attributes. `url.authority` is what an upstream expects that knows nothing of the proxy.
            via: as in the attributes.

        Raises:
            ValueError: `host` or `via` cannot be sent.
        """
        if host is not None and (not host or not is_host(host)):
            raise ValueError(f"the host for upstreams must be a host, and perhaps a port: {host!r}")
        if TOKEN_TEXT.fullmatch(via) is None:
            raise ValueError(f"the name of a proxy must be a word: {via!r}")
        self.url = url
        self.host = host
        self.via = via
        self.introduction = Introduction(via, url.base != "")
        self.via_fields: tuple[FieldLine, FieldLine] = ("Via", f"1.0 {via}"), ("Via", f"1.1 {via}")

    def host_of(self, request: Request) -> str:
        """Returns the value of Host for an upstream (RFC 9110 §7.2). A request of HTTP/1.0 may have none."""
        host = self.host or request.authority or self.url.authority
        if "%" in host and host[:1] == "[":  # the zone of an IPv6 address means something to the client only
            address, _, rest = host.partition("%")
            host = f"{address}]{rest.partition(']')[2]}"
        return host


# Requests.


def check_request(request: Request, settings: Forwarding) -> None:
    """Checks whether `request` may be passed on, before anything is done for it.

    Raises:
        HTTPError: 400 for a path that would lead out of the mount, and for a Max-Forwards that is no number; 508 for a
            request that has been here many times, as Via tells (RFC 9110 §7.6.3).
    """
    check_path(request.raw_path)
    if request.method in _COUNTS_HOPS:
        _max_forwards(request)
    values = request.values("via")
    if values:
        hops = [hop.split() for value in values for hop in value.split(",")]
        if [hop[1:2] for hop in hops].count([settings.via]) > _MAX_LOOPS:
            raise HTTPError(508, "the request has passed this proxy too often")


def may_go_further(request: Request) -> bool:
    """Returns whether the request may be passed on, as far as Max-Forwards says, which counts for OPTIONS and TRACE
    (RFC 9110 §7.6.2). If not, this proxy is its last recipient, and responds.

    Raises:
        HTTPError: 400 for a Max-Forwards that is no number.
    """
    return request.method not in _COUNTS_HOPS or _max_forwards(request) != 0


def passed_framing(request: Request) -> int:
    """Returns how the body of a request is framed for an upstream, if it is passed on as it arrives: its number of
    bytes, `CHUNKED`, or `NO_LENGTH` if it has neither a body nor a length."""
    if request.flags & TRANSFER_ENCODING:
        return CHUNKED  # whatever Content-Length says beside it (RFC 9112 §6.3)
    length = request.content_length
    return NO_LENGTH if length is None else length


def encode_request(
    request: Request,
    settings: Forwarding,
    *,
    framing: int | None = None,
    upgrade: str | None = None,
    expect_continue: bool = False,
    persist: bool | None = None,
) -> bytes:
    """Returns the head of `request` for an upstream.

    Args:
        request: as it came from the client, with the prefix of its path in `mount`.
        settings: how it is rewritten.
        framing: how its body is sent: a number of bytes, `CHUNKED` or `NO_LENGTH`; None for `passed_framing`.
        upgrade: the protocols that it asks to switch to, from `requested_upgrade`; None for none.
        expect_continue: whether the upstream is to say if it wants the body (RFC 9110 §10.1.1).
        persist: whether the connection is to persist, for an upstream that speaks HTTP/1.0 and must be asked (True), or
            is to end (False); None says nothing, which is to persist in HTTP/1.1 (RFC 9112 §9.3).

    Raises:
        HTTPError: as `check_request`, for the path.
        ValueError: another handler has put something into the request that cannot be sent.
    """
    host = settings.host_of(request)
    target = upstream_target(request, settings.url.base)
    _check(target + host)
    lines = [f"{request.method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode("latin-1")]
    _add_passed(lines, request)
    lines.append(settings.introduction.lines(request))
    lines.append(_framing_lines(request, passed_framing(request) if framing is None else framing))
    if expect_continue:
        lines.append(b"Expect: 100-continue\r\n")
    lines.append(_connection_lines(request, upgrade, persist))
    return join(lines)


def _check(text: str) -> None:
    """Checks what becomes a part of the first two lines. It was checked when it was received; this is for a middleware
    that has replaced it, by something decoded perhaps. Raises ValueError."""
    if not (text.isascii() and text.isprintable()) or " " in text or "#" in text:
        raise ValueError(f"not a part of a request: {text!r}")


def _add_passed(lines: list[bytes], request: Request) -> None:
    """Adds the field lines that pass as they are."""
    named = _named(request.values("connection")) if request.flags & CONNECTION else None
    is_trusted = request.owner is not None and request.client != request.owner.client
    for field in _counted(request) if request.method in _COUNTS_HOPS else request.fields:
        line = _request_lines.get(field)
        if line is None:
            line = _encode_line(field)
        if not line and is_trusted and claims_to_forward(field[0]):
            line = _encode_claim(field)
        if line and (named is None or field[0] not in named):
            lines.append(line)


def _named(values: list[str]) -> frozenset[str] | None:
    """Returns the fields that end here because Connection names them; None if there are none."""
    value = ",".join(values)
    names = _options.get(value)
    if names is None:
        options = {option.strip(" \t").lower() for option in value.split(",")}
        names = frozenset(name for name in options - _END_TO_END - _ONE_HOP if not claims_to_forward(name))
        names -= {"", "close"}
        if len(value) <= _MAX_SIZE:
            remember(_options, value, names, _MAX_REMEMBERED)
    return names or None


def _encode_line(field: FieldLine) -> bytes:
    """Returns the line for a field; b"" if the field does not pass, or only a trusted peer may send it."""
    name, value = field
    line = b"" if _is_dropped(name) else encode_head([(spelling(name), value)])[0]
    if len(name) + len(value) <= _MAX_SIZE:
        remember(_request_lines, field, line, _MAX_REMEMBERED)
    return line


def _is_dropped(name: str) -> bool:
    known = name.replace("_", "-")
    return known in _NOT_PASSED or claims_to_forward(known) or (known != name and known in _END_TO_END)


def _encode_claim(field: FieldLine) -> bytes:
    """Returns the line for a field with which a trusted peer says for whom it forwards; b"" if our own replaces it."""
    name, value = field
    return b"" if name in MADE_HERE else encode_head([(spelling(name), value)])[0]


def _counted(request: Request) -> list[FieldLine]:
    """Returns the fields with one hop less in Max-Forwards (RFC 9110 §7.6.2)."""
    left = _max_forwards(request)
    if left is None:
        return request.fields
    others = [field for field in request.fields if field[0] != "max-forwards"]
    return [*others, ("max-forwards", str(max(left - 1, 0)))]


def _max_forwards(request: Request) -> int | None:
    """Returns the value of Max-Forwards; None without it. Raises HTTPError 400 unless it is one number."""
    values = request.values("max-forwards")
    if not values:
        return None
    if len(values) > 1 or DIGITS.fullmatch(values[0].encode("latin-1")) is None:
        raise HTTPError(400, "Max-Forwards is not one number")
    return int(values[0].lstrip("0")[:9] or "0")  # less than a number that is larger than any chain is long


def _framing_lines(request: Request, framing: int) -> bytes:
    """Returns the field that says how the body ends, and the announcement of trailers (RFC 9110 §6.6.2)."""
    if framing == CHUNKED:
        announced = request.values("trailer") if request.flags & HOP_BY_HOP else []
        trailer = f"Trailer: {', '.join(announced)}\r\n".encode("latin-1") if announced else b""
        return b"Transfer-Encoding: chunked\r\n" + trailer
    if framing <= 0 and request.method not in _WITH_CONTENT and not request.flags & CONTENT_LENGTH:
        return b""
    return b"Content-Length: %d\r\n" % max(framing, 0)


def _connection_lines(request: Request, upgrade: str | None, persist: bool | None) -> bytes:
    """Returns the fields of the hop to the upstream, and the empty line after them.

    TE passes if it says that the client takes trailers, since this proxy passes them on (RFC 9110 §10.1.4).
    """
    takes_trailers = request.flags & HOP_BY_HOP and _takes_trailers(request)
    if not takes_trailers and upgrade is None and persist is None:
        return b"\r\n"
    options = []
    lines = ""
    if upgrade is not None:
        options.append("Upgrade")
        lines += f"Upgrade: {upgrade}\r\n"
    if takes_trailers:
        options.append("TE")
        lines += "TE: trailers\r\n"
    if persist is not None:
        options.append("keep-alive" if persist else "close")
    return f"{lines}Connection: {', '.join(options)}\r\n\r\n".encode("latin-1")


def _takes_trailers(request: Request) -> bool:
    codings = ",".join(request.values("te")).lower().split(",")
    return request.minor > 0 and any(coding.strip(" \t") == "trailers" for coding in codings)


def requested_upgrade(request: Request) -> str | None:
    """Returns the protocols that the client asks to switch to, as in Upgrade (RFC 9110 §7.8); None if there are none
    that this proxy lets pass: HTTP/2 and TLS would hide further requests from it."""
    if request.minor == 0 or not request.flags & CONNECTION or not request.flags & HOP_BY_HOP:
        return None
    options = ",".join(request.values("connection")).lower().split(",")
    if all(option.strip(" \t") != "upgrade" for option in options):
        return None
    protocols = [each.strip(" \t") for value in request.values("upgrade") for each in value.split(",")]
    return ", ".join(filter(_may_upgrade, protocols)) or None


def _may_upgrade(protocol: str) -> bool:
    name, slash, version = protocol.partition("/")
    is_protocol = TOKEN_TEXT.fullmatch(name) is not None and (not slash or TOKEN_TEXT.fullmatch(version) is not None)
    return is_protocol and name.lower() not in _NO_UPGRADE


def passed_trailers(trailers: list[FieldLine], fields: list[FieldLine]) -> list[FieldLine]:
    """Returns the trailers that pass, in either direction.

    Args:
        trailers: those that are allowed (`framing.allowed_trailers`).
        fields: of the head of the same message, whose Connection names fields of both sections (RFC 9110 §7.6.1).
    """
    named = _named([value for name, value in fields if name == "connection"]) or ()
    return [(spelling(name), value) for name, value in trailers if name not in named and not _is_dropped(name)]


# Responses.


def response_fields(
    head: ResponseHead, settings: Forwarding, request: Request, *, passes_trailers: bool = False
) -> list[FieldLine]:
    """Returns the fields of a final response, or of a 101, for the client.

    Args:
        head: its head.
        settings: how it is rewritten.
        request: what it is the response to.
        passes_trailers: whether trailers may follow, so that their announcement may pass (RFC 9110 §6.6.2).
    """
    fields = _passed_fields(head, settings, request)
    if passes_trailers and head.flags & HOP_BY_HOP and head.flags & TRANSFER_ENCODING and request.minor > 0:
        fields.extend([("Trailer", value) for value in head.values("trailer")])
    fields.append(settings.via_fields[head.minor])  # RFC 9110 §7.6.3
    return fields


def interim_fields(head: ResponseHead) -> list[FieldLine]:
    """Returns the fields of an informational response for the client: of a 103, for instance (RFC 8297)."""
    return _passed_fields(head, None, None)


def _passed_fields(head: ResponseHead, settings: Forwarding | None, request: Request | None) -> list[FieldLine]:
    """Returns the fields that are not of one hop. References are as the client must see them, unless the settings are
    None."""
    flags = head.flags
    named = _named(head.values("connection")) if flags & CONNECTION else None
    fields = []
    for field in head.fields:
        passed = _response_fields.get(field)
        if passed is None:
            passed = _pass(field, settings, request)
        if passed is not _DROPPED and (named is None or field[0] not in named):
            fields.append(passed)
    if flags & CONTENT_LENGTH and (head.status < 200 or head.status in (204, 205)):
        return [field for field in fields if field[0] != "Content-Length"]  # RFC 9110 §8.6, §15.3.6
    return fields


def _pass(field: FieldLine, settings: Forwarding | None, request: Request | None) -> FieldLine:
    """Returns the field for the client, or _DROPPED. What depends on the request is not remembered."""
    name, value = field
    if name in _REFERENCES:
        if settings is not None and request is not None:
            value = _rewritten(name, value, client_view(settings.url, request, settings.host_of(request)))
        return spelling(name), value
    passed = _DROPPED if name in _ONE_HOP else (spelling(name), value)
    if len(name) + len(value) <= _MAX_SIZE:
        remember(_response_fields, field, passed, _MAX_REMEMBERED)
    return passed


def _rewritten(name: str, value: str, view: ClientView) -> str:
    if name == "set-cookie":
        return view.cookie(value)
    return view.refresh(value) if name == "refresh" else view.reference(value)
