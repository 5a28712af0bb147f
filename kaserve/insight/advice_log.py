"""AdviceLog: writes the advice into the log of the server, each piece rarely.

Knows when to look at the figures. Does not know the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..telemetry.advice import RateLimitedAdvice, advise
from ..telemetry.snapshot import Snapshot

__all__ = ["AdviceLog"]

log = logging.getLogger("kaserve")

_INTERVAL = 60.0  # seconds between two snapshots, each of which costs more than a request does


class AdviceLog:
    """Logs the advice that follows from the figures of one server."""

    def __init__(self, snapshot: Callable[[], Snapshot], started: float) -> None:
        """Starts the first interval.

        Args:
            snapshot: returns the present figures.
            started: the present time, in seconds of the clock that `connection_closed` is called with.
        """
        self._snapshot = snapshot
        self._rate_limit = RateLimitedAdvice()
        self._next_look = started + _INTERVAL

    def connection_closed(self, now: float) -> None:
        """Logs new advice if a minute has passed since the last look at the figures.

        Called when a connection has closed rather than by a timer, so that an idle server never wakes up; and without a
        connection that has ended there is hardly anything new to say.
        """
        if now < self._next_look:
            return
        self._next_look = now + _INTERVAL
        for advice in self._rate_limit.select(advise(self._snapshot()), now):
            log.info("advice: %s", advice.text)
