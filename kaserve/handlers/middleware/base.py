"""Middleware: a handler in front of another one, which passes everything on.

Subclasses override what they change. Knows the hooks of handlers (`http.handler`). Does not know what the inner handler
does with them.
"""

from __future__ import annotations

from typing import Any

from ...http.handler import BaseHandler, BodySink, Handler, HandlerResult, as_handler
from ...http.messages import Request

__all__ = ["Middleware"]


class Middleware(BaseHandler):
    """A handler that delegates every hook to an inner one.

    Attributes:
        inner: the handler that this one stands in front of.
    """

    def __init__(self, handler: Handler) -> None:
        """Wraps `handler`, a function or a BaseHandler, which is closed together with this one."""
        self.inner = as_handler(handler)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Rejects a subclass with `streams = True`, which would have no effect: the inner handler is asked."""
        super().__init_subclass__(**keywords)
        if cls.streams:
            raise TypeError(f"{cls.__name__} must not set streams: a middleware streams if its inner handler does")

    def __call__(self, request: Request) -> HandlerResult:
        return self.inner(request)

    def before_body(self, request: Request) -> None:
        self.inner.before_body(request)

    def body_sink(self, request: Request) -> BodySink:
        return self.inner.body_sink(request)

    def attach(self, service: Any) -> None:
        self.inner.attach(service)

    def detach(self) -> None:
        self.inner.detach()

    def end_of_turn(self) -> None:
        self.inner.end_of_turn()

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        return self.inner.protect(path, page)

    def make_private(self) -> None:
        self.inner.make_private()

    def close(self) -> None:
        self.inner.close()
