"""Connection: one socket and its phases.

Knows what is waited for, how long, and how a connection ends; what it does in between is in its base classes,
`RequestLoop` and `TunnelLoop`. None of them parses or frames HTTP: what bytes mean and what may follow what is the
business of `http.protocol`, and what to respond is the handler's. But it words the errors that only it can see, such as
a 408.

Theory of operation
===================

**Phases.** A connection is in exactly one phase (`http.phases`). The table `service.PHASES` says for each of them what
it waits for and for how long; `_expire` does what follows when that time is over. The conversation's phase belongs to
`HTTPProtocol`, which has neither a socket nor a clock. The connection adds three rules, of which the first that applies
counts: while there are bytes that the kernel has not accepted it is in SEND, wherever the conversation is; while a
handler waits for bytes of a streamed body it is in BODY; and while another Future is pending it is in HANDLER. At the
end of every turn `_update_state` compares the two and enters a new phase if they differ; `_enter` sets what is waited
for and until when. Within a phase `_client_leaves`, `_check_progress` and `drain` set another deadline, and a TLS
handshake waits for what it needs. Nothing is read while the kernel has bytes to send (half-duplex), so a client that
sends without reading fills its own buffers and not ours.

**Streaming.** A handler may be called when the head is complete, and read the body while it arrives
(`http.body_stream`). Then HANDLER and BODY alternate: bytes are read from the socket only while the handler waits for
some, at most as many as one `recv` brings, and the handler gets all of them before the next. So what is unread in user
space is bounded without counting. The connection never waits for bytes and for room at once: one of the two could not
come as long as the other is not waited for, if the client does only one thing at a time as well. An echo asks for more
when what it has sent was accepted, so a client that reads while it sends is never in its way. A client that sends all
of a large body before it reads anything cannot have it echoed; it is reset after `send_timeout`, as any client that
does not read. The deadline of the body is paused while the handler waits for nothing (`StreamedRequest`).

**Tunnels.** After a 101 a connection is not HTTP any more: it stays in TUNNEL, whatever is unsent, and `TunnelLoop`
moves bytes in both directions at once. It waits for what `OpenTunnel.interest` says. When the owner of the tunnel
closes it in order, SEND and LINGER follow as after a last response.

**Who owns what.** The socket, the deadline and the reason of the end (`ending`) are the connection's. What was received
and not read yet is the protocol's, as one `bytes` object (see there for why). What is encoded and not sent is the
writer's, and nothing else sends. Everything about one request and its response, their times included, is in an
`Exchange`, which an idle connection does not have: an idle connection holds a socket, its place on the timer wheel, and
some numbers.

**A turn.** The reactor calls `ready` when the socket is readable or writable. That receives once, and then
`RequestLoop._run` goes on for as long as possible without waiting: read a head, read a body, call the handler, send. It
stops when it would have to wait, or when the turn is used up: after 64 requests of a pipeline, 64 KiB of responses (the
limits stand in `request_loop`), or what the writer allows for bodies; then other connections have their turn, and it
goes on in the next one. So a turn of one connection is short whatever its client does. Responses to a pipeline are
collected and leave in one send. In the steady state a request is one recv, one send, one assignment to its deadline,
and no change to what the poller waits for.

**The last look.** When an idle connection's time is over, a request may have arrived in the same moment. Closing then
would reset the request, and the client cannot know whether it was processed. So before an idle connection is closed its
socket is read once more, and a request that is there is responded to, as the last one (`_finish_idle`). A request that
arrives even later is lost: it is counted (`races_lost`), since avoiding it is what the settings of keep-alive are for.
The same holds for a request or a TLS handshake that is incomplete at its deadline (`_expire_request`,
`_expire_handshake`): the client is not slow if this process was stopped, or its machine asleep, while the rest arrived.
Then the poller is interrupted, finds nothing ready, and the first thing that it sees is that deadlines have passed.

**Clients that leave.** In every phase in which the socket is read or written, doing so tells when the client is gone.
In HANDLER nothing is read, so the poller is asked for nothing but the client's leaving (`service.CLIENT_LEAVES`). That
costs the connections that stay nothing: to stop watching a socket takes as many system calls as to watch it for this.

- A reset ends the connection at once (`DISCONNECTED`).
- A half-close does not mean that the client has left: `nc -N`, `printf | nc` and others finish sending, and wait for
  the response. But until it is sent something, a client that has closed its socket entirely looks the same, and a
  handler may wait for an event that never comes. So a half-close starts a deadline, `half_close_timeout`. It starts
  again in each wait: a client that was sent something in between, and did not respond with a reset, was still there.
  After a half-close the poller is asked for a hangup alone, since a half-close persists, and would be reported in every
  turn.
- A client that vanishes without a packet (a pulled cable, a NAT that forgot it) is not seen by a server that only
  listens. So a connection that has waited for `_KEEPALIVE_AFTER` seconds has the kernel probe the client (TCP
  keepalive). The timer runs out once in each long wait, and costs a short one an assignment.

When the connection ends, `request.disconnected` is set and then the Future is cancelled, so that work in a queue is not
begun and work in a thread can look.

**Lingering.** After the last response the connection shuts down only its sending side, and reads on until the client
has closed as well (LINGER). Closing at once would make the kernel respond to bytes that are still on their way with a
reset, and a reset destroys the response in the client's receive buffer before it was read (RFC 9112 §9.6).

**Ends.** There are three ways to end a connection. In an orderly way, after a response that says so or, if it is idle,
through the last look: LINGER, then `_close`. With a reset (`_reset`): when a response cannot be completed, since an
orderly close would make the client take a part for the whole; and when the client does not take what it is sent. Or by
`_close` alone, when nothing is left to be said: the client is gone, or no request could be read (a TLS handshake that
takes too long). Each time `_close` releases everything and counts the end, by its `Ending`, exactly once; and it
completes whatever the code of others (logs, sinks, bodies) raises meanwhile.
"""

