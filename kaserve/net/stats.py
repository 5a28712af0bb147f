"""What a server counts. Knows no connection; whoever notices something adds it here, in the reactor's thread."""

from __future__ import annotations

from collections import Counter

__all__ = ["Stats"]


class Stats:
    """Plain counters since the start.

    accepted: connections. requests: answers begun, refusals included. refused: refusals (HTTPError) by status.
    failed: answers that a fault of the handler spoiled. closed: connections by the reason of their end.
    races_lost: idle connections that got a request after the server had closed its side: what a client sees as a
    connection that ended under its request.
    """

    __slots__ = ("accepted", "closed", "failed", "races_lost", "refused", "requests")

    def __init__(self) -> None:
        self.accepted = 0
        self.requests = 0
        self.failed = 0
        self.races_lost = 0
        self.refused: Counter[int] = Counter()
        self.closed: Counter[str] = Counter()
