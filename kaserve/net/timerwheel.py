"""A hashed timer wheel with lazy deadlines.

Knows deadlines, and in what order they pass. Does not know sockets or HTTP, and has no clock: the caller passes the
time in, in seconds on whatever clock it reads, so a test turns the wheel as fast as it likes.

Why a wheel, and why lazy. A server sets deadlines all the time and hardly ever sees one pass: every request extends the
time after which its connection has been idle for too long, and only the last request is followed by silence. A heap
keeps its timers in order, pays for that order with every request, and throws the work away with the next one. So the
wheel keeps only a rough order, and a deadline may move without the wheel being told:

- An entry on the wheel is the time at which the wheel examines a timer, not the time at which the timer fires. It may
  be too early, never too late. So extending a deadline is one assignment, and the entry stays where it is.
- When the entry comes up, the wheel reads the deadline as it is by then. It fires the timer, or makes a new entry. A
  connection that serves a thousand requests per second moves its entry once per idle timeout.
- A deadline that becomes earlier needs a new entry only if the present entry would come up too late. A connection that
  alternates between a long deadline (idle) and a short one (reading a head) soon has an entry that is early enough for
  both.

Slots are numbered from the creation of the wheel, without end: slot n comes up n ticks later, and holds the timers to
examine then. The ring keeps slot n at index n modulo its length, so slots that are whole laps apart share an index, and
a deadline that is many laps away is examined once per lap. The default lap of 128 s is longer than the deadlines that a
server usually has.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isnan
from operator import attrgetter

__all__ = ["Alarm", "Timer", "TimerWheel"]

# The slot of a timer that is not on a wheel.
_UNSCHEDULED = -1

# Absurdly late deadlines are examined after this many ticks: compiled, a slot number is a C integer.
_MAX_TICKS = 2.0**62

# More timers than there can be.
_ALL = 2**62

_by_deadline = attrgetter("deadline")


class Timer:
    """Something with one deadline, on at most one wheel. Subclasses implement `expired`.

    While the timer is on a wheel, its deadline may be assigned directly as long as it does not become earlier: the
    cheapest way to extend it. That includes `math.inf`, but then the wheel may have dropped the timer by the time it
    has a finite deadline again, so that deadline must go through `TimerWheel.schedule`, as must every earlier one.

    Timers are told apart by identity: a subclass must not define `__eq__`. It must call `super().__init__()`.

    Attributes:
        deadline: seconds on the wheel's clock; `math.inf` for never.
    """

    __slots__ = ("_slot", "deadline")

    def __init__(self) -> None:
        self.deadline = inf
        self._slot = _UNSCHEDULED

    def expired(self, now: float) -> None:
        """Called by the owner of the wheel when the deadline has passed. The timer is off the wheel then.

        Args:
            now: seconds on the wheel's clock.
        """
        raise NotImplementedError


class Alarm(Timer):
    """A timer that calls a function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function

    def advance(self, wheel: TimerWheel, deadline: float) -> None:
        """Schedules the alarm on `wheel`, unless it already has an earlier deadline (seconds on the wheel's clock)."""
        if deadline < self.deadline:
            wheel.schedule(self, deadline)

    def expired(self, now: float) -> None:
        self._function()


