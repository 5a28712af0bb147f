"""Tunnels: what follows after `101 Switching Protocols` (RFC 9110 §7.8), when a connection stops being HTTP.

Knows the two sides of the interface: `Tunnel`, which a program derives from, and `TunnelConnection`, which it uses.
Does not know sockets, nor how a connection keeps its promises (`net.tunnel`), nor what is spoken in a tunnel.

Flow control is the owner's business, in both directions. `write` says when the client does not keep up, and `drained`
when it has caught up; `pause` and `resume` say when the owner does not keep up. An owner that passes bytes on pauses
the side that is ahead:

    def received(self, data):
        if not self.other.write(data):
            self.connection.pause()         # and resumes when `drained` of the other side is called

An owner that ignores what `write` returns harms no other connection, since all of them have their turn, but what it
writes is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["Tunnel", "TunnelBody", "TunnelConnection"]


class TunnelConnection(Protocol):
    """What a tunnel asks of its connection. To be called in the server's own thread.

    Nothing but `write` has its effect before the caller returns, so a method of the tunnel is never called while
    another one of it runs. After the connection has ended none of them has any effect.

    Attributes:
        sent: bytes that were written.
    """

    sent: int

    def write(self, data: bytes) -> bool:
        """Sends `data` to the client, after everything that was written before.

        Args:
            data: bytes. The empty string is nothing to send.

        Returns:
            False if the kernel has not accepted all of it. The rest is kept, and sent when the client has received
            more; wait for `Tunnel.drained` before writing more. Also False once the connection is lost; then
            `Tunnel.closed` follows.

        Raises:
            RuntimeError: after `finish`.
        """

    def unsent(self) -> tuple[int, int]:
        """Returns how many of the bytes that were written have not left yet: those that are kept here, and those in the
        kernel, where the system says how many. A client that receives makes one of the two smaller. Costs a system
        call."""

    def finish(self) -> None:
        """Closes the sending side, after what was written (a half-close); the client may go on sending. With TLS the
        client gets close_notify first (RFC 8446 §6.1). When both sides have finished, the connection ends."""

    def pause(self) -> None:
        """Stops reading: neither `received` nor `ended` is called before `resume`. What the client sends fills the
        buffers of the kernel, and then the client has to wait. A reset still ends the connection."""

    def resume(self) -> None:
        """Reads again."""

    def close(self) -> None:
        """Ends the connection in order: what was written is sent, within `--send-timeout`, and the client sees the end
        of it. What the client sends from now on is not read."""

    def reset(self) -> None:
        """Ends the connection with a reset, and discards what was not sent: for a client that must not take what it has
        for the whole."""


class Tunnel:
    """What receives the bytes of a connection that has switched protocols. Subclasses override what they need.

    All methods are called in the server's own thread, one at a time, and must not block. What one of them raises is
    logged, and ends this connection with a reset, and no other.
    """

    __slots__ = ()

    def opened(self, connection: TunnelConnection) -> None:
        """Called first: the 101 is on its way, and the tunnel may write. Bytes that the client has sent after the
        request come by `received` next."""

    def received(self, data: bytes) -> None:
        """Called with what the client has sent: as much as has arrived, at most 64 KiB."""

    def ended(self) -> None:
        """Called once when the client has finished sending. It may still receive (a half-close). A tunnel that has
        nothing more to say then calls `close` or `finish`."""

    def drained(self) -> None:
        """Called when the kernel has accepted everything that was written, after a `write` that returned False."""

    def stopping(self) -> None:
        """Called once when the server begins to shut down gracefully: time to say goodbye in the protocol's own words.
        Tunnels that are still open at the graceful timeout are reset."""

    def closed(self) -> None:
        """Called exactly once, last: the connection has ended, for whatever reason; or it never became a tunnel, since
        the 101 could not be sent."""


class TunnelBody:
    """The body of a 101 on its way from a handler to the connection. It has no content.

    As a body it has a `close`, so whatever drops the response on that way, a middleware or the server, also tells the
    tunnel that it will not open.
    """

    __slots__ = ("_tunnel",)

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel: Tunnel | None = tunnel

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    @property
    def is_used(self) -> bool:
        """Whether the tunnel has a connection already, or is closed."""
        return self._tunnel is None

    def take(self) -> Tunnel:
        """Returns the tunnel; from now on the caller must call `closed`."""
        tunnel, self._tunnel = self._tunnel, None
        assert tunnel is not None
        return tunnel

    def close(self) -> None:
        """Closes the tunnel, if it was not taken."""
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.closed()
