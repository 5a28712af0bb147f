"""Upstream: one server behind the proxy: its connections, its health and its figures.

Knows how many requests are in flight, which connections are idle, and whether the server has failed lately. Does not
know what a request is.

Health is passive: a server that cannot be reached, or does not respond in time, is left out for a while if there are
others. With one server alone nothing is left out: an attempt costs nobody anything.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from ..http.limits import Limits
from ..net.reactor import Reactor
from ..telemetry.upstreams import UpstreamFigures
from .connection import UpstreamConnection, UpstreamUser
from .connector import Connector
from .location import UpstreamURL
from .pool import Pool
from .settings import UpstreamSettings, UpstreamStats

__all__ = ["Upstream", "choose"]

_LEFT_OUT = 10.0  # seconds after a failure
_MAX_FIELDS = 1000  # of a response, or of its trailers; some applications set many cookies. 64 KiB bound them as well


class Upstream:
    """One server behind the proxy.

    Attributes:
        url: where it is.
        name: the same, for logs.
        settings: how its connections are used.
        tls: for https; None for plain HTTP.
        stats: its counters.
        active: the connections with a request, or being opened.
        pool: the idle ones.
        is_http_1_0: whether its last response was of HTTP/1.0, so that it cannot read chunks.
    """

    def __init__(
        self, url: UpstreamURL, settings: UpstreamSettings, tls: ssl.SSLContext | None, connector: Connector
    ) -> None:
        self.url = url
        self.name = str(url)
        self.settings = settings
        self.tls = tls
        self.connector = connector
        self.stats = UpstreamStats()
        self.active: set[UpstreamConnection] = set()
        self.pool: Pool[UpstreamConnection] = Pool(settings.connections, settings.idle_timeout)
        self.is_http_1_0 = False
        self._failed_until = 0.0
        self._limits = Limits(fields=_MAX_FIELDS)

    def is_failing(self, now: float) -> bool:
        """Whether it has failed lately, and is to be left out if possible."""
        return now < self._failed_until

    def fail(self, now: float) -> None:
        """It could not be reached, or did not respond in time."""
        self._failed_until = now + _LEFT_OUT

    def figures(self, now: float) -> UpstreamFigures:
        """Returns its figures for the live page and the metrics."""
        stats = self.stats
        return UpstreamFigures(
            name=self.name,
            in_use=len(self.active),
            idle=len(self.pool.idle),
            is_left_out=self.is_failing(now),
            requests=stats.requests,
            opened=stats.opened,
            reused=stats.reused,
            races_avoided=stats.races_avoided,
            races_lost=stats.races_lost,
            retried=stats.retried,
            failed=stats.failed,
            idle_limit=self.pool.seen,
            received=stats.received,
            sent=stats.sent,
        )

    def take(self, user: UpstreamUser, now: float) -> UpstreamConnection | None:
        """Returns a kept connection that is still open, for `user`; None if there is none."""
        while (connection := self.pool.take(now)) is not None:
            if connection.reuse(user):
                self.active.add(connection)
                self.stats.reused += 1
                return connection
        return None

    def open(self, user: UpstreamUser, reactor: Reactor) -> UpstreamConnection:
        """Begins a new connection for `user`, whose `connected` or `failed` is called."""
        connection = UpstreamConnection(self, reactor, user, self._limits)
        self.active.add(connection)
        return connection

    # Called by its connections.

    def connected(self) -> None:
        """A connection was opened."""
        self.stats.opened += 1
        self._failed_until = 0.0

    def keep(self, connection: UpstreamConnection) -> None:
        """A connection has become idle."""
        self.active.discard(connection)
        now = connection.idle_from
        kept, oldest = self.pool.keep(connection, now)
        if not kept:
            connection.close()
            return
        connection.wait_idle(now + self.pool.limit(connection, now))
        if oldest is not None:
            oldest.close()

    def closed_idle(self, connection: UpstreamConnection, idle: float) -> None:
        """The upstream has closed a connection that was idle for so many seconds, before a request was sent on it."""
        self.stats.races_avoided += 1
        self.pool.observe(idle, connection.idle_from + idle)

    def race_lost(self, connection: UpstreamConnection, idle: float) -> None:
        """The upstream has closed a connection, idle for so many seconds before, while a request was sent on it."""
        self.stats.races_lost += 1
        self.pool.observe(idle, connection.idle_from + idle)

    def closed(self, connection: UpstreamConnection) -> None:
        """A connection is closed."""
        self.active.discard(connection)
        self.pool.discard(connection)

    def close(self) -> None:
        """Closes all connections."""
        for connection in [*self.active, *self.pool.idle]:
            connection.close()


def choose(upstreams: Sequence[Upstream], now: float, tried: Sequence[Upstream] = ()) -> Upstream:
    """Returns the upstream with the least requests in flight; of several, the one that has had the fewest so far. Those
    that have failed lately, or were tried before, come last."""
    if len(upstreams) == 1:
        return upstreams[0]
    return min(upstreams, key=lambda each: (each in tried, each.is_failing(now), len(each.active), each.stats.requests))
