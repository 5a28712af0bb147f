"""TunnelLoop: the part of a connection that goes on after a 101, when it is not HTTP any more.

Knows the order of the steps in a turn: receive, move (`OpenTunnel.go_on`), and what follows when that says that the
tunnel is over. Does not know phases and deadlines, which are in `Connection`, nor what is in the bytes. It is a base
class of `Connection` for the same reason as `RequestLoop`: an idle connection must be small, so they are one object.
"""

from __future__ import annotations

from ..http.phases import CLOSED, TUNNEL
from ..telemetry.endings import Ending
from .poller import HANGUP, READ, WRITE
from .request_loop import RequestLoop
from .tunnel import OpenTunnel

__all__ = ["READ_SIZE", "TunnelLoop"]

# How often the socket of a client that can receive no more is read, at most.
_MAX_LAST_READS = 64
READ_SIZE = 32 * 1024
"""Bytes that a connection reads at once: a larger buffer costs malloc more to free than it saves system calls."""
_LARGE_READ = 64 * 1024  # the same for a tunnel from which more is known to come,
_MAX_READS = 4  # and how often it is read in a turn, as long as each reading is full


class TunnelLoop(RequestLoop):
    """Bytes both ways on one socket."""

    __slots__ = ()

    # What a connection does about it.

    def _receive(self, size: int = READ_SIZE) -> bool:
        """Hands at most `size` bytes of what has come to the protocol; False if nothing has, or if the connection has
        ended by that."""
        raise NotImplementedError

    def _watch(self, events: int) -> None:
        """Has the poller wait for `events`."""
        raise NotImplementedError

    # The loop.

    def _open_tunnel(self) -> OpenTunnel:
        assert self._exchange is not None
        tunnel: OpenTunnel | None = self._exchange.tunnel
        assert tunnel is not None
        return tunnel

    def _begin_tunnel(self) -> None:
        """The 101 is encoded."""
        self._open_tunnel().begin(self._sock)
        self._run_tunnel(0)

    def _run_tunnel(self, events: int) -> None:
        """Moves bytes both ways, and then does what the owner of the tunnel has asked for.

        Args:
            events: those of the poller.
        """
        tunnel = self._open_tunnel()
        received = False
        if events & self._interest & READ:
            received = self._receive()
        elif events and self._interest & HANGUP and tunnel.is_gone(events):
            self._close(Ending.RESET)
        if self.phase != TUNNEL:
            return
        tunnel.go_on(received)
        if received and tunnel.last_size >= READ_SIZE:
            self._read_on(tunnel)
        if self.phase != TUNNEL:
            return
        if tunnel.is_lost:
            self._read_rest(tunnel)
        elif tunnel.ending is None:
            self._watch(tunnel.interest())
        else:
            self._end_tunnel(tunnel)

    def _read_on(self, tunnel: OpenTunnel) -> None:
        """The last reading was full, so that more is here, mostly of the same message: a poll would cost more."""
        for _ in range(_MAX_READS - 1):
            if tunnel.is_lost or tunnel.is_paused or tunnel.ending is not None or not self._receive(_LARGE_READ):
                break
            tunnel.go_on(True)
            if tunnel.last_size < _LARGE_READ:
                break

    def _read_rest(self, tunnel: OpenTunnel) -> None:
        """Nothing can be sent any more. But the client may have sent something before it left."""
        for _ in range(_MAX_LAST_READS):
            if tunnel.is_paused or self.protocol.ended or tunnel.ending is not None or not self._receive():
                break
            tunnel.go_on(True)
        if self.phase != CLOSED:
            self._close(Ending.RESET)

    def _end_tunnel(self, tunnel: OpenTunnel) -> None:
        """LINGER follows, after what the owner has written; or a reset."""
        assert tunnel.ending is not None
        if tunnel.ending != Ending.TUNNEL_CLOSED:
            self._reset(tunnel.ending)
            return
        tunnel.hand_over()
        self.ending = tunnel.ending
        self.protocol.close_idle()
        self._run()

    def _expire_tunnel(self) -> None:
        """The deadline has passed. It is not set again for each byte that moves, so that is found out now; and what has
        arrived by now is read first."""
        self._run_tunnel(self._interest & (READ | WRITE))
        if self.phase == TUNNEL:
            reactor = self._service.reactor
            deadline = self._open_tunnel().last_moved() + self._service.timeouts[TUNNEL].seconds
            if deadline > reactor.now:
                reactor.wheel.schedule(self, deadline)
            else:
                self._reset(Ending.TUNNEL_TIMEOUT)
