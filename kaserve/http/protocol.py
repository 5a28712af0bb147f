"""HTTPProtocol: one connection's conversation, from bytes to requests and from responses to bytes.

Knows which phase follows which, and what may happen in each. Does not know sockets, time, or handlers. Where a message
ends and whether the connection persists is decided in `framing`; how bytes are parsed and encoded, in `wire`. Its owner
passes on what it receives and sends what it gets, in this order:

    receive(data) -> read_head() -> read_body() -> prepare(outgoing, response, ...) -> start(outgoing)
        -> outgoing.encode(piece) ... outgoing.end() -> finish()

After a 101 comes `begin_tunnel()` instead of `finish()`. Then what was received is not read here any more, but taken
(`take_received`).

A body that the handler reads while it arrives (`body_stream`) takes another way. After `read_head` comes `begin_stream`
instead of `read_body`, and the conversation is in HANDLER, and later in SEND, while `read_stream` passes on what has
arrived. Its sink is there for as long as the body is incomplete, and all of this state is that sink's: `sink` is None
in HANDLER and SEND for all other requests. What the handler has left unread is skipped before the head of the next
request, in IDLE, as empty lines are.

The received bytes are one `bytes` object, rather than a bytearray or a list of pieces: nearly every request arrives in
one piece, and then nothing is copied; the compiled parser reads it where the kernel put it. When a request arrives in
several pieces, its unread part is copied to join the next piece. The limits keep that part small.
"""

from __future__ import annotations

import logging

from .body_stream import BodyStream
from .errors import PHRASES, HTTPError, body_too_large
from .file_span import FileSpan
from .framing import (
    CHUNKED,
    NO_LENGTH,
    UNTIL_CLOSE,
    allowed_trailers,
    check_expectation,
    has_content,
    persists,
    request_framing,
    response_framing,
    strip_hop_by_hop,
)
from .grammar import REASON_PHRASE
from .headers import CLOSE, CONNECTION, CONTENT_LENGTH, DATE, HOP_BY_HOP, TRANSFER_ENCODING, FieldLine
from .incomplete_head import check_head_size, check_incomplete_head
from .keep_alive import KeepAlive
from .limits import Limits
from .memo import remember
from .messages import Request, Response
from .outgoing import MAX_INLINE_BODY, Outgoing
from .phases import BODY, CLOSED, HANDLER, HEAD, IDLE, LINGER, SEND, TUNNEL, Phase
from .sinks import MAX_SKIPPED, DrainSink, Sink, Spool, deliver
from .target import resolve_target
from .tunnel import TunnelBody
from .wire import ChunkedDecoder, encode_head, find_head_end, join, parse_head

__all__ = ["CONTINUE", "HTTPProtocol"]

log = logging.getLogger("kaserve")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CR = 13
_CLOSE_LINES = b"Connection: close\r\n\r\n"
_BEFORE_REASON = len(b"HTTP/1.1 200 ")


