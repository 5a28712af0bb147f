"""A hashed timer wheel with lazy deadlines.

This module knows deadlines, and in what order they pass. It knows no sockets and no HTTP, and it has no
clock: the time is passed in, in seconds on whatever clock the owner reads, so a test turns the wheel as fast
as it likes.

Why lazy deadlines. A server sets deadlines all the time and hardly ever sees one pass: every request puts off
the moment at which its connection will have been idle for too long, and only the last one is followed by
silence. A structure that keeps its timers in order pays for that order with every request, and throws the
work away with the next. So here order is kept only roughly, and deadlines may move behind the wheel's back:

- An entry on the wheel is a promise to look at a timer at a certain moment, not the moment at which it
  fires. It may be too early, never too late. To extend a deadline is therefore one assignment, and the wheel
  is not told.
- When the entry comes up, the wheel reads the deadline as it is then: it fires the timer, or makes a new
  promise. A connection that answers a thousand requests per second moves its entry once per idle timeout.
- A deadline that becomes earlier needs a new entry only if the present one would come up too late. A
  connection that alternates between a long deadline (idle) and a short one (reading a head) soon has one
  that is early enough for both.

Slots are numbered from the wheel's birth, without end: slot n comes up n ticks later, and holds the timers to
be looked at then. The ring keeps slot n at place n modulo its length, so slots that are whole laps apart
share a place, and a deadline many laps away is looked at once per lap. The default lap of 128 s is longer
than the deadlines a server usually has.
"""

from __future__ import annotations

from math import inf, isnan
from operator import attrgetter

__all__ = ["Timer", "TimerWheel"]

_OFF = -1
"""The slot of a timer that is not on a wheel."""

_MAX_TICKS = 2.0**62
"""Absurdly late deadlines are looked at after so many ticks: compiled, a slot number is a C integer."""

_ALL = 2**62
"""More timers than there are."""

_by_deadline = attrgetter("deadline")


class Timer:
    """Something with one deadline, on at most one wheel. Derive from it and implement `expired`.

    `deadline` is in seconds on the wheel's clock, `math.inf` for never. While the timer is on a wheel, its
    deadline may be assigned directly as long as it does not become earlier: the cheapest way to extend it.
    That includes `math.inf`, but then the wheel may have let go of the timer by the time it has a finite
    deadline again, so that one has to go through `TimerWheel.schedule`, as has every earlier one.

    Timers are told apart by identity: a subclass must not define `__eq__`. It must call `super().__init__()`.
    """

    __slots__ = ("_slot", "deadline")

    def __init__(self) -> None:
        self.deadline = inf
        self._slot = _OFF

    def expired(self, now: float) -> None:
        """The deadline has passed: it is `now` (seconds). Called by the wheel's owner, off the wheel."""
        raise NotImplementedError


