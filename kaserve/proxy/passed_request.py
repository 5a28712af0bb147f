"""PassedRequest: one request on its way through the proxy, and its response on the way back.

Knows in which order things happen, and what may be sent again after a failure. Does not know sockets (`connection`),
nor which fields pass (`fields`).

What may be sent again
======================

An upstream that closes a connection while a request is on its way leaves open whether it has processed the request. So
(RFC 9110 §9.2.2, RFC 9112 §9.3.1)

- a request of which nothing was sent may always go to another connection, or another upstream;
- a request with an idempotent method (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) is sent once more, on a new connection,
  if no byte of a response has come and its body is still here;
- anything else is never sent twice: the client gets a 502. That goes for POST, and for every method that is not known.

A body is kept for that as long as it is small, and only for those methods.

Bodies
======

Both are pulled, and at the same time if the upstream responds while it reads, as an echo does. The body of the request
is read from the client when the upstream has accepted what was read before, so a slow upstream slows the client down;
the body of the response is read from the upstream when the client has accepted what was read before. In each direction
at most one piece is in memory.

`100 Continue` comes from here when the body is first read, which is when the upstream is connected; if the client asked
for it, the upstream is asked as well (RFC 9110 §10.1.1), so that its refusal reaches the client before the body is
sent. An upstream that does not answer that question is sent the body after a second, as a client would do.

A server of HTTP/1.0 cannot read chunks (RFC 9112 §6.1). If an upstream was seen to be one, a body of unknown length is
received first, up to a limit, so that it can be sent with its length.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

from ..http.errors import CutOff, HTTPError
from ..http.headers import CONTENT_LENGTH, TRANSFER_ENCODING
from ..http.messages import Request, Response, new_response
from ..http.responses import ResponseHead
from ..http.wire import encode_head
from ..net.reactor import Reactor
from ..net.timerwheel import Alarm
from ..threads.future import LightFuture
from .connection import UpstreamConnection
from .failure import Cause, UpstreamFailure
from .fields import Forwarding, encode_request, interim_fields, passed_trailers, response_fields
from .relay import Relay
from .upstream import Upstream, choose

__all__ = ["PassedRequest"]

log = logging.getLogger("kaserve")

# RFC 9110 §9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_MAX_KEPT = 64 * 1024  # bytes of a request's body that are kept, so that it can be sent again
_MAX_MEASURED = 1024 * 1024  # bytes of a body that is received first, because its length is not known
_LOOK_AFTER = 1.0  # seconds


class PassedRequest:
    """One request through the proxy; the user of an upstream connection.

    Attributes:
        future: the response.
    """

    def __init__(
        self, request: Request, upstreams: list[Upstream], forwarding: Forwarding, reactor: Reactor, upgrade: str | None
    ) -> None:
        self.future: LightFuture[Response] = LightFuture()
        self._request = request
        self._upstreams = upstreams
        self._forwarding = forwarding
        self._reactor = reactor
        self._upgrade = upgrade
        self._stream = request.stream if _has_body(request) else None
        self._is_idempotent = request.method in _IDEMPOTENT
        self._kept: list[bytes] | None = [] if self._is_idempotent else None  # what was read of the body
        self._kept_size = 0
        self._unsent: list[bytes] = []  # what was read of the body and is still to be sent, perhaps again
        self._is_read = self._stream is None  # the body was read to its end
        self._is_chunked = self._stream is not None and request.content_length is None
        self._is_measured = False  # it was received before the request was sent, and is sent with its length
        self._may_read = False  # the upstream has not been asked, or has agreed
        self._reading: Future[bytes] | None = None
        self._connection: UpstreamConnection | None = None
        self._tried: list[Upstream] = []
        self._waiting: LightFuture[bytes] | None = None  # for the next piece of the response
        self._body_failure: UpstreamFailure | None = None
        self._is_over = False  # the response was read to its end
        self._began = reactor.now
        self._alarm = Alarm(self._look)
        self.future.add_done_callback(self._settled)

    # Sending.

    def start(self) -> None:
        """Sends the request to one of the upstreams."""
        if self._is_chunked and any(upstream.is_http_1_0 for upstream in self._upstreams):
            self._measure()
        else:
            self._try(fresh=False)

    def _measure(self) -> None:
        """Receives all of the body before the request is sent, so that its length is known."""
        assert self._stream is not None
        while True:
            try:
                piece = self._stream.read()
            except Exception as error:
                self._give_up(error)
                return
            if not isinstance(piece, bytes):
                self._reading = piece
                piece.add_done_callback(self._measure_on)
                return
            if not self._measured(piece):
                return

    def _measure_on(self, done: Future[bytes]) -> None:
        """A read of `_measure` has waited for the client."""
        self._reading = None
        if done.cancelled() or self.future.done():
            return
        error = done.exception()
        if error is not None:
            self._give_up(error)
        elif self._measured(done.result()):
            self._measure()

    def _measured(self, piece: bytes) -> bool:
        """Takes a piece of the body for `_measure`. Returns whether there may be more."""
        if not piece:
            self._is_read = True
            self._is_chunked = False
            self._is_measured = True
            self._kept = list(self._unsent)
            self._try(fresh=False)
            return False
        self._unsent.append(piece)
        self._kept_size += len(piece)
        if self._kept_size > _MAX_MEASURED:
            self._give_up(HTTPError(411, "the server behind this proxy must know the length of the content"))
            return False
        return True

    def _try(self, *, fresh: bool) -> None:
        upstream = choose(self._upstreams, self._reactor.now, self._tried)
        self._tried.append(upstream)
        upstream.stats.requests += 1
        connection = None if fresh else upstream.take(self, self._reactor.now)
        if connection is None:
            self._connection = upstream.open(self, self._reactor)
            self._connection.open()
        else:
            self._connection = connection
            self.connected()

    def connected(self) -> None:
        """The connection is open: sends the head, and begins with the body."""
        connection, request = self._connection, self._request
        assert connection is not None
        asks = self._stream is not None and self._stream.awaits_continue
        framing = self._kept_size if self._is_measured else None
        head = encode_request(request, self._forwarding, framing=framing, upgrade=self._upgrade, expect_continue=asks)
        connection.begin(request.method, upgrade=self._upgrade is not None)
        self._may_read = not asks
        self._alarm.advance(self._reactor.wheel, self._reactor.read_clock() + _LOOK_AFTER)
        if connection.send(head):
            self.sent()

    def sent(self) -> None:
        """The kernel has accepted what was sent: goes on with the body."""
        connection = self._connection
        while connection is not None and connection is self._connection and self._may_read:
            if self._unsent:
                piece = self._unsent.pop(0)
            elif self._is_read:
                self._end_request(connection)
                return
            else:
                found = self._read()
                if found is None:
                    return
                piece = found
                self._keep(piece)
                if not piece:
                    continue
            if not connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece):
                return

    def _end_request(self, connection: UpstreamConnection) -> None:
        """All of the body was sent, or there is none."""
        self._may_read = False
        last = b""
        if self._is_chunked:
            assert self._stream is not None
            last = b"0\r\n%b\r\n" % encode_head(passed_trailers(self._stream.trailers, self._request.fields))[0]
        connection.request_sent()
        if last:
            connection.send(last)

    def _read(self) -> bytes | None:
        """Returns the next piece of the body, b"" at its end; None if it has not come yet."""
        assert self._stream is not None
        if self._reading is not None:
            return None
        try:
            piece = self._stream.read()
        except Exception as error:
            self._give_up(error)
            return None
        if isinstance(piece, bytes):
            return piece
        self._reading = piece
        piece.add_done_callback(self._read_on)
        return None

    def _read_on(self, done: Future[bytes]) -> None:
        """A read has waited for the client."""
        self._reading = None
        connection = self._connection
        if connection is None or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._give_up(error)
            return
        piece = done.result()
        self._keep(piece)
        if piece:
            self._unsent.append(piece)
        # After a failure it is another connection, which may not be open yet, or is still sending what came before.
        if connection.can_send:
            self.sent()

    def _keep(self, piece: bytes) -> None:
        """Keeps a piece of the body, if it may have to be sent again and is not too large."""
        self._is_read = self._is_read or not piece
        if self._kept is None:
            return
        self._kept_size += len(piece)
        if self._kept_size > _MAX_KEPT:
            self._kept = None
        elif piece:
            self._kept.append(piece)

    # The response.

    def head_arrived(self, head: ResponseHead) -> None:
        """A head has come: an interim response is passed on, the final one becomes the response."""
        if head.status == 100:
            self._begin_body()
        elif head.status == 101:
            self._switch(head)
        elif head.status < 200:
            self._request.inform(head.status, interim_fields(head))
        else:
            self._respond(head)

    def _begin_body(self) -> None:
        """The upstream wants the body, or does not say whether it does."""
        if not self._may_read and not self._is_read:
            self._may_read = True
            self.sent()

    def _respond(self, head: ResponseHead) -> None:
        connection = self._connection
        assert connection is not None
        self._cancel_alarm()
        try:
            first = connection.read_body()
        except UpstreamFailure as failure:
            self.failed(failure)
            return
        parser = connection.parser
        passes_trailers = not parser.complete or bool(parser.trailers)
        fields = response_fields(head, self._forwarding, self._request, passes_trailers=passes_trailers)
        response = new_response(head.status, first, fields)
        response.reason = head.reason if head.reason.isprintable() else None
        self._note(head)
        self._tried[-1].is_http_1_0 = head.minor == 0
        if passes_trailers:
            response.body = _PassedBody(self, connection, first)
            response.trailers = lambda: passed_trailers(parser.trailers, head.fields)
        else:
            self._connection = None
            connection.release()
        self._settle(response)

    def _switch(self, head: ResponseHead) -> None:
        """The upstream speaks the other protocol from now on: so will the client's connection, after its own 101."""
        connection = self._connection
        assert connection is not None
        self._cancel_alarm()
        protocols = head.values("upgrade")
        if not connection.is_request_sent:
            reason = "it switched protocols before it had the request"
        elif len(protocols) != 1 or protocols[0].strip(" \t").lower() not in self._request.upgrades:
            reason = "it switched to a protocol that the request did not ask for"
        else:
            self._note(head)
            self._connection = None
            fields = response_fields(head, self._forwarding, self._request)
            self._settle(Response.upgrade(protocols[0].strip(" \t"), Relay(connection), fields))
            return
        connection.close()
        self.failed(UpstreamFailure(Cause.MALFORMED, f"its response is malformed: {reason}"))

    def _settle(self, response: Response) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(response)
        else:
            response.close()

    def _note(self, head: ResponseHead | None) -> None:
        """Leaves in the request what the access log shows."""
        upstream = self._tried[-1]
        seconds = self._reactor.read_clock() - self._began
        connection = self._connection
        reused = connection is not None and connection.carried > 1
        self._request.log_fields = {"upstream": upstream.name, "upstream_time": round(seconds, 6), "reused": reused}

    # Failures.

    def failed(self, failure: UpstreamFailure) -> None:
        """The connection is closed: tries again, or responds with an error."""
        upstream = self._tried[-1]
        now = self._reactor.read_clock()
        self._connection = None
        self._cancel_alarm()
        if failure.cause.blames_upstream:
            upstream.fail(now)
        if self.future.done():  # the response has begun
            self._body_failure = failure
            self._cut_off_body()
            return
        if self._may_retry(failure):
            upstream.stats.retried += 1
            self._unsent = list(self._kept or ())
            self._try(fresh=True)
            return
        upstream.stats.failed += 1
        self._log(failure)
        self._note(None)
        self._give_up(failure.to_http_error())

    def _may_retry(self, failure: UpstreamFailure) -> bool:
        """Whether the request may be sent again; see the top of this module."""
        if failure.cause is Cause.EXHAUSTED or self._request.disconnected:
            return False
        if failure.is_unprocessed and (self._stream is None or self._kept is not None or not self._kept_size):
            return len(self._tried) <= len(self._upstreams)
        if not self._is_idempotent or self._kept is None:
            return False
        return failure.cause.may_retry and not failure.has_response and len(self._tried) == 1

    def _log(self, failure: UpstreamFailure) -> None:
        request = self._request
        log.error("%s: %s, for %s %s", self._tried[-1].name, failure.detail, request.method, request.target)

    def _give_up(self, error: BaseException) -> None:
        self._cancel_alarm()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self.future.done():
            self._cut_off_body()
        elif self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _settled(self, future: Future[Response]) -> None:
        """The future is done. If it was cancelled, the client has left, and the upstream need not go on."""
        if future.cancelled():
            self._cancel_alarm()
            if self._reading is not None:
                self._reading.cancel()
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    # Time.

    def _look(self) -> None:
        """The upstream has not responded for a second."""
        if self._connection is None or self.future.done():
            return
        self._begin_body()
        if self._request.half_closed:
            # A client that has closed its socket looks like one that has finished sending, until it is sent something;
            # an interim response is harmless to the latter (RFC 9110 §15.2) and answered with a reset by the former.
            self._request.inform(100)
        if self._connection is not None:
            self._alarm.advance(self._reactor.wheel, self._reactor.read_clock() + _LOOK_AFTER)

    def _cancel_alarm(self) -> None:
        self._reactor.wheel.cancel(self._alarm)

    # The body of the response, for `_PassedBody`.

    def next_piece(self, connection: UpstreamConnection) -> bytes | Future[bytes] | None:
        """Returns the next piece of the body, or a Future of it; None at the end.

        Raises:
            CutOff: the body cannot be completed; the log says why.
        """
        if self._is_over:
            return None
        if self._connection is not connection:  # it has failed, or was given up
            raise self._cut_off()
        try:
            piece = connection.read_body()
        except UpstreamFailure as failure:
            self._connection = None
            self._body_failure = failure
            raise self._cut_off() from None
        if piece:
            return piece
        if connection.parser.complete:
            self._is_over = True
            self._connection = None
            connection.release()
            return None
        future: LightFuture[bytes] = LightFuture()
        self._waiting = future
        connection.want_body()
        return future

    def body_arrived(self) -> None:
        """There is more of the body, or its end: what waits for that goes on."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or not waiting.set_running_or_notify_cancel():
            return
        try:
            assert self._connection is not None
            piece = self.next_piece(self._connection)
        except CutOff as error:
            waiting.set_exception(error)
            return
        if isinstance(piece, Future):  # what has come was framing
            piece.add_done_callback(partial(_pass_on, waiting))
        else:
            waiting.set_result(piece or b"")

    def _cut_off_body(self) -> None:
        """The connection is gone after the response has begun: what waits for the body is told now, or when it asks."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.set_running_or_notify_cancel():
            waiting.set_exception(self._cut_off())

    def _cut_off(self) -> CutOff:
        failure = self._body_failure
        if failure is not None:
            self._body_failure = None
            self._tried[-1].stats.failed += 1
            self._log(failure)
        return CutOff("the response of the upstream is incomplete")

    def close_body(self) -> None:
        """The response is sent, or given up: a connection that has not come to its end cannot be used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _PassedBody:
    """The body of a response, piece by piece as the client takes it."""

    def __init__(self, passed: PassedRequest, connection: UpstreamConnection, first: bytes) -> None:
        self._passed = passed
        self._connection = connection
        self._first = first

    def __iter__(self) -> Iterator[bytes | Future[bytes]]:
        return self

    def __next__(self) -> bytes | Future[bytes]:
        first, self._first = self._first, b""
        if first:
            return first
        piece = self._passed.next_piece(self._connection)
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        self._passed.close_body()


def _has_body(request: Request) -> bool:
    return request.flags & (CONTENT_LENGTH | TRANSFER_ENCODING) != 0 and request.content_length != 0


def _pass_on(waiting: LightFuture[bytes], done: Future[bytes]) -> None:
    """Completes `waiting` as `done` was."""
    error = done.exception()
    if error is None:
        waiting.set_result(done.result())
    else:
        waiting.set_exception(error)
