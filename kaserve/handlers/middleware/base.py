"""Middleware: a handler in front of another one, which passes everything on.

Subclasses override what they change. Knows the hooks of handlers (`http.handler`). Does not know what the inner handler
does with them.
"""

from __future__ import annotations

from ...http.handler import BaseHandler, Handler, HandlerResult, as_handler
from ...http.messages import Request
from ...http.sinks import Sink

__all__ = ["Middleware"]


class Middleware(BaseHandler):
    """A handler that delegates every hook to an inner one.

    Attributes:
        inner: the handler that this one stands in front of.
    """

    def __init__(self, handler: Handler) -> None:
        """Wraps `handler`, a function or a BaseHandler, which is closed together with this one."""
        self.inner = as_handler(handler)

    def __call__(self, request: Request) -> HandlerResult:
        return self.inner(request)

    def before_body(self, request: Request) -> None:
        self.inner.before_body(request)

    def body_sink(self, request: Request) -> Sink | None:
        return self.inner.body_sink(request)

    def end_of_turn(self) -> None:
        self.inner.end_of_turn()

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        return self.inner.protect(path, page)

    def make_private(self) -> None:
        self.inner.make_private()

    def close(self) -> None:
        self.inner.close()
