"""Exchange: one request on a connection and the response to it, and the `Outgoing` of that response.

Calls the handler, turns what it returns or raises into a response, and passes that to the writer. Records times and
sizes for the access log, the counters and the timeline. Knows the handler, the protocol and the writer. Does not know
sockets and deadlines; the connection decides when it goes on.

It exists from the moment the head of the request has been read (or turned out to be unreadable) until its response is
encoded to its end, so an idle connection has none. After a 101 it exists as long as the connection.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

from ..http.address import AnyAddress
from ..http.body_stream import BodyStream
from ..http.error_page import respond_with_error
from ..http.errors import HTTPError
from ..http.messages import Response
from ..http.outgoing import Outgoing
from ..http.protocol import CONTINUE, HTTPProtocol
from ..http.sinks import drain_or_reject
from ..http.tunnel import TunnelBody
from .blocking import MAX_BLOCKING
from .body_source import BodySource
from .failures import log_current_exception, reraise_exit_signals
from .poller import NOTHING
from .service import Service
from .streaming import StreamedRequest, StreamingConnection
from .tunnel import OpenTunnel
from .writer import Writer

__all__ = ["Exchange", "begin_exchange"]

log = logging.getLogger("kaserve")


class Exchange(Outgoing):
    """A request and its response, whose `Outgoing` it is: a second object would cost each request 450 instructions, 3 %
    of a pipelined one. Made by `begin_exchange`.

    Times are seconds on the reactor's clock.

    Attributes:
        connection_number: which connection it is on, counted from 1 since the server started.
        number: which request on its connection this is, counted from 1.
        client: the other end of the connection. A handler may have put another client into `request.client`.
        response: None until one has been started.
        rejection: the error that the request is rejected with; while a body is drained, before there is a response.
            Logs show its reason. None for nearly all requests.
        future: what the handler returned, a piece of a body, or what the handler waits for before it decides about the
            request's body, until the connection goes on with its result.
        started: when the first byte of the request came; for a pipelined request, when the response before it was done.
        called: when the handler was called. Recorded only if the access log shows times, as is `responded`.
        responded: when the handler had responded.
        finished: when the response was encoded to its end, or given up.
        bytes_sent: bytes of content in the response. While a body that is not inline is sent, its source counts them.
        tunnel: what follows the response, if that is a 101.
    """

    __slots__ = (
        "_connection",
        "_protocol",
        "_service",
        "_writer",
        "bytes_sent",
        "called",
        "client",
        "connection_number",
        "finished",
        "future",
        "number",
        "rejection",
        "responded",
        "response",
        "started",
        "tunnel",
    )

    def _fill(
        self,
        service: Service,
        protocol: HTTPProtocol,
        writer: Writer,
        connection: StreamingConnection,
        connection_number: int,
        client: AnyAddress,
        started: float,
    ) -> None:
        """Sets the attributes, in place of an `__init__` (see `begin_exchange`)."""
        self._service = service
        self._protocol = protocol
        self._writer = writer
        self._connection = connection
        self.client = client
        self.connection_number = connection_number
        self.number = protocol.served + 1
        self.request = protocol.request
        self.response: Response | None = None
        self.rejection: HTTPError | None = None
        self.future: Future[Any] | None = None
        self.tunnel: OpenTunnel | None = None
        self.started = started
        self.called = self.responded = self.finished = started
        self.bytes_sent = 0

    def durations(self) -> tuple[float, float, float]:
        """Returns how many seconds the request took to arrive, the handler to respond, and the response to leave.

        An error response that no handler was called for took the handler no time.
        """
        called = self.called if self.called > self.started else self.responded
        return called - self.started, self.responded - called, self.finished - self.responded

    # The request.

    def begin_body(self) -> None:
        """Asks the handler about the body. One that is not wanted is drained if it is small; for one that the handler
        streams, the handler is due (HANDLER).

        While the handler is undecided the exchange waits for its Future, and then this is called again. Until then
        nothing of the body is read, and no `100 Continue` invites the client to send it (RFC 9110 §10.1.1).

        Raises:
            HTTPError: the response, which does not wait for the body.
            Exception: whatever the handler's own code raises.
        """
        request, protocol, handler = self.request, self._protocol, self._service.handler
        assert request is not None
        undecided, self.future = self.future, None
        try:
            if undecided is None:
                handler.before_body(request)
            elif not undecided.cancelled():
                undecided.result()  # raises what it failed with
            sink = handler.body_sink(request)
            if isinstance(sink, Future):
                self.wait_for(sink)
                return
            if sink is not None:
                protocol.sink = sink
        except HTTPError as error:
            protocol.sink = drain_or_reject(request, error)
            self.rejection = error
        if isinstance(protocol.sink, BodyStream):
            self._begin_stream(protocol.sink)
        elif protocol.must_continue:
            self._writer.enqueue(CONTINUE)

    def _begin_stream(self, stream: BodyStream) -> None:
        """The handler reads the body while it arrives. What is here of it can be read without waiting."""
        assert self.request is not None
        protocol = self._protocol
        stream.awaits_continue = protocol.must_continue
        stream.owner = StreamedRequest(self._connection, protocol, self._writer, self._service)
        self.request.stream = stream
        protocol.begin_stream()

    def call_handler(self, may_persist: bool) -> None:
        """Has the handler respond to the request, or takes the result of its Future.

        Args:
            may_persist: False if the response is the connection's last one in any case.
        """
        service = self._service
        future, self.future = self.future, None
        try:
            if future is not None:
                result = future.result()
            elif self.rejection is not None:
                raise self.rejection
            else:
                if service.timed:
                    self.called = service.reactor.read_clock()
                assert self.request is not None
                result = service.respond(self.request)
            if not isinstance(result, Response) and not isinstance(result, Future):
                raise TypeError(f"a handler must return a Response, not {type(result).__name__}")
        except HTTPError as error:
            self._count_rejection(error)
            self.respond(respond_with_error(self.request, error), may_persist)
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the handler failed on %r", self.request)
            self.respond_failure(may_persist)
        else:
            if isinstance(result, Response):
                self.respond(result, may_persist)
            else:
                self.wait_for(result)

    # The response.

    def refuse(self, error: HTTPError) -> None:
        """Responds to a request that cannot be read, or is not read to its end; then the connection closes."""
        self._count_rejection(error)
        self.respond(respond_with_error(self.request, error), False)

    def _count_rejection(self, error: HTTPError) -> None:
        """Counts `error` and keeps it for the log, unless it is a response that did not wait for the body."""
        if error.status >= 400:
            self.rejection = error
            self._service.stats.refused[error.status] += 1

    def respond_failure(self, may_persist: bool) -> None:
        """Responds in place of a handler that failed before anything was sent, so the connection may persist."""
        self._service.stats.failed += 1
        self.rejection = None  # if there was one, its response could not be sent, and the error log says why
        self.respond(respond_with_error(self.request, HTTPError(500, "the server failed to respond")), may_persist)

    def respond(self, response: Response, may_persist: bool) -> None:
        """Starts `response`: its head goes to the writer, and with it a body that is in memory. A response that cannot
        be sent is replaced by a 500 before anything is counted."""
        service, protocol, writer = self._service, self._protocol, self._writer
        reactor = service.reactor
        if service.timed:
            self.responded = reactor.read_clock()
        try:
            protocol.prepare(self, response, reactor.date_line, may_persist)
            source = None
            if self.has_content and not self.is_inline:
                source = BodySource(self, response)
        except BaseException as error:
            reraise_exit_signals(error)
            log.exception("the response to %r cannot be sent", self.request)
            close_body(response)
            self.respond_failure(may_persist)
            return
        protocol.start(self)
        service.stats.response_started(response.status)
        self.response = response
        writer.enqueue(self.head)
        if self.is_inline:
            self.bytes_sent = self.framing
        elif source is None:
            self._end_head(response)
        else:
            writer.source = source

    def _end_head(self, response: Response) -> None:
        """The head is all that is sent of `response`; unless a tunnel follows."""
        body = response.body
        if response.status == 101 and isinstance(body, TunnelBody):
            self.tunnel = OpenTunnel(body.take(), self._service, self._protocol, self._writer, self._connection)
        else:
            close_body(response)

    def start_body(self) -> None:
        """Adds the first piece of a body to the head, if it is small enough to be copied, so that both leave together.

        Raises:
            Exception: whatever the handler's own code raises; the response cannot be completed.
        """
        source = self._writer.source
        assert source is not None
        if not source.starts_large():
            self._writer.enqueue(source.advance())
            if source.pending is not None:
                self.wait_for(source.pending)

    def finish(self) -> None:
        """Ends the exchange: its response is encoded to its end, or given up. Logs it, if there is one."""
        future, self.future = self.future, None
        if future is not None:
            _discard(future)
        response = self.response
        if response is None:
            return
        source, self._writer.source = self._writer.source, None
        if source is not None:
            self.bytes_sent = source.bytes_sent
            close_body(response)
        service = self._service
        reactor = service.reactor
        self.finished = now = reactor.read_clock()
        if now - reactor.last_read > MAX_BLOCKING:
            self._report_blocking(now)
        reactor.last_read = now
        if service.access_log is not None:
            service.access_log.log(self)

    def abandon(self) -> None:
        """Ends the exchange because the connection has ended, if it had not ended before: nobody receives the rest of
        the response. The request says so before the Future is cancelled, so that a thread which completes the Future
        meanwhile can look."""
        request = self.request
        if request is not None:
            request.disconnected = True
            if request.on_leave is not None:
                request.on_leave()
        tunnel = self.tunnel
        if tunnel is None:
            self.finish()
            return
        self.bytes_sent = tunnel.sent
        try:
            self.finish()
        finally:
            tunnel.closed()

    # Time.

    def check_blocking(self) -> None:
        """Logs a warning if this exchange has kept the reactor busy for long since the clock was read before: at the
        beginning of the turn, or when another exchange did something in it. `finish` does the same with fewer calls."""
        reactor = self._service.reactor
        now = reactor.read_clock()
        if now - reactor.last_read > MAX_BLOCKING:
            self._report_blocking(now)
        reactor.last_read = now

    def _report_blocking(self, now: float) -> None:
        service = self._service
        service.blocking.report(self.request, now - service.reactor.last_read, now)

    # Waiting.

    def wait_for(self, future: Future[Any]) -> None:
        """Goes on when `future` is done, which any thread may bring about."""
        self.future = future
        self.check_blocking()
        future.add_done_callback(self._on_done)

    def _on_done(self, future: Future[Any]) -> None:
        """Future callback, in whichever thread has completed it."""
        self._service.reactor.call(self._resume)

    def _resume(self) -> None:
        """Goes on, on the reactor's thread; unless the exchange waits for another Future by now, or has ended."""
        if self.future is not None and self.future.done():
            self._connection.ready(NOTHING)

    def is_pending(self) -> bool:
        """Whether it waits for a Future that is not done."""
        return self.future is not None and not self.future.done()


