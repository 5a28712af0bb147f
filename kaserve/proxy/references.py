"""References in responses, as the client must see them: Location, Content-Location, Refresh, and the Path of cookies.

Knows which URLs lead to the upstream itself, and where the client finds the same resources. Does not know which fields
have references (`fields`).

An upstream that knows nothing of the proxy refers to itself by its own URL (`http://127.0.0.1:9000/v1/users`), by the
path in it (`/v1/users`), or, if it gets the client's Host, by that (`http://example.org/v1/users`). The first becomes a
path of this server, `/api/users`, in the other two the path is mapped. Whatever cannot be mapped stays as it is: a path
beside the one in the upstream's URL, another server, a relative reference.

The scheme must be the upstream's own. An upstream that redirects from http to https means another URL than the one that
it was asked for, and without the scheme the client would be redirected to the same URL again and again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..http.messages import Request
from .location import UpstreamURL

__all__ = ["ClientView", "client_view"]

_ABSOLUTE = re.compile(r"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#\\]*)(?P<path>[/?#].*)?", re.IGNORECASE)
# What a browser takes for a reference to another host: it reads "\\" as "/", and ignores tabs.
_NETWORK_PATH = re.compile(r"\t*[/\\]\t*[/\\]")
_REFRESH = re.compile(r"(?P<front>[ \t]*[0-9.]*[ \t]*[;,]?[ \t]*url[ \t]*=[ \t]*(?P<quote>[\"']?))(?P<url>.*)", re.I)
_USUAL_PORT = {"http": ":80", "https": ":443"}


class ClientView(NamedTuple):
    """How the client of one request sees what an upstream has.

    Attributes:
        url: of the upstream.
        prefix: the path of the upstream's URL without a slash at its end; None if paths are not changed.
        mount: the prefix that the client uses in its place.
        host: what the upstream got as Host.
    """

    url: UpstreamURL
    prefix: str | None
    mount: str
    host: str

    def reference(self, text: str) -> str:
        """Returns the reference `text`, absolute or relative (RFC 3986 §4.1), as the client must see it."""
        if text[:1] == "/" and _NETWORK_PATH.match(text) is None:
            return self._map(text) or text
        match = _ABSOLUTE.fullmatch(text)
        if match is None:
            return text
        scheme = (match["scheme"] or self.url.scheme).lower()
        authority = _normal(match["authority"], scheme)
        path = match["path"] or ""
        mapped = self._map(path if path[:1] == "/" else f"/{path}")
        if mapped is None:
            return text
        if authority == _normal(self.host, scheme) and self.host != self.url.authority:
            # The client knows this host by the same name; which scheme it uses with it is the upstream's business.
            return f"{text[: match.end('authority')]}{mapped}" if self.prefix is not None else text
        if scheme != self.url.scheme or authority != self.url.authority.lower():
            return text
        return text if _NETWORK_PATH.match(mapped) else mapped

    def refresh(self, value: str) -> str:
        """Returns the value of Refresh, which is `SECONDS; url=REFERENCE` (the HTML standard, §4.2.5.3)."""
        match = _REFRESH.fullmatch(value)
        if match is None:
            return value
        quote = match["quote"]
        url, end, rest = match["url"].partition(quote) if quote else (match["url"], "", "")
        return f"{match['front']}{self.reference(url)}{end}{rest}"

    def cookie(self, value: str) -> str:
        """Returns the value of Set-Cookie with its Path mapped (RFC 6265 §5.1.4).

        A cookie whose name begins with `__Host-` stays as it is: it must have the path `/`.
        """
        pair, *attributes = value.split(";")
        if self.prefix is None or not attributes or pair.lstrip(" \t").lower().startswith("__host-"):
            return value
        return ";".join([pair, *map(self._cookie_attribute, attributes)])

    def _cookie_attribute(self, attribute: str) -> str:
        name, equals, path = attribute.partition("=")
        path = path.strip(" \t")
        if name.strip(" \t").lower() != "path" or path[:1] != "/":
            return attribute
        mapped = self.mount or "/" if path.rstrip("/") == self.prefix else self._map(path)
        return attribute if mapped is None else f"{name}{equals}{mapped}"

    def _map(self, path: str) -> str | None:
        """Returns the path at which the client finds what is at `path`; None if it finds it nowhere. A query and a
        fragment may follow the path."""
        prefix = self.prefix
        if prefix is None:
            return path
        rest = path[len(prefix) :]
        if not path.startswith(prefix) or rest[:1] not in ("", "/", "?", "#"):
            return None
        if not self.mount and rest[:1] != "/":
            rest = f"/{rest}"
        mapped = self.mount + rest
        return None if _NETWORK_PATH.match(mapped) else mapped


def client_view(url: UpstreamURL, request: Request, host: str) -> ClientView:
    """Returns how the client of `request` sees what the upstream at `url` has, which got `host` as Host."""
    return ClientView(url, url.base.rstrip("/") if url.base else None, request.mount, host)


def _normal(authority: str, scheme: str) -> str:
    """Returns `authority` in lower case and without the usual port of `scheme` (RFC 3986 §6.2.3)."""
    return authority.lower().removesuffix(_USUAL_PORT[scheme])
