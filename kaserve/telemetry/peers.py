"""Peers: how the hosts that connect treat idle connections.

A server cannot ask the proxy in front of it for its settings, but it can observe them: after how long the proxy closes
its idle connections. Knows hosts and seconds; `advice` draws the conclusions. Updated when a connection ends, never for
a request.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Peer", "Peers"]

_MAX_PEERS = 64  # all of them are in every snapshot, and the live page shows a dozen
_MAX_IDLE_TIMES = 16  # of each peer: enough for a median, and a changed setting of a proxy shows soon


class Peer:
    """What one host has done with its connections.

    Attributes:
        host: its address, without a port.
        connections: connections from it that have ended.
        requests: requests on them.
        single_request: connections that carried exactly one request.
        unused: connections without a request.
        closed_by_peer: idle connections that the host closed.
        idle_times: seconds for which the last of those had been idle.
        closed_by_server: idle connections that the server closed because keep_alive had passed.
        races_lost: requests that met a close by the server; see `Stats`.
    """

    __slots__ = (
        "closed_by_peer",
        "closed_by_server",
        "connections",
        "host",
        "idle_times",
        "races_lost",
        "requests",
        "single_request",
        "unused",
    )

    def __init__(self, host: str) -> None:
        self.host = host
        self.connections = 0
        self.requests = 0
        self.single_request = 0
        self.unused = 0
        self.closed_by_peer = 0
        self.closed_by_server = 0
        self.races_lost = 0
        self.idle_times: deque[float] = deque(maxlen=_MAX_IDLE_TIMES)


class Peers:
    """The peers by their host.

    When there are too many, the peer with the fewest connections is forgotten. The oldest would be the wrong one to
    forget: a scan from a thousand addresses would then push out the proxy, whose figures are the interesting ones.
    """

    __slots__ = ("_peers",)

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def of(self, host: str) -> Peer:
        """Returns the peer `host`, a new one if it is not known."""
        peer = self._peers.get(host)
        if peer is None:
            if len(self._peers) >= _MAX_PEERS:
                del self._peers[min(self._peers.values(), key=_connections).host]
            peer = self._peers[host] = Peer(host)
        return peer

    def by_connections(self) -> list[Peer]:
        """Returns all peers, the one with the most connections first."""
        return sorted(self._peers.values(), key=_connections, reverse=True)


def _connections(peer: Peer) -> int:
    """The sorting key of peers."""
    return peer.connections
