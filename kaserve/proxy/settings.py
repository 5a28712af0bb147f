"""What all connections to an upstream share: its settings and its counters."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UpstreamSettings", "UpstreamStats"]


@dataclass(frozen=True)
class UpstreamSettings:
    """How connections to upstreams are used.

    Attributes:
        connections: idle ones that are kept for each upstream.
        idle_timeout: seconds for which one is kept at most.
        timeout: seconds that an upstream may take to respond, or between two pieces of a response.
        connect_timeout: seconds for a connection, with its TLS handshake.
    """

    connections: int = 32
    idle_timeout: float = 60.0
    timeout: float = 60.0
    connect_timeout: float = 5.0


class UpstreamStats:
    """Counters of one upstream, since the server started.

    Attributes:
        requests: requests that were passed on to it, each attempt counted.
        opened: connections opened.
        reused: requests on a connection that had carried one before.
        races_avoided: idle connections that were found closed before a request was sent on them.
        races_lost: requests sent on a kept connection that the upstream closed in the same moment.
        retried: requests that were sent again.
        failed: requests without a valid response.
        sent, received: bytes.
    """

    __slots__ = ("failed", "opened", "races_avoided", "races_lost", "received", "requests", "retried", "reused", "sent")

    def __init__(self) -> None:
        self.requests = self.opened = self.reused = 0
        self.races_avoided = self.races_lost = 0
        self.retried = self.failed = 0
        self.sent = self.received = 0
