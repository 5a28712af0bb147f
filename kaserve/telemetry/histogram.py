"""Histogram: how often values of which size were seen, in buckets that are fixed, at next to no cost for each.

Consecutive values are alike more often than not, so the bucket of the last one is tried first: adding is then two
comparisons and two sums. Knows nothing of what the values mean. Not for several threads.
"""

from __future__ import annotations

import math
from bisect import bisect_left

__all__ = ["CLASSES", "COUNTS", "TIMES", "Histogram"]


def _one_two_five(first: int, last: int) -> tuple[float, ...]:
    """1, 2 and 5 times each power of ten, from 10 ** first up to, and without, 10 ** last."""
    return tuple(float(f"{digit}e{power}") for power in range(first, last) for digit in (1, 2, 5))


TIMES = _one_two_five(-5, 4)  # seconds: 10 microseconds to 5000 seconds
COUNTS = (1.0, 2.0, 3.0, *_one_two_five(0, 6)[2:])  # of requests: 1 to 500,000
CLASSES = (199.0, 299.0, 399.0, 499.0)  # of statuses: 1xx to 5xx


class Histogram:
    """bounds: of the buckets, rising; a value belongs to the first bucket whose bound it does not exceed, and there is
    one more behind the last bound. total: the sum of all values.

    >>> histogram = Histogram((1.0, 10.0))
    >>> for value in (1, 2, 3, 99):
    ...     histogram.add(value)
    >>> histogram.counts
    [1, 2, 1]
    """

    __slots__ = ("_counts", "_here", "_high", "_hits", "_low", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)
        self._here = 0  # the bucket of the last value: above `_low`, up to `_high`
        self._low = -math.inf
        self._high = bounds[0]
        self._hits = 0  # values in a row in that bucket, not in `_counts` yet

    def add(self, value: float) -> None:
        if not self._low < value <= self._high:
            self._move(value)
        self._hits += 1
        self.total += value

    def _move(self, value: float) -> None:
        """To the bucket of `value`."""
        self._counts[self._here] += self._hits
        self._hits = 0
        here = bisect_left(self.bounds, value)
        self._here = here
        self._low = self.bounds[here - 1] if here else -math.inf
        self._high = self.bounds[here] if here < len(self.bounds) else math.inf

    @property
    def counts(self) -> list[int]:
        """Values in each bucket."""
        counts = self._counts.copy()
        counts[self._here] += self._hits
        return counts
