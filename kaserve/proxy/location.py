"""Where upstreams are: `UpstreamURL`, and `Route`, the value of the option --proxy.

Knows how both are written. Does not know sockets, nor what a request looks like (`target`).

An upstream is `http://HOST[:PORT][/PATH]`, the same with https, or a Unix socket: `unix:/run/app.sock[:/PATH]` or, as
some clients write it, `http+unix://%2Frun%2Fapp.sock[/PATH]`. The path decides what becomes of the prefix at which the
proxy is mounted, as in nginx:

    /api=http://127.0.0.1:9000         without a path the prefix stays: /api/users is /api/users there, too
    /api=http://127.0.0.1:9000/        a path replaces it: /users
    /api=http://127.0.0.1:9000/v1      /v1/users

Unlike nginx, which replaces characters, this replaces whole segments: whether the prefix or the path ends in a slash
makes no difference to the requests below them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from ..http.target import is_host
from .target import has_dot_segments

__all__ = ["Route", "UpstreamURL", "join_routes", "parse_proxy_option"]

_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_SOCKET = re.compile(r"unix:(?://)?(?P<path>/[^:]*)(?::(?P<base>.*))?", re.DOTALL)
# What a path may consist of (RFC 3986 §3.3).
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")
_OPTION = re.compile(r"(?:(?P<prefix>/[^=]*)=)?(?P<urls>.*)", re.DOTALL)


class UpstreamURL(NamedTuple):
    """The URL of an upstream.

    Attributes:
        scheme: "http" or "https".
        host: the name or address, without brackets, perhaps with the zone of an IPv6 address; "" for a Unix socket.
        port: the port; 0 for a Unix socket.
        path_of_socket: the path of a Unix socket; None for TCP.
        base: the path that replaces the prefix at which the proxy is mounted; "" to keep the prefix.
    """

    scheme: str
    host: str
    port: int
    path_of_socket: str | None
    base: str

    @classmethod
    def parse(cls, text: str) -> UpstreamURL:
        """Parses the URL of an upstream; see the top of this module.

        Raises:
            ValueError: it is malformed; the text is one line that says what is wrong.
        """
        if text.startswith("unix:"):
            return _parse_socket(text)
        match = _URL.fullmatch(text)
        scheme = match["scheme"].lower() if match is not None else ""
        if match is None or scheme not in (*_PORTS, "http+unix"):
            raise ValueError(f"an upstream must be a URL such as http://127.0.0.1:9000 or unix:/run/app.sock: {text!r}")
        if scheme == "http+unix":
            path = unquote(match["authority"])
            return cls("http", "", 0, _checked_socket(path, text), _checked_base(match["rest"], text))
        if "@" in match["authority"]:
            raise ValueError(f"the URL of an upstream has no user name: {text!r}")
        host, port = _split_authority(match["authority"], text)
        return cls(scheme, host, port or _PORTS[scheme], None, _checked_base(match["rest"], text))

    @property
    def authority(self) -> str:
        """What Host says of it (RFC 9110 §7.2): without the usual port, and without a zone, which means something on
        this machine only. A Unix socket is `localhost`."""
        host = self.host.partition("%")[0] or "localhost"
        if ":" in host:
            host = f"[{host}]"
        return host if self.port in (0, _PORTS[self.scheme]) else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.path_of_socket is not None:
            return f"unix:{self.path_of_socket}:{self.base}" if self.base else f"unix:{self.path_of_socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.base}"


def _parse_socket(text: str) -> UpstreamURL:
    match = _SOCKET.fullmatch(text)
    path = match["path"] if match is not None else ""
    base = (match["base"] if match is not None else None) or ""
    return UpstreamURL("http", "", 0, _checked_socket(path, text), _checked_base(base, text))


def _checked_socket(path: str, text: str) -> str:
    """Returns the path of a socket. Raises ValueError if it is not an absolute one."""
    if path[:1] != "/" or path[-1] == "/" or "\0" in path:
        raise ValueError(f"the URL of an upstream must name a socket, as unix:/run/app.sock does: {text!r}")
    return path


def _split_authority(authority: str, text: str) -> tuple[str, int]:
    """Returns host and port; 0 if no port is given. Raises ValueError if they are malformed."""
    if not is_host(authority) or not authority:
        raise ValueError(f"the URL of an upstream must have a host, and perhaps a port: {text!r}")
    host, _, digits = authority.rpartition(":") if authority[-1] != "]" else (authority, "", "")
    if not host:
        host, digits = digits, ""
    if digits and not int(digits):
        raise ValueError(f"the port of an upstream must not be 0: {text!r}")
    return host.strip("[]"), int(digits or "0")


def _checked_base(base: str, text: str) -> str:
    """Returns the path of a URL. Raises ValueError if there is more than a path, or it is malformed."""
    if "?" in base or "#" in base:
        raise ValueError(f"the URL of an upstream has neither a query nor a fragment: {text!r}")
    if _PATH.fullmatch(base) is None or "//" in base or has_dot_segments(base):
        raise ValueError(f"the path in the URL of an upstream is malformed: {text!r}")
    return base


class Route(NamedTuple):
    """Which requests go to which upstreams.

    Attributes:
        prefix: of the paths of the requests; "/" for all. `Mount` says what it means.
        upstreams: at least one; any of them can respond to any of the requests.
    """

    prefix: str
    upstreams: tuple[UpstreamURL, ...]


def parse_proxy_option(text: str) -> Route:
    """Parses the value of --proxy: `[PATH=]URL[,URL...]`.

    Raises:
        ValueError: it is malformed; the text is one line that says what is wrong.
    """
    match = _OPTION.fullmatch(text)
    assert match is not None  # it matches anything
    prefix = match["prefix"] or "/"
    if "//" in prefix or has_dot_segments(prefix) or re.search(r"[?#\x00-\x20\x7f]", prefix):
        raise ValueError(f"the path in front of '=' must be that of a URL, such as /api: {text!r}")
    upstreams = tuple(UpstreamURL.parse(url.strip()) for url in match["urls"].split(","))
    if not _may_be_joined(upstreams):
        raise ValueError(f"the upstreams of one path must have the same path in their URLs: {text!r}")
    return Route(prefix, upstreams)


def join_routes(texts: Iterable[str]) -> list[Route]:
    """Returns the routes of all values of --proxy: values with the same path name upstreams of one route.

    Raises:
        ValueError: one is malformed, or the upstreams of one path differ in the path of their URLs.
    """
    routes: dict[str, Route] = {}
    for route in map(parse_proxy_option, texts):
        key = route.prefix.rstrip("/")
        known = routes.get(key)
        if known is None:
            routes[key] = route
            continue
        joined = (*known.upstreams, *route.upstreams)
        if not _may_be_joined(joined):
            raise ValueError(f"the upstreams of {known.prefix} must have the same path in their URLs")
        routes[key] = Route(known.prefix, joined)
    return list(routes.values())


def _may_be_joined(upstreams: Iterable[UpstreamURL]) -> bool:
    return len({url.base for url in upstreams}) <= 1
