"""UpstreamURL: where an upstream is. Knows how its URL is written. Does not know sockets."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["UpstreamURL"]

_PORTS = {"http": 80, "https": 443}


class UpstreamURL(NamedTuple):
    """A parsed URL.

    Attributes:
        scheme: "http" or "https".
        host: the name or address, without brackets; "" for a Unix socket.
        port: the port; 0 for a Unix socket.
        path_of_socket: the path of a Unix socket; None for TCP.
        base: the path that replaces the prefix of the mount; "" to keep the prefix.
    """

    scheme: str
    host: str
    port: int
    path_of_socket: str | None
    base: str

    @classmethod
    def parse(cls, text: str) -> UpstreamURL:
        """Parses `http://HOST[:PORT][/PATH]`, `https://...` or `unix:/PATH`.

        Raises:
            ValueError: the text is none of these; the message says what is wrong.
        """
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if not path:
                raise ValueError(f"{text!r} does not name a socket, as unix:/run/app.sock does")
            return cls("http", "", 0, path, "")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} is not a URL: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{text!r} is not the URL of a server, as http://127.0.0.1:9000 is")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"the URL of an upstream has neither a user nor a query: {text!r}")
        if not text.isascii() or any(character <= " " for character in text):
            raise ValueError(f"{text!r} has characters that a URL cannot contain")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], None, parts.path)

    @property
    def authority(self) -> str:
        """The value of Host for it."""
        host = f"[{self.host}]" if ":" in self.host else self.host or "localhost"
        return host if self.port in (0, _PORTS[self.scheme]) else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.path_of_socket is not None:
            return f"unix:{self.path_of_socket}"
        return f"{self.scheme}://{self.authority}{self.base}"
