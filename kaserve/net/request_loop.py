"""RequestLoop: the part of a connection that reads requests, has them responded to, and sends the responses.

Knows the order of those steps, how much of them fits into a turn of the reactor, and why a response is the last one.
What a connection waits for, how long, and how its socket is closed is in `Connection`, which derives from RequestLoop.
They are one object, since an idle connection must be small, and share its attributes; they are two classes only to keep
the loop apart from phases and deadlines.
"""

from __future__ import annotations

import logging

from ..http.address import AnyAddress
from ..http.body_stream import BodyStream, ClientDisconnected
from ..http.errors import CutOff, HTTPError
from ..http.framing import asks_to_close
from ..http.headers import CLOSE
from ..http.messages import Request, Response
from ..http.phases import BODY, CLOSED, HANDLER, IDLE, LINGER, SEND
from ..http.protocol import HTTPProtocol
from ..http.wire import encode_head
from ..telemetry.counters import NO_GAP
from ..telemetry.endings import Ending
from ..telemetry.timeline import ConnectionTrace
from .exchange import Exchange, begin_exchange
from .failures import reraise_exit_signals
from .poller import HANGUP, NOTHING, WRITE
from .progress import AWAITING, BLOCKED, BROKEN, ENCODED, LOST, SENT
from .service import Service
from .sockets import PlainSocket
from .timerwheel import Timer
from .tls import TLSSocket
from .writer import Writer

__all__ = ["RequestLoop"]

log = logging.getLogger("kaserve")

_MAX_BUFFERED = 64 * 1024  # bytes of responses to a pipeline that are collected before they are sent
_MAX_REQUESTS_PER_TURN = 64
# Bytes of files that one connection sends in a turn, so that a fast reader does not keep the others waiting.
_MAX_FILE_BYTES_PER_TURN = 1024 * 1024
# The share of its maximum age that a connection may be spared at random, so that connections which were opened together
# are not closed together.
_AGE_JITTER = 0.1


