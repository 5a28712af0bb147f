"""OpenTunnel: a connection that has switched to another protocol, as the owner of the tunnel sees it.

Knows what the owner has asked for, what is still to be sent, and when there were bytes last. Does not know phases and
deadlines: the connection calls `go_on` in each of its turns, and then does what follows from `ending` and `interest`.
It is there from the 101 to the end of the connection, so that others carry nothing of it.

Unlike HTTP, which is half-duplex here, a tunnel reads and writes at the same time: what its owner reads may have
nothing to do with what it writes. To keep memory bounded is the owner's business (`http.tunnel`). What is bounded here
is the work of a turn: one `recv`, and `_MAX_SENT_PER_TURN` bytes, so that no tunnel keeps other connections waiting.

Only `write` has its effect at once, because its result is the owner's flow control. Everything else is remembered, and
done at the end of the turn, or in the next one if the owner calls outside of its connection's turn: so no method of the
owner is called while another one of it runs, and a connection does not end while its owner is using it.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable

from ..http.protocol import HTTPProtocol
from ..http.tunnel import Tunnel
from ..telemetry.endings import Ending
from .failures import reraise_exit_signals
from .poller import ERROR, HALF_CLOSE, HANGUP, NOTHING, READ, WRITE
from .progress import LOST, SENT
from .reactor import Channel
from .service import CLIENT_LEAVES, Service
from .sockets import PlainSocket, enable_keepalive, queued_bytes
from .tls import TLSSocket
from .writer import Writer

__all__ = ["OpenTunnel"]

log = logging.getLogger("kaserve")

_MAX_JOINED = 64 * 1024  # bytes of small pieces that are sent together
_MAX_SENT_PER_TURN = 1024 * 1024
_UNKNOWN = -1


class OpenTunnel:
    """The `TunnelConnection` of one tunnel; see there for what its owner calls.

    Attributes:
        ending: why it is over, as soon as it is; None while it is open.
        is_lost: whether the client cannot receive any more. It may have sent something before that.
        is_paused: whether the owner does not want to be given bytes.
        last_size: bytes that the owner was given last.
        sent: bytes that the owner has written.
    """

    __slots__ = (
        "_connection",
        "_end_told",
        "_fin_waits",
        "_finished",
        "_finishing",
        "_half_closed",
        "_hung_up",
        "_in_turn",
        "_moved_at",
        "_owes_drained",
        "_protocol",
        "_queue",
        "_queued_before",
        "_scheduled",
        "_service",
        "_sock",
        "_tunnel",
        "_waits_for_room",
        "_writer",
        "ending",
        "is_lost",
        "is_paused",
        "last_size",
        "sent",
    )

    def __init__(
        self, tunnel: Tunnel, service: Service, protocol: HTTPProtocol, writer: Writer, connection: Channel
    ) -> None:
        """Takes over `tunnel`. `begin` follows when the 101 is encoded, and `closed` in any case."""
        self._tunnel: Tunnel | None = tunnel
        self._service = service
        self._protocol = protocol
        self._writer = writer
        self._connection = connection
        self._sock: PlainSocket | TLSSocket | None = None
        self._queue: deque[bytes] = deque()  # what is sent after the writer's buffer
        self.ending: Ending | None = None
        self.is_lost = False
        self.is_paused = False
        self.last_size = 0
        self.sent = 0
        self._moved_at = service.reactor.now
        self._queued_before = _UNKNOWN  # bytes in the kernel's send queue, when that was looked at after the last write
        self._waits_for_room = False  # not all that was written has been accepted
        self._owes_drained = False
        self._finishing = False  # the owner has finished,
        self._finished = False  # and the client has been told
        self._fin_waits = False  # there was no room for close_notify
        self._end_told = False  # the client has finished, and the owner knows
        self._half_closed = self._hung_up = False  # what the poller has told of a client while nothing was read
        self._in_turn = False
        self._scheduled = False

    # For the owner.

    def write(self, data: bytes) -> bool:
        if self.ending is not None or self.is_lost:
            return False
        if self._finishing:
            raise RuntimeError("write() after finish()")
        self.sent += len(data)
        if not self._waits_for_room:
            if not data:
                return True
            self._writer.enqueue(data)
            if self._flush():
                return True
            self._schedule()
        elif data:
            self._queue.append(data)
        self._owes_drained = True
        return False

    def unsent(self) -> tuple[int, int]:
        if self._sock is None or self._tunnel is None:
            return 0, 0
        kept = len(self._writer.buffer) + self._writer.queued + sum(map(len, self._queue))
        return kept, queued_bytes(self._sock.fileno())

    def finish(self) -> None:
        self._finishing = True
        self._schedule()

    def pause(self) -> None:
        self.is_paused = True
        self._schedule()

    def resume(self) -> None:
        self.is_paused = False
        self._schedule()

    def close(self) -> None:
        if self.ending is None:
            self.ending = Ending.TUNNEL_CLOSED
            self._schedule()

    def reset(self) -> None:
        if self.ending is None or self.ending == Ending.TUNNEL_CLOSED:
            self.ending = Ending.TUNNEL_RESET
            self._schedule()

    def _schedule(self) -> None:
        """Has the connection look at it, unless it is about to."""
        if not self._in_turn and not self._scheduled and self._tunnel is not None:
            self._scheduled = True
            self._service.reactor.again(self._connection)

    # For the connection.

    def begin(self, sock: PlainSocket | TLSSocket) -> None:
        """The 101 is encoded: `sock` is the tunnel's from now on."""
        self._sock = sock
        self._waits_for_room = bool(self._writer.buffer)
        enable_keepalive(sock)
        self._call(self._open)

    def _open(self) -> None:
        assert self._tunnel is not None
        self._tunnel.opened(self)
        if self._service.draining:
            self._tunnel.stopping()

    def stop(self) -> None:
        """The server has begun to drain."""
        assert self._tunnel is not None
        self._call(self._tunnel.stopping)
        self._schedule()

    def go_on(self, received: bool) -> None:
        """Moves what can be moved without waiting, and tells the owner. `ending` says whether the tunnel is over.

        Args:
            received: whether the protocol has been given something since the last call.
        """
        self._scheduled = False
        if received:
            self._moved_at = self._service.reactor.read_clock()
        if self._waits_for_room and self._flush() and self._owes_drained:
            self._owes_drained = False
            assert self._tunnel is not None
            self._call(self._tunnel.drained)
        self._call(self._deliver)
        self._finish()

    def _deliver(self) -> None:
        """Passes what was received to the owner, and then the end."""
        protocol, tunnel = self._protocol, self._tunnel
        assert tunnel is not None
        if self._may_deliver() and protocol.has_received():
            data = protocol.take_received()
            self.last_size = len(data)
            tunnel.received(data)
        # Of a client that can receive no more it is not known whether it has finished or given up.
        if self._may_deliver() and protocol.ended and not self._end_told and not self.is_lost:
            self._end_told = True
            tunnel.ended()

    def _may_deliver(self) -> bool:
        return not self.is_paused and self.ending is None

    def _finish(self) -> None:
        """Closes the sending side if it is time for that. When both sides are closed, the tunnel is over."""
        if self._finishing and not self._finished and not self._waits_for_room and not self.is_lost:
            assert self._sock is not None
            self._fin_waits = False
            try:
                if isinstance(self._sock, TLSSocket):
                    self._sock.finish()
                else:
                    self._sock.shutdown(socket.SHUT_WR)
                self._finished = True
            except BlockingIOError:
                self._fin_waits = True
            except OSError:
                self._lose()
        if self._finished and self._end_told and self.ending is None:
            self.ending = Ending.TUNNEL_CLOSED

    def interest(self) -> int:
        """Returns what the poller is to wait for."""
        events = NOTHING
        if not self.is_paused and not self._protocol.ended:
            events |= READ
        if self._waits_for_room or self._fin_waits:
            events |= WRITE
        if events or self._hung_up:
            return events
        return HANGUP if self._half_closed or self._protocol.ended else CLIENT_LEAVES

    def is_gone(self, events: int) -> bool:
        """Nothing is read or written, and the poller has something to tell: returns whether the client has reset the
        connection. Otherwise it has half-closed it, or closed it in order; the owner is told when it reads on, since
        bytes may come before."""
        if events & ERROR or not events & (HALF_CLOSE | HANGUP):
            return True
        self._half_closed = True
        self._hung_up = self._hung_up or events & HANGUP != 0  # it would be reported again and again
        return False

    def last_moved(self) -> float:
        """Returns when a byte moved last, in either direction. The kernel's send queue counts: a slow client takes
        bytes out of it for a long time before there is room for more.

        The queue is looked at here and when there is no room, not with each write, which would cost a system call. So
        it may be unknown how long it was; then a client that has not taken everything has the benefit of the doubt.
        """
        assert self._sock is not None
        queued = queued_bytes(self._sock.fileno())
        if queued < self._queued_before or (queued and self._queued_before == _UNKNOWN):
            self._moved_at = self._service.reactor.read_clock()
        self._queued_before = queued
        return self._moved_at

    def hand_over(self) -> None:
        """The owner has closed it: the writer gets all that is still to be sent."""
        while self._queue:
            self._writer.enqueue(self._queue.popleft())

    def closed(self) -> None:
        """The connection has ended. Tells the owner, once."""
        tunnel, self._tunnel = self._tunnel, None
        self._queue.clear()
        if self.ending is None:
            self.ending = Ending.TUNNEL_CLOSED
        if tunnel is not None:
            tunnel.closed()

    # Sending.

    def _flush(self) -> bool:
        """Sends on; True if the kernel has accepted everything."""
        writer, left = self._writer, _MAX_SENT_PER_TURN
        assert self._sock is not None
        while left > 0:
            if not writer.buffer:
                if not self._queue:
                    self._waits_for_room = False
                    return True
                writer.enqueue(self._next_piece())
            progress = writer.flush(self._sock)
            left -= writer.moved
            self._count_sent()
            if progress == LOST:
                self._lose()
                return False
            if progress != SENT:
                self._queued_before = queued_bytes(self._sock.fileno())
                break
        self._waits_for_room = True
        return False

    def _next_piece(self) -> bytes:
        """Takes what is sent next from the queue: small pieces together, large ones by themselves. Not everything at
        once, since an owner that ignores flow control would have it copied in each turn."""
        pieces = [self._queue.popleft()]
        size = len(pieces[0])
        while self._queue and size + len(self._queue[0]) <= _MAX_JOINED:
            size += len(self._queue[0])
            pieces.append(self._queue.popleft())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _count_sent(self) -> None:
        writer = self._writer
        if writer.moved:
            self._service.stats.sent += writer.moved
            writer.moved = 0
            self._moved_at = self._service.reactor.read_clock()
            self._queued_before = _UNKNOWN

    def _lose(self) -> None:
        """The client is gone, so that nothing more can be sent."""
        self.is_lost = True
        self._queue.clear()
        self._writer.clear()
        self._waits_for_room = self._fin_waits = False
        self._schedule()

    # Calling the owner.

    def _call(self, function: Callable[[], object]) -> None:
        """Calls `function`, in which the owner's own code runs; what that raises ends the tunnel."""
        self._in_turn = True
        try:
            function()
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the tunnel of %r failed", self._protocol.request)
            self._service.stats.failed += 1
            self.ending = Ending.FAILED
        finally:
            self._in_turn = False
