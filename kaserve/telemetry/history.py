"""History: rates and response times over the last minutes, for the live page.

Knows cumulative figures and when each was taken. Keeps a fixed number of intervals with a few numbers each, whatever
the server does, and does nothing for a request: a timer asks for a snapshot every few seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from .snapshot import Distribution, Snapshot

__all__ = ["FIELDS", "History", "interpolated_quantile"]

FIELDS = ("time", "requests", "connections", "sent", "received", "open", "p50", "p95", "p99")
"""What the numbers of an interval are; see `History.render`."""

_SHARES = (0.5, 0.95, 0.99)
_MAX_INTERVALS = 150  # with an interval of 2 seconds, the last 5 minutes


class History:
    """The intervals between the last snapshots."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._intervals: deque[Sequence[float | None]] = deque(maxlen=_MAX_INTERVALS)

    def add(self, snapshot: Snapshot) -> None:
        """Ends an interval. The first snapshot only begins one, and so does one that came at the same time as the last.

        A counter may be a few bytes lower than before, since a part of the figures is an estimate (see
        `leave_out`); its rate is then 0.
        """
        last, self._last = self._last, snapshot
        if last is None or snapshot.uptime <= last.uptime:
            return
        seconds = snapshot.uptime - last.uptime

        def rate(now: int, before: int) -> float:
            return round(max(0, now - before) / seconds, 3)

        latency = _difference(snapshot.latency, last.latency)
        self._intervals.append(
            (
                round(snapshot.uptime, 3),
                rate(snapshot.requests, last.requests),
                rate(snapshot.accepted, last.accepted),
                rate(snapshot.sent, last.sent),
                rate(snapshot.received, last.received),
                sum(snapshot.open.values()),
                *(_rounded(interpolated_quantile(latency, share)) for share in _SHARES),
            )
        )

    def render(self, most: int = _MAX_INTERVALS) -> list[Sequence[float | None]]:
        """Returns the last `most` intervals, the oldest first.

        Returns:
            For each interval the numbers that `FIELDS` names: when it ended, in seconds since the server started; rates
            per second; the connections open at its end; and the response times that 50, 95 and 99 % of its responses
            did not exceed, in seconds, None if there was no response.
        """
        return list(self._intervals)[-most:]


def interpolated_quantile(values: Distribution, share: float) -> float | None:
    """Returns about the value that `share` of the values do not exceed: between the bounds of its bucket, as if the
    values were spread evenly there. So does `histogram_quantile` of Prometheus.

    Args:
        values: the distribution.
        share: above 0 and up to 1.

    Returns:
        The value; the last bound if it is in the bucket above that; None without values.
    """
    left = share * values.count
    low = 0.0
    for bound, count in zip(values.bounds, values.counts, strict=False):
        if count and left <= count:
            return low + (bound - low) * left / count
        left -= count
        low = bound
    return low if values.count else None


def _difference(now: Distribution, before: Distribution) -> Distribution:
    counts = tuple(max(0, one - other) for one, other in zip(now.counts, before.counts, strict=True))
    return Distribution(now.bounds, counts)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
