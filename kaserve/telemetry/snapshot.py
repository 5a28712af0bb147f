"""What the server has counted, at one moment: a typed snapshot, and the figures that follow from it.

Knows the counters of `net.stats` and the settings they are judged by. A snapshot is data: whoever has it needs neither
a lock nor the server's thread.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .counters import Stats
from .histogram import COUNTS, TIMES, Histogram
from .peers import Peer

__all__ = ["Distribution", "PeerFigures", "Settings", "Snapshot", "take_snapshot"]

_FEWEST_CLOSINGS = 3  # that make a habit
_HABIT = 0.75  # of the closings of a peer that has one
_SPREAD = 0.05  # of the time itself; and at least
_LEAST_SPREAD = 0.5  # seconds
_NEARLY = 0.005  # of a time, which its way through the network may have changed
_SHORTEST_HABIT = 1.0  # below that it is no time-out but a client that was done


@dataclass(frozen=True)
class Distribution:
    """A histogram that does not change any more. bounds: the highest value of each bucket, in seconds or whatever is
    counted. counts: of the bounds, and one behind the last of them. total: of all values."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Distribution:
        """What `histogram` holds now."""
        return cls(histogram.bounds, tuple(histogram.counts), histogram.total)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Of all values; None without any."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The bound that `share` of the values do not exceed, inf behind the last one; None without values."""
        left = share * self.count
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            left -= count
            if left <= 0 and self.count:
                return bound
        return None

    def as_json(self) -> dict[str, object]:
        """The buckets that hold something, as pairs of bound and count; null is the bound of what exceeds them all."""
        pairs = zip((*self.bounds, None), self.counts, strict=True)
        return {"count": self.count, "total": self.total, "buckets": [pair for pair in pairs if pair[1]]}


_NO_TIMES = Distribution.of(Histogram(TIMES))
_NO_COUNTS = Distribution.of(Histogram(COUNTS))


@dataclass(frozen=True)
class PeerFigures:
    """See `net.peers.Peer`. closes_after: seconds after which it is in the habit of closing idle connections; None
    without such a habit."""

    host: str
    connections: int = 0
    requests: int = 0
    single: int = 0
    silent: int = 0
    times_closed: int = 0
    closes_after: float | None = None
    outlived: int = 0
    races_lost: int = 0

    @classmethod
    def of(cls, peer: Peer) -> PeerFigures:
        """What `peer` has shown until now."""
        return cls(
            peer.host,
            peer.connections,
            peer.requests,
            peer.single,
            peer.silent,
            peer.times_closed,
            _habit(peer.closed_idle),
            peer.outlived,
            peer.races_lost,
        )


def _habit(closed_idle: Iterable[float]) -> float | None:
    """The time that most of the `closed_idle` are close to."""
    times = list(closed_idle)
    if len(times) < _FEWEST_CLOSINGS:
        return None
    middle = statistics.median(times)
    spread = max(_LEAST_SPREAD, _SPREAD * middle)
    near = sum(abs(time - middle) <= spread for time in times)
    if middle < _SHORTEST_HABIT or near < _HABIT * len(times):
        return None
    whole = round(middle)  # as time-outs are set
    return float(whole) if abs(middle - whole) <= _NEARLY * middle else middle


@dataclass(frozen=True)
class Settings:
    """The settings that the figures are judged by, by their names in `Config`."""

    keep_alive: float = 120.0
    keep_alive_requests: int = 1000
    keep_alive_time: float = 3600.0
    header_timeout: float = 30.0
    send_timeout: float = 60.0
    max_connections: int = 0  # 0: not known


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The counters have the names of `net.stats.Stats`. uptime: seconds. open: connections by the name of their phase.
    statuses: answers by class, "2xx"."""

    uptime: float = 0.0
    settings: Settings = Settings()
    open: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0
    used: int = 0
    unused: int = 0
    requests: int = 0
    failed: int = 0
    races_lost: int = 0
    received: int = 0
    sent: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    statuses: Mapping[str, int] = field(default_factory=dict)
    gaps: Distribution = _NO_TIMES
    latency: Distribution = _NO_TIMES
    per_connection: Distribution = _NO_COUNTS
    client_closed: Distribution = _NO_TIMES
    peers: tuple[PeerFigures, ...] = ()

    @property
    def handshakes_saved(self) -> int:
        """Requests that found their connection open."""
        return self.gaps.count

    @property
    def reuse_ratio(self) -> float:
        """The share of the requests that needed no new connection, 0 to 1."""
        requests = self.used + self.handshakes_saved
        return self.handshakes_saved / requests if requests else 0.0

    @property
    def ended(self) -> int:
        """Connections that are no more."""
        return sum(self.closed.values())

    def as_json(self) -> dict[str, object]:
        """What `json.dumps` takes, with the figures that follow."""
        shown: dict[str, object] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            shown[each.name] = value.as_json() if isinstance(value, Distribution) else value
        shown["settings"] = dataclasses.asdict(self.settings)
        shown["peers"] = [dataclasses.asdict(peer) for peer in self.peers]
        shown["refused"] = {str(status): count for status, count in self.refused.items()}
        return shown | {"handshakes_saved": self.handshakes_saved, "reuse_ratio": self.reuse_ratio}


def take_snapshot(stats: Stats, phases: Iterable[str], settings: Settings, uptime: float) -> Snapshot:
    """To be called in the reactor's thread. phases: of the open connections, by name, each once for each connection."""
    return Snapshot(
        uptime=uptime,
        settings=settings,
        open=Counter(phases),
        accepted=stats.accepted,
        used=stats.used,
        unused=stats.unused,
        requests=stats.requests,
        failed=stats.failed,
        races_lost=stats.races_lost,
        received=stats.received,
        sent=stats.sent,
        closed=stats.closed.copy(),
        refused=stats.refused.copy(),
        statuses={f"{digit}xx": count for digit, count in enumerate(stats.statuses.counts, 1)},
        gaps=Distribution.of(stats.gaps),
        latency=Distribution.of(stats.latency),
        per_connection=Distribution.of(stats.per_connection),
        client_closed=Distribution.of(stats.client_closed),
        peers=tuple(PeerFigures.of(peer) for peer in stats.peers.by_weight()),
    )
