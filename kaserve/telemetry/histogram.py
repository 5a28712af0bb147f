"""Histogram: counts values in fixed buckets, for a few nanoseconds each.

Consecutive values are alike more often than not, so the bucket of the last value is tried first: adding a value is then
two comparisons and two additions, where a search through the bounds would cost as much as all other counters of a
request together. Knows nothing of what the values mean. Not safe for several threads.
"""

from __future__ import annotations

import math
from bisect import bisect_left

__all__ = ["CLASSES", "COUNTS", "TIMES", "Histogram"]


def _one_two_five(first: int, last: int) -> tuple[float, ...]:
    """Returns 1, 2 and 5 times each power of ten from 10 ** first up to, but without, 10 ** last."""
    return tuple(float(f"{digit}e{power}") for power in range(first, last) for digit in (1, 2, 5))


TIMES = _one_two_five(-5, 4)
"""Bounds for seconds: from 10 microseconds to 5000 seconds."""
COUNTS = (1.0, 2.0, 3.0, *_one_two_five(0, 6)[2:])
"""Bounds for numbers of requests: from 1 to 500,000."""
CLASSES = (199.0, 299.0, 399.0, 499.0)
"""Bounds for statuses, so that each class (1xx to 5xx) is a bucket."""


class Histogram:
    """Values counted in buckets.

    Attributes:
        bounds: the upper bounds of the buckets, rising. A value belongs to the first bucket whose bound it does not
            exceed; one more bucket, without a bound, takes the values above the last bound.
        total: the sum of all values.

    >>> histogram = Histogram((1.0, 10.0))
    >>> for value in (1, 2, 3, 99):
    ...     histogram.add(value)
    >>> histogram.counts
    [1, 2, 1]
    """

    __slots__ = ("_counts", "_high", "_index", "_low", "_pending", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)
        # The bucket of the last value: its index, and its bounds (above `_low`, up to and including `_high`).
        self._index = 0
        self._low = -math.inf
        self._high = bounds[0]
        # Values in that bucket since it was chosen, which are not in `_counts` yet: adding to an attribute of a
        # compiled class is cheaper than to an element of a list.
        self._pending = 0

    def add(self, value: float) -> None:
        """Counts `value`."""
        if not self._low < value <= self._high:
            self._select_bucket(value)
        self._pending += 1
        self.total += value

    def _select_bucket(self, value: float) -> None:
        """Stores the pending values, and makes the bucket of `value` the current one."""
        self._counts[self._index] += self._pending
        self._pending = 0
        index = bisect_left(self.bounds, value)
        self._index = index
        self._low = self.bounds[index - 1] if index else -math.inf
        self._high = self.bounds[index] if index < len(self.bounds) else math.inf

    @property
    def counts(self) -> list[int]:
        """The number of values in each bucket, as a new list: one for each bound, and one above the last bound."""
        counts = self._counts.copy()
        counts[self._index] += self._pending
        return counts
