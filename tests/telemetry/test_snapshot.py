"""Snapshots, their JSON, and the figures that follow from the counters."""

from __future__ import annotations

import json
import math

import pytest

from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.endings import Ending
from kaserve.telemetry.histogram import TIMES, Histogram
from kaserve.telemetry.peers import Peer
from kaserve.telemetry.snapshot import Distribution, PeerFigures, Settings, Snapshot, take_snapshot


def counted() -> Stats:
    stats = Stats()
    stats.accepted = 3
    for gap in (NO_GAP, 0.1, 0.1, NO_GAP, 20.0):
        stats.request_parsed(gap)
        stats.response_started(200)
        stats.latency.add(0.001)
    stats.refused[400] += 1
    stats.sent += 1000
    stats.race_lost(Ending.DRAIN)
    stats.connection_ended(Ending.CLIENT, "10.0.0.5", 3, 60.0, by_client=True, race_lost=False)
    return stats


def test_a_snapshot() -> None:
    snapshot = take_snapshot(counted(), ["IDLE", "SEND", "IDLE"], Settings(keep_alive=30.0), 12.5)
    assert (snapshot.accepted, snapshot.used, snapshot.requests, snapshot.ended) == (3, 2, 5, 1)
    assert snapshot.open == {"IDLE": 2, "SEND": 1}
    assert snapshot.statuses == {"1xx": 0, "2xx": 5, "3xx": 0, "4xx": 0, "5xx": 0}
    assert (snapshot.handshakes_saved, snapshot.reuse_ratio) == (3, 0.6)
    assert (snapshot.closed[Ending.CLIENT], snapshot.closed[Ending.IDLE]) == (1, 0)
    assert snapshot.races_lost == {"drain": 1}
    assert snapshot.peers == (PeerFigures("10.0.0.5", connections=1, requests=3, closed_by_peer=1),)


def test_a_snapshot_does_not_change_with_the_counters() -> None:
    stats = counted()
    snapshot = take_snapshot(stats, [], Settings(), 0.0)
    before = json.dumps(snapshot.as_json())
    stats.closed[Ending.CLIENT] += 1
    stats.races_lost[Ending.DRAIN] += 1
    stats.latency.add(0.001)
    stats.response_started(500)
    stats.refused[400] += 1
    stats.peers.of("10.0.0.5").connections += 1
    assert json.dumps(snapshot.as_json()) == before


def test_json_has_all_figures() -> None:
    shown = json.loads(json.dumps(take_snapshot(counted(), ["IDLE"], Settings(), 1.0).as_json()))
    assert shown["open"] == {"IDLE": 1}
    assert shown["closed"] == {"client": 1}
    assert shown["races_lost"] == {"drain": 1}
    assert shown["refused"] == {"400": 1}
    gaps = shown["gaps"]
    assert (gaps["count"], gaps["total"], len(gaps["buckets"])) == (3, pytest.approx(20.2), len(TIMES) + 1)
    assert [pair for pair in gaps["buckets"] if pair[1]] == [[0.1, 2], [20.0, 1]]
    assert shown["peers"][0]["host"] == "10.0.0.5"
    assert shown["settings"]["keep_alive"] == 120.0
    assert shown["reuse_ratio"] == 0.6


def test_a_new_server() -> None:
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
        pytest.param([1, 1, 1, 1.5], 0.5, 1.0, id="median"),
        pytest.param([1, 1, 1, 1.5], 0.75, 1.0, id="exactly the first bucket"),
        pytest.param([1, 1, 1, 1.5], 0.76, 2.0, id="just more than the first bucket"),
        pytest.param([1, 1, 1, 1.5], 1.0, 2.0, id="maximum"),
        pytest.param([9], 0.5, math.inf, id="above the last bound"),
        pytest.param([], 0.5, None, id="no values"),
    ],
)
def test_quantiles(values: list[float], share: float, bound: float | None) -> None:
    assert distribution(*values).quantile(share) == bound


def test_mean() -> None:
    assert distribution(1, 2, 9).mean == 4.0


def test_the_bucket_above_the_last_bound_has_no_bound_in_json() -> None:
    assert distribution(1, 9, 9).as_json() == {
        "count": 3,
        "total": 19.0,
        "buckets": [(1.0, 1), (2.0, 0), (5.0, 0), (None, 2)],
    }


# Idle timeouts of peers.


@pytest.mark.parametrize(
    ("idle_times", "timeout"),
    [
        pytest.param([60.0, 60.1, 59.9], 60.0, id="three times"),
        pytest.param([60.0, 60.1], None, id="too few times"),
        pytest.param([60.0, 60.0, 60.0, 3.0], 60.0, id="three quarters"),
        pytest.param([60.0, 60.0, 5.0, 3.0], None, id="half of the times"),
        pytest.param([1.0, 20.0, 40.0, 60.0], None, id="no particular time"),
        pytest.param([0.01, 0.01, 0.01], None, id="clients that had finished"),
        pytest.param([5.0, 5.4, 4.6], 5.0, id="within half a second"),
        pytest.param([5.0, 5.6, 4.4], None, id="not within half a second"),
        pytest.param([300.0, 310.0, 290.0], 300.0, id="within 5 percent"),
        pytest.param([60.1, 60.08, 60.2], 60.0, id="rounded to what was set"),
        pytest.param([2.5, 2.5, 2.5], 2.5, id="not in whole seconds"),
    ],
)
def test_the_idle_timeout_of_a_peer(idle_times: list[float], timeout: float | None) -> None:
    peer = Peer("h")
    peer.idle_times.extend(idle_times)
    assert PeerFigures.of(peer).idle_timeout == timeout
