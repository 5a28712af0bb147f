"""LaterResponse: what a middleware returns if it has something to do once a Future is done.

Knows Futures and threads. Does not know what is done with the result.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ...http.messages import Response

__all__ = ["LaterResponse"]


class LaterResponse(Future[Any]):
    """A Future that is done when another one is, and whose result is computed by the thread that asks for it.

    A plain Future with a callback would not do: a callback runs in the thread that completes the other Future, a thread
    of a pool, say, and handlers must only ever be called in the server's own thread. The server asks for the result in
    its own thread, so that is where the rest of the work is done.
    """

    def __init__(self, inner: Future[Any], then: Callable[[Future[Any]], Any]) -> None:
        """Makes a Future of `then(inner)`.

        Args:
            inner: what is waited for. Cancelling this Future cancels it.
            then: called with `inner`, which is done; returns the result, or raises.
        """
        super().__init__()
        self._inner = inner
        self._then = then
        self.add_done_callback(self._cancel_inner)
        inner.add_done_callback(self._inner_done)

    def _inner_done(self, inner: Future[Any]) -> None:
        if self.set_running_or_notify_cancel():
            self.set_result(None)
        elif not inner.cancelled() and inner.exception() is None and isinstance(inner.result(), Response):
            inner.result().close()  # the client has left, and this is the only reference to the response

    def _cancel_inner(self, _: Future[Any]) -> None:
        if self.cancelled():
            self._inner.cancel()

    def result(self, timeout: float | None = None) -> Any:
        super().result(timeout)
        return self._then(self._inner)
