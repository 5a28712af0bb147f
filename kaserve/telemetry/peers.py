"""Peers: how the hosts that connect behave towards idle connections, for as many hosts as fit.

What a proxy in front does with its connections cannot be asked, but it can be seen: after how long it closes them.
Knows hosts and seconds; `adviser` draws the conclusions. Touched when a connection ends, never for a request.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Peer", "Peers"]

_MAX_PEERS = 64
_MAX_SAMPLES = 16


class Peer:
    """One host. connections: that have ended, `single` of them after one request, `silent` without any. requests: on
    all of them. closed_idle: the last times after which it closed an idle connection itself, in seconds; `times_closed`
    how often it did. outlived: idle connections that the server had to close. races_lost: see `Stats`."""

    __slots__ = (
        "closed_idle",
        "connections",
        "host",
        "outlived",
        "races_lost",
        "requests",
        "silent",
        "single",
        "times_closed",
    )

    def __init__(self, host: str) -> None:
        self.host = host
        self.connections = 0
        self.requests = 0
        self.single = 0
        self.silent = 0
        self.times_closed = 0
        self.outlived = 0
        self.races_lost = 0
        self.closed_idle: deque[float] = deque(maxlen=_MAX_SAMPLES)


class Peers:
    """The peers by their host. When there are too many, the one with the fewest connections is forgotten: a scan from a
    thousand addresses drives out no proxy."""

    __slots__ = ("_peers",)

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def of(self, host: str) -> Peer:
        peer = self._peers.get(host)
        if peer is None:
            if len(self._peers) >= _MAX_PEERS:
                del self._peers[min(self._peers.values(), key=_weight).host]
            peer = self._peers[host] = Peer(host)
        return peer

    def by_weight(self) -> list[Peer]:
        """All of them, the busiest first."""
        return sorted(self._peers.values(), key=_weight, reverse=True)


def _weight(peer: Peer) -> int:
    return peer.connections
