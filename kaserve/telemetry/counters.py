"""What a server counts. Knows no connection; whoever notices something adds it here, in the reactor's thread.

Counting one request is a few additions, and no object is made. What the figures say is worked out elsewhere, when
somebody asks (`kaserve.telemetry.snapshot`).
"""

from __future__ import annotations

from collections import Counter

from .histogram import CLASSES, COUNTS, TIMES, Histogram
from .peers import Peers

__all__ = ["NO_GAP", "REASONS", "UNSOLICITED", "Stats"]

NO_GAP = -1.0  # in front of a connection's first request

# Ends that a client may not have seen coming: a request that arrives afterwards is lost.
UNSOLICITED = frozenset({"idle", "drain", "evicted", "shutdown"})
# Why connections end.
REASONS = (
    *sorted(UNSOLICITED),
    *sorted(f"{reason}, race lost" for reason in UNSOLICITED),
    "client",
    "answered",
    "request limit",
    "age",
    "refused",
    "turned away",
    "handshake",
    "header timeout",
    "body timeout",
    "send timeout",
    "reset",
    "failed",
)


class Stats:
    """Plain counters since the start.

    accepted: connections. used: those that had a request which could be read; unused: those that ended without even
    one which could not. requests: answers begun, refusals included. refused: refusals (HTTPError) by status. failed:
    answers that a fault of the handler spoiled. closed: connections by the reason of their end, one of `REASONS`.
    races_lost: idle connections that got a request after the server had closed its side: what a client sees as a
    connection that ended under its request.

    statuses: answers by the class of their status. received, sent: bytes, heads included. gaps: seconds from an
    answer to the next request on its connection. latency: seconds from the first byte of a request to the last byte of
    its answer. per_connection: requests, of those that were used and have ended. client_closed: seconds a connection
    had been idle when its client closed it.
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
        self.races_lost = 0
        self.received = 0
        self.sent = 0
        self.refused: Counter[int] = Counter()
        self.closed: Counter[str] = Counter()
        self.statuses = Histogram(CLASSES)
        self.gaps = Histogram(TIMES)
        self.latency = Histogram(TIMES)
        self.per_connection = Histogram(COUNTS)
        self.client_closed = Histogram(TIMES)
        self.peers = Peers()

    def request_came(self, gap: float) -> None:
        """The first byte of a request, `gap` seconds after the last answer on its connection, or `NO_GAP`."""
        if gap < 0:
            self.used += 1
        else:
            self.gaps.add(gap)

    def answer_begun(self, status: int) -> None:
        self.requests += 1
        self.statuses.add(status)

    def connection_ended(self, reason: str, host: str, carried: int, idle: float, *, by_client: bool) -> None:
        """One that carried so many requests, be it that the last one got no answer, and was idle for `idle` seconds at
        last. by_client: the client closed first, while the connection was idle."""
        self.closed[reason] += 1
        peer = self.peers.of(host)
        peer.connections += 1
        peer.requests += carried
        peer.single += carried == 1
        peer.silent += carried == 0
        if not carried:
            self.unused += 1
            return
        self.per_connection.add(carried)
        if by_client:
            self.client_closed.add(idle)
            peer.times_closed += 1
            peer.closed_idle.append(idle)
        elif reason.startswith("idle"):
            peer.outlived += 1
        if reason.endswith("race lost"):
            peer.races_lost += 1