class RequestLoop(Timer):
    """Requests and responses on one socket.

    Attributes:
        client, server: the two ends.
        number: counted from 1 since the server started.
        phase: the phase entered last.
        protocol: the conversation.
        ending: why the connection ends, once that is known.
    """

    __slots__ = (
        "_closing",
        "_exchange",
        "_file_bytes_left",
        "_idle_allowance",
        "_idle_from",
        "_interest",
        "_max_age_at",
        "_min_progress_left",
        "_opened",
        "_request_started",
        "_service",
        "_sock",
        "_trace",
        "_writer",
        "client",
        "ending",
        "number",
        "phase",
        "protocol",
        "server",
    )

    def __init__(self, service: Service, sock: PlainSocket | TLSSocket, client: AnyAddress, server: AnyAddress) -> None:
        """Takes over `sock`, which is connected and non-blocking."""
        super().__init__()
        now = service.reactor.now
        self._service = service
        self._sock: PlainSocket | TLSSocket = sock
        self.client = client
        self.server = server
        self.number = 0
        self.protocol = HTTPProtocol(service.limits, service.keep_alive)
        self.phase = CLOSED  # none entered yet
        self.ending: Ending | None = None
        self._writer = Writer()
        self._exchange: Exchange | None = None
        self._trace: ConnectionTrace | None = None
        self._opened = now
        self._max_age_at = now + service.age * (1.0 - _AGE_JITTER * service.rng())
        self._request_started = now
        self._idle_from = now  # when the last response left
        self._idle_allowance = service.idle  # for how long it may be idle from then on
        self._file_bytes_left = _MAX_FILE_BYTES_PER_TURN  # in this turn
        self._interest = NOTHING  # what the reactor watches the socket for
        self._min_progress_left = 0  # bytes that must still move before the deadline is extended
        self._closing = False  # the next response is the last one

    # What a connection does about it.

    def ready(self, events: int) -> None:
        """Goes on: the socket is ready for `events`, or a Future is done (NOTHING)."""
        raise NotImplementedError

    def _update_state(self) -> None:
        """Enters the phase that the turn has led to."""
        raise NotImplementedError

    def _reset(self, ending: Ending) -> None:
        """Ends the connection with a reset."""
        raise NotImplementedError

    def _close(self, ending: Ending) -> None:
        """Ends the connection."""
        raise NotImplementedError

    # The loop.

    def _run(self) -> None:
        """Reads, responds and sends for as long as that is possible without waiting, up to the limits of a turn."""
        writer, protocol = self._writer, self.protocol
        self._file_bytes_left = _MAX_FILE_BYTES_PER_TURN
        if writer.buffer and not self._flush():
            self._update_state()
            return
        requests_left = _MAX_REQUESTS_PER_TURN
        while True:
            phase = protocol.phase
            if phase == SEND:
                if writer.source is not None and not self._send_body():
                    break
                self._finish_response()
            elif phase == HANDLER:
                exchange = self._exchange
                assert exchange is not None
                if exchange.future is not None and exchange.is_pending():  # the first half saves most requests a call
                    break
                if requests_left == 0 or len(writer.buffer) + writer.queued >= _MAX_BUFFERED:
                    break
                exchange.call_handler(self._may_persist())
                self._response_started()
                requests_left -= 1
            elif (
                (phase == IDLE and not protocol.has_received() and not protocol.ended)
                or phase > SEND
                or not self._read()
            ):
                break
        if writer.buffer:
            self._flush()
        self._update_state()
        if self.phase == HANDLER and not self._is_awaiting():  # the turn was used up
            self._service.reactor.again(self)

    # A request and its response.

    def _read(self) -> bool:
        """Reads on in a request; False if that takes bytes which are not here yet."""
        protocol = self.protocol
        try:
            if protocol.phase != BODY:
                request = protocol.read_head()
                if request is None:
                    if protocol.phase == LINGER:  # the body before it is too large to be skipped
                        self.ending = Ending.REFUSED
                    return protocol.phase == CLOSED
                request.client = self.client
                request.scheme = self._service.scheme
                request.server = self.server
                request.owner = self
                exchange = self._begin_exchange()
                gap = exchange.started - self._idle_from if protocol.served else NO_GAP
                self._service.stats.request_parsed(gap)
                if self._trace is None and self._service.timeline.recording:
                    self._start_trace()
                if protocol.phase == BODY:
                    exchange.begin_body()
            elif self._is_awaiting():  # for the handler's decision about the body
                assert self._exchange is not None
                if self._exchange.is_pending():
                    return False
                self._exchange.begin_body()
            if protocol.phase == BODY:
                return not self._is_awaiting() and protocol.read_body()
        except HTTPError as error:
            self._refuse(error, Ending.REFUSED)
        except BaseException as error:  # of before_body, or of a sink: a full disk, say
            reraise_exit_signals(error)
            log.exception("the body of %r could not be received", protocol.request)
            assert self._exchange is not None
            self._exchange.respond_failure(self._may_persist())
            self._response_started()
        return True

    def _begin_exchange(self) -> Exchange:
        self._exchange = exchange = begin_exchange(
            self._service, self.protocol, self._writer, self, self.number, self.client, self._request_started
        )
        return exchange

    def _start_trace(self) -> None:
        """The live page is open: what happens from now on may be shown there."""
        service = self._service
        host, now = self.client.label, service.reactor.now
        self._trace = service.timeline.start_trace(self.number, host, self._opened, now)

    def inform(self, request: Request, response: Response) -> bool:
        """Sends an informational response to `request`, if it is the present one and its final response has not begun;
        see `Request.inform`."""
        data = self.protocol.encode_interim(response)
        if not data or self.protocol.request is not request:
            return False
        if isinstance(self.protocol.sink, BodyStream) and response.status == 100:
            self.protocol.sink.awaits_continue = False
        self._writer.enqueue(data)
        self._service.reactor.again(self)
        return True

    @property
    def is_tunnel(self) -> bool:
        """Whether a 101 was its last response."""
        return self._exchange is not None and self._exchange.tunnel is not None

    def is_half_closed(self) -> bool:
        """Whether the client has finished sending, as far as that has been noticed."""
        return self.protocol.ended or self._interest == HANGUP

    def set_aside(self, request: Request, uncounted: Service) -> Exchange | None:
        """Has the response to `request` counted in `uncounted.stats`, and shown on no timeline.

        What the server's counters have of the request already, they have from `_read`: `uncounted` gets the same.

        Args:
            request: a request that a handler is responding to.
            uncounted: stands in for the service of this connection until the response is complete.

        Returns:
            The exchange; None if `request` is not that of this connection.
        """
        exchange = self._exchange
        if exchange is None or exchange.request is not request:
            return None
        if exchange.number == 1:
            uncounted.stats.accepted += 1
        uncounted.stats.request_parsed(exchange.started - self._idle_from if exchange.number > 1 else NO_GAP)
        exchange._service = uncounted
        if self._trace is not None and not self._trace.requests:  # it began with this request
            self._service.timeline.forget(self._trace)
            self._trace = None
        return exchange

    def _may_persist(self) -> bool:
        """Whether another request may follow, as far as this connection decides: it is neither closing nor too old. The
        request, the response and the settings of keep-alive decide as well (`HTTPProtocol.prepare`)."""
        return not self._closing and self._service.reactor.now < self._max_age_at

    def _refuse(self, error: HTTPError, ending: Ending) -> None:
        """Responds to a request that cannot be read, or is not read to its end; then the connection closes."""
        exchange = self._exchange or self._begin_exchange()
        self.ending = ending
        exchange.refuse(error)
        self._response_started()

    def _response_started(self) -> None:
        """The handler has been called: if that led to a response, its head is with the writer now."""
        exchange, service = self._exchange, self._service
        if exchange is None or exchange.response is None:
            return
        if not exchange.persists and self.ending is None:
            self.ending = self._why_last(exchange)
        self.phase = SEND  # whatever phase follows is entered again, even if it is the one before the request
        self._idle_allowance = service.idle
        if self._writer.source is not None:
            try:
                exchange.start_body()
            except BaseException as error:
                self._fail_response(error)

    def _why_last(self, exchange: Exchange) -> Ending:
        """Why the response that was just started is the last one. If there are several reasons, the server's own come
        first, since those are what its operator can change.

        It is found out here, once for a connection, rather than in `HTTPProtocol.prepare`, once for a request.
        """
        service, protocol, request, response = self._service, self.protocol, exchange.request, exchange.response
        if service.stopping:
            return Ending.ANNOUNCED_DRAIN
        if self._closing:  # a request that came in the moment when an idle connection was to be closed
            return Ending.LAST_RESPONSE
        if not self._may_persist():
            return Ending.AGE
        if exchange.is_limit:
            return Ending.REQUEST_LIMIT
        if not service.keep_alive.enabled:
            return Ending.KEEP_ALIVE_OFF
        if request is not None and asks_to_close(request):
            return Ending.CLIENT_ASKED
        if response is not None and encode_head(response.fields)[1] & CLOSE:
            return Ending.HANDLER_ASKED
        if protocol.sink is not None and not protocol.can_find_next(response, exchange.has_content):
            return Ending.REFUSED  # too much of a streamed body may be unread
        # The end of the request or of its response can only be that of the connection (`framing.persists`).
        return Ending.LAST_RESPONSE

    def _finish_response(self) -> None:
        """The response is encoded to its end. After a 101 its exchange goes on, and with it the line in the access log,
        which is to have the bytes and the duration of the tunnel. But the response time is that of the 101."""
        exchange = self._exchange
        assert exchange is not None
        assert exchange.response is not None
        if exchange.tunnel is None:
            self._exchange = None
            exchange.finish()
            now = exchange.finished
        else:
            exchange.check_blocking()
            now = self._service.reactor.last_read
        self._idle_from = now
        service = exchange._service  # not always that of the connection; see `set_aside`
        service.stats.latency.add(now - exchange.started)
        if self._trace is not None and service is self._service:
            self._trace.add(exchange.started, now, exchange.response.status)
        if exchange.tunnel is not None:
            self.protocol.begin_tunnel()
            return
        self._request_started = now  # of the next one, if it is here already
        self.protocol.finish()
        if exchange.persists and self.protocol.phase == LINGER:  # too much of a streamed body is unread
            self.ending = Ending.REFUSED

    def _is_awaiting(self) -> bool:
        """Whether a Future will make the connection go on: it is not done, or its callback is still to be called."""
        return self._exchange is not None and self._exchange.future is not None

    # Sending.

    def _flush(self) -> bool:
        """Sends what is in the buffer; True if the kernel accepted all of it."""
        progress = self._writer.flush(self._sock)
        self._count_sent()
        if progress == LOST:
            self._close(Ending.RESET)
        return progress == SENT

    def _send_body(self) -> bool:
        """Sends on in a body that is not in memory; True if all of it is encoded."""
        exchange, writer, source = self._exchange, self._writer, self._writer.source
        assert exchange is not None
        assert source is not None
        if exchange.is_pending():
            return False
        exchange.future = None
        source.file_bytes_left = self._file_bytes_left  # what the bodies before it in this turn have left
        try:
            progress = writer.pump(self._sock)
        except BaseException as error:
            self._fail_response(error)
            return False
        self._file_bytes_left = source.file_bytes_left
        self._count_sent()
        if progress == AWAITING:
            assert source.pending is not None
            exchange.wait_for(source.pending)
        elif progress == BLOCKED:
            exchange.check_blocking()
        elif progress == LOST:
            self._close(Ending.RESET)
        elif progress == BROKEN:
            self._service.stats.failed += 1
            self._cut_off_response(Ending.FAILED)
        return progress == ENCODED

    def _count_sent(self) -> None:
        writer = self._writer
        self._service.stats.sent += writer.moved
        if self._interest == WRITE:
            self._min_progress_left -= writer.moved
        writer.moved = 0

    def _fail_response(self, error: BaseException) -> None:
        """The handler's own code failed after the head was encoded; or it reads the body meanwhile, and that is faulty,
        or the client has left. Those are the client's doing: they must not fill the log with tracebacks."""
        reraise_exit_signals(error)
        if isinstance(error, ClientDisconnected):  # what makes the body has been told that the client has left
            self._cut_off_response(Ending.DISCONNECTED)
            return
        sink = self.protocol.sink
        if isinstance(sink, BodyStream) and sink.failure is error and isinstance(error, HTTPError):
            self._service.stats.refused[error.status] += 1
            self._cut_off_response(Ending.REFUSED)
            return
        if not isinstance(error, CutOff):
            log.exception("the handler failed while responding to %r", self.protocol.request)
        self._service.stats.failed += 1
        self._cut_off_response(Ending.FAILED)

    def _cut_off_response(self, ending: Ending) -> None:
        """The response cannot be completed, and its head has been encoded: only a reset can tell the client.

        Responses to earlier requests may be in the output buffer, in front of that head. They are complete, and a reset
        discards what has not been sent, so the buffer is flushed first.
        """
        if self._writer.buffer:
            self._writer.flush(self._sock)
            self._count_sent()
        self._reset(ending)
