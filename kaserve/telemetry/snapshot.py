"""Snapshot: all figures of a server at one moment, and what follows from them.

Knows the counters of `counters` and `peers`, and the settings that the figures are judged by. A snapshot is immutable
data: code that has one needs neither a lock nor the server's thread.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .counters import Stats
from .endings import Ending
from .histogram import COUNTS, TIMES, Histogram
from .peers import Peer
from .upstreams import UpstreamFigures

__all__ = ["Distribution", "PeerFigures", "Settings", "Snapshot", "take_snapshot"]

# How an idle timeout is told from clients that close at any time; see `detected_idle_timeout`.
_MIN_CLOSES = 3
_MIN_SHARE_NEAR = 0.75  # of the closes
_NEAR_SHARE = 0.05  # of the median,
_NEAR_SECONDS = 0.5  # but at least this much
_ROUNDING = 0.005  # of the median: the difference to whole seconds that the way through the network can make
_MIN_IDLE_TIMEOUT = 1.0  # seconds; a shorter time is a client that had finished, not a timeout


@dataclass(frozen=True)
class Distribution:
    """The contents of a histogram at one moment.

    Attributes:
        bounds: the upper bound of each bucket, in seconds or in whatever is counted.
        counts: the number of values in each bucket, and one more number for the values above the last bound.
        total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Distribution:
        """Returns the present contents of `histogram`."""
        return cls(histogram.bounds, tuple(histogram.counts), histogram.total)

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean of all values; None without values."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Returns the lowest bound that at least `share` of the values do not exceed.

        Args:
            share: from 0 to 1; 0.5 asks for the median.

        Returns:
            The bound, as exact as the buckets are; inf if only the bucket above the last bound reaches the share; None
            without values.
        """
        left = share * self.count
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            left -= count
            if left <= 0 and self.count:
                return bound
        return None

    def as_json(self) -> dict[str, object]:
        """Returns the count, the total and all buckets, as pairs of bound and count.

        The bucket above the last bound has None as its bound, since JSON has no infinity.
        """
        pairs = zip((*self.bounds, None), self.counts, strict=True)
        return {"count": self.count, "total": self.total, "buckets": list(pairs)}


_NO_TIMES = Distribution.of(Histogram(TIMES))
_NO_COUNTS = Distribution.of(Histogram(COUNTS))


@dataclass(frozen=True)
class PeerFigures:
    """What one host has done with its connections; see `kaserve.telemetry.peers.Peer`.

    Attributes:
        idle_timeout: seconds after which the host closes its idle connections, as far as its closes show that; None if
            they do not.
    """

    host: str
    connections: int = 0
    requests: int = 0
    single_request: int = 0
    unused: int = 0
    closed_by_peer: int = 0
    idle_timeout: float | None = None
    closed_by_server: int = 0
    races_lost: int = 0

    @classmethod
    def of(cls, peer: Peer) -> PeerFigures:
        """Returns the present figures of `peer`."""
        return cls(
            host=peer.host,
            connections=peer.connections,
            requests=peer.requests,
            single_request=peer.single_request,
            unused=peer.unused,
            closed_by_peer=peer.closed_by_peer,
            idle_timeout=detected_idle_timeout(peer.idle_times),
            closed_by_server=peer.closed_by_server,
            races_lost=peer.races_lost,
        )


def detected_idle_timeout(idle_times: Iterable[float]) -> float | None:
    """Returns the idle timeout that a peer seems to have.

    Args:
        idle_times: seconds for which connections had been idle when the peer closed them.

    Returns:
        The median, if three quarters of at least three times are within 5 % (or half a second) of it, and it is at
        least a second; rounded to whole seconds, as timeouts are set, if it is within half a percent of them. Otherwise
        None: the peer closes at no particular time.
    """
    times = list(idle_times)
    if len(times) < _MIN_CLOSES:
        return None
    median = statistics.median(times)
    tolerance = max(_NEAR_SECONDS, _NEAR_SHARE * median)
    near = sum(abs(time - median) <= tolerance for time in times)
    if median < _MIN_IDLE_TIMEOUT or near < _MIN_SHARE_NEAR * len(times):
        return None
    rounded = round(median)
    return float(rounded) if abs(median - rounded) <= _ROUNDING * median else median


@dataclass(frozen=True)
class Settings:
    """The settings that the figures are judged by, with their names and units in `Config`.

    Attributes:
        keep_alive: 0 while keep-alive is off.
        max_connections: the limit in force, which may be that of the descriptors; 0 if it is not known.
    """

    keep_alive: float = 120.0
    keep_alive_requests: int = 1000
    keep_alive_time: float = 3600.0
    header_timeout: float = 30.0
    send_timeout: float = 60.0
    max_connections: int = 0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All figures of a server at one moment. The counters are those of `kaserve.telemetry.counters.Stats`.

    Attributes:
        uptime: seconds since the server started.
        settings: what the figures are judged by.
        open: open connections, by the name of their phase.
        closed: connections that have ended, by the reason.
        races_lost: requests that arrived after the server had closed an idle connection, by the reason of that close.
        statuses: responses by class, such as "2xx".
        peers: the hosts with the most connections, the busiest first.
        upstreams: the servers behind proxies.
    """

    uptime: float = 0.0
    settings: Settings = Settings()
    open: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0
    used: int = 0
    unused: int = 0
    requests: int = 0
    failed: int = 0
    races_lost: Counter[Ending] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0
    closed: Counter[Ending] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    statuses: Mapping[str, int] = field(default_factory=dict)
    gaps: Distribution = _NO_TIMES
    latency: Distribution = _NO_TIMES
    per_connection: Distribution = _NO_COUNTS
    client_closed: Distribution = _NO_TIMES
    peers: tuple[PeerFigures, ...] = ()
    upstreams: tuple[UpstreamFigures, ...] = ()

    @property
    def handshakes_saved(self) -> int:
        """Requests that found their connection already open."""
        return self.gaps.count

    @property
    def reuse_ratio(self) -> float:
        """The share of the requests that needed no new connection, from 0 to 1."""
        requests = self.used + self.handshakes_saved
        return self.handshakes_saved / requests if requests else 0.0

    @property
    def ended(self) -> int:
        """Connections that have ended."""
        return self.closed.total()

    def as_json(self) -> dict[str, object]:
        """Returns all figures, the derived ones included, as data that `json.dumps` accepts."""
        shown: dict[str, object] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            shown[each.name] = value.as_json() if isinstance(value, Distribution) else value
        shown["settings"] = dataclasses.asdict(self.settings)
        shown["peers"] = [dataclasses.asdict(peer) for peer in self.peers]
        shown["upstreams"] = [dataclasses.asdict(upstream) for upstream in self.upstreams]
        shown["refused"] = {str(status): count for status, count in self.refused.items()}
        return shown | {"handshakes_saved": self.handshakes_saved, "reuse_ratio": self.reuse_ratio}


