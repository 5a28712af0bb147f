"""ConnectionLimiter: how many connections there may be, and which one is closed when there are too many.

Knows which idle connection is best closed, what idle time is announced as the server fills up, and how many connections
each client address has. Does not know sockets, except for one descriptor that it keeps in reserve. While the server is
far from its limit, all this costs a few additions per connection, and nothing per request.

Two mechanisms keep a full server usable:

**Less idle time.** From three quarters of the limit on, responses announce a shorter idle time (`Keep-Alive: timeout`)
with each step of filling: half of it, a quarter, and so on. So connections end because their clients see that they may
not stay, rather than because the server closes them.

**Eviction.** From 90 % on, each new connection evicts one: the one that has been idle for longest, or before that one
that only lingers, since its last response has been sent. Which connection has been idle for longest is not tracked with
each request: when one must be evicted, a search over all connections finds a thousand candidates, and each is checked
again when its turn comes. So a request costs nothing for this, and an eviction costs a thousandth of a search.
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
from .service import RECENT_USE_GRACE, OpenConnection, Service

__all__ = ["ConnectionLimiter"]

_MIN_IDLE = 1.0  # seconds of idle time that are announced when the server is full
_STEPS = 40  # the limit is divided into this many steps of filling
_SHORTENING_STEP = 30  # from here, 75 %, less idle time is announced
_EVICTION_STEP = 36  # from here, 90 %, the least idle time is announced, and each new connection evicts one
_MAX_CANDIDATES = 1024  # found in one search, which looks at all connections


class ConnectionLimiter:
    """Limits the connections of one server, in total and per client address."""

    def __init__(self, service: Service, max_connections: int, max_per_address: int = 0, others: Sized = ()) -> None:
        """Starts counting.

        Args:
            service: the service that the connections belong to.
            max_connections: connections open at once.
            max_per_address: connections open at once from one client address; 0 for no limit.
            others: connections that count as well but cannot be evicted: those whose PROXY header has not arrived.
        """
        self._service = service
        self._others = others
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._idle = service.keep_alive.timeout
        self._step = 0
        self._candidates: list[tuple[float, OpenConnection]] = []  # for eviction, the best one last
        self._search_at = -math.inf  # no search before this time can find a candidate
        self._reserve_fd = _open_reserve()
        self._per_address: Counter[bytes] = Counter()

    def available(self) -> int:
        """Returns how many more connections may be accepted. Zero or less at the limit."""
        return self._max_connections - self._open_connections()

    def _open_connections(self) -> int:
        return len(self._service.connections) + len(self._others)

    def enter(self, connection: OpenConnection) -> None:
        """Counts a connection that was accepted. Rejects it if its address has too many; evicts another one if the
        server is nearly full."""
        self._announce_idle_time()
        if self._step >= _EVICTION_STEP:
            self.evict_one()
        key = self._address_key(connection.client)
        if key:
            self._per_address[key] += 1
            if self._per_address[key] > self._max_per_address:
                connection.reject(HTTPError(503, "there are too many connections from your address"))

    def leave(self, connection: OpenConnection) -> None:
        """Stops counting a connection, which has ended."""
        self._announce_idle_time()
        if self._reserve_fd is None:
            self._reserve_fd = _open_reserve()
        key = self._address_key(connection.client)
        if key:
            self._per_address[key] -= 1
            if not self._per_address[key]:
                del self._per_address[key]

    def evict_one(self) -> bool:
        """Evicts one idle connection. Returns True if one was found."""
        while True:
            while self._candidates:
                since, connection = self._candidates.pop()
                if connection.idle_since == since:  # it was not used since the search
                    connection.evict()
                    return True
            if self._service.reactor.now < self._search_at:
                return False
            self._search()

    def free_descriptor(self) -> bool:
        """Called when the system has no descriptor left. Returns True if one was freed.

        Evicting may take a moment, because the connection lingers. Meanwhile the descriptor in reserve is used. The
        next connection that ends restores it.
        """
        before = len(self._service.connections)
        self._candidates.clear()  # a connection that lingers since the last search is a better candidate
        self.evict_one()
        if self._reserve_fd is not None:
            os.close(self._reserve_fd)
            self._reserve_fd = None
            return True
        return len(self._service.connections) < before

    def close(self) -> None:
        """Closes the descriptor in reserve."""
        if self._reserve_fd is not None:
            os.close(self._reserve_fd)
            self._reserve_fd = None

    def _search(self) -> None:
        """Finds the candidates for eviction; or, if there are none, the time from which there may be some."""
        idle_before = self._service.reactor.now - RECENT_USE_GRACE
        earliest = self._service.reactor.now  # when a connection that is busy now could become idle
        found = []
        for connection in self._service.connections:
            since = connection.idle_since
            if since <= idle_before:
                found.append((since, connection))
            elif since < earliest:
                earliest = since
        self._candidates = heapq.nsmallest(_MAX_CANDIDATES, found, key=_eviction_order)
        self._candidates.reverse()
        if not found:
            self._search_at = earliest + RECENT_USE_GRACE

    def _announce_idle_time(self) -> None:
        """Announces another idle time if the server has reached another step of filling."""
        step = self._open_connections() * _STEPS // self._max_connections
        if step != self._step:
            self._step = step
            if self._idle > 0 and not self._service.draining:
                self._service.announce(self._idle_at(step))

    def _idle_at(self, step: int) -> float:
        """Returns the idle time in seconds to announce at `step`: all of it, half, a quarter, and so on."""
        least = min(self._idle, _MIN_IDLE)
        if step >= _EVICTION_STEP:
            return least
        return max(least, self._idle / (1 << max(0, step - _SHORTENING_STEP)))

    def _address_key(self, client: AnyAddress) -> bytes:
        """Returns what counts as one address; b"" for a client that is not counted, as those of Unix sockets.

        For IPv6 it is the network of 64 bits, since every client can use all of the 2**64 addresses in its own.
        """
        if not self._max_per_address or not client.host:
            return b""
        host = client.host.partition("%")[0]
        if ":" not in host:
            return host.encode()
        packed = socket.inet_pton(socket.AF_INET6, host)
        return packed if packed.startswith(_IPV4_MAPPED) else packed[:8]


_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # begins an IPv4 address in IPv6 form (RFC 4291 §2.5.5.2)


def _eviction_order(candidate: tuple[float, OpenConnection]) -> tuple[bool, float]:
    """Lingering connections come first: no client needs them any more. Then those that have been idle for longest."""
    since, connection = candidate
    return connection.phase != LINGER, since


def _open_reserve() -> int | None:
    """Opens a descriptor that can be closed to accept one more connection; None if the system has none left."""
    try:
        return os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
