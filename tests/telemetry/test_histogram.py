"""Histograms: their bounds, and that every value is counted in its bucket."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.telemetry.histogram import COUNTS, TIMES, Histogram


@pytest.mark.parametrize("bounds", [TIMES, COUNTS], ids=["times", "counts"])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_bounds_are_round() -> None:
    assert TIMES[:4] == (1e-5, 2e-5, 5e-5, 1e-4)
    assert TIMES[-1] == 5000.0
    assert COUNTS[:6] == (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)


def test_a_value_equal_to_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.0, 1.0, 1.5, 10.0, 10.5, -3.0):
        histogram.add(value)
    assert histogram.counts == [3, 2, 1]
    assert histogram.total == 20.0


def test_reading_the_counts_changes_nothing() -> None:
    histogram = Histogram((1.0,))
    histogram.add(5.0)
    assert histogram.counts == histogram.counts == [0, 1]
    histogram.counts.clear()
    histogram.add(5.0)
    assert histogram.counts == [0, 2]


@given(st.lists(st.sampled_from([0.0, 1e-6, 1e-5, 0.00003, 0.1, 0.2, 1.0, 4999.0, 5000.0, 1e9])))
def test_every_value_is_counted_in_its_bucket(values: list[float]) -> None:
    histogram = Histogram(TIMES)
    expected = [0] * (len(TIMES) + 1)
    for value in values:
        histogram.add(value)
        expected[bisect_left(TIMES, value)] += 1
    assert histogram.counts == expected
    assert histogram.total == pytest.approx(sum(values))
