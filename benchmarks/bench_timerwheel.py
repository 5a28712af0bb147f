"""The timer wheel against a heap and a linear scan, with the 100,000 timers of as many open connections.

Run with `PYTHONPATH=. python -m pytest benchmarks/bench_timerwheel.py`. The questions are those of a server:

- touch one: a request came in, the idle deadline of its connection moves
- touch all: the same for every connection, once
- nothing due: what the timers cost a turn of the reactor in which no deadline passes
- expire all: everybody fell silent

The heap deletes lazily, as asyncio's does: a touch pushes a new entry, the old one is thrown away when it
surfaces, and when the dead outnumber the living the heap is rebuilt. The scan looks at every timer each time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

import pytest

from kaserve.net.timerwheel import Timer, TimerWheel

Benchmark = Any  # pytest-benchmark's fixture, which has no types

TIMERS = 100_000
NOW = 1000.0
KEEP_ALIVE = 120.0


class Clockwork(Protocol):
    """What is compared."""

    def schedule(self, timer: Timer, deadline: float) -> None: ...

    def expire(self, now: float) -> list[Timer]: ...


class Heap:
    """A priority queue; entries that no longer say what the timer says are dead."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Timer]] = []
        self.pushes = 0  # also keeps timers with equal deadlines from being compared
        self.alive: set[Timer] = set()

    def schedule(self, timer: Timer, deadline: float) -> None:
        timer.deadline = deadline
        self.pushes += 1
        self.alive.add(timer)
        heappush(self.entries, (deadline, self.pushes, timer))
        if len(self.entries) > 2 * len(self.alive) + 100:
            self.entries = [entry for entry in self.entries if entry[0] == entry[2].deadline]
            heapify(self.entries)

    def expire(self, now: float) -> list[Timer]:
        fired = []
        while self.entries and self.entries[0][0] <= now:
            deadline, _, timer = heappop(self.entries)
            if deadline == timer.deadline and timer in self.alive:
                self.alive.remove(timer)
                fired.append(timer)
        return fired


class Scan:
    """No structure at all."""

    def __init__(self) -> None:
        self.timers: set[Timer] = set()

    def schedule(self, timer: Timer, deadline: float) -> None:
        timer.deadline = deadline
        self.timers.add(timer)

    def expire(self, now: float) -> list[Timer]:
        fired = [timer for timer in self.timers if timer.deadline <= now]
        self.timers.difference_update(fired)
        fired.sort(key=lambda timer: timer.deadline)
        return fired


def wheel() -> Clockwork:
    return TimerWheel(NOW)


CONTENDERS: list[Callable[[], Clockwork]] = [wheel, Heap, Scan]


def filled(contender: Callable[[], Clockwork]) -> tuple[Clockwork, list[Timer]]:
    """All timers, their deadlines spread over the time in which their connections were last heard of."""
    clockwork = contender()
    timers = [Timer() for _ in range(TIMERS)]
    for number, timer in enumerate(timers):
        clockwork.schedule(timer, NOW + KEEP_ALIVE * (1 + number) / TIMERS)
    return clockwork, timers


def touch_all(clockwork: Clockwork, timers: list[Timer]) -> None:
    for timer in timers:
        clockwork.schedule(timer, timer.deadline + KEEP_ALIVE)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group="touch one")
def test_touch_one(benchmark: Benchmark, contender: Callable[[], Clockwork]) -> None:
    clockwork, timers = filled(contender)
    timer = timers[TIMERS // 2]

    def touch() -> None:
        clockwork.schedule(timer, timer.deadline + 0.001)

    benchmark.pedantic(touch, rounds=50, iterations=10_000)


@pytest.mark.benchmark(group="touch one")
def test_touch_one_by_assignment(benchmark: Benchmark) -> None:
    _, timers = filled(wheel)
    timer = timers[TIMERS // 2]

    def touch() -> None:
        timer.deadline = timer.deadline + 0.001

    benchmark.pedantic(touch, rounds=50, iterations=10_000)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group="touch all")
def test_touch_all(benchmark: Benchmark, contender: Callable[[], Clockwork]) -> None:
    def setup() -> tuple[Any, dict[str, Any]]:
        return filled(contender), {}

    benchmark.pedantic(touch_all, setup=setup, rounds=10)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group="nothing due")
def test_nothing_due(benchmark: Benchmark, contender: Callable[[], Clockwork]) -> None:
    clockwork, _ = filled(contender)
    assert not benchmark(clockwork.expire, NOW)


@pytest.mark.parametrize("touched", [False, True], ids=["fresh", "touched"])
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group="expire all")
def test_expire_all(benchmark: Benchmark, contender: Callable[[], Clockwork], touched: bool) -> None:
    """Touched: every deadline was extended once, and the wheel has yet to move the entries."""

    def setup() -> tuple[Any, dict[str, Any]]:
        clockwork, timers = filled(contender)
        if touched:
            touch_all(clockwork, timers)
        return (clockwork,), {}

    def expire(clockwork: Clockwork) -> None:
        fired = 0
        now = NOW
        while fired < TIMERS:
            now += 0.125
            fired += len(clockwork.expire(now))

    def expire_at_once(clockwork: Clockwork) -> None:
        assert len(clockwork.expire(NOW + 2 * KEEP_ALIVE)) == TIMERS

    # A scan in each of a thousand turns would take a minute; it is given the easier task.
    benchmark.pedantic(expire_at_once if contender is Scan else expire, setup=setup, rounds=5)
