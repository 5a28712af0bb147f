"""Snapshots, and the figures that follow from them."""

from __future__ import annotations

import json
import math

import pytest

from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.histogram import Histogram
from kaserve.telemetry.peers import Peer
from kaserve.telemetry.snapshot import Distribution, PeerFigures, Settings, Snapshot, take_snapshot


def counted() -> Stats:
    stats = Stats()
    stats.accepted = 3
    for gap in (NO_GAP, 0.1, 0.1, NO_GAP, 20.0):
        stats.request_came(gap)
        stats.answer_begun(200)
        stats.latency.add(0.001)
    stats.refused[400] += 1
    stats.sent += 1000
    stats.connection_ended("client", "10.0.0.5", 3, 60.0, by_client=True)
    return stats


def test_a_snapshot() -> None:
    snapshot = take_snapshot(counted(), ["IDLE", "SEND", "IDLE"], Settings(keep_alive=30.0), 12.5)
    assert (snapshot.accepted, snapshot.used, snapshot.requests, snapshot.ended) == (3, 2, 5, 1)
    assert snapshot.open == {"IDLE": 2, "SEND": 1}
    assert snapshot.statuses == {"1xx": 0, "2xx": 5, "3xx": 0, "4xx": 0, "5xx": 0}
    assert (snapshot.handshakes_saved, snapshot.reuse_ratio) == (3, 0.6)
    assert (snapshot.closed["client"], snapshot.closed["idle"]) == (1, 0)
    assert snapshot.peers == (PeerFigures("10.0.0.5", connections=1, requests=3, times_closed=1),)


def test_a_snapshot_stays_as_it_is() -> None:
    stats = counted()
    snapshot = take_snapshot(stats, [], Settings(), 0.0)
    before = json.dumps(snapshot.as_json())
    stats.closed["client"] += 1
    stats.latency.add(0.001)
    stats.answer_begun(500)
    stats.refused[400] += 1
    stats.peers.of("10.0.0.5").connections += 1
    assert json.dumps(snapshot.as_json()) == before


def test_json_says_it_all() -> None:
    shown = json.loads(json.dumps(take_snapshot(counted(), ["IDLE"], Settings(), 1.0).as_json()))
    assert shown["open"] == {"IDLE": 1}
    assert shown["refused"] == {"400": 1}
    assert shown["gaps"] == {"count": 3, "total": pytest.approx(20.2), "buckets": [[0.1, 2], [20.0, 1]]}
    assert shown["peers"][0]["host"] == "10.0.0.5"
    assert shown["settings"]["keep_alive"] == 120.0
    assert shown["reuse_ratio"] == 0.6


def test_nothing_has_happened_yet() -> None:
    empty = Snapshot()
    assert (empty.reuse_ratio, empty.handshakes_saved, empty.latency.mean, empty.latency.quantile(0.5)) == (
        0,
        0,
        None,
        None,
    )
    assert json.dumps(empty.as_json(), allow_nan=False)


# Distributions.


def distribution(*values: float) -> Distribution:
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in values:
        histogram.add(value)
    return Distribution.of(histogram)


@pytest.mark.parametrize(
    ("values", "share", "bound"),
    [
        ([1, 1, 1, 1.5], 0.5, 1.0),
        ([1, 1, 1, 1.5], 0.75, 1.0),
        ([1, 1, 1, 1.5], 0.76, 2.0),
        ([1, 1, 1, 1.5], 1.0, 2.0),
        ([9], 0.5, math.inf),
        ([], 0.5, None),
    ],
)
def test_quantiles(values: list[float], share: float, bound: float | None) -> None:
    assert distribution(*values).quantile(share) == bound


def test_mean() -> None:
    assert distribution(1, 2, 9).mean == 4.0


def test_what_exceeds_all_bounds_has_none_in_json() -> None:
    assert distribution(1, 9, 9).as_json() == {"count": 3, "total": 19.0, "buckets": [(1.0, 1), (None, 2)]}


# Habits of peers.


@pytest.mark.parametrize(
    ("closings", "habit"),
    [
        ([60.0, 60.1, 59.9], 60.0),
        ([60.0, 60.1], None),  # too few
        ([60.0, 60.0, 60.0, 3.0], 60.0),
        ([60.0, 60.0, 5.0, 3.0], None),
        ([1.0, 20.0, 40.0, 60.0], None),
        ([0.01, 0.01, 0.01], None),  # clients that are done
        ([5.0, 5.4, 4.6], 5.0),
        ([5.0, 5.6, 4.4], None),
        ([300.0, 310.0, 290.0], 300.0),
        ([60.1, 60.08, 60.2], 60.0),  # as it was set
        ([2.5, 2.5, 2.5], 2.5),
    ],
)
def test_habits(closings: list[float], habit: float | None) -> None:
    peer = Peer("h")
    peer.closed_idle.extend(closings)
    assert PeerFigures.of(peer).closes_after == habit