class HTTPProtocol:
    """The HTTP conversation on one connection. Each method says in which phases it may be called.

    `read_head` and `read_body` raise HTTPError for malformed input. The owner sends it as the response, and nothing
    more is read after that.

    Attributes:
        phase: how far the conversation has come.
        request: the request that is being read or responded to; None when it could not be read, and while idle.
        outgoing: the response that is being sent.
        served: responses started on this connection.
        sink: receives the body of the request, and is there while that is incomplete. The owner may set it before the
            first `read_body`; otherwise it is a Spool. In IDLE it receives what a handler has left of a streamed body.
        ended: whether the client has closed its side, so that nothing more will come.
    """

    __slots__ = (
        "_allowance",
        "_body_left",
        "_decoder",
        "_empty_lines_left",
        "_keep_alive",
        "_limits",
        "_received",
        "_scanned",
        "_start",
        "ended",
        "outgoing",
        "phase",
        "request",
        "served",
        "sink",
    )

    def __init__(self, limits: Limits, keep_alive: KeepAlive) -> None:
        """Starts a conversation. Both arguments are shared by all connections of a server."""
        self._limits = limits
        self._keep_alive = keep_alive
        self.phase: Phase = IDLE
        self.request: Request | None = None
        self.outgoing: Outgoing | None = None
        self.served = 0
        self.sink: Sink | None = None
        self.ended = False
        self._received = b""  # what was received and not read yet starts at _start
        self._start = 0
        self._scanned = 0  # up to here there is no end of the head
        self._decoder: ChunkedDecoder | None = None  # for a chunked body
        self._body_left = 0  # bytes of a body with Content-Length that are still to come
        self._allowance = 0  # bytes of a chunked body that may still come
        self._empty_lines_left: int = limits.empty_lines  # before the next request

    # Reading: IDLE, HEAD, BODY.

    def receive(self, data: bytes) -> None:
        """Any phase: accepts what the client has sent; b"" if it will send nothing more."""
        if not data:
            self.ended = True
        elif self._start == len(self._received):
            self._received = data
            self._start = self._scanned = 0
        else:
            self._received = self._received[self._start :] + data
            self._scanned -= self._start
            self._start = 0

    def has_received(self) -> bool:
        """Returns whether there are unread bytes: the rest of a request, or the next requests of a pipeline."""
        return self._start < len(self._received)

    def read_head(self) -> Request | None:
        """IDLE, HEAD: reads the head of the next request. Then its body is due (BODY), or it has none (HANDLER).

        Returns:
            The request; None if more bytes are needed (HEAD, or still IDLE), or none will come (CLOSED), or the rest of
            the body before it is too large to be skipped (LINGER).

        Raises:
            HTTPError: the request is malformed or exceeds a limit.
        """
        if self.sink is not None and not self._skip_body():
            return None
        data = self._received
        if not data:
            if self.ended:
                self.phase = CLOSED
            return None
        end = find_head_end(data, self._scanned)
        if end <= self._start or data[self._start] == _CR:
            if self._skip_empty_lines():
                return self.read_head()
            self._await_head()
            return None
        self.phase = HEAD
        if end - self._start > self._limits.unchecked:
            check_head_size(data[self._start : end], self._limits)
        request = self.request = parse_head(data, self._start, end + 2)
        self._consume(end + 4)
        if request.field_count > self._limits.fields:
            raise HTTPError(431, "there are too many headers")
        resolve_target(request)
        framing = request_framing(request)
        check_expectation(request)
        if self._keep_alive.minor == 0:
            request.minor = 0  # a server that is set to speak HTTP/1.0 treats every client as one of HTTP/1.0
        if framing == 0:
            self.phase = HANDLER
        else:
            self._await_body(request, framing)
        return request

    def _consume(self, position: int) -> None:
        """Marks everything before `position` as read. If that is all, the bytes are released."""
        if position == len(self._received):
            self._received = b""
            position = 0
        self._start = self._scanned = position

    def _skip_empty_lines(self) -> bool:
        """Skips empty lines before a request line (RFC 9112 §2.2). Returns True if there were any. Raises HTTPError 400
        for too many: they are no request, and reading them has no other limit."""
        position = self._start
        while self._received.startswith(b"\r\n", position):
            position += 2
            self._empty_lines_left -= 1
            if self._empty_lines_left < 0:
                self.phase = HEAD
                raise HTTPError(400, "there are too many empty lines in front of a request")
        if position == self._start:
            return False
        self._consume(position)
        return True

    def _await_head(self) -> None:
        """Checks an incomplete head: bytes that can never become a valid one are rejected now, rather than when the
        deadline has passed."""
        data, start = self._received, self._start
        if len(data) - start == 1 and data[start] == _CR and not self.ended:
            return  # perhaps the first half of an empty line
        self.phase = HEAD
        check_incomplete_head(data, start, self._scanned, self._limits)
        if self.ended:
            raise HTTPError(400, "the head is incomplete")
        self._scanned = max(start, len(data) - 3)

    def _await_body(self, request: Request, framing: int) -> None:
        if framing == CHUNKED:
            if request.flags & CONTENT_LENGTH:
                request.headers.pop("content-length", None)  # overridden (RFC 9112 §6.3); `flags` still has its bit
            self._decoder = ChunkedDecoder(self._limits)
            self._allowance = self._limits.body
        elif framing > self._limits.body:
            raise body_too_large(self._limits.body)
        else:
            self._body_left = framing
        self.phase = BODY

    @property
    def must_continue(self) -> bool:
        """BODY: whether the client waits for `CONTINUE` before it sends the body. Not if it has begun to send it."""
        assert self.request is not None
        return not self.has_received() and check_expectation(self.request)

    def read_body(self) -> bool:
        """BODY: passes what has arrived of the body to the sink.

        Returns:
            True if the body is complete (HANDLER).

        Raises:
            HTTPError: the body is malformed, exceeds a limit, or will never be complete; or the sink raises it.
        """
        assert self.request is not None
        if self.sink is None:
            self.sink = Spool()
        complete = self._read_on(self.sink)
        if complete:
            deliver(self.sink, self.request)
            self.sink = None
            self.phase = HANDLER
        return complete

    def begin_stream(self) -> None:
        """BODY: lets the handler read the body while it arrives (HANDLER). `sink` is a BodyStream."""
        self.phase = HANDLER
        self.read_stream()

    def read_stream(self) -> None:
        """HANDLER, SEND: passes what has arrived of a streamed body to its stream, if that is incomplete. A fault in
        it is raised where the handler reads, since the handler may have begun to respond."""
        stream = self.sink
        if not isinstance(stream, BodyStream) or stream.failure is not None:
            return
        assert self.request is not None
        try:
            if self._read_on(stream):
                deliver(stream, self.request)
                self.sink = None
        except HTTPError as error:
            stream.fail(error)
        stream.wake()

    def fail_stream(self, error: HTTPError) -> None:
        """Any phase: has reads of a streamed body raise `error`, if it is incomplete."""
        if isinstance(self.sink, BodyStream):
            self.sink.fail(error)
            self.sink.wake()

    def is_body_wanted(self) -> bool:
        """Any phase: whether a handler waits for bytes of a streamed body."""
        return isinstance(self.sink, BodyStream) and self.sink.is_waiting

    def _skip_body(self) -> bool:
        """IDLE: skips the rest of a body to which there has been a response. Returns True at its end. Otherwise more is
        needed, or there is no more (CLOSED), or it is too large or malformed (LINGER): there is no response to that,
        since a client would take it for the one to its next request."""
        assert self.sink is not None
        try:
            if self._read_on(self.sink):
                self.sink = None
                return True
        except HTTPError:
            self.phase = CLOSED if self.ended else LINGER
            self._abandon_body()
            self._consume(len(self._received))
        return False

    def _read_on(self, sink: Sink) -> bool:
        """Passes what has arrived of the body to `sink`. Returns True if it is complete. Raises HTTPError if it is
        malformed or will never be complete, or the sink raises it."""
        if self._read_counted(sink) if self._decoder is None else self._read_chunks(sink):
            self._decoder = None
            return True
        if self.ended:
            raise HTTPError(400, "the body is incomplete")
        return False

    def _read_counted(self, sink: Sink) -> bool:
        """Reads a body with Content-Length. Returns True if it is complete."""
        start = self._start
        stop = min(len(self._received), start + self._body_left)
        if stop > start:
            sink.write(self._received[start:stop])
            self._body_left -= stop - start
            self._consume(stop)
        return self._body_left == 0

    def _read_chunks(self, sink: Sink) -> bool:
        """Reads a chunked body, and the trailers after it. Returns True if it is complete."""
        assert self._decoder is not None
        decoder = self._decoder
        stop = decoder.feed(self._received, self._start)
        for piece in decoder.content:
            self._allowance -= len(piece)
            if self._allowance >= 0:
                sink.write(piece)
        decoder.content.clear()
        if self._allowance < decoder.missing:
            raise body_too_large(self._limits.body)
        self._consume(stop)
        if decoder.done and self.request is not None:
            self.request.trailers = allowed_trailers(decoder.trailers)
        return decoder.done

    # Responding: SEND.

    def prepare(self, outgoing: Outgoing, response: Response, date: bytes, may_persist: bool) -> None:
        """HEAD, BODY, HANDLER: encodes the head of `response`, and decides how its body ends and whether the connection
        persists. Changes nothing but `outgoing`, so that another response can be prepared if this one fails.

        Args:
            outgoing: its attributes are set, for `start`.
            response: what a handler returned, or an error.
            date: the Date field line.
            may_persist: False if the owner wants to close the connection, whatever the request and the response say.

        Raises:
            ValueError, TypeError: the response cannot be sent, because of a status or a header, for instance.
        """
        request = outgoing.request = self.request
        if response.status == 101:
            self._prepare_upgrade(outgoing, response)
            return
        # An unreadable request that begins like HEAD must get no content either: its client would take the content for
        # the next response.
        head_only = request.method == "HEAD" if request is not None else self._begins_with(b"HEAD ")
        sends_content = has_content(response.status, head_only)
        lines, flags = encode_head(response.fields)
        declared = flags & CONTENT_LENGTH != 0
        framing = response_framing(response, declared, sends_content, request is None or request.minor == 0)
        if flags & (CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING):
            lines = self._strip_hop_by_hop(response, lines, framing == CHUNKED and response.trailers is not None)
        status_line = self._status_line(response.status)
        if response.reason is not None:
            status_line = _with_reason(status_line, response.reason)
        remaining = self._keep_alive.requests - self.served - 1
        outgoing.is_limit = remaining <= 0 < self._keep_alive.requests
        # Everything that can end the connection comes together here; `persists` has what the RFC says about messages.
        # A response before the body has been read (not HANDLER) is the last one: the rest of the body is not read, so
        # the beginning of the next request cannot be found. CLOSE is the handler's wish.
        may_persist = (
            may_persist
            and not outgoing.is_limit
            and self.phase == HANDLER
            and (self.sink is None or self.can_find_next(response, sends_content))
            and self._keep_alive.enabled
            and not flags & CLOSE
        )
        body = response.body
        outgoing.framing = framing
        outgoing.left = max(framing, 0)
        outgoing.has_content = sends_content
        outgoing.is_inline = sends_content and framing <= MAX_INLINE_BODY and isinstance(body, bytes)
        outgoing.trailers = response.trailers if framing == CHUNKED else None
        outgoing.persists = persists(request, framing, may_persist)
        outgoing.head = join(
            (
                status_line,
                b"" if flags & DATE else date,
                lines,
                _framing_line(framing),
                self._keep_alive.lines(max(remaining, 0)) if outgoing.persists else _CLOSE_LINES,
                body if outgoing.is_inline and isinstance(body, bytes) else b"",
            )
        )

    def _prepare_upgrade(self, outgoing: Outgoing, response: Response) -> None:
        """HANDLER: as `prepare`, for a 101. It has no content, and says nothing about another request.

        The request must be complete, since what comes after it belongs to the new protocol (RFC 9110 §7.8). If its
        client has sent `Expect: 100-continue`, the 100 must come before the 101 (same section). Whether it was sent for
        the body is not remembered; a client has to accept several (§15.2), so it is sent here in any case.
        """
        request = self.request
        if request is None or self.phase != HANDLER or self.sink is not None:
            raise ValueError("a 101 can only be sent when the request has been received completely")
        if not isinstance(response.body, TunnelBody) or response.body.is_used:
            raise ValueError("a status must be from 200 to 599, not 101; Response.upgrade makes those, once")
        upgrade = ", ".join(value for name, value in response.fields if name.lower() == "upgrade")
        if not set(request.upgrades).issuperset(protocol.strip(" \t").lower() for protocol in upgrade.split(",")):
            raise ValueError(f"the client has not asked to switch to {upgrade!r}")
        encode_head(response.fields)  # checks them all, and writes only those that are not the protocol's own
        lines = encode_head(strip_hop_by_hop(response.fields))[0]
        reason = PHRASES[101] if response.reason is None else response.reason
        outgoing.framing = NO_LENGTH
        outgoing.left = 0
        outgoing.has_content = outgoing.is_inline = outgoing.is_limit = False
        outgoing.trailers = None
        outgoing.persists = True
        outgoing.head = join(
            (
                CONTINUE if check_expectation(request) else b"",
                _with_reason(b"HTTP/1.1 101 \r\n", reason),
                lines,
                b"Upgrade: %b\r\nConnection: upgrade\r\n\r\n" % upgrade.encode("latin-1"),
            )
        )

    def encode_interim(self, response: Response) -> bytes:
        """Any phase: returns an informational response, which has no content (RFC 9110 §15.2); b"" where none may be
        sent. It says nothing about the connection.

        Raises:
            ValueError, TypeError: it cannot be sent, because of its status or a header.
        """
        status, request = response.status, self.request
        if not 100 <= status < 200 or status == 101:
            raise ValueError(f"the status of an informational response must be from 100 to 199, not {status!r}")
        lines = encode_head(strip_hop_by_hop(response.fields))[0]
        if request is None or request.minor == 0 or self.phase not in (BODY, HANDLER):
            return b""
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, PHRASES.get(status, "").encode("ascii"), lines)

    def start(self, outgoing: Outgoing) -> None:
        """HEAD, BODY, HANDLER: begins to send `outgoing` (SEND). No more of its request is read."""
        self.outgoing = outgoing
        self.served += 1
        if self.sink is not None and self.phase != HANDLER:
            self._abandon_body()
        self.phase = SEND

    def can_find_next(self, response: Response | None, sends_content: bool) -> bool:
        """HANDLER, SEND: whether the next request can be found after a streamed body that is incomplete.

        Args:
            response: the response to the request; None once it is complete.
            sends_content: whether its content is sent.
        """
        stream = self.sink
        if not isinstance(stream, BodyStream) or stream.failure is not None or self.ended:
            return False
        if response is not None and sends_content and not isinstance(response.body, (bytes, FileSpan, list, tuple)):
            return True  # what makes the response piece by piece may read on meanwhile
        if stream.awaits_continue:
            # RFC 9110 §10.1.1: the client may send the body or not, now that it has a final response, and nothing would
            # tell a body from the next request.
            return False
        return self._decoder is not None or self._body_left <= MAX_SKIPPED

    def _begins_with(self, text: bytes) -> bool:
        """Returns whether the unread bytes begin with `text`."""
        return self._received.startswith(text, self._start)

    def _strip_hop_by_hop(self, response: Response, lines: bytes, has_trailers: bool) -> bytes:
        """Returns the encoded headers without the hop-by-hop ones, which the handler must not set (RFC 9110 §7.6.1) and
        which are logged. Trailer stays if there will be trailers (§6.6.2), and Upgrade in a 426."""
        kept = strip_hop_by_hop(response.fields)
        announced = [("Trailer", value) for value in response.headers.get_all("trailer")] if has_trailers else []
        if response.status == 426 and "Upgrade" in response.headers:  # which it must have (RFC 9110 §15.5.22)
            announced += [("Upgrade", value) for value in response.headers.get_all("upgrade")]
            announced.append(("Connection", "upgrade"))
        dropped = [line[0] for line in response.fields if line not in kept and not _is_in(line, announced)]
        if dropped:
            names = ", ".join(dropped)
            log.error("the response to %r has hop-by-hop headers, which are dropped: %s", self.request, names)
            lines = encode_head(kept)[0]
        return lines + b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in announced])

    def _status_line(self, status: int) -> bytes:
        """Returns the status line (RFC 9112 §4). Raises ValueError if `status` is not that of a final response."""
        if not 200 <= status < 600:
            raise ValueError(f"the status of a response must be from 200 to 599, not {status!r}")
        lines = _status_lines[self._keep_alive.minor]
        return lines[status - 200]

    def finish(self) -> None:
        """SEND: ends the response. The next request may come (IDLE), if the connection persists; else LINGER."""
        assert self.outgoing is not None
        goes_on = self.outgoing.persists
        if self.sink is not None:
            goes_on = self._end_stream(goes_on)
        self._release()
        if goes_on:
            self.phase = IDLE
            self._empty_lines_left = self._limits.empty_lines
        else:
            self.phase = LINGER
            self._consume(len(self._received))  # requests after the last response are not read (RFC 9112 §9.6)

    def begin_tunnel(self) -> None:
        """SEND: the 101 is encoded; what follows is not HTTP (TUNNEL). The request stays, for the log."""
        self.outgoing = None
        self.phase = TUNNEL

    def take_received(self) -> bytes:
        """TUNNEL: returns the unread bytes, which are the caller's from now on."""
        data = self._received[self._start :]
        self._consume(len(self._received))
        return data

    def _end_stream(self, may_persist: bool) -> bool:
        """Ends the reading of a streamed body before its end. Returns True if the rest is to be skipped."""
        assert isinstance(self.sink, BodyStream)
        skips = may_persist and self.can_find_next(None, False)
        self.sink.close()
        if skips:
            self.sink = DrainSink(MAX_SKIPPED)
        else:
            self.sink = self._decoder = None
        return skips

    def close_idle(self) -> None:
        """IDLE, TUNNEL: stops reading (LINGER)."""
        self.phase = LINGER

    def close(self) -> None:
        """Any phase: releases everything (CLOSED)."""
        self._abandon_body()
        self._release()
        self._consume(len(self._received))
        self.phase = CLOSED

    def _release(self) -> None:
        """Releases the request and its response: an idle connection keeps neither."""
        self.outgoing = None
        request, self.request = self.request, None
        if request is not None:
            request.close()

    def _abandon_body(self) -> None:
        """Stops reading the body of the request, if it is still arriving."""
        self._decoder = None
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.abandon()


