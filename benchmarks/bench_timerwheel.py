"""The timer wheel against a heap and a linear scan, with the 100,000 timers of as many open connections.

The questions are those of a server:

- touch one: a request came in, the idle deadline of its connection moves
- touch all: the same for every connection, once
- nothing due: what the timers cost in a turn of the reactor without an expired deadline
- expire all: all clients fell silent

The wheel is measured in kaserve's two builds. The heap deletes lazily, as asyncio's does: a touch pushes a new entry,
the old one is discarded when it reaches the top, and the heap is rebuilt when more than half of its entries are old.
The scan looks at every timer each time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

import pytest
from lib.builds import BUILDS, Build
from lib.timing import Timing

TIMERS = 100_000
NOW = 1000.0
KEEP_ALIVE = 120.0
TICK = 0.125


class Timer:
    """What heap and scan keep; the wheel has timers of its own."""

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline = 0.0


class Clockwork(Protocol):
    """What is compared."""

    def schedule(self, timer: Any, deadline: float) -> None: ...

    def expire(self, now: float) -> list[Any]: ...


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


Filled = tuple[Clockwork, list[Any]]


def filled(clockwork: Clockwork, new_timer: Callable[[], Any]) -> Filled:
    """All timers, their deadlines spread over the time in which their connections were last heard of."""
    timers = [new_timer() for _ in range(TIMERS)]
    for number, timer in enumerate(timers):
        clockwork.schedule(timer, NOW + KEEP_ALIVE * (1 + number) / TIMERS)
    return clockwork, timers


def filled_wheel(build: Build) -> Callable[[], Filled]:
    """The wheel of a build, with its timers."""
    module = build.module("net.timerwheel")
    return lambda: filled(module.TimerWheel(NOW), module.Timer)


WHEELS = {build.name: filled_wheel(build) for build in BUILDS}
CONTENDERS: dict[str, Callable[[], Filled]] = {
    **WHEELS,
    "heapq": lambda: filled(Heap(), Timer),
    "scan": lambda: filled(Scan(), Timer),
}


def touch_all(clockwork: Clockwork, timers: list[Any]) -> None:
    for timer in timers:
        clockwork.schedule(timer, timer.deadline + KEEP_ALIVE)


def expire_in_turns(clockwork: Clockwork) -> None:
    """Ask every tick, as a reactor does, until nothing is left."""
    fired = 0
    now = NOW
    while fired < TIMERS:
        now += TICK
        fired += len(clockwork.expire(now))


def expire_at_once(clockwork: Clockwork) -> None:
    """Ask a single time, when everything has passed."""
    assert len(clockwork.expire(NOW + 2 * KEEP_ALIVE)) == TIMERS


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_touch_one(timing: Timing, contender: str) -> None:
    timing.row("timers: touch one", contender)
    clockwork, timers = CONTENDERS[contender]()
    timer = timers[TIMERS // 2]

    def touch() -> None:
        clockwork.schedule(timer, timer.deadline + 0.001)

    timing.time(touch)


@pytest.mark.parametrize("contender", WHEELS)
def bench_touch_one_by_assignment(timing: Timing, contender: str) -> None:
    timing.row("timers: touch one", f"{contender}, assigned")
    _, timers = WHEELS[contender]()
    timer = timers[TIMERS // 2]

    def touch() -> None:
        timer.deadline = timer.deadline + 0.001

    timing.time(touch)


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_touch_all(timing: Timing, contender: str) -> None:
    timing.row(f"timers: touch all of {TIMERS:,}", contender)
    timing.time_fresh(CONTENDERS[contender], lambda filled: touch_all(*filled))


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_nothing_due(timing: Timing, contender: str) -> None:
    timing.row(f"timers: none of {TIMERS:,} due", contender)
    clockwork, _ = CONTENDERS[contender]()
    assert not timing.time(clockwork.expire, NOW)


@pytest.mark.parametrize("touched", [False, True], ids=["fresh", "touched"])
@pytest.mark.parametrize("contender", CONTENDERS)
def bench_expire_all(timing: Timing, contender: str, touched: bool) -> None:
    """Touched: every deadline was extended once, and the wheel has yet to move the entries."""
    timing.row(f"timers: expire all of {TIMERS:,}{', touched' * touched}", contender)

    def prepare() -> Clockwork:
        clockwork, timers = CONTENDERS[contender]()
        if touched:
            touch_all(clockwork, timers)
        return clockwork

    # A scan in each of a thousand turns would take a minute; it is given the easier task.
    timing.time_fresh(prepare, expire_at_once if contender == "scan" else expire_in_turns)
