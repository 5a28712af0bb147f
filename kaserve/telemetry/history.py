"""History: rates and response times over the last minutes, for the live page.

Knows cumulative figures and when each was taken. Keeps a fixed number of intervals with a few numbers each, whatever
the server does, and does nothing for a request: a timer takes a sample every few seconds. A sample costs the same
however many connections there are, unlike a snapshot, which looks at each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .counters import Stats
from .snapshot import Distribution

__all__ = ["FIELDS", "History", "Sample", "interpolated_quantile"]

FIELDS = ("time", "requests", "connections", "sent", "received", "open", "p50", "p95", "p99")
"""What the numbers of an interval are; see `History.render`."""

_SHARES = (0.5, 0.95, 0.99)
_MAX_INTERVALS = 150  # with an interval of 2 seconds, the last 5 minutes


@dataclass(frozen=True)
class Sample:
    """The figures at one moment, without the server's own requests.

    Attributes:
        time: seconds since the server started.
        open: open connections.
        requests, accepted, sent, received, latency: as in `Stats`.
    """

    time: float
    open: int
    requests: int
    accepted: int
    sent: int
    received: int
    latency: Distribution

    @classmethod
    def take(cls, stats: Stats, time: float, open: int, own: Stats, sent: int) -> Sample:
        """Returns the present figures; see `kaserve.telemetry.visitors.leave_out` for `own` and `sent`."""
        return cls(
            time=time,
            open=open,
            requests=stats.requests,
            accepted=stats.accepted - own.accepted,
            sent=stats.sent - sent,
            received=stats.received - own.received,
            latency=Distribution.of(stats.latency),
        )


class History:
    """The intervals between the last samples."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._intervals: deque[Sequence[float | None]] = deque(maxlen=_MAX_INTERVALS)

    def add(self, sample: Sample) -> None:
        """Ends an interval. The first sample only begins one, and so does one that came at the same time as the last.

        A counter may be a few bytes lower than before, since the bytes of the server's own requests are an estimate;
        its rate is then 0.
        """
        last, self._last = self._last, sample
        if last is None or sample.time <= last.time:
            return
        seconds = sample.time - last.time

        def rate(now: int, before: int) -> float:
            return round(max(0, now - before) / seconds, 3)

        latency = _difference(sample.latency, last.latency)
        self._intervals.append(
            (
                round(sample.time, 3),
                rate(sample.requests, last.requests),
                rate(sample.accepted, last.accepted),
                rate(sample.sent, last.sent),
                rate(sample.received, last.received),
                sample.open,
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
