"""Bounded memos, on each build."""

from __future__ import annotations

from tests.tools.wire import Implementation


def test_results_are_kept_up_to_the_limit(implementation: Implementation) -> None:
    remember = implementation.module("memo").remember
    memo: dict[str, int] = {}
    for number in range(4):
        remember(memo, str(number), number, 4)
    assert memo == {"0": 0, "1": 1, "2": 2, "3": 3}


def test_a_full_memo_is_emptied(implementation: Implementation) -> None:
    remember = implementation.module("memo").remember
    memo = {"a": 1, "b": 2}
    remember(memo, "c", 3, 2)
    assert memo == {"c": 3}


def test_a_memo_never_grows_beyond_its_limit(implementation: Implementation) -> None:
    remember = implementation.module("memo").remember
    memo: dict[int, int] = {}
    for number in range(1000):
        remember(memo, number, -number, 16)
        assert 1 <= len(memo) <= 16
        assert memo[number] == -number
