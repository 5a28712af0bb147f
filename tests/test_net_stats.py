"""What is counted, event by event."""

from __future__ import annotations

from kaserve.net.stats import NO_GAP, Stats


def test_requests() -> None:
    stats = Stats()
    for gap in (NO_GAP, 0.5, 0.0, NO_GAP):
        stats.request_came(gap)
    for status in (200, 204, 404, 599):
        stats.answer_begun(status)
    assert (stats.used, stats.requests) == (2, 4)
    assert sum(stats.gaps.counts) == 2
    assert stats.statuses.counts == [0, 2, 0, 1, 1]


def ended(stats: Stats, reason: str, served: int = 5, idle: float = 60.0, *, by_client: bool = False) -> None:
    stats.connection_ended(reason, "h", served, idle, by_client=by_client)


def test_ends() -> None:
    stats = Stats()
    ended(stats, "client", by_client=True)
    ended(stats, "idle", 1)
    ended(stats, "idle, race lost")
    ended(stats, "drain, race lost")
    ended(stats, "answered", 1)
    assert stats.closed == {"client": 1, "idle": 1, "idle, race lost": 1, "drain, race lost": 1, "answered": 1}
    assert (sum(stats.per_connection.counts), stats.per_connection.total) == (5, 17.0)
    assert sum(stats.client_closed.counts) == 1
    peer = stats.peers.of("h")
    assert (peer.connections, peer.requests, peer.single, peer.silent) == (5, 17, 2, 0)
    assert (peer.times_closed, list(peer.closed_idle), peer.outlived, peer.races_lost) == (1, [60.0], 2, 2)


def test_connections_without_a_request() -> None:
    """Say nothing about idle times: their clients never wanted them kept."""
    stats = Stats()
    ended(stats, "client", 0, by_client=True)
    ended(stats, "idle", 0)
    assert (stats.unused, sum(stats.per_connection.counts), sum(stats.client_closed.counts)) == (2, 0, 0)
    peer = stats.peers.of("h")
    assert (peer.silent, peer.times_closed, peer.outlived) == (2, 0, 0)


def test_what_a_client_announces() -> None:
    stats = Stats()
    stats.connection_ended("client", "h", 1, 0.0, by_client=True, announced=30.0)
    stats.connection_ended("client", "h", 1, 0.0, by_client=True)
    assert stats.peers.of("h").announced == 30.0
