"""Pool: the idle connections to one upstream, and how long they may be idle.

Knows what limits the time for which an idle connection can be trusted. Does not know sockets, nor how a connection is
opened.

A connection that its upstream is about to close must not be used: the request would cross with the end, and whether it
was processed could not be known (RFC 9112 §9.5). So a connection is kept for the least of

- our own limit, a setting,
- what the upstream announces, less a second for what is on its way (`Keep-Alive: timeout=5`), and
- what it was seen to do, less a margin, since most servers announce nothing. If it closes two connections after about
  the same time of idleness, that is its limit. One alone says nothing, nor do several that end together: a server that
  restarts closes connections of any age. What was seen is forgotten after a while, since its settings may change.

The connection used last is used next. So under a small load the same few connections are used, the others reach their
limit and are closed, and a connection is rarely idle for long when it is used.
"""

from __future__ import annotations

from math import inf
from typing import Generic, Protocol, TypeVar

__all__ = ["Pool", "Pooled"]

_ANNOUNCED_MARGIN = 1.0  # seconds, as this server itself grants its clients
# What is taken off the time that was seen: seconds, or a share if that is more, but at most half of it.
_SEEN_MARGIN = 0.5
_SEEN_SHARE = 0.1
_FORGET_AFTER = 600.0  # seconds
# Two times are about the same if they differ by no more than this share, or by this many seconds.
_SAME_SHARE = 0.1
_SAME_SECONDS = 0.1
_TOGETHER = 0.5  # seconds; ends that are closer count as one


class Pooled(Protocol):
    """What the pool knows of a connection.

    Attributes:
        idle_from: reactor time since which it is idle.
        announced: seconds for which the upstream says that it keeps an idle connection; None if it does not say.
    """

    idle_from: float
    announced: int | None


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """The idle connections to one upstream.

    Attributes:
        idle: the connections, the one used last at the end.
        seen: seconds after which the upstream was seen to close idle connections; None if it was not, or not lately.
    """

    def __init__(self, most: int, idle_limit: float) -> None:
        """Makes an empty pool.

        Args:
            most: idle connections that are kept; 0 keeps none.
            idle_limit: seconds for which one is kept at most.
        """
        self._most = most
        self._idle_limit = idle_limit
        self._seen_at = 0.0
        self._last_closed = self._closed_at = -inf
        self.idle: list[C] = []
        self.seen: float | None = None

    def limit(self, connection: C, now: float) -> float:
        """Returns the seconds for which `connection` can be trusted while it is idle."""
        limit = self._idle_limit
        if connection.announced is not None:
            limit = min(limit, connection.announced - _ANNOUNCED_MARGIN)
        if self.seen is not None:
            if now - self._seen_at > _FORGET_AFTER:
                self.seen = None
            else:
                limit = min(limit, self.seen - min(max(_SEEN_MARGIN, _SEEN_SHARE * self.seen), self.seen / 2))
        return limit

    def take(self, now: float) -> C | None:
        """Returns the connection used last, which is idle no more; None if none can be trusted. Those that are too old
        stay, until their timers close them."""
        if not self.idle:
            return None
        connection = self.idle[-1]
        if now - connection.idle_from >= self.limit(connection, now):
            return None  # and the others are older
        return self.idle.pop()

    def keep(self, connection: C, now: float) -> tuple[bool, C | None]:
        """Adds a connection that has become idle.

        Returns:
            Whether it is kept; and the connection that has to make room for it, which the caller closes.
        """
        if self._most <= 0 or self.limit(connection, now) <= 0:
            return False, None
        self.idle.append(connection)
        return True, self.idle.pop(0) if len(self.idle) > self._most else None

    def discard(self, connection: C) -> None:
        """Forgets a connection, if it is idle."""
        if connection in self.idle:
            self.idle.remove(connection)

    def observe(self, idle: float, now: float) -> None:
        """The upstream closed a connection that had been idle for `idle` seconds, before a request came or as it did.

        The shortest limit counts that was seen twice.
        """
        if now - self._closed_at < _TOGETHER:
            return
        self._closed_at = now
        before, self._last_closed = self._last_closed, idle
        if abs(idle - before) > max(_SAME_SECONDS, _SAME_SHARE * before):
            return
        shorter = min(idle, before)
        if self.seen is None or shorter <= self.seen or now - self._seen_at > _FORGET_AFTER:
            self.seen = shorter
        self._seen_at = now
