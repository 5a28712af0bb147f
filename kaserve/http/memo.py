"""Bounded memos: results that are kept because the same values come again and again.

A persistent connection repeats itself: the same header lines, hosts and statuses come with every request. A memo is a
plain dict, so that a lookup costs what a dict lookup costs; the compiled modules declare theirs as `dict`, which a
subclass of dict would not fit. Only adding a result goes through this module.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["remember"]

K = TypeVar("K")
V = TypeVar("V")


def remember(memo: dict[K, V], key: K, value: V, limit: int) -> None:
    """Adds a result to `memo`, which is emptied first if it is full.

    A memo that is full has seen more values than will ever repeat, a client that makes them up for instance. Filling it
    again with those that do repeat costs less than any bookkeeping of which were used last would cost with each lookup.

    Args:
        memo: from keys to results.
        key: what was looked up. The caller makes sure that it is not too large to keep.
        value: the result.
        limit: number of results in `memo` at most.
    """
    if len(memo) >= limit:
        memo.clear()
    memo[key] = value
