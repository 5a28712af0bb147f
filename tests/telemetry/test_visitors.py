"""The figures without the server's own requests."""

from __future__ import annotations

from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.snapshot import Settings, take_snapshot
from kaserve.telemetry.visitors import leave_out


def test_a_snapshot_without_the_servers_own_requests() -> None:
    stats, own = Stats(), Stats()
    stats.accepted = 3
    stats.received, stats.sent = 5, 1000
    for gap in (NO_GAP, 0.1, 0.1, NO_GAP, 20.0):
        stats.request_parsed(gap)
        stats.response_started(200)
    own.accepted = 1
    own.request_parsed(NO_GAP)
    own.request_parsed(0.1)
    own.response_started(200)  # never was among the figures
    own.received = 10
    snapshot = leave_out(take_snapshot(stats, [], Settings(), 1.0), own, 400)
    assert (snapshot.accepted, snapshot.used, snapshot.requests, snapshot.gaps.count) == (2, 1, 5, 2)
    assert (snapshot.received, snapshot.sent) == (0, 600)  # the size of requests is an estimate
