"""Reactor: one poller, one thread, many channels; and the time of the turn.

Knows readiness (see `poller`), deadlines, and how to be woken from another thread. Does not know what channels do: no
sockets but its own for waking, no HTTP. A turn handles what is ready first and what expired after that, so that a
request which is already there is never lost to a deadline that passed meanwhile. Nobody's exception ends the loop.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..http.dates import format_date
from .poller import NOTHING, READ, WRITE, Poller, new_poller
from .timerwheel import TimerWheel

__all__ = ["Channel", "Reactor"]

log = logging.getLogger("kaserve")

_READ_WRITE = READ | WRITE
_MAX_EXPIRED = 256  # in one turn: a few milliseconds


class Channel(Protocol):
    """Something with a descriptor."""

    def ready(self, events: int) -> None:
        """The descriptor can be read (`READ`), written (`WRITE`), or both; or it is in trouble, told as both."""


class Reactor:
    """The loop. `run()` turns it until `stop()`; a foreign loop calls `step()` when `fileno()` is readable and at the
    latest after `timeout()` seconds.

    now: seconds on `clock`, read once per turn, as is the Date line made from `wall` (seconds since the epoch).
    Not thread-safe but for `call` and `stop`.
    """

    __slots__ = (
        "_again",
        "_calls",
        "_channels",
        "_clock",
        "_date_second",
        "_poller",
        "_running",
        "_waker",
        "_wall",
        "after_turn",
        "date_line",
        "now",
        "wheel",
    )

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        poller: Poller | None = None,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._poller = new_poller() if poller is None else poller
        self._channels: dict[int, Channel] = {}
        self._again: list[Channel] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._running = False
        self._waker = Waker()
        self.watch(self._waker.fileno(), self._waker, NOTHING, READ)
        self.after_turn: list[Callable[[], object]] = []  # called at the end of each turn, for what is done in batches
        self.now = clock()
        self.wheel = TimerWheel(self.now)
        self._date_second = -1
        self.date_line = b""
        self._tell_time()

    # What to wait for.

    def watch(self, fd: int, channel: Channel, before: int, events: int) -> None:
        """Waits for `events` on `fd` from now on, where it waited for those of `before`; either may be `NOTHING`."""
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
        """`channel` has work left: it is called in the next turn as if it were ready for `NOTHING` new."""
        self._again.append(channel)

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called in the reactor's thread, soon. From any thread, also from a signal handler."""
        self._calls.append(function)
        self._waker.wake()

    # Turning.

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to do."""
        return self._poller.fileno()

    def timeout(self) -> float | None:
        """Seconds after which `step` must be called at the latest; None for never, 0 for now."""
        if self._again:
            return 0.0
        return self.wheel.timeout(self._clock())

    def read_clock(self) -> float:
        """Seconds on `clock`, which may be later than `now`: a handler can take long in the middle of a turn."""
        return self._clock()

    def step(self, timeout: float | None = 0.0) -> None:
        """One turn, waiting at most `timeout` seconds (None: as long as nothing happens) for something to do."""
        if timeout is None or self._again:
            timeout = self.timeout()
        ready = self._poller.poll(timeout)
        self._tell_time()
        again, self._again = self._again, []
        for fd, events in ready:
            channel = self._channels.get(fd)  # None where another one has closed it in this turn
            if channel is not None:
                try:
                    # Neither to be read nor written: in trouble, and reading or writing will tell which.
                    channel.ready(events & _READ_WRITE or _READ_WRITE)
                except Exception:
                    log_current_exception()
        for channel in again:
            try:
                channel.ready(NOTHING)
            except Exception:
                log_current_exception()
        if self._calls:
            self._make_calls()
        # Should very many be due at once, the others, and whoever has become ready in between, come in the next turns.
        for timer in self.wheel.expire(self.now, _MAX_EXPIRED):
            if timer.deadline <= self.now:  # another one may have changed its mind
                try:
                    timer.expired(self.now)
                except Exception:
                    log_current_exception()
        for function in self.after_turn:
            try:
                function()
            except Exception:
                log_current_exception()

    def run(self) -> None:
        """Turns until `stop`."""
        self._running = True
        while self._running:
            self.step(self.timeout())

    def stop(self) -> None:
        """Has `run` return after the present turn. From any thread, also from a signal handler."""
        self.call(self._stop)

    def _stop(self) -> None:
        self._running = False

    def _make_calls(self) -> None:
        """Those that are there now; what they add waits for the next turn."""
        for _ in range(len(self._calls)):
            function = self._calls.popleft()
            try:
                function()
            except Exception:
                log_current_exception()

    def _tell_time(self) -> None:
        self.now = self._clock()
        second = int(self._wall())
        if second != self._date_second:
            self._date_second = second
            self.date_line = f"Date: {format_date(second)}\r\n".encode("ascii")

    def close(self) -> None:
        """Gives back the poller and the waker; the channels are their owners' to close."""
        self._poller.close()
        self._waker.close()


def log_current_exception() -> None:
    """Logs the present exception. Whatever fails in a turn, a handler of the log included, the next turn comes."""
    try:
        log.exception("a call of the reactor failed")
    except Exception:
        pass


class Waker:
    """A descriptor that another thread, or a signal (`signal.set_wakeup_fd`), makes readable.

    Many threads that wake at once cost one byte: `_woken` is set before it is sent, and cleared behind its receipt, so
    that who finds it set knows that the calls are still to be looked at.
    """

    __slots__ = ("_receiver", "_sender", "_woken")

    def __init__(self) -> None:
        self._woken = False
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        return self._receiver.fileno()

    def wake(self) -> None:
        if self._woken:
            return
        self._woken = True
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # full: it is readable already; or closed: there is nobody left to wake

    def ready(self, events: int) -> None:
        try:
            while len(self._receiver.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        self._woken = False

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()
