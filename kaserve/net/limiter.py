"""Room: how many connections there may be, and who leaves when there are more.

Knows which connection can best be spared, what is announced while it gets crowded, and how many one address has. Does
not know sockets, but for one descriptor kept in reserve. What it does costs nothing while there is room.
"""

from __future__ import annotations

import heapq
import math
import os
import socket
from collections import Counter
from collections.abc import Sized

from ..http.address import AnyAddress
from ..http.errors import HTTPError
from ..http.phases import LINGER
from .service import OpenConnection, Service

__all__ = ["ConnectionLimiter"]

_SPARED = 1.0  # seconds: who became idle less than this ago may have a request on its way, and stays
_LEAST_IDLE = 1.0  # seconds that are still announced when it is full
_STEPS = 40  # of filling
_COMFORTABLE = 30  # up to this step the idle time is that of the settings
_CROWDED = 36  # from this one on, which is 90 %, it is the least, and for each who comes one leaves
_MAX_CANDIDATES = 1024  # found in one search; a search looks at all connections


class ConnectionLimiter:
    """The connections of a server, `most` at one time, and `most_per_address` of one client's address (0: any number).

    Beyond three quarters connections are promised less idle time with each step, half as much as with the one before,
    so that there is turnover before anybody has to leave. From 90 % on, whoever comes makes the one leave that has been
    idle for longest; one that has been told to leave, and only lingers, goes before that.
    """

    def __init__(self, service: Service, most: int, most_per_address: int = 0, others: Sized = ()) -> None:
        """others: what takes room as well, and cannot be asked to leave."""
        self._service = service
        self._others = others
        self._most = most
        self._most_per_address = most_per_address
        self._idle = service.keep_alive.timeout
        self._step = 0
        self._candidates: list[tuple[float, OpenConnection]] = []  # who may be spared, the best one last
        self._search_at = -math.inf  # before that nobody can be found
        self._spare = _open_spare()
        self._crowd: Counter[bytes] = Counter()

    def available(self) -> int:
        """How many connections may still be taken."""
        return self._most - self._taken()

    def _taken(self) -> int:
        return len(self._service.connections) + len(self._others)

    def enter(self, connection: OpenConnection) -> None:
        """`connection` was accepted."""
        self._adapt()
        if self._step >= _CROWDED:
            self.evict_one()
        key = self._key(connection.client)
        if key:
            self._crowd[key] += 1
            if self._crowd[key] > self._most_per_address:
                connection.reject(HTTPError(503, "there are too many connections from your address"))

    def leave(self, connection: OpenConnection) -> None:
        """`connection` has ended."""
        self._adapt()
        if self._spare is None:
            self._spare = _open_spare()
        key = self._key(connection.client)
        if key:
            self._crowd[key] -= 1
            if not self._crowd[key]:
                del self._crowd[key]

    def evict_one(self) -> bool:
        """Has the connection leave that can best be spared; whether there was one."""
        while True:
            while self._candidates:
                since, connection = self._candidates.pop()
                if connection.idle_since == since:  # it has done nothing meanwhile
                    connection.evict()
                    return True
            if self._service.reactor.now < self._search_at:
                return False
            self._search()

    def free_descriptor(self) -> bool:
        """The system has none: gives up the spare one, which the next connection that ends brings back."""
        before = len(self._service.connections)
        self._candidates.clear()  # who has begun to linger since they were found is the better one
        self.evict_one()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            return True
        return len(self._service.connections) < before

    def close(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _search(self) -> None:
        """Finds the connections that can be spared, and when to look again if there are none."""
        spare_until = self._service.reactor.now - _SPARED
        earliest = spare_until + _SPARED  # who becomes idle from now on
        found = []
        for connection in self._service.connections:
            since = connection.idle_since
            if since <= spare_until:
                found.append((since, connection))
            elif since < earliest:
                earliest = since
        self._candidates = heapq.nsmallest(_MAX_CANDIDATES, found, key=_by_use)
        self._candidates.reverse()
        if not found:
            self._search_at = earliest + _SPARED

    def _adapt(self) -> None:
        """Announces what can be kept."""
        step = self._taken() * _STEPS // self._most
        if step != self._step:
            self._step = step
            if self._idle > 0 and not self._service.draining:
                self._service.announce(self._idle_at(step))

    def _idle_at(self, step: int) -> float:
        """How long a connection may be idle: all of the time, half, a quarter, ..."""
        least = min(self._idle, _LEAST_IDLE)
        if step >= _CROWDED:
            return least
        return max(least, self._idle / (1 << max(0, step - _COMFORTABLE)))

    def _key(self, client: AnyAddress) -> bytes:
        """What counts as one address: the network of an IPv6 client, which has 2**64 addresses. Empty for a client that
        is not counted, as those of Unix sockets are."""
        if not self._most_per_address or not client.host:
            return b""
        host = client.host.partition("%")[0]
        if ":" not in host:
            return host.encode()
        packed = socket.inet_pton(socket.AF_INET6, host)
        return packed if packed.startswith(_MAPPED) else packed[:8]


_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in the form of an IPv6 one (RFC 4291 §2.5.5.2)


def _by_use(candidate: tuple[float, OpenConnection]) -> tuple[bool, float]:
    """Who only lingers is of no use to anybody; the others by how long they have been idle."""
    since, connection = candidate
    return connection.phase != LINGER, since


def _open_spare() -> int | None:
    """A descriptor that stands for one connection; None when there is none to be had."""
    try:
        return os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
