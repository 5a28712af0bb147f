"""The scope of a request: what an ASGI application is told about it (ASGI specification, "HTTP Connection Scope").

Knows the names of the specification, and what kaserve offers in addition to it. Does not call applications.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ..http.address import Address, AnyAddress, UnixAddress
from ..http.messages import Request

__all__ = ["EXTENSIONS", "VERSIONS", "Scope", "ScopeBuilder"]

Scope = dict[str, Any]

# Not 2.4, although `send` raises OSError when the client has left, as 2.4 asks. Behind 2.4, Starlette's
# StreamingResponse relies on that alone and listens for http.disconnect no more. Then a stream that waits for an event
# would notice that its client has left only when the next event comes, which may be never.
VERSIONS = {"version": "3.0", "spec_version": "2.3"}

# What an application may send in addition to the messages of the core ("Extensions").
EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}


class ScopeBuilder:
    """Builds the scope of each request.

    Args:
        root_path: the path that a proxy has taken off the front of the request's path; "" for none.

    Attributes:
        state: what the application has put into `scope["state"]` when it started; None if it has no lifespan.
    """

    __slots__ = ("_root_path", "state")

    def __init__(self, root_path: str = "") -> None:
        self._root_path = root_path
        self.state: dict[str, Any] | None = None

    def build(self, request: Request) -> Scope:
        """Returns the scope of `request`: a new dict that the application may change."""
        raw_path = request.raw_path
        root_path = self._root_path
        if request.mount:
            root_path += unquote(request.mount)
            raw_path = request.mount + raw_path
        path = unquote(raw_path) if "%" in raw_path else raw_path
        if self._root_path:
            path = self._root_path + path
            raw_path = self._root_path + raw_path
        client, server = request.client, request.server
        scope = {
            "type": "http",
            "asgi": _versions.copy(),
            "http_version": "1.1" if request.minor else "1.0",
            "method": request.method,
            "scheme": request.scheme,
            "path": path,
            "raw_path": raw_path.encode("latin-1"),
            "query_string": request.query_string.encode("latin-1"),
            "root_path": root_path,
            "headers": _headers(request),
            "client": client if type(client) is Address else _unix_end(client),
            "server": server if type(server) is Address else _unix_end(server),
            "extensions": _extensions.copy(),
        }
        if self.state is not None:
            scope["state"] = self.state.copy()
        return scope

    def build_websocket(self, request: Request, subprotocols: list[str]) -> Scope:
        """Returns the scope of a request for a WebSocket (ASGI specification, "Websocket Connection Scope").

        Args:
            request: the request.
            subprotocols: those that the client offers.
        """
        scope = self.build(request)
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = subprotocols
        scope["extensions"] = {"websocket.http.response": {}}
        return scope


def _headers(request: Request) -> list[tuple[bytes, bytes]]:
    """The headers as they came, names in lower case."""
    headers = request.raw_fields()
    if request.target[:1] == "/" or not request.authority:
        return headers
    # An absolute-form target overrules Host (RFC 9112 §3.2.2).
    return [(b"host", request.authority.encode("latin-1")), *(line for line in headers if line[0] != b"host")]


def _unix_end(address: AnyAddress) -> tuple[str, int | None] | None:
    """One end of a connection through a Unix socket, which has its path for a host, and no port; None if it has no
    path. A subclass of a tuple stays what it is."""
    if isinstance(address, UnixAddress):
        return (str(address), None) if address else None
    return address


_versions: dict[str, Any] = VERSIONS
_extensions: dict[str, Any] = EXTENSIONS
