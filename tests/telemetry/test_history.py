"""The history of the live page: rates and response times of the intervals between snapshots."""

from __future__ import annotations

import pytest

from kaserve.telemetry.counters import Stats
from kaserve.telemetry.histogram import Histogram
from kaserve.telemetry.history import FIELDS, History, Sample, interpolated_quantile
from kaserve.telemetry.snapshot import Distribution


def taken(stats: Stats, time: float, open: int = 0) -> Sample:
    return Sample.take(stats, time, open, Stats(), 0)


def test_an_interval() -> None:
    stats, history = Stats(), History()
    stats.latency.add(4.0)
    history.add(taken(stats, 10.0))
    assert history.render() == []
    stats.requests += 10
    stats.accepted += 4
    stats.sent += 1000
    stats.received += 100
    for _ in range(100):
        stats.latency.add(0.001)
    history.add(taken(stats, 12.0, 3))
    (interval,) = history.render()
    assert dict(zip(FIELDS, interval, strict=True)) == {
        "time": 12.0,
        "requests": 5.0,
        "connections": 2.0,
        "sent": 500.0,
        "received": 50.0,
        "open": 3,
        "p50": 0.00075,
        "p95": 0.000975,
        "p99": 0.000995,
    }


def test_a_sample_has_none_of_the_servers_own_requests() -> None:
    stats, own = Stats(), Stats()
    stats.accepted, stats.received, stats.sent = 5, 50, 500
    own.accepted, own.received = 1, 10
    sample = Sample.take(stats, 1.0, 2, own, 100)
    assert (sample.accepted, sample.received, sample.sent, sample.open) == (4, 40, 400, 2)


def test_an_interval_without_responses_has_no_times() -> None:
    history = History()
    history.add(taken(Stats(), 1.0))
    history.add(taken(Stats(), 2.0))
    assert history.render() == [(2.0, 0.0, 0.0, 0.0, 0.0, 0, None, None, None)]


def test_two_snapshots_at_the_same_time_make_no_interval() -> None:
    history = History()
    history.add(taken(Stats(), 1.0))
    history.add(taken(Stats(), 1.0))
    assert history.render() == []


def test_rates_are_never_negative() -> None:
    stats, history = Stats(), History()
    stats.sent = 100
    history.add(taken(stats, 1.0))
    stats.sent = 90
    history.add(taken(stats, 2.0))
    assert history.render()[0][FIELDS.index("sent")] == 0.0


def test_the_number_of_intervals_is_limited() -> None:
    history = History()
    for second in range(1000):
        history.add(taken(Stats(), float(second)))
    assert [interval[0] for interval in history.render()] == [float(second) for second in range(850, 1000)]
    assert [interval[0] for interval in history.render(2)] == [998.0, 999.0]


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [
        pytest.param([1, 1, 1, 1], 0.5, 0.5, id="in the first bucket"),
        pytest.param([3, 3, 3, 3], 0.5, 3.5, id="between two bounds"),
        pytest.param([1, 3], 0.5, 1.0, id="exactly a bound"),
        pytest.param([1, 1, 1, 9], 1.0, 5.0, id="above the last bound"),
        pytest.param([9], 0.5, 5.0, id="all above the last bound"),
        pytest.param([], 0.5, None, id="no values"),
    ],
)
def test_interpolated_quantiles(values: list[float], share: float, value: float | None) -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    for each in values:
        histogram.add(each)
    assert interpolated_quantile(Distribution.of(histogram), share) == value
