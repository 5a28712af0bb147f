"""Timing by pytest-benchmark, for the benchmarks of parts (`bench_*.py`).

The calibration of pytest-benchmark looks for a few microseconds. An interruption that lasts longer disturbs it; then it
times single calls, clock included. So the number of calls in a round is chosen here, from the best of several attempts.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_ROUND_SECONDS = 0.001
"""Long enough for the clock not to matter, and short enough to fall between two interruptions."""
_FEWEST_ROUNDS, _MAX_ROUNDS = 11, 5000
_ATTEMPTS = 3


class Timing:
    """One row of one table. Benchmarks get it as the fixture `timing`, and call `row` and one of the others."""

    def __init__(self, benchmark: Any, seconds: float) -> None:
        """benchmark: the fixture, which has no types. seconds: how long to measure (--benchmark-max-time)."""
        self._benchmark = benchmark
        self._seconds = seconds

    def row(self, table: str, name: str) -> None:
        """Names what is measured; `ratios.py` finds the figures by these two names."""
        self._benchmark.group = table
        self._benchmark.name = name

    def time(self, function: Callable[..., T], *arguments: object) -> T:
        """Times a function that can be called repeatedly; returns what its last call returned."""
        calls = self._calls_per_round(function, *arguments)
        rounds = min(int(self._seconds / _ROUND_SECONDS), _MAX_ROUNDS)
        result: T = self._benchmark.pedantic(
            function, arguments, iterations=calls, rounds=max(rounds, _FEWEST_ROUNDS), warmup_rounds=2
        )
        return result

    def time_fresh(self, prepare: Callable[[], T], work: Callable[[T], object], batch: int = 1) -> None:
        """Times `work` on things that can be used only once. Preparing them is not part of the figures.

        batch: how many there are in a round, and thus in its figure; more than one for work that is too short for the
        clock. The table should say so.
        """

        def things() -> list[T]:
            return [prepare() for _ in range(batch)]

        def run(things: list[T]) -> None:
            for thing in things:
                work(thing)

        rounds = min(int(self._seconds / _fastest(lambda: run(things()))), _MAX_ROUNDS)
        self._benchmark.pedantic(
            run, setup=lambda: ((things(),), {}), rounds=max(rounds, _FEWEST_ROUNDS), warmup_rounds=2
        )

    def _calls_per_round(self, function: Callable[..., object], *arguments: object) -> int:
        """How many calls make a round."""
        calls = 1
        while True:
            if _fastest(partial(_repeat, calls, function, *arguments)) > _ROUND_SECONDS / 2:
                return calls
            calls *= 2


def _repeat(calls: int, function: Callable[..., object], *arguments: object) -> None:
    for _ in range(calls):
        function(*arguments)


def _fastest(function: Callable[[], object]) -> float:
    """Seconds that a call takes without interruptions: the best of several."""
    seconds = []
    for _ in range(_ATTEMPTS):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
