"""Page: a handler for one of the server's own pages, which can be read and nothing else."""

from __future__ import annotations

from ..http.errors import HTTPError
from ..http.handler import BaseHandler
from ..http.messages import Request, Response

__all__ = ["Page"]


class Page(BaseHandler):
    """A page of the server itself. It responds to GET and HEAD with `render`, to other methods with 405."""

    def __call__(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return self.render(request)
        # RFC 9110 §15.5.6: a 405 has to say what is allowed.
        raise HTTPError(405, "this page can only be read", (("Allow", "GET, HEAD"),))

    def render(self, request: Request) -> Response:
        """Returns the response to a GET or HEAD request."""
        raise NotImplementedError