class TimerWheel:
    """Keeps any number of timers, and returns those that are due.

    Adding, extending, shortening and cancelling take constant time, and so do `timeout`, and `expire` when nothing is
    due. No timer fires early, and none more than a tick late, provided that `expire` is called when `timeout` says so.
    If the clock is set back, the timers wait until it reaches their deadlines again.
    """

    __slots__ = ("_count", "_due", "_mask", "_next", "_origin", "_ring", "_tick", "_unexamined")

    def __init__(self, now: float, *, tick: float = 0.125, slots: int = 1024) -> None:
        """Creates an empty wheel.

        Args:
            now: the present time, in seconds on the clock that all later times are read from.
            tick: length of a slot in seconds, which is how late a timer may fire.
            slots: slots in a lap; a power of two.

        Raises:
            ValueError: `tick` is not positive and finite, or `slots` is not a power of two.
        """
        if not 0.0 < tick < inf:
            raise ValueError(f"tick must be a positive number of seconds, not {tick!r}")
        if slots < 1 or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two, not {slots!r}")
        self._origin = now
        self._tick = tick
        self._mask = slots - 1
        self._ring: list[set[Timer] | None] = [None] * slots  # a set exists only while it holds something
        self._unexamined: set[Timer] = set()  # entries that came up and were not examined yet, see `expire`
        self._count = 0
        self._next = 0  # no entry is in an earlier slot than this one,
        self._due = inf  # which comes up at this time; inf when there is none

    def __len__(self) -> int:
        """The number of timers on the wheel."""
        return self._count

    def schedule(self, timer: Timer, deadline: float) -> None:
        """Sets the deadline of `timer`, whether it is on this wheel already or not.

        A deadline in the past is due by the next tick. For "at once" pass the present time rather than zero: `expire`
        goes through all slots since the earliest deadline.

        Args:
            timer: one that is on no other wheel.
            deadline: seconds on the wheel's clock. `math.inf` is the same as `cancel`.

        Raises:
            ValueError: `deadline` is NaN. Nothing has changed then.
        """
        if timer._slot != _UNSCHEDULED and self._time_of(timer._slot - 1) < deadline < inf:
            timer.deadline = deadline  # its present entry comes up early enough
            return
        if isnan(deadline):
            raise ValueError("deadline is not a number")
        self.cancel(timer)
        if deadline < inf:
            timer.deadline = deadline
            self._put(timer, self._slot_for(deadline))

    def cancel(self, timer: Timer) -> None:
        """Takes `timer` off the wheel, drops the reference to it at once, and makes its deadline `math.inf`.

        A timer that is not on the wheel may be cancelled as well, and as often as you like.
        """
        timer.deadline = inf
        if timer._slot != _UNSCHEDULED:
            self._remove(timer)

    def timeout(self, now: float) -> float | None:
        """Seconds from `now` until `expire` must be called: 0.0 if it is due, None if the wheel is empty.

        This may be too soon, as entries may be: `expire` then returns nothing, and the next timeout is later.
        """
        if self._unexamined:
            return 0.0
        if self._due == inf:
            return None
        return max(0.0, self._due - now)

    def expire(self, now: float, limit: int = _ALL) -> list[Timer]:
        """Takes the timers that are due off the wheel and returns them, earliest deadline first.

        A deadline that passed less than a tick ago may be left to the next call. While the caller goes through the
        list, any timer may schedule or cancel any other, so the caller checks each deadline once more:

            for timer in wheel.expire(now):
                if timer.deadline <= now:
                    timer.expired(now)

        Args:
            now: the present time, in seconds on the wheel's clock.
            limit: timers to examine at most, so that very many deadlines at one moment do not keep the owner from all
                other work. While some are left, `timeout` is 0.0.
        """
        fired: list[Timer] = []
        if now < self._due and not self._unexamined:
            return fired
        last = int(self._ticks(now))
        if now >= self._due:
            last = max(self._next, last)  # rounding must not deny that _next has come up
        if last - self._next > self._mask:
            self._collect_ring(last)
        for _ in range(limit):
            timer = self._take(last)
            if timer is None:
                break
            if timer.deadline <= now:
                fired.append(timer)
            elif timer.deadline < inf:
                self._put(timer, max(last + 1, self._slot_for(timer.deadline)))
        self._find_next(self._next)
        fired.sort(key=_by_deadline)
        return fired

    # Times and slots.

    def _ticks(self, time: float) -> float:
        """Converts a time into ticks since the wheel was created, kept within the range of slot numbers."""
        return min(max(0.0, (time - self._origin) / self._tick), _MAX_TICKS)

    def _slot_for(self, deadline: float) -> int:
        """Returns the first slot that does not come up before `deadline`."""
        ticks = self._ticks(deadline)
        slot = int(ticks)
        return slot if slot == ticks else slot + 1

    def _time_of(self, slot: int) -> float:
        """Returns the time at which `slot` comes up."""
        return self._origin + slot * self._tick

    # Entries.

    def _put(self, timer: Timer, slot: int) -> None:
        """Enters `timer`, which is on no wheel, into `slot`."""
        index = slot & self._mask
        entries = self._ring[index]
        if entries is None:
            self._ring[index] = {timer}
        else:
            entries.add(timer)
        timer._slot = slot
        self._count += 1
        due = self._time_of(slot)
        if due < self._due:
            self._next = slot
            self._due = due

    def _remove(self, timer: Timer) -> None:
        """Undoes `_put`, but leaves `_next` as it is: it may be too early now, and finding a better one is a search."""
        if self._unexamined and timer in self._unexamined:
            self._unexamined.remove(timer)
        else:
            index = timer._slot & self._mask
            entries = self._ring[index]
            assert entries is not None, "the timer is on another wheel"
            entries.remove(timer)
            if not entries:
                self._ring[index] = None
        timer._slot = _UNSCHEDULED
        self._count -= 1
        if not self._count:
            self._due = inf

    def _take(self, last: int) -> Timer | None:
        """Removes and returns a timer that shares an index with a slot from `_next` to `last`, whatever lap it is
        for."""
        while not self._unexamined:
            if self._next > last:
                return None
            index = self._next & self._mask
            self._next += 1
            entries = self._ring[index]
            if entries is not None:
                self._ring[index] = None
                self._unexamined = entries
        timer = self._unexamined.pop()
        timer._slot = _UNSCHEDULED
        self._count -= 1
        return timer

    def _collect_ring(self, last: int) -> None:
        """Makes all entries unexamined ones: more than a lap has passed, so every index of the ring has come up.

        Going slot by slot would not end soon after a long sleep, and starting a lap before `last` instead would count
        the entries of earlier laps to later slots. They would then have to wait for those if the clock were set back
        before all of them were examined.
        """
        for index, entries in enumerate(self._ring):
            if entries is not None:
                self._unexamined |= entries
                self._ring[index] = None
        self._next = last + 1

    def _find_next(self, first: int) -> None:
        """Sets `_next` to the first slot from `first` on whose index is in use, as no entry can be earlier."""
        self._due = inf
        if not self._count:
            return
        for slot in range(first, first + self._mask + 1):
            if self._ring[slot & self._mask] is not None:
                self._next = slot
                self._due = self._time_of(slot)
                return
