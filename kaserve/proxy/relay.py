"""Relay: the bytes of another protocol, both ways between a client and an upstream, after a 101 (RFC 9110 §7.8).

Knows the order of things: what comes from one side goes to the other, and the first is not read while the second does
not keep up; when a side finishes sending, that is passed on after its last bytes; and a reset of one side resets the
other. Does not know what is spoken, nor sockets: one side is a `TunnelConnection`, the other an `UpstreamConnection` in
TUNNEL. The deadline is that of the client's side, which sees the bytes of both directions.
"""

from __future__ import annotations

from ..http.tunnel import Tunnel, TunnelConnection
from .connection import UpstreamConnection
from .failure import UpstreamFailure

__all__ = ["Relay"]


class Relay(Tunnel):
    """One such conversation: the owner of the client's tunnel, and the user of the upstream's connection."""

    def __init__(self, upstream: UpstreamConnection) -> None:
        """Takes over `upstream`, which has sent a 101."""
        self._upstream = upstream
        self._client: TunnelConnection | None = None  # until `opened`
        self._client_ended = False
        self._upstream_ended = False
        upstream.begin_tunnel(self)

    # From the client.

    def opened(self, connection: TunnelConnection) -> None:
        self._client = connection
        self._read()

    def received(self, data: bytes) -> None:
        assert self._client is not None
        if self._upstream.send(data):
            return
        if not self._upstream.is_broken:
            self._client.pause()  # until `sent`
        elif self._upstream_ended:
            self._client.close()
        # Otherwise the upstream may have sent something before it went, and its end is still to be read. What the
        # client sends meanwhile has nobody to go to.

    def ended(self) -> None:
        self._client_ended = True
        self._upstream.finish_sending()

    def drained(self) -> None:
        if not self._upstream_ended:
            self._upstream.want_bytes()

    def closed(self) -> None:
        if self._client_ended and self._upstream_ended:
            self._upstream.close()
        else:
            self._upstream.reset()

    # From the upstream, as the user of its connection.

    def bytes_arrived(self) -> None:
        """There is something to read from the upstream, or its end."""
        self._read()

    def _read(self) -> None:
        """Passes on what has come from the upstream: one piece, so that other connections have their turn."""
        client, upstream = self._client, self._upstream
        if client is None:  # nothing may be written before the 101
            return
        try:
            data = upstream.read_bytes()
        except OSError:
            client.reset()
            return
        if data == b"":
            self._upstream_ended = True
            if upstream.is_broken:
                client.close()
            else:
                client.finish()
        elif data is None or client.write(data):
            upstream.want_bytes()

    def sent(self) -> None:
        """The upstream has taken what was sent, or never will."""
        assert self._client is not None
        if self._upstream.is_broken and self._upstream_ended:
            self._client.close()
        else:
            self._client.resume()

    def failed(self, failure: UpstreamFailure) -> None:
        """The upstream's connection is closed."""
        if self._client is not None:
            self._client.reset()
