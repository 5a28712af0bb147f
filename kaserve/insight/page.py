"""Page: a handler for one of the server's own pages, which can be read and nothing else."""

from __future__ import annotations

from ..http.errors import HTTPError
from ..http.handler import BaseHandler
from ..http.messages import Request, Response
from ..http.sinks import DrainSink, Sink

__all__ = ["Page"]


class Page(BaseHandler):
    """A page of the server itself. It responds to GET and HEAD with `render`, to other methods with 405."""

    def before_body(self, request: Request) -> None:
        """Raises HTTPError 405 for other methods, before the client sends a body."""
        if request.method not in ("GET", "HEAD"):
            # RFC 9110 §15.5.6: a 405 has to say what is allowed.
            raise HTTPError(405, "this page can only be read", (("Allow", "GET, HEAD"),))

    def body_sink(self, request: Request) -> Sink:
        """Returns a sink that ignores the body, as no GET means anything by it (RFC 9110 §9.3.1)."""
        return DrainSink()

    def __call__(self, request: Request) -> Response:
        self.before_body(request)
        return self.render(request)

    def render(self, request: Request) -> Response:
        """Returns the response to a GET or HEAD request."""
        raise NotImplementedError
