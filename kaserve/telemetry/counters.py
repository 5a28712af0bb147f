"""Stats: the counters of a server.

Knows no connections and no requests: a connection calls these methods, in the reactor's thread, when something
happens. Counting a request costs a few additions and creates no object, which is why the statistics can always be on.
Everything that follows from the figures is computed elsewhere, when it is asked for (`kaserve.telemetry.snapshot`).
"""

from __future__ import annotations

from collections import Counter

from .endings import Ending
from .histogram import CLASSES, COUNTS, TIMES, Histogram
from .peers import Peers

__all__ = ["NO_GAP", "Stats"]

NO_GAP = -1.0
"""The `gap` of the first request on a connection: there was no response before it."""


class Stats:
    """Counters since the server started.

    Attributes:
        accepted: connections accepted.
        used: connections that carried at least one request that could be parsed.
        unused: connections that ended without a request, not even one that could not be parsed.
        requests: responses started, error responses included.
        refused: requests that were rejected (an HTTPError was raised), by status: they could not be parsed, or their
            method, path, body or user was not accepted. An error that a handler returns as the response, such as the
            404 for a file that is not there, is not among them.
        failed: responses that a fault of the handler replaced or cut off.
        closed: connections that have ended, by the reason.
        races_lost: requests that arrived after the server had closed an idle connection, by the reason of that close.
            The client sees a connection that ended under its request. Each connection counts once.
        statuses: responses by the class of their status.
        received, sent: bytes, headers included.
        gaps: seconds from the end of a response to the next request on its connection.
        latency: seconds from the first byte of a request to the last byte of its response.
        per_connection: requests on each connection that has ended and was used.
        client_closed: seconds that a connection had been idle when its client closed it.
        peers: how the clients' hosts treat idle connections.
    """

    __slots__ = (
        "accepted",
        "client_closed",
        "closed",
        "failed",
        "gaps",
        "latency",
        "peers",
        "per_connection",
        "races_lost",
        "received",
        "refused",
        "requests",
        "sent",
        "statuses",
        "unused",
        "used",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.used = 0
        self.unused = 0
        self.requests = 0
        self.failed = 0
        self.received = 0
        self.sent = 0
        self.refused: Counter[int] = Counter()
        self.closed: Counter[Ending] = Counter()
        self.races_lost: Counter[Ending] = Counter()
        self.statuses = Histogram(CLASSES)
        self.gaps = Histogram(TIMES)
        self.latency = Histogram(TIMES)
        self.per_connection = Histogram(COUNTS)
        self.client_closed = Histogram(TIMES)
        self.peers = Peers()

    def request_parsed(self, gap: float) -> None:
        """Counts a request.

        Args:
            gap: seconds from the end of the previous response on this connection to the request's first byte; `NO_GAP`
                if it is the first request. A pipelined request has a gap of 0.
        """
        if gap < 0:
            self.used += 1
        else:
            self.gaps.add(gap)

    def response_started(self, status: int) -> None:
        """Counts a response whose head is about to be sent."""
        self.requests += 1
        self.statuses.add(status)

    def race_lost(self, ending: Ending) -> None:
        """Counts a request that arrived on a connection which the server has closed for the reason `ending`.

        It is counted at once and not when the connection has ended: the connection may linger for seconds, and an
        operator who watches the counter should see the loss when it happens.
        """
        self.races_lost[ending] += 1

    def connection_ended(
        self, ending: Ending, host: str, carried: int, idle: float, *, by_client: bool, race_lost: bool
    ) -> None:
        """Counts the end of a connection.

        Args:
            ending: why it ended.
            host: the client's address without its port.
            carried: requests read on it, including a last one that got no response.
            idle: seconds since its last response, or since it was accepted.
            by_client: whether the client closed first, while the connection was idle.
            race_lost: whether `race_lost` was called for it. Here it counts only for the peer.
        """
        self.closed[ending] += 1
        peer = self.peers.of(host)
        peer.connections += 1
        peer.requests += carried
        peer.single_request += carried == 1
        peer.unused += carried == 0
        peer.races_lost += race_lost
        if not carried:
            # Such a connection says nothing about idle times: its client never wanted it kept open.
            self.unused += 1
            return
        self.per_connection.add(carried)
        if by_client:
            self.client_closed.add(idle)
            peer.closed_by_peer += 1
            peer.idle_times.append(idle)
        elif ending == Ending.IDLE:
            peer.closed_by_server += 1
