"""What a request is for: the form of its target, its Host, and the authority that results (RFC 9112 §3.2, §3.3).

Knows how a host and a URI look. Does not know the rest of the head. Every reader of the same bytes must come to the
same host and path, or a request can be smuggled past one of them, so everything ambiguous is rejected.
"""

from __future__ import annotations

import ipaddress
import re

from .errors import HTTPError
from .headers import DUPLICATE_HOST, HOST
from .memo import remember
from .messages import Request

__all__ = ["is_host", "resolve_target"]

# Host = uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2.2). re.ASCII: only ASCII digits are digits.
_REG_NAME = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
_HOST = re.compile(rf"(?P<name>{_REG_NAME})(?::(?P<port>[0-9]*))?|\[(?P<v6>[^\]]*)\](?::(?P<port6>[0-9]*))?", re.ASCII)
_IP_FUTURE = re.compile(r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9\-._~]+", re.ASCII)  # RFC 6874 §2, without percent-encoded bytes
_ABSOLUTE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<authority>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)

# The hosts that were found valid: most requests have a host that an earlier one had. The values are not used.
_valid_hosts: dict[str, bool] = {}
_MAX_VALID_HOSTS = 256


def resolve_target(request: Request) -> None:
    """Sets `raw_path` and `query_string` of the request from its target, and checks `authority`, which came from Host.

    Raises:
        HTTPError: 400 for a target that has none of the four forms, and for a Host that is missing in HTTP/1.1, comes
            twice, or is not a host. 501 for CONNECT, since an origin server makes no tunnels (RFC 9110 §9.3.6).
    """
    _check_host(request)
    target = request.target
    if target[0] == "/":  # origin-form, RFC 9112 §3.2.1
        if "?" in target:
            request.raw_path, _, request.query_string = target.partition("?")
        if request.method == "CONNECT":
            raise HTTPError(400, "the target of CONNECT must be a host and a port")
    elif target == "*":  # asterisk-form, §3.2.4
        if request.method != "OPTIONS":
            raise HTTPError(400, "only OPTIONS may have the target *")
    elif request.method == "CONNECT":  # authority-form, §3.2.3
        if not is_host(target) or not target.rpartition(":")[2].isdigit() or target[0] == ":":
            raise HTTPError(400, "the target of CONNECT must be a host and a port")
        raise HTTPError(501, "this server makes no tunnels")
    else:
        _resolve_absolute(request)


def _check_host(request: Request) -> None:
    """Checks that there is one Host, and that it is valid. An HTTP/1.0 request may have none (RFC 9112 §3.2)."""
    if not request.flags & HOST and request.minor:
        raise HTTPError(400, "the Host header is missing")
    if request.flags & DUPLICATE_HOST:
        raise HTTPError(400, "there is more than one Host header")
    if request.authority not in _valid_hosts:
        if not is_host(request.authority):
            raise HTTPError(400, "the Host header is not a host")
        remember(_valid_hosts, request.authority, True, _MAX_VALID_HOSTS)


def _resolve_absolute(request: Request) -> None:
    """Reads a target in absolute-form (RFC 9112 §3.2.2): its authority wins over Host."""
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None or match["scheme"].lower() not in ("http", "https"):
        raise HTTPError(400, "the request target is malformed")
    authority = match["authority"]
    if not authority or authority[0] == ":" or not is_host(authority):
        raise HTTPError(400, "the authority of the request target is not a host")
    request.authority = authority
    request.query_string = match["query"] or ""
    # An empty path is "/", except for OPTIONS without a query, where it means the server itself (RFC 9112 §3.2.4).
    means_server = request.method == "OPTIONS" and match["path"] is None and match["query"] is None
    request.raw_path = "*" if means_server else match["path"] or "/"


def is_host(value: str) -> bool:
    """Returns whether `value` is `uri-host [":" port]`: no userinfo, path, white space or port beyond 65535.

    An IPv6 address may have a zone, as `%eth0` or `%25eth0` (RFC 6874): clients of link-local addresses send what their
    user typed. It means something on the client's machine alone, and no reader takes it for another host.
    """
    if len(value) > 1024:  # a DNS name has 253 characters at most
        return False
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    port = match["port"] or match["port6"]
    if port and (len(port) > 5 or int(port) > 65535):
        return False
    if value[:1] == ":":  # a port without a host (RFC 9110 §4.2.1)
        return False
    literal = match["v6"]
    return literal is None or _IP_FUTURE.fullmatch(literal) is not None or _is_ipv6(literal)


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None
