"""The simulated network: pairs of sockets without descriptors, and a poller for them.

Knows what TCP shows to its two ends: bytes in order, a limit to what is under way, half-closes, and resets, which a
close with unread bytes or SO_LINGER causes, and which overtake nothing that can still be read. Events come in the order
of the descriptors. So a run has one history, and costs no system calls.
"""

from __future__ import annotations

import errno
import itertools
import socket
from typing import Any

from kaserve.net.poller import ERROR, HALF_CLOSE, HANGUP, READ, WRITE
from kaserve.net.timerwheel import Timer, TimerWheel

__all__ = ["OrderedWheel", "SimulatedPoller", "SimulatedSocket", "new_pair"]

_FIRST = 1_000_000  # far from all descriptors of the system, which system calls for these do not know


class SimulatedSocket:
    """One end of a connection. `kaserve` uses it as a PlainSocket, an actor by way of `tests.tools.net.Client`.

    Attributes:
        is_closed: whether its owner has closed it.
    """

    family = socket.AF_INET

    def __init__(self, number: int, capacity: int) -> None:
        self.number = number
        self.peer: SimulatedSocket = self
        self.is_closed = False
        self._capacity = capacity  # bytes that the other end may send before they are read
        self._incoming = b""
        self._ended = False  # the other end has finished sending
        self._has_finished = False
        self._was_reset = False
        self._resets = False

    def recv(self, size: int) -> bytes:
        self._check()
        data, self._incoming = self._incoming[:size], self._incoming[size:]
        if data:
            return data
        if self._was_reset and not self._ended:
            self._ended = True  # it is told once
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if self._ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def send(self, data: Any, flags: int = 0) -> int:
        self._check()
        if self._was_reset:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if self._has_finished:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if self.peer.is_closed:  # the first bytes leave, and a reset comes back
            self._was_reset = True
            return len(data)
        count = min(len(data), self.peer.room)
        if not count:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self.peer._incoming += bytes(data[:count])
        return count

    @property
    def room(self) -> int:
        """Bytes that the other end can send."""
        return max(0, self._capacity - len(self._incoming))

    def shutdown(self, how: int) -> None:
        self._check()
        if self._was_reset:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self._has_finished = True
        self.peer._ended = True

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self._resets = self._resets or (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return -1 if self.is_closed else self.number

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._resets or self._incoming:
            self.peer._was_reset = True
        else:
            self.peer._ended = True

    def _check(self) -> None:
        if self.is_closed:
            raise OSError(errno.EBADF, "Bad file descriptor")

    def events(self) -> int:
        """What epoll would report."""
        events = 0
        if self._incoming or self._ended or self._was_reset:
            events |= READ
        if self.peer.room or self.peer.is_closed or self._was_reset:
            events |= WRITE
        if self._ended:
            events |= HALF_CLOSE
        if self._was_reset:
            events |= ERROR | HANGUP
        elif self._ended and self._has_finished:
            events |= HANGUP
        return events


def new_pair(numbers: itertools.count[int], capacities: tuple[int, int]) -> tuple[SimulatedSocket, SimulatedSocket]:
    """Returns the two ends of a new connection.

    Args:
        numbers: where their descriptors come from.
        capacities: bytes that each end keeps unread.
    """
    first, second = (SimulatedSocket(_FIRST + next(numbers), capacity) for capacity in capacities)
    first.peer, second.peer = second, first
    return first, second


class OrderedWheel(TimerWheel):
    """A timer wheel that returns timers with the same deadline in the order in which they were first scheduled. The
    wheel itself keeps sets, whose order depends on addresses in memory."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self._order: dict[Timer, int] = {}

    def schedule(self, timer: Timer, deadline: float) -> None:
        self._order.setdefault(timer, len(self._order))
        super().schedule(timer, deadline)

    def expire(self, now: float, limit: int = 1 << 30) -> list[Timer]:
        return sorted(super().expire(now, limit), key=lambda timer: (timer.deadline, self._order[timer]))


class SimulatedPoller:
    """A poller of simulated sockets; other descriptors are never ready."""

    def __init__(self) -> None:
        self.sockets: dict[int, SimulatedSocket] = {}
        self._watched: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        assert fd not in self._watched
        self._watched[fd] = events

    def modify(self, fd: int, events: int) -> None:
        assert fd in self._watched
        self._watched[fd] = events

    def unregister(self, fd: int) -> None:
        del self._watched[fd]

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        ready = []
        for fd, wanted in sorted(self._watched.items()):
            sock = self.sockets.get(fd)
            if sock is not None:
                assert not sock.is_closed, "a closed descriptor is watched"
                events = sock.events() & (wanted | ERROR | HANGUP)
                if events:
                    ready.append((fd, events))
        return ready

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass
