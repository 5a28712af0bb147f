"""WriteAuth: everybody may read, and only known users may write (RFC 7617, RFC 9110 §9.2.1).

Knows which methods only read. Does not know how users are checked (`basic_auth`), nor what is written.
"""

from __future__ import annotations

from ...http.handler import BaseHandler, HandlerResult
from ...http.messages import Request
from ...http.sinks import Sink
from .basic_auth import BasicAuth

__all__ = ["WriteAuth"]

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class WriteAuth(BasicAuth):
    """Asks for a user and password where a method may change something; lets all other requests through.

    Every hook is routed by the method, so that no byte of a body is stored before its user is known.
    """

    def before_body(self, request: Request) -> None:
        if request.method in _SAFE:
            self.inner.before_body(request)
        else:
            super().before_body(request)

    def body_sink(self, request: Request) -> Sink | None:
        if request.method in _SAFE:
            return self.inner.body_sink(request)
        return super().body_sink(request)

    def __call__(self, request: Request) -> HandlerResult:
        if request.method in _SAFE:
            return self.inner(request)
        return super().__call__(request)

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        """Asks the inner handler: the server's own pages are only read."""
        return self.inner.protect(path, page)
