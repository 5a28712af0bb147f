"""Poller: which descriptors are ready.

Knows descriptors and events. Does not know what they are for, which is the reactor's business.

`selectors` of the standard library makes this portable. But it makes three objects of every event and looks each up in
Python, which on Linux costs more than all of the parsing of a request. So on Linux the reactor asks epoll directly.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from typing import Protocol

Epoll: Callable[[], Poller] | None
try:
    from ._kernel import Epoll
except ImportError:
    Epoll = getattr(select, "epoll", None)

__all__ = ["NOTHING", "READ", "WRITE", "Poller", "new_poller"]

# The values of EPOLLIN and EPOLLOUT, so that epoll needs no translation.
NOTHING = 0
READ = 1
WRITE = 4


class Poller(Protocol):
    """Waits for any number of descriptors."""

    def register(self, fd: int, events: int) -> None:
        """Starts waiting for `events` on `fd`, which is not registered."""

    def modify(self, fd: int, events: int) -> None:
        """Waits for other events on `fd`, which is registered."""

    def unregister(self, fd: int) -> None:
        """Stops waiting for `fd`, which must still be open."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Waits until a descriptor is ready, and returns pairs of descriptor and events.

        A descriptor in trouble may have events that are neither `READ` nor `WRITE`. The list is empty if the timeout
        passed or a signal came.

        Args:
            timeout: seconds to wait at most; None for no limit.
        """

    def fileno(self) -> int:
        """Returns a descriptor that is readable when `poll` would return something."""

    def close(self) -> None:
        """Closes that descriptor. May be called twice."""


class SelectorPoller:
    """A poller made of the selector that the standard library considers best for this system."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _to_selector(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, _to_selector(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return [(key.fd, _from_selector(events)) for key, events in self._selector.select(timeout)]

    def fileno(self) -> int:
        return self._selector.fileno()

    def close(self) -> None:
        self._selector.close()


def _to_selector(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)


def _from_selector(events: int) -> int:
    return (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0)


def new_poller() -> Poller:
    """Opens the fastest poller of this system."""
    return Epoll() if Epoll is not None else SelectorPoller()
