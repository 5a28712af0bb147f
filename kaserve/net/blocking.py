"""BlockingLog: a warning when responding to a request has kept the reactor from everything else.

Knows the message, and how often it is logged. Does not measure: `exchange` does, with the clock that it reads at the
end of each response anyway, so that a request costs no further look at the clock.
"""

from __future__ import annotations

import logging
import math

from ..http.messages import Request

__all__ = ["MAX_BLOCKING", "BlockingLog"]

log = logging.getLogger("kaserve")

MAX_BLOCKING = 0.1  # seconds; about what a person notices, and far more than a handler that only computes a page takes
_PERIOD = 60.0  # seconds between two warnings


class BlockingLog:
    """Logs requests that blocked the reactor, at most one per minute."""

    __slots__ = ("_next", "_unreported")

    def __init__(self) -> None:
        self._next = -math.inf  # when the next warning may be logged
        self._unreported = 0

    def report(self, request: Request | None, seconds: float, now: float) -> None:
        """Logs that the response to `request` took `seconds` of the reactor's thread, unless there was a warning a
        moment ago; then the next one says how many there were.

        Args:
            request: the request; None if it could not be read.
            seconds: for how long nothing else was done.
            now: seconds on the reactor's clock.
        """
        if now < self._next:
            self._unreported += 1
            return
        # The path without the query, which may contain secrets.
        what = "a request" if request is None else f"{request.method} {request.mount}{request.raw_path}"
        more = f" (and {self._unreported} more since the last warning)" if self._unreported else ""
        self._next, self._unreported = now + _PERIOD, 0
        try:
            log.warning(
                "%s blocked the server for %.2f s, and no other client was served%s: call a handler that waits or"
                " computes on threads (kaserve.handlers.Threaded, --threads), or let it return a Future",
                *(what, seconds, more),
            )
        except Exception:  # a log that fails must not end the connection
            pass
