"""ReactorLoop: an asyncio event loop and a reactor in one thread, which wait in one system call.

Knows asyncio's selector loop and the reactor. Does not know HTTP, nor what runs in either of the two.

asyncio drives. It calls `selector.select(timeout)` once in each iteration, and its selector here is an adapter:
`select` makes one turn of the reactor, which waits for the descriptors of both, does kaserve's work, and hands the
events of
asyncio's descriptors to asyncio. So nothing of asyncio's loop is written again: callbacks, timers, signals, child
processes and executors are its own.

The other way, with the reactor driving, would need a copy of `BaseEventLoop._run_once`, which changes between versions
of Python. A reactor that is only a descriptor in asyncio's selector (`host.GuestHost`) needs neither, but waits twice:
once in asyncio's poller, and then the reactor asks its own what has happened.

What is done between two turns (callbacks, and so tasks) can complete a response: a Future's callback adds a call to the
reactor. `select` makes those calls before it waits, without a look at the descriptors in between. So the response to a
request that was read in this iteration leaves in this iteration, although its task began after the turn had ended.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import threading
from asyncio import events
from collections import deque
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any

from ..net.poller import NOTHING, READ, WRITE
from ..net.reactor import Reactor

__all__ = ["ReactorLoop", "ReactorSelector"]

# What asyncio waits for, in the poller's terms. The index is a combination of EVENT_READ (1) and EVENT_WRITE (2).
_WAITED_FOR = (NOTHING, READ, WRITE, READ | WRITE)


class _Descriptor:
    """A descriptor of asyncio's, as a channel of the reactor."""

    __slots__ = ("events", "key", "ready_keys")

    def __init__(self, key: SelectorKey, events: int, ready_keys: list[tuple[SelectorKey, int]]) -> None:
        self.key = key
        self.events = events
        self.ready_keys = ready_keys

    def ready(self, events: int) -> None:
        mask = (EVENT_READ if events & READ else 0) | (EVENT_WRITE if events & WRITE else 0)
        mask &= self.key.events
        if mask:
            self.ready_keys.append((self.key, mask))


class ReactorSelector(selectors._BaseSelectorImpl):
    """The selector of asyncio's loop, in front of a reactor.

    Attributes:
        limit: seconds that the next `select` waits at most; None for as long as asyncio says.
    """

    def __init__(self, loop: ReactorLoop, reactor: Reactor) -> None:
        super().__init__()
        self._loop = loop
        self._reactor = reactor
        self._descriptors: dict[int, _Descriptor] = {}
        self._ready_keys: list[tuple[SelectorKey, int]] = []
        self.limit: float | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key: SelectorKey = super().register(fileobj, events, data)
        descriptor = _Descriptor(key, _WAITED_FOR[events], self._ready_keys)
        try:
            self._reactor.watch(key.fd, descriptor, NOTHING, descriptor.events)
        except BaseException:  # a regular file, which cannot be waited for; asyncio passes the exception on
            super().unregister(fileobj)
            raise
        self._descriptors[key.fd] = descriptor
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key: SelectorKey = super().unregister(fileobj)
        descriptor = self._descriptors.pop(key.fd)
        try:
            self._reactor.watch(key.fd, descriptor, descriptor.events, NOTHING)
        except OSError:  # closed meanwhile, which has taken it from the poller, as in all selectors of Python
            pass
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = self.get_key(fileobj)
        descriptor = self._descriptors[key.fd]
        self._reactor.watch(key.fd, descriptor, descriptor.events, _WAITED_FOR[events])
        descriptor.events = _WAITED_FOR[events]
        descriptor.key = key = SelectorKey(key.fileobj, key.fd, events, data)
        self._fd_to_key[key.fd] = key  # type: ignore[attr-defined]  # of the base class, whose stub does not have it
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Makes one turn of the reactor, and returns what has happened to asyncio's descriptors meanwhile.

        Args:
            timeout: seconds until asyncio has something else to do; None for never.
        """
        reactor = self._reactor
        if reactor.make_calls():
            timeout = self._loop.timeout()  # the calls may have added callbacks and timers
        if timeout != 0:  # it mostly is, in a loop with much to do
            for other in (reactor.timeout(), self.limit):
                if other is not None and (timeout is None or other < timeout):
                    timeout = other
        self._ready_keys.clear()
        reactor.step(timeout)
        return self._ready_keys

    def close(self) -> None:
        """Forgets asyncio's descriptors. The reactor is closed by its owner."""
        for key in list(self.get_map().values()):
            self.unregister(key.fileobj)
        super().close()


class ReactorLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose iterations are turns of a reactor.

    Attributes:
        reactor: the reactor. It is hosted while this loop is open.
    """

    # Of the base class, whose stubs do not have them.
    _ready: deque[events.Handle]
    _scheduled: list[events.TimerHandle]
    _stopping: bool
    _signal_handlers: dict[int, events.Handle]

    def __init__(self, reactor: Reactor | None = None) -> None:
        """Makes a loop.

        Args:
            reactor: belongs to the caller, who closes it after this loop. By default the loop makes one of its own.
        """
        self._owns_reactor = reactor is None
        self.reactor = Reactor() if reactor is None else reactor
        self.reactor.is_hosted = True
        # Both read one clock, so that a test can move it. An attribute in place of the method: asyncio asks for the
        # time in each iteration, and this saves a call.
        self.time = self.reactor.read_clock  # type: ignore[method-assign]
        self._selecting = ReactorSelector(self, self.reactor)
        super().__init__(self._selecting)

    def timeout(self) -> float | None:
        """Returns the seconds until asyncio has something to do without an event: None for never, 0 for now."""
        if self._ready or self._stopping:
            return 0.0
        if self._scheduled:
            return max(0.0, self._scheduled[0].when() - self.time())
        return None

    def turn(self, timeout: float | None) -> None:
        """Makes one iteration, for a loop that is not asyncio's and turns this one.

        Args:
            timeout: seconds to wait at most; None waits until there is something to do.
        """
        self._selecting.limit = timeout
        try:
            # The only callback of a turn that stops by itself, without making asyncio believe that there is work.
            self.reactor.after_turn.append(self.stop)
            self.run_forever()
        finally:
            self.reactor.after_turn.remove(self.stop)
            self._selecting.limit = None

    def remove_signal_handler(self, sig: int) -> bool:
        """As asyncio's; but after the last one, signals still wake the reactor (`Reactor.signal_fileno`)."""
        removed = super().remove_signal_handler(sig)
        if removed and not self._signal_handlers and threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self.reactor.signal_fileno(), warn_on_full_buffer=False)
        return removed

    def close(self) -> None:
        """Closes the loop, which must not be running, and the reactor if it is its own."""
        if self.is_closed():
            return
        super().close()
        self.reactor.is_hosted = False
        if self._owns_reactor:
            self.reactor.close()
