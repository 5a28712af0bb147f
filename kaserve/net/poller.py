"""Poller: which descriptors are ready.

`selectors` of the standard library is what makes this portable. It also makes three objects of every event and looks
each up in Python, which on Linux costs more than all of a request's parsing; there epoll is asked directly. Knows
descriptors and events; what they are for is the reactor's business.
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

NOTHING = 0
READ = 1
WRITE = 4  # as epoll has them, so that nothing needs translation there


class Poller(Protocol):
    """Waits for any number of descriptors."""

    def register(self, fd: int, events: int) -> None:
        """Waits for `events` on `fd` as well, which it did not know."""

    def modify(self, fd: int, events: int) -> None:
        """Waits for other events on `fd`."""

    def unregister(self, fd: int) -> None:
        """Forgets `fd`, which must still be open."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """What is ready, as pairs of descriptor and events, after at most `timeout` seconds (None: however long it
        takes). A descriptor in trouble may show events that are neither `READ` nor `WRITE`."""

    def fileno(self) -> int:
        """A descriptor that can itself be waited for."""

    def close(self) -> None:
        """Gives it back."""


class SelectorPoller:
    """Whatever the standard library considers best for this system."""

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
    """The best one for this system."""
    return Epoll() if Epoll is not None else SelectorPoller()