from __future__ import annotations

import logging
import math
import socket
import struct

from ..http.address import AnyAddress
from ..http.errors import HTTPError
from ..http.phases import BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND, TUNNEL, Phase
from ..telemetry.endings import UNSOLICITED, Ending
from .failures import log_current_exception
from .poller import HALF_CLOSE, HANGUP, NOTHING, READ, WRITE
from .service import RECENT_USE_GRACE, Service
from .sockets import PlainSocket, enable_keepalive, queued_bytes
from .streaming import pause_deadline, resume_deadline
from .tls import NotTLSError, TLSSocket
from .tunnel_loop import READ_SIZE, TunnelLoop

__all__ = ["Connection"]

log = logging.getLogger("kaserve")

_BODY_READ_SIZE = 64 * 1024  # where a handler waits for bytes: each piece costs it a turn, which is more than malloc
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, and discards what was not sent

# How often, at most, the socket is read before a request is given up that did not arrive in time. Once is rarely enough
# for a large body that has arrived while the process was stopped.
_MAX_LAST_LOOKS = 64
# Seconds in HANDLER after which the kernel is asked to find out whether the client is still there. Not immediately: it
# takes four system calls, and most handlers are done long before.
_KEEPALIVE_AFTER = 10.0
# How often, within one send_timeout, the kernel is asked whether its send queue has become shorter.
_PROGRESS_CHECKS = 8
# Seconds for the rest of a TLS handshake that begins at its deadline.
_LATE_HANDSHAKE = 1.0
# Seconds that a client may take to close after an idle connection was drained: no response is at stake.
_DRAIN_LINGER = 0.1


