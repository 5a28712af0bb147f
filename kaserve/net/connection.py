"""Connection: one socket, driven by the table of its phases.

Knows when to read, write, wait and close. Does not know HTTP: what bytes mean and what may follow what is
`http.protocol`'s business, and an answer is the handler's.

The connection keeps no state of its own beside the protocol's. It waits as the protocol's phase says, but for one rule:
as long as there are bytes the kernel has not taken, it waits to send them (SEND), wherever the protocol is.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
from concurrent.futures import Future
from functools import partial
from threading import current_thread, main_thread
from typing import Any

from ..http.errors import HTTPError
from ..http.framing import has_body
from ..http.messages import Address, FileSpan, Request, Response, error_response, host_of
from ..http.phases import BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND, Phase
from ..http.protocol import CONTINUE, MAX_INLINE_BODY, HTTPProtocol
from ..http.sinks import drain_or_reject
from ..http.wire import join
from ..telemetry.counters import NO_GAP, UNSOLICITED
from ..telemetry.timeline import ConnectionTrace
from .body_source import Stream
from .poller import NOTHING, READ, WRITE
from .service import RECENT_USE_GRACE, Service
from .sockets import PlainSocket, queued_bytes
from .timerwheel import Timer
from .tls import NotTLSError, TLSSocket

__all__ = ["Connection"]

log = logging.getLogger("kaserve")

_READ_SIZE = 32 * 1024  # larger ones cost malloc more to give back than they save
_MAX_UNSENT = 64 * 1024  # answers to a pipeline are collected up to here before they are sent
_MAX_PER_TURN = 1024 * 1024  # bytes of one answer, so that a fast reader of a large file does not stop the others
_MAX_REQUESTS_PER_TURN = 64  # of one pipeline, for the same reason
_MAX_PIECES_PER_TURN = 16
_MSG_MORE: int = getattr(socket, "MSG_MORE", 0)  # the head waits for the first bytes of its file: one segment, not two
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, and forget what was not sent

# How often, within its deadline, it is asked whether an answer moves that the kernel takes nothing more of.
_LOOKS = 8

# While draining: how long a client may take to notice that its idle connection was closed. No answer is at stake.
_BRIEF_LINGER = 0.1
# Which part of its age a connection may be spared, by lot, so that those that began together do not end together.
_AGE_JITTER = 0.1


class Connection(Timer):
    """One client. The reactor calls `ready`, the wheel `expired`; both end in `_settle`, which enters a phase."""

    __slots__ = (
        "_accepted",
        "_aged",
        "_awaited",
        "_began",
        "_behind",
        "_behind_size",
        "_called",
        "_interest",
        "_moved_at",
        "_needed",
        "_parting",
        "_promised",
        "_queued",
        "_rejection",
        "_replied",
        "_response",
        "_rested",
        "_service",
        "_size",
        "_sock",
        "_stream",
        "_track",
        "_unsent",
        "client",
        "ending",
        "number",
        "phase",
        "protocol",
        "server",
    )

    def __init__(self, service: Service, sock: PlainSocket | TLSSocket, client: Address, server: Address) -> None:
        """Takes over `sock`, which is connected and does not block, and waits for a request."""
        super().__init__()
        self._service = service
        self._sock: PlainSocket | TLSSocket = sock
        self.client = client
        self.server = server
        self.protocol = HTTPProtocol(service.limits, service.keep_alive)
        self.phase = CLOSED  # the one entered last; none yet
        self.ending = ""  # why the connection ends, once that is known
        self._accepted = service.reactor.now
        self._aged = self._accepted + service.age * (1.0 - _AGE_JITTER * service.chance())
        self._began = self._rested = self._accepted  # when the request came, and when the last answer was finished
        self._called = self._replied = self._accepted  # when the handler was called, and when it answered, if `timed`
        self._track: ConnectionTrace | None = None
        self._promised = service.idle  # for how long it may be idle
        self._needed = 0  # bytes that must still move before the deadline starts anew
        self._queued = 0  # bytes of an answer that were in the kernel's buffers when the deadline started,
        self._moved_at = 0.0  # and when that was
        self._interest = NOTHING
        self._parting = False  # the next answer is the last one
        self._unsent: bytes | memoryview = b""  # encoded, and not taken by the kernel yet
        self._behind: list[bytes] | None = None  # what leaves together with it,
        self._behind_size = 0  # and how many bytes that is
        self._response: Response | None = None  # the one being sent
        self._stream: Stream | None = None  # what of its body is not even encoded yet
        self._rejection: HTTPError | None = None  # the response to the request whose body is being drained
        self._awaited: Future[Any] | None = None  # an answer, or a piece of one, that the handler gives later
        self._size = 0  # bytes of its content so far
        self._enter(HANDSHAKE if isinstance(sock, TLSSocket) else IDLE)  # which the system may refuse
        service.connections.add(self)
        service.stats.accepted += 1
        self.number = service.stats.accepted

    # Called by the access log, while an answer is logged.

    def times(self) -> tuple[float, float, float]:
        """Seconds that the request took to arrive, its handler to answer, and the answer to leave; in a service that is
        `timed`. Where no handler was called the refusal took no time."""
        called = self._called if self._called >= self._began else self._replied
        return called - self._began, self._replied - called, self._rested - self._replied

    # Called by the reactor, the wheel and the server.

    def ready(self, events: int) -> None:
        try:
            if self.phase == LINGER:
                self._discard()
            elif self.phase == HANDSHAKE:
                self._shake_hands()
            elif self.phase != CLOSED:
                if events & self._interest & READ:
                    self._receive()
                self._run()
        except Exception:
            self._fail()

    def expired(self, now: float) -> None:
        try:
            self._expire()
        except Exception:
            self._fail()

    def _expire(self) -> None:
        """What the table says under `on_expiry`."""
        phase = self.phase
        if phase == IDLE:
            self._part("drain" if self._service.retired else "idle")
        elif phase in (HEAD, BODY):
            self._refuse(HTTPError(408, "the request did not arrive in time"))
            self.ending = "header timeout" if phase == HEAD else "body timeout"
            self._run()
        elif phase == SEND:
            self._stall()
        elif phase == HANDSHAKE:
            self._close("handshake")
        else:
            self._discard()  # one last look here, too, so that no race is lost without being counted
            if self.phase != CLOSED:
                self._close("answered")

    def _stall(self) -> None:
        """SEND: the kernel took nothing more for a while. But it has large buffers, out of which a client may have had
        its share all the same; so it is asked several times within the deadline, to know when that was."""
        reactor = self._service.reactor
        stop = self._moved_at + self._service.rows[SEND].seconds
        if self._needed <= self._queued - queued_bytes(self._sock.fileno()):
            self._enter(SEND)
        elif reactor.now < stop:
            reactor.wheel.schedule(self, min(reactor.now + self._service.rows[SEND].seconds / _LOOKS, stop))
        else:
            self._abort("send timeout")

    def retire(self) -> None:
        """Closes an idle connection, unless it was busy a moment ago and may be again; shortens a handshake."""
        wheel, now = self._service.reactor.wheel, self._service.reactor.now
        idle_since = self.idle_since
        self._promised = RECENT_USE_GRACE
        if self.phase == HANDSHAKE:
            wheel.schedule(self, min(self.deadline, now + RECENT_USE_GRACE))
        elif self.phase == LINGER and self.ending in UNSOLICITED:
            wheel.schedule(self, min(self.deadline, now + _BRIEF_LINGER))
        elif self.phase == IDLE:
            if idle_since + RECENT_USE_GRACE > now:
                wheel.schedule(self, idle_since + RECENT_USE_GRACE)
            else:
                self._part("drain")

    @property
    def idle_since(self) -> float:
        """Since when nobody would miss the connection, in seconds on the reactor's clock; never (inf) while in use."""
        if self.phase == IDLE:
            return self._rested
        if self.phase == LINGER:
            return self.deadline - self._service.rows[LINGER].seconds
        return math.inf

    def evict(self) -> None:
        """IDLE, LINGER: makes room for another connection."""
        try:
            if self.phase == IDLE:
                self._part("evicted")
            else:
                self._expire()
        except Exception:
            self._fail()

    def reject(self, error: HTTPError) -> None:
        """Answers a client that was just accepted, before it asks; one that speaks TLS could not read it yet."""
        try:
            if self.phase == HANDSHAKE:
                self._service.stats.refused[error.status] += 1
                self._close("turned away")
            else:
                self._refuse(error)
                self.ending = "turned away"
                self._run()
        except Exception:
            self._fail()

    def abort(self) -> None:
        """Ends the connection now, whatever it is doing."""
        if self.phase == IDLE:
            self.ending = "shutdown"
        if self.phase in (IDLE, LINGER):
            self._discard()
        if self.phase != CLOSED:
            self._abort("shutdown")

    def _fail(self) -> None:
        """A fault of the server itself ends this connection and no other."""
        try:
            log.exception("a connection failed in phase %s", Phase(self.phase).name)
        finally:
            if self.phase != CLOSED:
                self._abort("failed")

    # One turn.

    def _shake_hands(self) -> None:
        """HANDSHAKE: whoever cannot speak TLS with us is told so, by an alert or, in plain HTTP, by an answer."""
        assert isinstance(self._sock, TLSSocket)
        try:
            self._sock.handshake()
        except BlockingIOError:
            self._watch(WRITE if self._sock.must_write else READ)
        except NotTLSError:
            self._sock = self._sock.plain()
            self._receive()
            if self.phase != CLOSED:
                self._refuse(HTTPError(400, "this port speaks TLS: use https"))
                self._run()
        except OSError:
            self.ending = "handshake"
            self.protocol.part()
            self._settle()
        else:
            self._rested = self._service.reactor.now
            self._enter(IDLE)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the client reset the connection: it wants no answer either
            self._close("reset")
            return
        if self.phase == IDLE:
            self._began = self._service.reactor.now
        self._service.stats.received += len(data)
        if self.phase == BODY:
            self._needed -= len(data)
        self.protocol.receive(data)

    def _run(self) -> None:
        """Reads, answers and sends for as long as that is possible without waiting, up to the limits of a turn."""
        if self._unsent and not self._flush():
            self._settle()
            return
        protocol = self.protocol
        requests_left = _MAX_REQUESTS_PER_TURN
        while True:
            phase = protocol.phase
            if phase == SEND:
                if self._stream is not None and not self._send_stream(self._stream):
                    break
                self._finish()
            elif phase == HANDLER:
                if requests_left == 0 or len(self._unsent) + self._behind_size >= _MAX_UNSENT or self._awaits():
                    break  # the turn is used up; meanwhile nothing more is read
                self._answer()
                requests_left -= 1
            elif phase > SEND or not self._read():
                break
        if self._unsent:
            self._flush()
        self._settle()
        if self.phase == HANDLER and self._awaited is None:
            self._service.reactor.again(self)

    def _resume(self, future: Future[Any]) -> None:
        """What the handler promised is there; perhaps too late."""
        if self._awaited is future:
            self.ready(NOTHING)

    def _settle(self) -> None:
        """Enters the phase that the turn has led to, or has its deadline start anew."""
        if self.phase != CLOSED:
            phase = SEND if self._unsent else HANDLER if self._awaited is not None else self.protocol.phase
            if phase != self.phase:
                self._enter(phase)
                return
            waiting = self._service.rows[phase]
            if waiting.events != self._interest or (waiting.share and self._needed <= 0):
                self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        """The one place that sets what the connection waits for, and for how long."""
        self.phase = phase
        if phase == CLOSED:
            self._close("client")
            return
        if phase == LINGER and not self._half_close():
            return
        reactor = self._service.reactor
        waiting = self._service.rows[phase]
        if self._interest == WRITE and waiting.events != WRITE:  # the last answer has left only now
            self._rested = reactor.read_clock()
        self._watch(waiting.events)
        if phase == IDLE:
            reactor.wheel.schedule(self, self._rested + self._promised)
            return
        now = reactor.read_clock()
        self._needed = waiting.share
        if phase == SEND:
            self._moved_at = now
            self._queued = queued_bytes(self._sock.fileno())
            reactor.wheel.schedule(self, now + waiting.seconds / _LOOKS)
        else:
            reactor.wheel.schedule(self, now + waiting.seconds)

    def _watch(self, events: int) -> None:
        if events != self._interest:
            self._service.reactor.watch(self._sock.fileno(), self, self._interest, events)
            self._interest = events

    # Reading and answering.

    def _read(self) -> bool:
        """Reads on in a request; False when that takes bytes which are not here yet."""
        protocol = self.protocol
        service = self._service
        try:
            if protocol.phase != BODY:
                request = protocol.read_head()
                if request is None:
                    return protocol.phase == CLOSED
                service.stats.request_came(self._began - self._rested if protocol.served else NO_GAP)
                if self._track is None and service.timeline.recording:
                    self._track = self._new_track()
                request.client = self.client
                request.scheme = service.scheme
                request.server = self.server
                if protocol.phase == BODY:
                    self._welcome_body(request)
            if protocol.phase == BODY:
                return protocol.read_body()
        except HTTPError as error:
            self._refuse(error)
        except BaseException as error:  # of the refuse hook, or of the sink: a full disk, say
            reraise_exit_signals(error)
            log.exception("the body of %r could not be taken", protocol.request)
            self._respond_failure()
        return True

    def _new_track(self) -> ConnectionTrace | None:
        service = self._service
        return service.timeline.follow(self.number, host_of(self.client), self._accepted, service.reactor.now)

    def _welcome_body(self, request: Request) -> None:
        """The handler may refuse the body now (HTTPError), or take it in its own way; a client that waits for a word is
        told to go on."""
        handler = self._service.handler
        try:
            handler.before_body(request)
            sink = handler.body_sink(request)
            if sink is not None:
                self.protocol.sink = sink
        except HTTPError as error:
            self.protocol.sink = drain_or_reject(request, error)
            self._rejection = error
        if self.protocol.must_continue:
            self._collect(CONTINUE)

    def _answer(self) -> None:
        """Has the handler answer the request that is complete, or takes the answer that was waited for."""
        request = self.protocol.request
        assert request is not None
        awaited, self._awaited = self._awaited, None
        if self._service.timed and awaited is None:
            self._called = self._service.reactor.read_clock()
        try:
            if self._rejection is not None:
                raise self._rejection
            response = self._service.respond(request) if awaited is None else awaited.result()
            if not isinstance(response, Response) and not isinstance(response, Future):
                raise TypeError(f"a handler answers with a Response, not with {type(response).__name__}")
        except HTTPError as error:
            self._rejection = None
            self._service.stats.refused[error.status] += 1
            self._respond(error_response(error), not error.close)
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the handler failed on %r", request)
            self._respond_failure()
        else:
            if isinstance(response, Response):
                self._respond(response, True)
            else:
                self._await(response)

    def _await(self, future: Future[Any]) -> None:
        """Goes on when `future` is done, which may be in any thread. Until then it is the handler's own affair."""
        self._awaited = future
        call, resume = self._service.reactor.call, self._resume
        future.add_done_callback(lambda done: call(partial(resume, done)))

    def _awaits(self) -> bool:
        return self._awaited is not None and not self._awaited.done()

    def _refuse(self, error: HTTPError) -> None:
        """Answers a request that cannot be read, or is not wanted; then the connection closes."""
        self._service.stats.refused[error.status] += 1
        self.ending = "refused"
        self._respond(error_response(error), False)

    def _respond_failure(self) -> None:
        """Answers in place of a handler that failed, of which nothing was sent yet: the connection stays usable."""
        self._service.stats.failed += 1
        self._respond(error_response(HTTPError(500, "the server failed to answer")), True)

    def _respond(self, response: Response, wanted: bool) -> None:
        """Begins to send `response`. wanted: nothing on this side speaks against another request afterwards."""
        service = self._service
        protocol = self.protocol
        reactor = service.reactor
        if service.timed:
            self._replied = reactor.read_clock()
        if self._parting:
            wanted = False
        elif reactor.now >= self._aged:
            wanted = False
            self.ending = self.ending or "age"
        try:
            body = response.body
            stream = None
            joined = isinstance(body, bytes) and len(body) <= MAX_INLINE_BODY  # it leaves together with the head
            if not joined and has_body(protocol.request, response.status):
                stream = Stream(response, protocol)  # before the head, so that a handler that fails at once is a 500
            head = protocol.respond(response, reactor.date_line, wanted)
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the answer to %r cannot be sent", protocol.request)
            _close_body(response)
            self._respond_failure()
            return
        service.stats.answer_begun(response.status)
        if not self.ending and protocol.served == service.keep_alive.requests:
            self.ending = "request limit"
        self.phase = SEND  # whatever phase follows is entered anew, also the one that was there before the request
        self._promised = service.idle
        self._response = response
        self._stream = stream
        self._size = 0
        if not protocol.sends_body:
            _close_body(response)
        elif joined:
            self._size = protocol.body_left
        self._collect(head)
        if stream is not None and not stream.starts_large():  # they leave together
            self._collect(self._advance(stream))

    def _finish(self) -> None:
        """The answer is encoded to its end."""
        response = self._response
        assert response is not None
        self._end_answer()
        now = self._rested
        self._service.stats.latency.add(now - self._began)
        if self._track is not None:
            self._track.add(self._began, now, response.status)
        self._began = now
        self.protocol.finish()

    def _end_answer(self) -> None:
        """Lets go of the answer that is being sent, if there is one, whole or not; and logs it."""
        response, self._response = self._response, None
        if response is None:
            return
        if self._stream is not None:
            self._size = self._stream.size
            self._stream = None
            _close_body(response)
        service = self._service
        self._rested = service.reactor.read_clock()
        if service.access_log is not None:
            service.access_log.log(self, self.protocol.request, response, self._size)

    # Sending.

    def _collect(self, data: bytes) -> None:
        """Has `data` leave together with what is encoded already: the answers to a pipeline, say."""
        if not self._unsent:
            self._unsent = data
            return
        if self._behind is None:
            self._behind = []
        self._behind.append(data)
        self._behind_size += len(data)

    def _flush(self, flags: int = 0) -> bool:
        """Gives the kernel what is encoded; True when it took all."""
        if self._behind is not None:
            self._unsent = join([bytes(self._unsent), *self._behind])
            self._behind = None
            self._behind_size = 0
        data = self._unsent
        try:
            sent = self._sock.send(data, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._close("reset")
            return False
        self._service.stats.sent += sent
        if self._interest == WRITE:
            self._needed -= sent
        if sent == len(data):
            self._unsent = b""
            return True
        self._unsent = memoryview(data)[sent:]
        return False

    def _send_stream(self, stream: Stream) -> bool:
        """Sends on in a body that is not in memory; True when that was the rest of it.

        A few pieces, each only when the kernel has taken the one before, so that none waits for the next.
        """
        for _ in range(_MAX_PIECES_PER_TURN):
            more = stream.span is not None or stream.starts_large()
            if self._unsent and not self._flush(_MSG_MORE if more else 0):
                return False
            if stream.span is not None and not self._send_span(stream, stream.span):
                return False
            if stream.is_over():
                return True
            if self._awaits():
                return False
            self._unsent = self._advance(stream)
            if stream.is_over():
                return True
            if not self._unsent and stream.span is None:  # it is awaited, or never comes
                return False
        return False

    def _advance(self, stream: Stream) -> bytes:
        """The next piece, encoded; nothing when it has to be waited for, or when there can be none any more."""
        self._awaited = None
        try:
            data = stream.advance()
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the handler failed while answering %r", self.protocol.request)
            self._service.stats.failed += 1
            self._abort("failed")
            return b""
        if stream.awaited is not None:
            self._await(stream.awaited)
        return data

    def _send_span(self, stream: Stream, span: FileSpan) -> bool:
        """A slice of a file, from the page cache to the socket; True when that was the rest of it."""
        try:
            sent = _send_slice(self._sock, span.fd, span.offset, min(span.length, _MAX_PER_TURN))
        except (BlockingIOError, InterruptedError):
            return False
        except (ConnectionError, TimeoutError):
            self._abort("reset")
            return False
        except OSError:
            log.exception("a file could not be sent")
            self._abort("failed")
            return False
        if sent == 0:  # what is missing cannot be made up, and the length is announced
            log.error("a file became shorter while it was sent")
            self._abort("failed")
            return False
        self._service.stats.sent += sent
        self._needed -= sent
        span.offset += sent
        span.length -= sent
        if span.length:
            return False
        stream.span = None
        return True

    # Ending.

    def _part(self, reason: str) -> None:
        """Ends an idle connection; but a request that is already here is answered, as the last one."""
        self._parting = True
        self._receive()
        self._run()
        if self.phase == IDLE:
            self.ending = reason
            self.protocol.part()
            self._settle()
            if self.phase == LINGER and self._service.retired:
                self.retire()

    def _half_close(self) -> bool:
        """Tells the client that nothing more will come; whether there is anything to wait for afterwards.

        Closing at once would answer bytes that are still on their way with a reset, which destroys the answer on its
        way to the client (RFC 9112 §9.6).
        """
        if not self.protocol.ended:
            try:
                self._sock.shutdown(socket.SHUT_WR)
                return True
            except BlockingIOError:  # TLS has a last word, for which there is no room
                self._enter(SEND)
                return False
            except OSError:  # it is gone already
                pass
        self._close("answered")
        return False

    def _discard(self) -> None:
        """LINGER: reads until the client closes as well; counts what it lost by sending when we had left."""
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close("answered")
        elif self.ending in UNSOLICITED:
            self._service.stats.races_lost += 1
            self.ending += ", race lost"

    def _abort(self, reason: str) -> None:
        """Resets the connection: the client must not take what it has for the whole."""
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        self._close(reason)

    def _close(self, reason: str) -> None:
        """Gives everything back. reason: why, unless that was known before."""
        service = self._service
        if self._interest != NOTHING:
            service.reactor.watch(self._sock.fileno(), self, self._interest, NOTHING)
            self._interest = NOTHING
        service.reactor.wheel.cancel(self)
        self._sock.close()
        phase = self.phase
        self.phase = CLOSED
        self._unsent = b""
        self._behind = None
        by_client = reason == "client" or (reason == "reset" and phase == IDLE)
        reason = self.ending or reason
        host = host_of(self.client)
        idle = service.reactor.now - self._rested
        carried = self.protocol.served + (self.protocol.phase in (BODY, HANDLER))  # the last one without an answer
        service.stats.connection_ended(reason, host, carried, idle, by_client=by_client)
        if self._track is not None:
            self._track.end(service.reactor.now, reason)
        service.connections.discard(self)
        awaited, self._awaited = self._awaited, None
        if awaited is not None and not awaited.cancel():
            awaited.add_done_callback(discard_result)
        for function in (self._end_answer, self.protocol.close, self._tell_owner):
            try:
                function()
            except Exception:  # others' code: their log, their sink. The connection has ended all the same.
                log_current_exception("the end of a connection was not taken well")

    def _tell_owner(self) -> None:
        if self._service.on_close is not None:
            self._service.on_close(self)


def log_current_exception(message: str) -> None:
    """Logs the present exception. That must not fail as well where nothing but the end is left to be done."""
    try:
        log.exception(message)
    except Exception:
        pass


def _send_slice(sock: PlainSocket | TLSSocket, fd: int, offset: int, count: int) -> int:
    """At most `count` bytes of the file from `offset` on, by the kernel where it can; how many, 0 at the file's end."""
    if isinstance(sock, TLSSocket):
        return sock.sendfile(fd, offset, count)
    if hasattr(os, "sendfile"):
        return os.sendfile(sock.fileno(), fd, offset, count)
    data = os.pread(fd, min(count, _READ_SIZE), offset)
    return sock.send(data) if data else 0


def _close_body(response: Response) -> None:
    """Lets go of the body; its close() is the handler's own code, and may fail."""
    try:
        response.close()
    except BaseException as error:
        reraise_exit_signals(error)
        log_current_exception("closing the body of an answer failed")


def discard_result(future: Future[Any]) -> None:
    """Closes the answer that nobody waits for any more: at once, and in the thread that made it, since the reactor may
    have ended."""
    if not future.cancelled() and future.exception() is None and isinstance(future.result(), Response):
        _close_body(future.result())


def reraise_exit_signals(error: BaseException) -> None:
    """Whatever handlers raise is their fault, and a 500 (pytest's outcomes are no Exceptions, nor is asyncio's
    CancelledError), unless it is a signal that had the main thread raise it: then it is for the program."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)) and current_thread() is main_thread():
        raise error
