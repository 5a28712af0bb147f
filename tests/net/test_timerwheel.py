"""The timer wheel, turned by hand: all times are made up, and nothing sleeps.

Most wheels below have a tick of a quarter of a second and eight slots, so a lap takes two seconds and the tests go
round it many times. Quarters are exact in binary, and therefore the comparisons are exact, too.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from math import ceil, inf, nan, nextafter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from kaserve.net.timerwheel import Alarm, Timer, TimerWheel

BIRTH = 100.0
TICK = 0.25
SLOTS = 8
LAP = TICK * SLOTS


class Named(Timer):
    """A timer whose name shows in a failed assertion, and which can be referred to weakly."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str = "timer") -> None:
        super().__init__()
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name} {self.deadline}>"


@pytest.fixture
def wheel() -> TimerWheel:
    return TimerWheel(BIRTH, tick=TICK, slots=SLOTS)


def scheduled(wheel: TimerWheel, *deadlines: float) -> list[Named]:
    """Creates timers on the wheel, one for each deadline (seconds after BIRTH)."""
    timers = [Named(f"timer{number}") for number in range(len(deadlines))]
    for timer, deadline in zip(timers, deadlines, strict=True):
        wheel.schedule(timer, BIRTH + deadline)
    return timers


def sleep(wheel: TimerWheel, now: float) -> float:
    """Returns the time at which an owner wakes next that relies on `timeout` alone."""
    timeout = wheel.timeout(now)
    assert timeout is not None, "the wheel would never be called again"
    return now + timeout


def firings(wheel: TimerWheel, now: float) -> list[tuple[float, Timer]]:
    """Runs the wheel until it is empty, as an owner would, and returns each timer with the time at which it fired."""
    log: list[tuple[float, Timer]] = []
    while len(wheel):
        now = sleep(wheel, now)
        log += [(now, timer) for timer in wheel.expire(now)]
    return log


# The timer


def test_a_new_timer_has_no_deadline() -> None:
    assert Timer().deadline == inf


def test_a_timer_must_implement_expired() -> None:
    with pytest.raises(NotImplementedError):
        Timer().expired(BIRTH)


# The alarm


def test_an_alarm_calls_its_function(wheel: TimerWheel) -> None:
    calls: list[str] = []
    alarm = Alarm(lambda: calls.append("called"))
    wheel.schedule(alarm, BIRTH + 1.0)
    assert calls == []
    process(wheel, BIRTH + 1.0)
    assert calls == ["called"]
    assert len(wheel) == 0


def test_an_alarm_is_advanced_but_never_put_off(wheel: TimerWheel) -> None:
    alarm = Alarm(lambda: None)
    alarm.advance(wheel, BIRTH + 2.0)
    assert alarm.deadline == BIRTH + 2.0
    alarm.advance(wheel, BIRTH + 1.0)
    alarm.advance(wheel, BIRTH + 3.0)
    assert alarm.deadline == BIRTH + 1.0
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, alarm)]


# The empty wheel


def test_an_empty_wheel_has_no_timeout(wheel: TimerWheel) -> None:
    assert wheel.timeout(BIRTH) is None
    assert wheel.timeout(BIRTH + 1e9) is None


@pytest.mark.parametrize("now", [BIRTH - 50, BIRTH, BIRTH + 1e9, inf])
def test_an_empty_wheel_has_nothing_to_expire(wheel: TimerWheel, now: float) -> None:
    assert wheel.expire(now) == []
    assert len(wheel) == 0
    assert wheel.timeout(BIRTH) is None


@pytest.mark.parametrize("tick", [0.0, -1.0, inf, nan])
def test_the_tick_is_positive_and_finite(tick: float) -> None:
    with pytest.raises(ValueError, match="tick"):
        TimerWheel(BIRTH, tick=tick)


