"""Aside: a few paths that are the server's own, such as those of `--status` and `--metrics`, in front of a handler.

Knows paths and the hooks of handlers. The paths are compared as they are sent, without their query: what belongs to the
server is not found under another spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from ...http.messages import Request, Response
from ...http.sinks import Discard, Sink
from .base import Middleware

__all__ = ["OwnPaths"]

Handler = Callable[[Request], Response | Future[Response]]


class OwnPaths(Middleware):
    """A handler: `paths` has its own, which read no bodies, and `handler` answers the rest, with its hooks if it has
    any."""

    def __init__(self, handler: Handler, paths: Mapping[str, Handler]) -> None:
        super().__init__(handler)
        self._paths = dict(paths)

    def __call__(self, request: Request) -> Any:
        return self._paths.get(request.raw_path, self._handler)(request)

    def refuse(self, request: Request) -> None:
        if request.raw_path not in self._paths:
            super().refuse(request)

    def sink(self, request: Request) -> Sink:
        return Discard() if request.raw_path in self._paths else super().sink(request)