class Connection(TunnelLoop):
    """One client's connection. The reactor calls `ready`, the timer wheel `expired`, the server the other methods."""

    __slots__ = ("_progress_from", "_queued_before", "_race_lost")

    def __init__(self, service: Service, sock: PlainSocket | TLSSocket, client: AnyAddress, server: AnyAddress) -> None:
        """Takes over `sock`, which is connected and non-blocking, and waits for a request.

        Raises:
            OSError: the system refuses to watch the socket.
        """
        super().__init__(service, sock, client, server)
        self._queued_before = 0  # bytes in the kernel's send queue when the deadline was set,
        self._progress_from = 0.0  # and when that was
        self._race_lost = False
        self._enter(HANDSHAKE if isinstance(sock, TLSSocket) else IDLE)
        service.connections.add(self)
        service.stats.accepted += 1
        self.number = service.stats.accepted

    # Called by the reactor, the timer wheel and the server.

    def ready(self, events: int) -> None:
        """The socket is ready for `events`; or it is to go on (NOTHING)."""
        try:
            if self.phase == LINGER:
                self._read_late_bytes()
            elif self.phase == HANDSHAKE:
                self._shake_hands()
            elif self.phase == TUNNEL:
                self._run_tunnel(events)
            elif self.phase != CLOSED:
                if events & self._interest & READ:
                    self._receive()
                elif events and self._interest & HANGUP:
                    self._client_leaves(events)
                    return
                self._run()
        except Exception:
            self._fail()

    def expired(self, now: float) -> None:
        """The deadline of the phase has passed."""
        try:
            self._expire()
        except Exception:
            self._fail()

    def drain(self) -> None:
        """The server shuts down: closes an idle connection, unless it was busy a moment ago and may be again; shortens
        the time for a handshake, and for the rest of a request. A busy connection closes after its response in any
        case. The owner of a tunnel is told, and has until the graceful timeout."""
        wheel, now = self._service.reactor.wheel, self._service.reactor.now
        idle_since = self.idle_since
        self._idle_allowance = RECENT_USE_GRACE
        if self.phase == HANDSHAKE:
            wheel.schedule(self, min(self.deadline, now + RECENT_USE_GRACE))
        elif self.phase in (HEAD, BODY):
            timeout = self._service.timeouts[self.phase]
            self._min_progress_left = min(self._min_progress_left, timeout.min_bytes)
            wheel.schedule(self, min(self.deadline, now + timeout.seconds))
        elif self.phase == LINGER and self.ending in UNSOLICITED:
            wheel.schedule(self, min(self.deadline, now + _DRAIN_LINGER))
        elif self.phase == TUNNEL:
            self._open_tunnel().stop()
        elif self.phase == IDLE:
            if idle_since + RECENT_USE_GRACE > now:
                wheel.schedule(self, idle_since + RECENT_USE_GRACE)
            else:
                self._finish_idle(Ending.DRAIN)

    @property
    def idle_since(self) -> float:
        """Reactor time since which the connection is idle or lingering; inf while it is in use."""
        if self.phase == IDLE:
            return self._idle_from
        if self.phase == LINGER:
            return self.deadline - self._service.timeouts[LINGER].seconds
        return math.inf

    def evict(self) -> None:
        """IDLE, LINGER: closes, so that another connection can be accepted."""
        try:
            if self.phase == IDLE:
                self._finish_idle(Ending.EVICTED)
            else:
                self._expire()
        except Exception:
            self._fail()

    def reject(self, error: HTTPError) -> None:
        """Responds with `error` to a client that was just accepted, whatever it will ask; without a word to one that
        speaks TLS, which could not read it yet."""
        try:
            if self.phase == HANDSHAKE:
                self._service.stats.refused[error.status] += 1
                self._close(Ending.REJECTED)
            else:
                self._refuse(error, Ending.REJECTED)
                self._run()
        except Exception:
            self._fail()

    def abort(self) -> None:
        """The server stops: ends the connection now, whatever it is doing."""
        if self.phase == IDLE:
            self.ending = Ending.SHUTDOWN
        if self.phase in (IDLE, LINGER):
            self._read_late_bytes()
        if self.phase != CLOSED:
            self._reset(Ending.SHUTDOWN)

    # Deadlines.

    def _expire(self) -> None:
        """Does what a phase does when its deadline has passed. docs/architecture.md has a table of this."""
        phase = self.phase
        if phase == IDLE:
            self._finish_idle(Ending.DRAIN if self._service.draining else Ending.IDLE)
        elif phase in (HEAD, BODY):
            self._expire_request()
        elif phase == SEND:
            self._check_progress()
        elif phase == HANDSHAKE:
            self._expire_handshake()
        elif phase == HANDLER:
            self._end_wait()
        elif phase == TUNNEL:
            self._expire_tunnel()
        else:
            self._read_late_bytes()  # so that no lost request goes uncounted
            if self.phase != CLOSED:
                self._close(Ending.LAST_RESPONSE)

    def _expire_handshake(self) -> None:
        """HANDSHAKE: it was not completed in time; but what has arrived by now is read first. If the client has begun
        only now, it gets the time for another round trip, which TLS needs, once: it is not slow if this process was
        stopped."""
        assert isinstance(self._sock, TLSSocket)
        sock = self._sock
        had_begun = sock.has_begun
        self._shake_hands()
        if self.phase == HANDSHAKE:
            if sock.has_begun and not had_begun:
                reactor = self._service.reactor
                reactor.wheel.schedule(self, reactor.read_clock() + _LATE_HANDSHAKE)
            else:
                self._close(Ending.HANDSHAKE)

    def _expire_request(self) -> None:
        """HEAD, BODY: the request has not arrived in time; but what has arrived by now is read first."""
        phase = self.phase
        for _ in range(_MAX_LAST_LOOKS):
            if not self._receive():
                break
            self._run()
            if self.phase != phase or self.deadline > self._service.reactor.now:
                return
        if self.phase != phase:
            return
        error = HTTPError(408, "the request did not arrive in time")
        self.protocol.fail_stream(error)
        if self._exchange is not None and self._exchange.response is not None:  # of a handler that streams
            self._reset(Ending.BODY_TIMEOUT)
        else:
            self._refuse(error, Ending.HEADER_TIMEOUT if phase == HEAD else Ending.BODY_TIMEOUT)
            self._run()

    def _client_leaves(self, events: int) -> None:
        """HANDLER: the client has half-closed the connection, or is gone. A half-close starts its deadline."""
        if events & HALF_CLOSE and not events & HANGUP:
            reactor = self._service.reactor
            self._watch(HANGUP)
            reactor.wheel.schedule(self, reactor.read_clock() + self._service.timeouts[HANDLER].seconds)
            request = self.protocol.request
            if request is not None and request.on_leave is not None:
                request.on_leave()
        else:
            self._close(Ending.DISCONNECTED)

    def _end_wait(self) -> None:
        """HANDLER: the deadline after a half-close has passed; or, without one, the wait has become long."""
        exchange = self._exchange
        if exchange is None or not exchange.is_pending():
            return  # it goes on in the next turn: the delay is ours
        if self._interest == HANGUP:
            self._reset(Ending.HALF_CLOSE_TIMEOUT)  # a part of the response may have been sent
        else:
            enable_keepalive(self._sock)

    def _check_progress(self) -> None:
        """SEND: the kernel has accepted nothing more for a while. But its buffers are large, and a slow client may have
        taken enough out of them anyway. There is no event for that, so the queue is looked at several times
        within the deadline."""
        reactor = self._service.reactor
        seconds = self._service.timeouts[SEND].seconds
        stop = self._progress_from + seconds
        if self._min_progress_left <= self._queued_before - queued_bytes(self._sock.fileno()):
            self._enter(SEND)
        elif reactor.now < stop:
            reactor.wheel.schedule(self, min(reactor.now + seconds / _PROGRESS_CHECKS, stop))
        else:
            self._reset(Ending.SEND_TIMEOUT)

    def _update_state(self) -> None:
        """Enters the phase that the turn has led to, or extends the deadline of the present one."""
        if self.phase != CLOSED:
            phase = self.protocol.phase
            if self._writer.buffer and phase != TUNNEL:
                phase = SEND
            elif self._is_awaiting():
                phase = BODY if self.protocol.is_body_wanted() else HANDLER
            if phase != self.phase:
                if self.phase == BODY:
                    now = self._service.reactor.read_clock()
                    pause_deadline(self.protocol, self.deadline - now, self._min_progress_left)
                self._enter(phase)
                return
            timeout = self._service.timeouts[phase]
            if timeout.events != self._interest or (timeout.min_bytes and self._min_progress_left <= 0):
                self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        """Enters `phase`: sets what the connection waits for, and until when."""
        self.phase = phase
        if phase == CLOSED:
            self._close(Ending.CLIENT)
            return
        if phase == LINGER and not self._half_close():
            return
        reactor = self._service.reactor
        timeout = self._service.timeouts[phase]
        if self._interest == WRITE and timeout.events != WRITE:  # the last response has left only now
            self._idle_from = reactor.read_clock()
        self._watch(timeout.events)
        if phase == IDLE:
            reactor.wheel.schedule(self, self._idle_from + self._idle_allowance)
            return
        # Not `reactor.now`: a handler may have taken long in this turn, which must not shorten a client's deadline.
        now = reactor.read_clock()
        self._min_progress_left = timeout.min_bytes
        if phase == SEND:
            self._progress_from = now
            self._queued_before = queued_bytes(self._sock.fileno())
            reactor.wheel.schedule(self, now + timeout.seconds / _PROGRESS_CHECKS)
        elif phase == HANDLER:
            reactor.wheel.schedule(self, now + _KEEPALIVE_AFTER)
        elif phase == BODY:
            seconds, self._min_progress_left = resume_deadline(self.protocol, timeout.seconds, timeout.min_bytes)
            reactor.wheel.schedule(self, now + seconds)
        else:
            reactor.wheel.schedule(self, now + timeout.seconds)
            if phase == TUNNEL:
                self._begin_tunnel()

    def _watch(self, events: int) -> None:
        if events != self._interest:
            self._service.reactor.watch(self._sock.fileno(), self, self._interest, events)
            self._interest = events

    # Receiving.

    def _shake_hands(self) -> None:
        """HANDSHAKE: a client that does not speak TLS gets an alert or, if it speaks HTTP, a response in plain HTTP."""
        assert isinstance(self._sock, TLSSocket)
        reactor = self._service.reactor
        try:
            try:
                self._sock.handshake()
            finally:  # so that the time for many handshakes in one turn is not blamed on a request after them
                reactor.last_read = reactor.read_clock()
        except BlockingIOError:
            self._watch(WRITE if self._sock.must_write else READ)
        except NotTLSError:
            self._sock = self._sock.plain()
            self._receive()
            if self.phase != CLOSED:
                self._refuse(HTTPError(400, "this port speaks TLS: use https"), Ending.REFUSED)
                self._run()
        except OSError:
            self.ending = Ending.HANDSHAKE
            self.protocol.close_idle()
            self._update_state()
        else:
            self._idle_from = self._service.reactor.now
            self._enter(IDLE)

    def _receive(self, size: int = READ_SIZE) -> bool:
        """Hands at most `size` bytes of what has come to the protocol, the client's end included; False if nothing has,
        or by a reset."""
        try:
            data = self._sock.recv(_BODY_READ_SIZE if self.phase == BODY else size)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # the client has reset the connection: it wants no response either
            self._close(Ending.RESET)
            return False
        if self.phase == IDLE:
            self._request_started = self._service.reactor.now
        self._service.stats.received += len(data)
        self.protocol.receive(data)
        if self.phase == BODY:
            self._min_progress_left -= len(data)
            self.protocol.read_stream()
        return True

    # Ending.

    def _finish_idle(self, ending: Ending) -> None:
        """Closes an idle connection; but a request that is already here gets its response, as the last one."""
        self._closing = True
        self._receive()
        self._run()
        if self.phase == IDLE:
            self.ending = ending
            self.protocol.close_idle()
            self._update_state()
            if self.phase == LINGER and self._service.draining:
                self.drain()

    def _half_close(self) -> bool:
        """Shuts down the sending side. Returns True if the client may still send, so that it makes sense to wait."""
        if not self.protocol.ended:
            try:
                self._sock.shutdown(socket.SHUT_WR)
                return True
            except BlockingIOError:  # TLS has a last message, for which there is no room
                self._enter(SEND)
                return False
            except OSError:  # the client is gone already
                pass
        self._close(Ending.LAST_RESPONSE)
        return False

    def _read_late_bytes(self) -> None:
        """LINGER: reads until the client closes as well; counts a request that came after an unannounced close."""
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(Ending.LAST_RESPONSE)
        elif self.ending in UNSOLICITED and not self._race_lost:
            assert self.ending is not None
            self._race_lost = True
            self._service.stats.race_lost(self.ending)

    def _fail(self) -> None:
        """A fault of the server itself ends this connection and no other."""
        try:
            log.exception("a connection failed in phase %s", Phase(self.phase).name)
        finally:
            if self.phase != CLOSED:
                self._reset(Ending.FAILED)

    def _reset(self, ending: Ending) -> None:
        """Ends the connection with a reset: the client must not take what it has for the whole."""
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        self._close(ending)

    def _close(self, ending: Ending) -> None:
        """Releases everything and counts the end; `ending` is the reason, unless that was known before."""
        service = self._service
        if self._interest != NOTHING:
            service.reactor.watch(self._sock.fileno(), self, self._interest, NOTHING)
            self._interest = NOTHING
        service.reactor.wheel.cancel(self)
        self._sock.close()
        by_client = ending == Ending.CLIENT or (ending == Ending.RESET and self.phase == IDLE)
        self.phase = CLOSED
        self._count_end(self.ending or ending, by_client)  # before `protocol.close`: it looks at the protocol's phase
        service.connections.discard(self)
        for function in (self._drop_exchange, self._writer.clear, self.protocol.close, self._call_on_close):
            try:
                function()
            except Exception:  # the code of others: a log, a sink. The connection has ended in any case.
                log_current_exception("a callback failed at the end of a connection")

    def _drop_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def _count_end(self, ending: Ending, by_client: bool) -> None:
        service, protocol, exchange = self._service, self.protocol, self._exchange
        now = service.reactor.now
        carried = protocol.served + (protocol.phase in (BODY, HANDLER))  # with a last request that got no response
        stats = service.stats if exchange is None else exchange._service.stats  # see `set_aside`
        stats.connection_ended(
            ending,
            self.client.label,
            carried,
            now - self._idle_from,
            by_client=by_client,
            race_lost=self._race_lost,
        )
        if self._trace is not None:
            self._trace.end(now, ending)

    def _call_on_close(self) -> None:
        if self._service.on_close is not None:
            self._service.on_close(self)