# Lines that most heads have, encoded in advance.
_status_lines: list[list[bytes]] = [
    [b"HTTP/1.%d %d %b\r\n" % (minor, status, PHRASES.get(status, "").encode("ascii")) for status in range(200, 600)]
    for minor in (0, 1)
]
_framing_lines: dict[int, bytes] = {CHUNKED: b"Transfer-Encoding: chunked\r\n", UNTIL_CLOSE: b"", NO_LENGTH: b""}
_short_length_lines: list[bytes] = [b"Content-Length: %d\r\n" % length for length in range(1024)]
_length_lines: dict[int, bytes] = {}
_MAX_REMEMBERED = 4096


def _with_reason(status_line: bytes, reason: str) -> bytes:
    """Returns `status_line` with the handler's reason phrase (RFC 9112 §4).

    Raises:
        TypeError, ValueError: `reason` is not one, such as a text with a line end.
    """
    if not isinstance(reason, str):
        raise TypeError(f"a reason phrase must be a str, not {reason!r}")
    try:
        phrase = reason.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"a reason phrase must be Latin-1, not {reason!r}") from None
    if REASON_PHRASE.fullmatch(phrase) is None:
        raise ValueError(f"a reason phrase must not contain control characters: {reason!r}")
    return b"%b%b\r\n" % (status_line[:_BEFORE_REASON], phrase)


def _is_in(line: FieldLine, lines: list[FieldLine]) -> bool:
    """Returns whether `line` is among `lines`, in whatever case."""
    return (line[0].lower(), line[1].lower()) in [(name.lower(), value.lower()) for name, value in lines]


def _framing_line(framing: int) -> bytes:
    """Returns the header line for `framing`, by which the client finds the end of the body."""
    if 0 <= framing < len(_short_length_lines):
        return _short_length_lines[framing]
    if framing < 0:
        return _framing_lines[framing]
    line = _length_lines.get(framing)
    if line is None:
        line = b"Content-Length: %d\r\n" % framing
        remember(_length_lines, framing, line, _MAX_REMEMBERED)
    return line
