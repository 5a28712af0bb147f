"""Poller: which descriptors are ready.

Knows descriptors and events. Does not know what they are for, which is the reactor's business.

`selectors` of the standard library makes this portable. But it makes three objects of every event and looks each up in
Python, which on Linux costs more than all of the parsing of a request. So on Linux the reactor asks epoll directly.
"""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Callable
from typing import Protocol

Epoll: Callable[[], Poller] | None
try:
    from ._kernel import Epoll
except ImportError:
    Epoll = getattr(select, "epoll", None)

__all__ = ["ERROR", "HALF_CLOSE", "HANGUP", "NOTHING", "READ", "WRITE", "Poller", "new_poller"]

# The values of EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP and EPOLLRDHUP, so that epoll needs no translation.
NOTHING = 0
READ = 1
WRITE = 4
ERROR = 8
HANGUP = 0x10
HALF_CLOSE = 0x2000


class Poller(Protocol):
    """Waits for any number of descriptors.

    In addition to `READ` and `WRITE`, two events tell that the peer of a connection leaves, without reading from it:

    - `HALF_CLOSE`: the peer will send nothing more, but may still receive. Bytes that it sent before may be unread.
    - `HANGUP`: the connection is gone: with `ERROR` by a reset, without it since both sides have closed. epoll reports
      this for every descriptor, whatever is waited for; to wait for `HANGUP` alone keeps a descriptor registered for
      that.

    Both persist, and are reported again by each `poll` that waits for them. They are not waited for together with
    `READ` or `WRITE`, which report the same: reading or writing tells what has happened.
    """

    def register(self, fd: int, events: int) -> None:
        """Starts waiting for `events` on `fd`, which is not registered."""

    def modify(self, fd: int, events: int) -> None:
        """Waits for other events on `fd`, which is registered."""

    def unregister(self, fd: int) -> None:
        """Stops waiting for `fd`, which must still be open."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Waits until a descriptor is ready, and returns pairs of descriptor and events.

        A descriptor in trouble may have events that are none of the four. The list is empty if the timeout passed or a
        signal came.

        Args:
            timeout: seconds to wait at most; None for no limit.
        """

    def fileno(self) -> int:
        """Returns a descriptor that is readable when `poll` would return something."""

    def close(self) -> None:
        """Closes that descriptor. May be called twice."""


class SelectorPoller:
    """A poller made of the selector that the standard library considers best for this system.

    Selectors know neither `HALF_CLOSE` nor `HANGUP`. A peer that leaves makes a descriptor readable, so for
    `HALF_CLOSE` the poller waits for that, and peeks at the socket. If there is data (the next request of a pipeline),
    what follows the data cannot be seen, and the poller waits no longer: otherwise the loop would spin until the data
    are read. `HANGUP` alone cannot be waited for. Owners need a deadline for peers that are not noticed.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # Waited for without READ or WRITE, and whether they are gone: peeking takes the error from the socket, and a
        # second look would find a half-close. The selector may not have these descriptors.
        self._leaving: dict[int, bool] = {}

    def register(self, fd: int, events: int) -> None:
        if not events & _READ_WRITE:
            self._leaving[fd] = False
        wanted = _to_selector(events)
        if wanted:
            self._selector.register(fd, wanted)

    def modify(self, fd: int, events: int) -> None:
        self.unregister(fd)
        self.register(fd, events)

    def unregister(self, fd: int) -> None:
        if fd in self._leaving:
            del self._leaving[fd]
            self._forget(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        ready = []
        for key, selected in self._selector.select(timeout):
            events = self._peek(key.fd) if key.fd in self._leaving else _from_selector(selected)
            if events:
                ready.append((key.fd, events))
        return ready

    def _peek(self, fd: int) -> int:
        """Returns how the peer of `fd` leaves; NOTHING if it has sent data, and then waits no longer."""
        if self._leaving[fd]:
            return HANGUP | ERROR
        sock = socket.socket(fileno=fd)
        try:
            if not sock.recv(1, socket.MSG_PEEK):
                return HALF_CLOSE
        except (BlockingIOError, InterruptedError):
            return NOTHING
        except OSError:
            self._leaving[fd] = True
            return HANGUP | ERROR
        finally:
            sock.detach()
        self._forget(fd)
        return NOTHING

    def _forget(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:  # it waited for HANGUP alone, or there are data
            pass

    def fileno(self) -> int:
        return self._selector.fileno()

    def close(self) -> None:
        self._selector.close()


_READ_WRITE = READ | WRITE


def _to_selector(events: int) -> int:
    read = selectors.EVENT_READ if events & (READ | HALF_CLOSE) else 0
    return read | (selectors.EVENT_WRITE if events & WRITE else 0)


def _from_selector(events: int) -> int:
    return (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0)


def new_poller() -> Poller:
    """Opens the fastest poller of this system."""
    return Epoll() if Epoll is not None else SelectorPoller()
