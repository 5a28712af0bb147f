"""Around: what every handler that stands in front of another one does for it.

Knows the hooks of handlers, which a server looks for by their names: `refuse` and `sink` before the body of a request
is received (see `net.service.Service`), `end_of_turn` after each turn of the reactor, `remote_user` for the access log,
`guard` for what a server answers itself, `close` in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...http.messages import Request
from ...http.sinks import Sink, Spool

__all__ = ["Middleware"]


class Middleware:
    """A handler in front of `handler`, which passes everything on; who derives from it changes what it has to."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._refuse: Callable[[Request], None] | None = getattr(handler, "refuse", None)
        self._sink: Callable[[Request], Sink] | None = getattr(handler, "sink", None)
        if hasattr(handler, "remote_user"):  # an access log asks it for each of its lines
            self.remote_user: Callable[[Request], str] = handler.remote_user
        # What a server answers itself goes through the same door, the outermost of several.
        if hasattr(handler, "guard") and not hasattr(type(self), "guard"):
            self.guard: Callable[[Callable[[Request], Any]], Callable[[Request], Any]] = handler.guard
        if hasattr(handler, "end_of_turn"):  # a server calls it in every turn, so it is there only if somebody wants it
            self.end_of_turn: Callable[[], None] = handler.end_of_turn

    def __call__(self, request: Request) -> Any:
        return self._handler(request)

    def refuse(self, request: Request) -> None:
        if self._refuse is not None:
            self._refuse(request)

    def sink(self, request: Request) -> Sink:
        return Spool() if self._sink is None else self._sink(request)

    def close(self) -> None:
        close = getattr(self._handler, "close", None)
        if close is not None:
            close()