def begin_exchange(
    service: Service,
    protocol: HTTPProtocol,
    writer: Writer,
    connection: StreamingConnection,
    connection_number: int,
    client: AnyAddress,
    started: float,
) -> Exchange:
    """Returns the exchange that `protocol` has come to. Nothing has been called or sent yet.

    Compiled, it calls `_fill` as a C function: the call of a class with arguments costs 600 instructions, 3 % of a
    request.

    Args:
        service: what all connections share.
        protocol: the conversation.
        writer: sends the response.
        connection: is called to go on when a Future is done.
        connection_number: its number.
        client: the other end.
        started: when the first byte of the request came.
    """
    exchange = Exchange.__new__(Exchange)
    exchange._fill(service, protocol, writer, connection, connection_number, client, started)
    return exchange


def close_body(response: Response) -> None:
    """Closes the body of `response`, which is the handler's own code, and may fail."""
    try:
        response.close()
    except BaseException as error:
        reraise_exit_signals(error)
        log_current_exception("closing the body of a response failed")


def _discard(future: Future[Any]) -> None:
    """Cancels `future`. If it is too late for that, its response is closed in the thread that completes it: the reactor
    may have ended by then. A Future that it has as its result is cancelled in turn."""
    if not future.cancel():
        future.add_done_callback(_discard_result)


def _discard_result(future: Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
        result = future.result()
        if isinstance(result, Future):
            _discard(result)
        elif isinstance(result, Response):
            close_body(result)