@pytest.mark.parametrize("slots", [0, -8, 3, 1000])
def test_the_number_of_slots_is_a_power_of_two(slots: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        TimerWheel(BIRTH, slots=slots)


# Adding


def test_a_timer_fires_once_at_its_deadline(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    assert len(wheel) == 1
    assert wheel.timeout(BIRTH) == 1.0
    assert wheel.expire(BIRTH + 0.999) == []
    assert wheel.expire(BIRTH + 1.0) == [timer]
    assert wheel.expire(BIRTH + 1.0) == []
    assert len(wheel) == 0
    assert wheel.timeout(BIRTH + 1.0) is None


def test_a_deadline_between_two_ticks_waits_for_the_second(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.01)
    assert wheel.timeout(BIRTH) == 1.25
    assert wheel.expire(BIRTH + 1.0) == []
    assert firings(wheel, BIRTH + 1.0) == [(BIRTH + 1.25, timer)]


def test_the_timeout_is_zero_while_something_is_due(wheel: TimerWheel) -> None:
    scheduled(wheel, 1.0)
    assert wheel.timeout(BIRTH + 1.0) == 0.0
    assert wheel.timeout(BIRTH + 77.0) == 0.0


@pytest.mark.parametrize("ago", [0.0, 0.25, 1.0, 50.0, BIRTH, 1e9, inf])
def test_a_deadline_in_the_past_is_due_at_once(wheel: TimerWheel, ago: float) -> None:
    now = BIRTH + 50.0
    assert wheel.expire(now) == []
    timer = Named()
    wheel.schedule(timer, now - ago)
    assert wheel.timeout(now) == 0.0
    assert wheel.expire(now) == [timer]


def test_a_fired_timer_keeps_its_deadline_and_can_be_scheduled_again(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.expire(BIRTH + 1.0)
    assert timer.deadline == BIRTH + 1.0
    wheel.schedule(timer, BIRTH + 2.0)
    assert firings(wheel, BIRTH + 1.0) == [(BIRTH + 2.0, timer)]


def test_a_deadline_that_is_not_a_number_is_rejected_and_changes_nothing(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    with pytest.raises(ValueError, match="not a number"):
        wheel.schedule(timer, nan)
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, timer)]


def test_the_list_is_in_the_order_of_the_deadlines(wheel: TimerWheel) -> None:
    deadlines = [1.5, 0.2, 7.0, 0.1, 0.25, 3.0, 0.15, 1.0]
    timers = scheduled(wheel, *deadlines)
    assert wheel.expire(BIRTH + 10.0) == sorted(timers, key=lambda timer: timer.deadline)


def test_many_timers_in_one_slot(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, *[1.0] * 1000)
    assert len(wheel) == 1000
    for timer in timers[:500]:
        wheel.cancel(timer)
    assert set(wheel.expire(BIRTH + 1.0)) == set(timers[500:])
    assert wheel.timeout(BIRTH + 1.0) is None


def test_one_slot_is_enough() -> None:
    wheel = TimerWheel(BIRTH, tick=TICK, slots=1)
    timers = scheduled(wheel, 0.25, 1.0, 30.0)
    assert firings(wheel, BIRTH) == [(timer.deadline, timer) for timer in timers]


# Extending


def test_extending(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.schedule(timer, BIRTH + 1.5)
    assert len(wheel) == 1
    assert wheel.expire(BIRTH + 1.0) == []
    assert firings(wheel, BIRTH + 1.0) == [(BIRTH + 1.5, timer)]


def test_extending_by_assignment(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    timer.deadline = BIRTH + 33.3
    assert wheel.expire(BIRTH + 1.0) == []
    assert firings(wheel, BIRTH + 1.0) == [(BIRTH + 33.5, timer)]


def test_the_wheel_drops_a_timer_whose_deadline_was_assigned_infinity(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    timer.deadline = inf
    assert wheel.expire(BIRTH + 1.0) == []
    assert len(wheel) == 0
    assert wheel.timeout(BIRTH + 1.0) is None
    wheel.schedule(timer, BIRTH + 2.0)
    assert firings(wheel, BIRTH + 1.0) == [(BIRTH + 2.0, timer)]


def test_a_deadline_that_is_extended_often_rarely_wakes_the_owner(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    now, wakes = BIRTH, 0
    for request in range(1000):
        timeout = wheel.timeout(now)
        if timeout == 0.0:
            wakes += 1
            assert wheel.expire(now) == []
        now = BIRTH + request / 100
        wheel.schedule(timer, now + 1.0)
    assert wakes <= 10
    assert firings(wheel, now) == [(BIRTH + 11.0, timer)]


# Shortening


def test_shortening(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 60.0)
    wheel.schedule(timer, BIRTH + 1.0)
    assert len(wheel) == 1
    assert wheel.timeout(BIRTH) == 1.0
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, timer)]


def test_shortening_after_extending_and_back(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.schedule(timer, BIRTH + 60.0)
    wheel.schedule(timer, BIRTH + 1.1)
    wheel.schedule(timer, BIRTH + 0.3)
    wheel.schedule(timer, BIRTH + 0.9)
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, timer)]


@pytest.mark.parametrize("deadline", [0.76, 0.8, 1.0])
def test_shortening_within_the_slot(wheel: TimerWheel, deadline: float) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.schedule(timer, BIRTH + deadline)
    assert timer.deadline == BIRTH + deadline
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, timer)]


@pytest.mark.parametrize("deadline", [0.74, 0.75])
def test_shortening_by_one_slot(wheel: TimerWheel, deadline: float) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.schedule(timer, BIRTH + deadline)
    assert firings(wheel, BIRTH) == [(BIRTH + 0.75, timer)]


def test_alternating_long_and_short_deadlines(wheel: TimerWheel) -> None:
    """What a connection does: it is idle for long, reads a head for a short time, and is idle again."""
    (timer,) = scheduled(wheel, 12.0)
    now = BIRTH
    for _ in range(100):
        wheel.schedule(timer, now + 3.0)
        assert wheel.expire(now) == []
        wheel.schedule(timer, now + 12.0)
        assert wheel.expire(now) == []
        now += 0.5
    assert firings(wheel, now) == [(now - 0.5 + 12.0, timer)]


# Cancelling


def test_cancelling(wheel: TimerWheel) -> None:
    cancelled, left = scheduled(wheel, 1.0, 1.0)
    wheel.cancel(cancelled)
    assert len(wheel) == 1
    assert cancelled.deadline == inf
    assert wheel.expire(BIRTH + 5.0) == [left]


def test_cancelling_the_last_timer_leaves_no_timeout(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.cancel(timer)
    assert wheel.timeout(BIRTH) is None
    assert wheel.expire(BIRTH + 1.0) == []


def test_cancelling_is_idempotent(wheel: TimerWheel) -> None:
    timer, other = scheduled(wheel, 1.0, 2.0)
    wheel.cancel(timer)
    wheel.cancel(timer)
    wheel.cancel(Named("never scheduled"))
    assert len(wheel) == 1
    assert firings(wheel, BIRTH) == [(BIRTH + 2.0, other)]


def test_infinity_cancels(wheel: TimerWheel) -> None:
    (timer,) = scheduled(wheel, 1.0)
    wheel.schedule(timer, inf)
    assert len(wheel) == 0
    wheel.schedule(timer, inf)
    assert wheel.timeout(BIRTH) is None


def test_cancelling_the_earliest_wakes_too_early_at_most_once(wheel: TimerWheel) -> None:
    first, second, third = scheduled(wheel, 0.5, 1.0, 1.5)
    wheel.cancel(first)
    wheel.cancel(second)
    now = sleep(wheel, BIRTH)
    assert wheel.expire(now) == []
    assert sleep(wheel, now) == BIRTH + 1.5
    assert wheel.expire(BIRTH + 1.5) == [third]


def test_a_cancelled_timer_is_released_at_once(wheel: TimerWheel) -> None:
    timer = Named()
    alive = weakref.ref(timer)
    wheel.schedule(timer, BIRTH + 1.0)
    wheel.schedule(timer, BIRTH + 60.0)
    wheel.cancel(timer)
    del timer
    assert alive() is None


def test_a_fired_timer_is_released_at_once(wheel: TimerWheel) -> None:
    alive = weakref.ref(scheduled(wheel, 1.0)[0])
    wheel.expire(BIRTH + 1.0)
    assert alive() is None


# Laps


@pytest.mark.parametrize("offset", [-TICK, -0.01, 0.0, 0.01, TICK])
@pytest.mark.parametrize("laps", [1, 2, 3, 100, 10_000])
def test_many_laps_away(wheel: TimerWheel, laps: int, offset: float) -> None:
    (timer,) = scheduled(wheel, laps * LAP + offset)
    ((now, fired),) = firings(wheel, BIRTH)
    assert fired is timer
    assert 0.0 <= now - timer.deadline < TICK


def test_slots_that_share_an_index_fire_lap_by_lap(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, *[1.0 + lap * LAP for lap in range(5)])
    assert firings(wheel, BIRTH) == [(timer.deadline, timer) for timer in timers]


def test_a_wheel_that_has_turned_a_million_times(wheel: TimerWheel) -> None:
    now = BIRTH + 1e6 * LAP
    assert wheel.expire(now) == []
    timer = Named()
    wheel.schedule(timer, now + 1.0)
    assert firings(wheel, now) == [(now + 1.0, timer)]


@pytest.mark.parametrize("deadline", [1e18, 1e100, 1.7e308])
def test_absurd_deadlines(wheel: TimerWheel, deadline: float) -> None:
    timer, other = Named("absurd"), Named("other")
    wheel.schedule(timer, deadline)
    wheel.schedule(other, BIRTH + 1.0)
    assert wheel.expire(BIRTH + 1000.0) == [other]
    assert len(wheel) == 1
    assert wheel.expire(inf) == [timer]


# Limited calls: very many timers at once


def test_no_more_timers_are_examined_than_the_limit(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, *[1.0] * 7, *[2.0] * 3)
    now = BIRTH + 3.0
    batches = []
    while wheel.timeout(now) == 0.0:
        batches.append(wheel.expire(now, 4))
    assert [len(batch) for batch in batches] == [4, 3 + 1, 2]
    assert {timer for batch in batches for timer in batch} == set(timers)
    assert wheel.timeout(now) is None


def test_unexamined_timers_can_be_cancelled_and_rescheduled(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, *[1.0] * 4)
    now = BIRTH + 1.0
    (fired,) = wheel.expire(now, 1)
    cancelled, put_off, brought_forward = (timer for timer in timers if timer is not fired)
    wheel.cancel(cancelled)
    wheel.schedule(put_off, now + 5.0)
    wheel.schedule(brought_forward, BIRTH)
    assert len(wheel) == 2
    assert wheel.timeout(now) == 0.0
    assert wheel.expire(now) == [brought_forward]
    assert firings(wheel, now) == [(now + 5.0, put_off)]


def test_timers_of_other_laps_are_examined_once_each(wheel: TimerWheel) -> None:
    """Timers that are not due return to the index they came from, and must not be examined there again and again."""
    timers = scheduled(wheel, 1.0, *[1.0 + LAP * lap for lap in range(1, 10)])
    now = BIRTH + 1.0
    calls = 0
    fired: list[Timer] = []
    while wheel.timeout(now) == 0.0:
        fired += wheel.expire(now, 1)
        calls += 1
    assert fired == timers[:1]
    assert calls <= len(timers) + 1
    assert firings(wheel, now) == [(timer.deadline, timer) for timer in timers[1:]]


def test_a_timer_added_into_the_past_between_two_calls_is_not_a_lap_late(wheel: TimerWheel) -> None:
    scheduled(wheel, *[1.5] * 3)
    now = BIRTH + 1.75
    wheel.expire(now, 2)
    (late,) = scheduled(wheel, 0.5)
    fired = []
    while wheel.timeout(now) == 0.0:
        fired += wheel.expire(now, 1)
    assert late in fired
    assert len(fired) == 2


# Clocks that jump


def test_a_long_sleep_fires_everything_that_became_due(wheel: TimerWheel) -> None:
    """Nine thousand million ticks at once: the test would not end if the wheel went through all of them."""
    timers = scheduled(wheel, 0.1, 1.0, 5.0, 50.0, 2e9)
    now = BIRTH + 1e9
    assert wheel.expire(now) == timers[:4]
    assert len(wheel) == 1
    assert wheel.expire(BIRTH + 3e9) == timers[4:]


def test_a_long_sleep_leaves_the_rest_on_time(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, *[quarter * TICK for quarter in range(100)])
    now = BIRTH + 10.1
    assert wheel.expire(now) == timers[:41]
    assert firings(wheel, now) == [(timer.deadline, timer) for timer in timers[41:]]


def test_a_clock_that_goes_back_fires_and_loses_nothing(wheel: TimerWheel) -> None:
    timers = scheduled(wheel, 1.0, 5.0, 40.0)
    assert wheel.expire(BIRTH + 2.0) == timers[:1]
    for now in (BIRTH + 1.0, BIRTH, BIRTH - 1000.0, -inf):
        assert wheel.expire(now) == []
        assert len(wheel) == 2
        assert wheel.timeout(now) is not None
    assert firings(wheel, BIRTH) == [(timer.deadline, timer) for timer in timers[1:]]


def test_timers_added_after_the_clock_went_back_are_on_time(wheel: TimerWheel) -> None:
    (old,) = scheduled(wheel, 40.0)
    assert wheel.expire(BIRTH + 30.0) == []
    (new,) = scheduled(wheel, 1.0)
    assert firings(wheel, BIRTH) == [(BIRTH + 1.0, new), (BIRTH + 40.0, old)]


@pytest.mark.parametrize("behind", [pytest.param(0, id="no-others"), pytest.param(100, id="with-others")])
def test_setting_the_clock_back_before_all_due_timers_were_examined_delays_none(wheel: TimerWheel, behind: int) -> None:
    """More than a lap has passed, so slot 9 shares its index with slot 17, which has come up as well. A call with a
    limit may leave `old` unexamined. It is still due when the clock then goes back to a time before slot 17 (but after
    slot 9), and must not wait for slot 17."""
    now = BIRTH + 17 * TICK + 1 / 32
    old, _recent, *_ = scheduled(wheel, 9 * TICK, 17 * TICK + 1 / 32, *[LAP * 100] * behind)
    fired = wheel.expire(now, 1)
    now -= 2 / 32
    while wheel.timeout(now) == 0.0:
        fired += wheel.expire(now, 1)
    assert old in fired


def test_a_long_sleep_is_made_up_for_in_limited_calls(wheel: TimerWheel) -> None:
    """Each timer is examined once, whether it is due or not, however many laps have passed."""
    timers = scheduled(wheel, *[LAP * lap / 7 for lap in range(50)])
    now = BIRTH + 1e6
    extended = timers[::2]
    for timer in extended:
        timer.deadline = now + 5.0
    fired: list[Timer] = []
    calls = 0
    while wheel.timeout(now) == 0.0:
        fired += wheel.expire(now, 1)
        calls += 1
    assert set(fired) == set(timers) - set(extended)
    assert calls <= len(timers) + 1
    assert {timer for _, timer in firings(wheel, now)} == set(extended)


# While the caller goes through the list


class Scripted(Timer):
    """A timer that cancels and schedules others when it expires."""

    __slots__ = ("cancels", "log", "reschedules", "wheel")

    def __init__(self, wheel: TimerWheel, log: list[Timer]) -> None:
        super().__init__()
        self.wheel = wheel
        self.log = log
        self.cancels: list[Timer] = []
        self.reschedules: list[tuple[Timer, float]] = []

    def expired(self, now: float) -> None:
        self.log.append(self)
        for timer in self.cancels:
            self.wheel.cancel(timer)
        for timer, deadline in self.reschedules:
            self.wheel.schedule(timer, deadline)


def process(wheel: TimerWheel, now: float) -> None:
    """Does what the docstring of `expire` tells its caller to do."""
    for timer in wheel.expire(now):
        if timer.deadline <= now:
            timer.expired(now)


def scripted(wheel: TimerWheel, deadlines: Iterable[float]) -> tuple[list[Scripted], list[Timer]]:
    log: list[Timer] = []
    timers = []
    for deadline in deadlines:
        timers.append(Scripted(wheel, log))
        wheel.schedule(timers[-1], BIRTH + deadline)
    return timers, log


def test_cancelling_a_timer_of_the_same_list(wheel: TimerWheel) -> None:
    (first, second, third), log = scripted(wheel, (0.8, 0.9, 1.0))
    first.cancels = [first, second]
    process(wheel, BIRTH + 1.0)
    assert log == [first, third]
    assert wheel.timeout(BIRTH + 1.0) is None


def test_cancelling_a_timer_that_is_still_on_the_wheel(wheel: TimerWheel) -> None:
    (first, later), log = scripted(wheel, (1.0, 1.0 + LAP))
    first.cancels = [later]
    process(wheel, BIRTH + 1.0)
    assert wheel.timeout(BIRTH + 1.0) is None
    process(wheel, BIRTH + 60.0)
    assert log == [first]


def test_rescheduling_timers_of_the_same_list(wheel: TimerWheel) -> None:
    (first, second), log = scripted(wheel, (0.9, 1.0))
    first.reschedules = [(first, BIRTH + 1.0 + LAP), (second, BIRTH + 2.0)]
    process(wheel, BIRTH + 1.0)
    assert log == [first]
    assert len(wheel) == 2
    process(wheel, BIRTH + 2.0)
    assert log == [first, second]
    process(wheel, BIRTH + 1.0 + LAP)
    assert log == [first, second, first]


def test_rescheduling_into_the_past_fires_in_the_next_call(wheel: TimerWheel) -> None:
    (timer,), log = scripted(wheel, (1.0,))
    timer.reschedules = [(timer, BIRTH)]
    for turn in range(1, 4):
        process(wheel, BIRTH + 1.0)
        assert log == [timer] * turn
        assert wheel.timeout(BIRTH + 1.0) == 0.0


# Any tick, any times: what quarters cannot show


def test_a_tick_that_rounds_down_still_comes_up() -> None:
    """4.3 / 0.1 is 42.99...: a wheel that takes this for slot 42 is due at 4.3, and then does nothing."""
    wheel = TimerWheel(0.0, tick=0.1)
    timer = Named()
    wheel.schedule(timer, 4.3)
    assert wheel.timeout(4.3) == 0.0
    assert wheel.expire(4.3) == [timer]


def test_a_deadline_that_rounds_into_a_slot_too_early_is_not_a_lap_late() -> None:
    """The next number after 0.9 rounds to nine ticks, not a little more: slot 9 comes up just before it."""
    wheel = TimerWheel(0.0, tick=0.1)
    timer = Named()
    wheel.schedule(timer, nextafter(0.9, inf))
    assert wheel.expire(0.9) == []
    assert wheel.expire(1.0) == [timer]


@given(
    birth=st.floats(-1e6, 1e6),
    tick=st.floats(0.01, 2.0),
    delays=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_never_early_and_at_most_a_tick_late(birth: float, tick: float, delays: list[float]) -> None:
    wheel = TimerWheel(birth, tick=tick, slots=16)
    timers = [Named() for _ in delays]
    for timer, delay in zip(timers, delays, strict=True):
        wheel.schedule(timer, birth + delay)
    log = firings(wheel, birth)
    assert sorted(map(id, timers)) == sorted(id(timer) for _, timer in log)
    for now, fired in log:
        assert fired.deadline <= now <= fired.deadline + tick + 1e-9 * max(1.0, abs(birth))


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    """Generates multiples of 1/32 s: finer than a tick, and exact."""
    return st.integers(int(low * 32), int(high * 32)).map(lambda number: number / 32)


class WheelMachine(RuleBasedStateMachine):
    """Compares the wheel with the simplest model that could work, a dict of deadlines.

    The model knows no slots. It says which timers may fire (those whose deadline has passed) and which of them must
    (those whose next tick has passed, too); what the wheel fires must be in between.
    """

    timers = Bundle("timers")

    def __init__(self) -> None:
        super().__init__()
        self.now = BIRTH
        self.wheel = TimerWheel(BIRTH, tick=TICK, slots=SLOTS)
        self.deadlines: dict[Timer, float] = {}
        self.made = 0

    @rule(target=timers)
    def make(self) -> Timer:
        self.made += 1
        return Named(f"timer{self.made}")

    @rule(timer=timers, delay=seconds(-1, 1) | seconds(-60, 60))
    def schedule(self, timer: Timer, delay: float) -> None:
        self.wheel.schedule(timer, self.now + delay)
        self.deadlines[timer] = self.now + delay

    @rule(timer=timers, delay=seconds(0, 20))
    def assign(self, timer: Timer, delay: float) -> None:
        if timer in self.deadlines:
            self.deadlines[timer] += delay
            timer.deadline += delay

    @rule(timer=timers)
    def cancel(self, timer: Timer) -> None:
        self.wheel.cancel(timer)
        self.deadlines.pop(timer, None)

    @rule(timer=timers)
    def schedule_never(self, timer: Timer) -> None:
        self.wheel.schedule(timer, inf)
        self.deadlines.pop(timer, None)

    @rule(timer=timers, delay=seconds(-1, 20))
    def assign_never_and_schedule(self, timer: Timer, delay: float) -> None:
        """In between, the wheel may have dropped the timer or not."""
        if self.deadlines.pop(timer, None) is not None:
            timer.deadline = inf
            self.expire()
            self.schedule(timer, delay)

    @rule(delay=seconds(0, 1) | seconds(0, 100))
    def pass_time(self, delay: float) -> None:
        self.now += delay

    @rule(delay=seconds(0, 1) | seconds(0, 100))
    def set_clock_back(self, delay: float) -> None:
        self.now = max(BIRTH, self.now - delay)

    @rule()
    def sleep(self) -> None:
        timeout = self.wheel.timeout(self.now)
        if timeout is not None:
            self.now += timeout
            assert self.wheel.timeout(self.now) == 0.0

    @rule()
    def expire(self) -> None:
        fired = self.wheel.expire(self.now)
        due = {timer for timer, deadline in self.deadlines.items() if deadline <= self.now}
        overdue = {timer for timer in due if self.next_tick(self.deadlines[timer]) <= self.now}
        assert len(set(fired)) == len(fired)
        assert overdue <= set(fired) <= due
        self.forget(fired)

    @rule(limit=st.integers(1, 5))
    def expire_some(self, limit: int) -> None:
        """Timers that are still due fire in the next calls, which the wheel asks for at once."""
        fired = self.wheel.expire(self.now, limit)
        due = {timer for timer, deadline in self.deadlines.items() if deadline <= self.now}
        overdue = {timer for timer in due if self.next_tick(self.deadlines[timer]) <= self.now}
        assert len(set(fired)) == len(fired) <= limit
        assert set(fired) <= due
        if not overdue <= set(fired):
            assert self.wheel.timeout(self.now) == 0.0
        self.forget(fired)

    def forget(self, fired: list[Timer]) -> None:
        deadlines = [self.deadlines.pop(timer) for timer in fired]
        assert deadlines == sorted(deadlines)
        assert deadlines == [timer.deadline for timer in fired]

    @staticmethod
    def next_tick(deadline: float) -> float:
        """Returns the first tick that is not before the deadline; there is no tick before the wheel was created."""
        return BIRTH + max(0, ceil((deadline - BIRTH) / TICK)) * TICK

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.wheel) == len(self.deadlines)
        for timer, deadline in self.deadlines.items():
            assert timer.deadline == deadline

    @invariant()
    def wakes_in_time(self) -> None:
        timeout = self.wheel.timeout(self.now)
        if not self.deadlines:
            assert timeout is None
        else:
            assert timeout is not None
            assert 0.0 <= timeout <= max(0.0, self.next_tick(min(self.deadlines.values())) - self.now)


TestWheelMachine = WheelMachine.TestCase
TestWheelMachine.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
