"""Aside: a few paths that are the server's own, such as those of `--status` and `--metrics`, in front of a handler.

Knows paths and the hooks of handlers. The paths are compared as they are sent, without their query: what belongs to the
server is not found under another spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from ..http.body import Discard, Sink, Spool
from ..http.messages import Request, Response

__all__ = ["Aside"]

Handler = Callable[[Request], Response | Future[Response]]


class Aside:
    """A handler: `paths` has its own, which read no bodies, and `handler` answers the rest, with its hooks if it has
    any."""

    def __init__(self, handler: Handler, paths: Mapping[str, Handler]) -> None:
        self._handler = handler
        self._paths = dict(paths)
        self._refuse: Callable[[Request], None] | None = getattr(handler, "refuse", None)
        self._sink: Callable[[Request], Sink] | None = getattr(handler, "sink", None)

    def __call__(self, request: Request) -> Response | Future[Response]:
        return self._paths.get(request.raw_path, self._handler)(request)

    def refuse(self, request: Request) -> None:
        if self._refuse is not None and request.raw_path not in self._paths:
            self._refuse(request)

    def sink(self, request: Request) -> Sink:
        if request.raw_path in self._paths:
            return Discard()
        return Spool() if self._sink is None else self._sink(request)
