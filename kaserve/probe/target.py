"""Target: what the probe sends its requests to. Knows URLs (RFC 3986) and what a request needs of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

__all__ = ["Target", "read_url"]

_USER_INFO = re.compile(r"(?:[^/?#]*//)?[^/?#]*@")
_IN_PATHS = "/%!$&'()*+,;=:@-._~"  # RFC 3986 §3.3; and %, since what is encoded already stays as it is


@dataclass(frozen=True)
class Target:
    """What is probed.

    Attributes:
        scheme: "http" or "https".
        host: a name or an address, as sockets want it, with the zone of a link-local one.
        port: the port.
        authority: the value of Host (RFC 9112 §3.2).
        path: the path with its query, as in a request line.
    """

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    def request(self, method: str, *fields: str, path: str = "", version: str = "1.1", body: bytes = b"") -> bytes:
        """Returns a complete request.

        Args:
            method: its method.
            fields: field lines after Host, such as "Connection: close".
            path: another path than that of the target.
            version: the HTTP version.
            body: what follows the head; the fields have to announce it.
        """
        lines = [f"{method} {path or self.path} HTTP/{version}", f"Host: {self.authority}", *fields]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_url(url: str) -> Target:
    """Returns the target that `url` names; a URL without a scheme is http.

    Raises:
        ValueError: with one line for the user, which never repeats a password.
    """
    if _USER_INFO.match(url):
        raise ValueError("the URL must not contain a user or a password: the probe sends no credentials")
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the URL must be one of http or https with a host, not {url!r}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"the port must be a number from 0 to 65535, not as in {url!r}") from None
    # RFC 6874 §2: in a URL the % in front of a zone is %25, but people also write it as ifconfig shows it. A zone means
    # something on one machine alone, so Host does not have it (§4).
    address, percent, zone = parts.hostname.partition("%")
    try:
        host = address.encode("ascii" if ":" in address else "idna").decode()
    except UnicodeError:
        raise ValueError(f"the host must be a name or an address, not as in {url!r}") from None
    name = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", safe=_IN_PATHS)
    if parts.query:
        path += "?" + quote(parts.query, safe=_IN_PATHS + "?")
    default = 443 if parts.scheme == "https" else 80
    # RFC 9112 §3.2: Host omits the port if it is the default one.
    authority = name if port in (None, default) else f"{name}:{port}"
    return Target(parts.scheme, host + percent + zone.removeprefix("25"), port or default, authority, path)