class TimerWheel:
    """Keeps any number of timers, and tells which of them are due.

    Adding, extending, shortening and cancelling take constant time, and so do `timeout`, and `expire` when
    nothing is due. No timer fires early, and none more than a tick late, provided that `expire` is called
    when `timeout` says so. If the clock is set back, the timers wait until it gets to their deadlines again.
    """

    __slots__ = ("_count", "_due", "_mask", "_next", "_origin", "_rest", "_ring", "_tick")

    def __init__(self, now: float, *, tick: float = 0.125, slots: int = 1024) -> None:
        """An empty wheel, born at `now` (seconds), with a power of two of `slots`, each `tick` seconds long.

        Raises ValueError if `tick` is not positive and finite, or `slots` is not a power of two.
        """
        if not 0.0 < tick < inf:
            raise ValueError(f"tick must be a positive number of seconds, not {tick!r}")
        if slots < 1 or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two, not {slots!r}")
        self._origin = now
        self._tick = tick
        self._mask = slots - 1
        self._ring: list[set[Timer] | None] = [None] * slots  # a set exists only while it holds something
        self._rest: set[Timer] = set()  # of a slot that came up: what has not been looked at yet
        self._count = 0
        self._next = 0  # no entry is in an earlier slot than this one,
        self._due = inf  # which comes up at this time; inf when the wheel is empty

    def __len__(self) -> int:
        """The number of timers on the wheel."""
        return self._count

    def schedule(self, timer: Timer, deadline: float) -> None:
        """Make `timer` due at `deadline` (seconds on the wheel's clock), be it on this wheel already or not.

        A deadline in the past is due by the next tick. For "at once" pass the present time rather than zero:
        `expire` goes through all slots since the earliest deadline. `math.inf` is the same as `cancel`.
        Raises ValueError, and changes nothing, if `deadline` is not a number.
        """
        if timer._slot != _OFF and self._time_of(timer._slot - 1) < deadline < inf:
            timer.deadline = deadline  # the entry it has comes up early enough
            return
        if isnan(deadline):
            raise ValueError("deadline is not a number")
        self.cancel(timer)
        if deadline < inf:
            timer.deadline = deadline
            self._put(timer, self._slot_for(deadline))

    def cancel(self, timer: Timer) -> None:
        """Take `timer` off the wheel, which forgets it at once, and make its deadline `math.inf`.

        A timer that is not on the wheel may be cancelled, too, and as often as you like.
        """
        timer.deadline = inf
        if timer._slot != _OFF:
            self._remove(timer)

    def timeout(self, now: float) -> float | None:
        """In how many seconds from `now` to call `expire`; 0.0 if it is due, None if the wheel is empty.

        That may be too soon, as entries may be: `expire` then finds nothing, and the next answer is later.
        """
        if self._rest:
            return 0.0
        if self._due == inf:
            return None
        return max(0.0, self._due - now)

    def expire(self, now: float, most: int = _ALL) -> list[Timer]:
        """Take the timers due at `now` (seconds) off the wheel and return them, earliest deadline first.

        A deadline that passed less than a tick ago may be left to the next call. No more than `most` timers are
        looked at, so that very many deadlines in one moment do not keep the owner from everything else; when that
        was not all, `timeout` is 0.0. While the caller goes through the list, any timer may schedule or cancel
        any other, so each of them is asked once more:

            for timer in wheel.expire(now):
                if timer.deadline <= now:
                    timer.expired(now)
        """
        fired: list[Timer] = []
        if now < self._due and not self._rest:
            return fired
        last = int(self._ticks(now))
        if now >= self._due:
            last = max(self._next, last)  # rounding must not deny that _next has come up
        # A long sleep skips more slots than there are places, but after one lap every place is empty.
        self._next = max(self._next, last - self._mask)
        for _ in range(most):
            timer = self._take(last)
            if timer is None:
                break
            if timer.deadline <= now:
                fired.append(timer)
            elif timer.deadline < inf:
                self._put(timer, max(last + 1, self._slot_for(timer.deadline)))
        self._look_ahead(self._next)
        fired.sort(key=_by_deadline)
        return fired

    # Time and slots.

    def _ticks(self, time: float) -> float:
        """How many ticks after the wheel's birth `time` is, kept within the range of slot numbers."""
        return min(max(0.0, (time - self._origin) / self._tick), _MAX_TICKS)

    def _slot_for(self, deadline: float) -> int:
        """The first slot that does not come up before `deadline`."""
        ticks = self._ticks(deadline)
        slot = int(ticks)
        return slot if slot == ticks else slot + 1

    def _time_of(self, slot: int) -> float:
        """When `slot` comes up."""
        return self._origin + slot * self._tick

    # Entries.

    def _put(self, timer: Timer, slot: int) -> None:
        """Enter `timer`, which is on no wheel, into `slot`."""
        place = slot & self._mask
        entries = self._ring[place]
        if entries is None:
            self._ring[place] = {timer}
        else:
            entries.add(timer)
        timer._slot = slot
        self._count += 1
        due = self._time_of(slot)
        if due < self._due:
            self._next = slot
            self._due = due

    def _remove(self, timer: Timer) -> None:
        """Undo `_put`, but leave `_next` as it is: it may be too early, and a better one is a search away."""
        if self._rest and timer in self._rest:
            self._rest.remove(timer)
        else:
            place = timer._slot & self._mask
            entries = self._ring[place]
            assert entries is not None, "the timer is on another wheel"
            entries.remove(timer)
            if not entries:
                self._ring[place] = None
        timer._slot = _OFF
        self._count -= 1
        if not self._count:
            self._due = inf

    def _take(self, last: int) -> Timer | None:
        """Remove a timer that shares a place with a slot from `_next` to `last`, whatever lap it is for."""
        while not self._rest:
            if self._next > last:
                return None
            place = self._next & self._mask
            self._next += 1
            entries = self._ring[place]
            if entries is not None:
                self._ring[place] = None
                self._rest = entries
        timer = self._rest.pop()
        timer._slot = _OFF
        self._count -= 1
        return timer

    def _look_ahead(self, first: int) -> None:
        """Let `_next` be the first slot from `first` on whose place is taken, as no entry can be earlier."""
        self._due = inf
        if not self._count:
            return
        for slot in range(first, first + self._mask + 1):
            if self._ring[slot & self._mask] is not None:
                self._next = slot
                self._due = self._time_of(slot)
                return
