"""OwnPaths: a few paths that are the server's own, such as those of `--status` and `--metrics`, in front of a handler.

Knows paths. They are compared as sent, without the query and without decoding: other spellings of a path reach the
inner handler.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...http.handler import BaseHandler, BodySink, Handler, HandlerResult
from ...http.messages import Request
from .base import Middleware

__all__ = ["OwnPaths"]


class OwnPaths(Middleware):
    """Responds to the paths of some pages; the inner handler responds to all others."""

    def __init__(self, handler: Handler, pages: Mapping[str, BaseHandler]) -> None:
        """Puts pages in front of a handler.

        Args:
            handler: a function or handler, which is closed together with this one.
            pages: the handlers of the pages, by `Request.raw_path`.
        """
        super().__init__(handler)
        self._pages = dict(pages)

    def __call__(self, request: Request) -> HandlerResult:
        return self._route(request)(request)

    def before_body(self, request: Request) -> None:
        self._route(request).before_body(request)

    def body_sink(self, request: Request) -> BodySink:
        return self._route(request).body_sink(request)

    def _route(self, request: Request) -> BaseHandler:
        return self._pages.get(request.raw_path, self.inner)
