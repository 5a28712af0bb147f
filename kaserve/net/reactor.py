"""Reactor: one poller, one thread, many channels; and the time of the turn.

Knows readiness (see `poller`), deadlines, and how to be woken from another thread. Does not know what channels do: no
sockets but its own for waking, no HTTP. A turn handles what is ready first and what has expired after that, so that a
request which is already here is never lost to a deadline that passed meanwhile. No exception of a channel, a timer or a
callback ends the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from time import time as system_time
from typing import Protocol

from ..http.dates import format_date
from .failures import log_current_exception
from .poller import NOTHING, READ, WRITE, Poller, new_poller
from .timerwheel import TimerWheel
from .wakeup import Wakeup

__all__ = ["Channel", "Reactor"]

_READ_WRITE = READ | WRITE
_MAX_EXPIRED = 256  # timers examined in one turn: a few milliseconds of work


class Channel(Protocol):
    """What the reactor watches a descriptor for."""

    def ready(self, events: int) -> None:
        """Called when the descriptor is ready.

        Args:
            events: `READ`, `WRITE` or both. A descriptor in trouble counts as both: reading or writing it tells what is
                wrong. `HALF_CLOSE` and `HANGUP` come in addition, if neither of the two was waited for. `NOTHING` after
                `Reactor.again`.
        """


class Reactor:
    """The event loop. `run()` turns it until `stop()`; a foreign loop calls `step()` when `fileno()` is readable, and
    at the latest after `timeout()` seconds.

    Not thread-safe, except for `call` and `stop`.

    Attributes:
        now: seconds on `clock`, read once per turn.
        last_read: when the clock was read last in this turn. A caller of `read_clock` may set it, to measure
            from then on.
        date_line: the field line `Date` with its CRLF, made once per second at most.
        wheel: the timers. Their deadlines are seconds on `clock`.
        after_turn: functions that are called at the end of each turn, for work that is done in batches.
        is_hosted: whether another loop in this thread does its work between two turns (`asgi.loop`) and calls
            `make_calls` before it waits in the next one. Then a call that this work adds need not wake the poller.
    """

    __slots__ = (
        "_again",
        "_calls",
        "_channels",
        "_clock",
        "_date_second",
        "_poller",
        "_running",
        "_time",
        "_turning_thread",
        "_wakeup",
        "after_turn",
        "date_line",
        "is_hosted",
        "last_read",
        "now",
        "wheel",
    )

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        time: Callable[[], float] = system_time,
        poller: Poller | None = None,
    ) -> None:
        """Opens the poller and the wakeup descriptor.

        Args:
            clock: returns seconds since any fixed moment; never goes back.
            time: returns seconds since the epoch, for the Date header.
            poller: None for the best one of this system.
        """
        self._clock = clock
        self._time = time
        self._poller = new_poller() if poller is None else poller
        self._channels: dict[int, Channel] = {}
        self._again: list[Channel] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._running = False
        self.is_hosted = False
        # The thread that is in a turn, but not in its waiting; 0 for none. In a hosted reactor a turn lasts until the
        # next one begins to wait.
        self._turning_thread = 0
        self._wakeup = Wakeup()
        self.watch(self._wakeup.fileno(), self._wakeup, NOTHING, READ)
        self.after_turn: list[Callable[[], object]] = []
        self.now = self.last_read = clock()
        self.wheel = TimerWheel(self.now)
        self._date_second = -1
        self.date_line = b""
        self._read_time()

    # What to wait for.

    def watch(self, fd: int, channel: Channel, before: int, events: int) -> None:
        """Changes what the reactor waits for on a descriptor.

        The caller remembers `before`, since it has to know it anyway; so there is no second copy to look up here.

        Args:
            fd: an open descriptor.
            channel: the one whose `ready` is called.
            before: the events that were waited for so far. `NOTHING` for a descriptor that was not watched.
            events: the events to wait for from now on. `NOTHING` to stop watching, which must happen before `fd`
                closes.
        """
        if before == events:
            return
        if before == NOTHING:
            self._poller.register(fd, events)
            self._channels[fd] = channel
        elif events == NOTHING:
            self._poller.unregister(fd)
            del self._channels[fd]
        else:
            self._poller.modify(fd, events)

    def again(self, channel: Channel) -> None:
        """Has `channel.ready(NOTHING)` called in the next turn: the channel has work left, but its turn is over."""
        self._again.append(channel)
        if self._turning_thread == 0:  # between two turns, where a foreign loop waits for the poller
            self._wakeup.wake()

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called in the reactor's thread, soon. Safe from any thread and from signal handlers."""
        self._calls.append(function)
        # A turn looks for calls once more before it waits, whichever thread has added them: nothing has to wake it.
        if self._turning_thread == 0:
            self._wakeup.wake()

    def signal_fileno(self) -> int:
        """Returns the descriptor for `signal.set_wakeup_fd`, so that a signal ends the waiting of this reactor.

        Python calls a signal handler some time after the signal: not before the main thread runs bytecode again.
        Without this descriptor, a signal that comes between the last bytecode and the system call that waits, or that
        the system delivers to another thread, would be noticed only when something else wakes the reactor.
        """
        return self._wakeup.signal_fileno()

    # Turns.

    def fileno(self) -> int:
        """Returns a descriptor that is readable when there is something to do."""
        return self._poller.fileno()

    def timeout(self) -> float | None:
        """Returns the seconds after which `step` must be called at the latest: None for never, 0 for now."""
        if self._again or self._calls:
            return 0.0
        return self.wheel.timeout(self._clock())

    def read_clock(self) -> float:
        """Returns seconds on `clock`, which may be later than `now`: a handler can take long in the middle of a
        turn."""
        return self._clock()

    def step(self, timeout: float | None = 0.0) -> None:
        """Makes one turn.

        Args:
            timeout: seconds to wait at most for something to do. None waits until there is something.
        """
        self._turning_thread = 0  # in this order: a signal handler that adds a call from here on wakes the poller
        if timeout is None or self._again or self._calls:
            timeout = self.timeout()
        ready = self._poller.poll(timeout)
        self._turning_thread = get_ident()
        self._read_time()
        again, self._again = self._again, []
        for fd, events in ready:
            channel = self._channels.get(fd)  # None if another channel has closed it in this turn
            if channel is not None:
                # Not by way of _call: this runs for every request. A try costs nothing until something is raised, while
                # a bound method and a tuple of arguments would cost a few hundred instructions.
                try:
                    channel.ready(events & _READ_WRITE or events | _READ_WRITE)  # neither of the two: trouble
                except Exception:
                    log_current_exception(_FAILED)
        for channel in again:
            _call(channel.ready, NOTHING)
        if self._calls:
            self._run_calls()
        # If very many timers are due at once, the rest of them have to wait for the next turns, where channels that
        # have become ready meanwhile come first.
        for timer in self.wheel.expire(self.now, _MAX_EXPIRED):
            if timer.deadline <= self.now:  # another timer of this list may have rescheduled it
                _call(timer.expired, self.now)
        for function in self.after_turn:
            _call(function)
        if not self.is_hosted:
            self._turning_thread = 0

    def make_calls(self) -> bool:
        """Makes the calls that wait, for a loop that hosts this one and is about to wait in `step`: what they lead to
        is done without another look at the descriptors.

        Returns:
            Whether there were any.
        """
        if not self._calls:
            return False
        self._turning_thread = get_ident()
        self._read_time()  # the host's own work may have taken long, and none of these calls is to blame
        self._run_calls()
        for function in self.after_turn:
            _call(function)
        return True

    def run(self) -> None:
        """Makes turns until `stop` is called."""
        self._running = True
        while self._running:
            self.step(self.timeout())

    def stop(self) -> None:
        """Has `run` return after the present turn. Safe from any thread and from signal handlers."""
        self.call(self._stop)

    def _stop(self) -> None:
        self._running = False

    def _run_calls(self) -> None:
        """Makes the calls that are waiting now; calls that these add wait for the next turn."""
        for _ in range(len(self._calls)):
            _call(self._calls.popleft())

    def _read_time(self) -> None:
        """Reads both clocks, and renews the Date line if the second has changed."""
        self.now = self._clock()
        self.last_read = self.now
        second = int(self._time())
        if second != self._date_second:
            self._date_second = second
            self.date_line = f"Date: {format_date(second)}\r\n".encode("ascii")

    def close(self) -> None:
        """Closes the poller and the wakeup descriptor. The owners of the channels close those."""
        self._poller.close()
        self._wakeup.close()


_FAILED = "a callback of the reactor failed"


def _call(function: Callable[..., object], *arguments: object) -> None:
    """Calls `function`, and logs what it raises, so that the turn goes on."""
    try:
        function(*arguments)
    except Exception:
        log_current_exception(_FAILED)
