"""WriteAuth: everybody may read, and only known users may write (RFC 7617, RFC 9110 §9.2.1).

Knows which methods only read. Does not know how users are checked (`basic_auth`), nor what is written.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...http.handler import BaseHandler, Handler, HandlerResult
from ...http.messages import FieldLine, Request
from ...http.sinks import Sink
from .base import Middleware
from .basic_auth import BasicAuth

__all__ = ["WriteAuth"]

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class WriteAuth(Middleware):
    """Asks for a user and password where a method may change something; lets all other requests through.

    Every hook about a request is routed by the method, so that no byte of a body is stored before its user is known.
    The server's own pages are only read, so no password of this handler protects them.
    """

    def __init__(
        self, handler: Handler, users: Mapping[str, str], *, realm: str = "kaserve", headers: tuple[FieldLine, ...] = ()
    ) -> None:
        """Protects `handler` against writing; the arguments are those of `BasicAuth`."""
        super().__init__(handler)
        self._auth = BasicAuth(_PublicToRead(self.inner), users, realm=realm, headers=headers)

    def before_body(self, request: Request) -> None:
        self._route(request).before_body(request)

    def body_sink(self, request: Request) -> Sink | None:
        return self._route(request).body_sink(request)

    def __call__(self, request: Request) -> HandlerResult:
        return self._route(request)(request)

    def close(self) -> None:
        self._auth.close()

    def _route(self, request: Request) -> BaseHandler:
        return self.inner if request.method in _SAFE else self._auth


class _PublicToRead(Middleware):
    """A handler that stays public although there is a BasicAuth: everybody may read, and caches store only reads."""

    def make_private(self) -> None:
        """Does nothing."""