def take_snapshot(
    stats: Stats,
    phases: Iterable[str],
    settings: Settings,
    uptime: float,
    upstreams: Iterable[UpstreamFigures] = (),
) -> Snapshot:
    """Returns a snapshot of `stats`. Must be called in the reactor's thread, which changes the counters.

    Args:
        stats: the counters.
        phases: the name of the phase of each open connection.
        settings: what the figures are to be judged by.
        uptime: seconds since the server started.
        upstreams: the figures of the servers behind proxies.
    """
    return Snapshot(
        uptime=uptime,
        settings=settings,
        open=Counter(phases),
        accepted=stats.accepted,
        used=stats.used,
        unused=stats.unused,
        requests=stats.requests,
        failed=stats.failed,
        races_lost=stats.races_lost.copy(),
        received=stats.received,
        sent=stats.sent,
        closed=stats.closed.copy(),
        refused=stats.refused.copy(),
        statuses={f"{digit}xx": count for digit, count in enumerate(stats.statuses.counts, 1)},
        gaps=Distribution.of(stats.gaps),
        latency=Distribution.of(stats.latency),
        per_connection=Distribution.of(stats.per_connection),
        client_closed=Distribution.of(stats.client_closed),
        peers=tuple(PeerFigures.of(peer) for peer in stats.peers.by_connections()),
        upstreams=tuple(upstreams),
    )
