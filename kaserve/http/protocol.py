"""HTTPProtocol: one connection's conversation, from bytes to requests and from responses to bytes.

Knows the order of things: which phase follows which, and what each may do. Does not know sockets, time, or handlers;
where a message ends and whether the connection persists is decided in `framing`, and how bytes are read and written in
`wire`. The owner feeds it, asks it, and sends what it gets:

    receive(data) -> read_head() -> read_body() -> prepare(outgoing, response, ...) -> start(outgoing)
        -> outgoing.encode(piece) ... outgoing.end() -> finish()

Why the received bytes are one `bytes` object rather than a bytearray or a list of pieces: nearly always a request comes
in one piece, and then nothing is copied; the compiled parser reads it where the kernel put it. Only what is left of a
request that comes in several pieces is joined again.
"""

from __future__ import annotations

import logging

from .errors import PHRASES, HTTPError, body_too_large
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
from .incomplete_head import check_head_size, check_incomplete_head
from .keep_alive import KeepAlive
from .limits import Limits
from .memo import remember
from .messages import CLOSE, CONNECTION, CONTENT_LENGTH, DATE, HOP_BY_HOP, TRANSFER_ENCODING, Request, Response
from .outgoing import MAX_INLINE_BODY, Outgoing
from .phases import BODY, CLOSED, HANDLER, HEAD, IDLE, LINGER, SEND, Phase
from .sinks import Sink, Spool, deliver
from .target import resolve_target
from .wire import ChunkedDecoder, encode_head, find_head_end, join, parse_head

__all__ = ["CONTINUE", "HTTPProtocol"]

log = logging.getLogger("kaserve")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CR = 13
_CLOSE_LINES = b"Connection: close\r\n\r\n"


class HTTPProtocol:
    """One connection's conversation. The methods follow `phase`; each says in which phases it may be called.

    Malformed input raises HTTPError from `read_head` or `read_body`; the owner responds to it as to a request, after
    which nothing more is read.

    Attributes:
        phase: where the conversation is.
        request: the request that is being read or responded to; None when it could not be read, and while idle.
        outgoing: the response that is being sent.
        served: responses started on this connection.
        sink: where the body of the request goes; the owner may set it before the first `read_body`, else it is a Spool.
        ended: whether the client has closed its side: it will send nothing more.
    """

    __slots__ = (
        "_allowance",
        "_body_left",
        "_decoder",
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
        self._received = b""  # what was received and not yet read starts at _start
        self._start = 0
        self._scanned = 0  # up to here there is no end of a head
        self._decoder: ChunkedDecoder | None = None  # of a chunked body
        self._body_left = 0  # of a counted body: bytes still to come
        self._allowance = 0  # of a chunked body: bytes that may still come

    # Reading: IDLE, HEAD, BODY.

    def receive(self, data: bytes) -> None:
        """Takes what the client sent; empty when it will send nothing more."""
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
        """Whether there are bytes that were not read yet: more of a request, or the next ones of a pipeline."""
        return self._start < len(self._received)

    def read_head(self) -> Request | None:
        """IDLE, HEAD: the next request, once its head is here; then its body is due (BODY), or there is none (HANDLER).

        None: more bytes are needed, or none will come (CLOSED). Raises HTTPError.
        """
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
            raise HTTPError(431, "there are too many fields")
        resolve_target(request)
        framing = request_framing(request)
        check_expectation(request)
        if self._keep_alive.minor == 0:
            request.minor = 0  # a server of HTTP/1.0 treats every client as one of HTTP/1.0
        if framing == 0:
            self.phase = HANDLER
        else:
            self._await_body(request, framing)
        return request

    def _consume(self, position: int) -> None:
        """What stands before `position` has been read. Nothing is kept that was."""
        if position == len(self._received):
            self._received = b""
            position = 0
        self._start = self._scanned = position

    def _skip_empty_lines(self) -> bool:
        """Drops empty lines in front of a request line (RFC 9112 §2.2); whether there were any."""
        position = self._start
        while self._received.startswith(b"\r\n", position):
            position += 2
        if position == self._start:
            return False
        self._consume(position)
        return True

    def _await_head(self) -> None:
        """Checks the part of a head that is here: what can never become a good head is rejected now, not when the
        deadline has passed."""
        data, start = self._received, self._start
        if len(data) - start == 1 and data[start] == _CR and not self.ended:
            return  # half of an empty line
        self.phase = HEAD
        check_incomplete_head(data, start, self._scanned, self._limits)
        if self.ended:
            raise HTTPError(400, "the head is incomplete")
        self._scanned = max(start, len(data) - 3)

    def _await_body(self, request: Request, framing: int) -> None:
        if framing == CHUNKED:
            if request.flags & CONTENT_LENGTH:
                request.headers.remove("content-length")  # it means nothing (RFC 9112 §6.3); `flags` remembers it
            self._decoder = ChunkedDecoder(self._limits)
            self._allowance = self._limits.body
        elif framing > self._limits.body:
            raise body_too_large(self._limits.body)
        else:
            self._body_left = framing
        self.phase = BODY

    @property
    def must_continue(self) -> bool:
        """BODY: whether the client waits for `CONTINUE` before it sends the body, of which nothing has come yet."""
        assert self.request is not None
        return not self.has_received() and check_expectation(self.request)

    def read_body(self) -> bool:
        """BODY: hands on what has come of the body; True when that was all of it (HANDLER). Raises HTTPError."""
        assert self.request is not None
        if self.sink is None:
            self.sink = Spool()
        complete = self._read_counted(self.sink) if self._decoder is None else self._read_chunks(self.sink)
        if complete:
            deliver(self.sink, self.request)
            self.sink = self._decoder = None
            self.phase = HANDLER
        elif self.ended:
            raise HTTPError(400, "the body is incomplete")
        return complete

    def _read_counted(self, sink: Sink) -> bool:
        """Content-Length: as many bytes as were announced."""
        start = self._start
        stop = min(len(self._received), start + self._body_left)
        if stop > start:
            sink.write(self._received[start:stop])
            self._body_left -= stop - start
            self._consume(stop)
        return self._body_left == 0

    def _read_chunks(self, sink: Sink) -> bool:
        """Transfer-Encoding: chunk after chunk, up to the limit of any body, and then the trailers."""
        assert self.request is not None
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
        if decoder.done:
            self.request.trailers = allowed_trailers(decoder.trailers)
        return decoder.done

    # Responding: SEND.

    def prepare(self, outgoing: Outgoing, response: Response, date: bytes, may_persist: bool) -> None:
        """HEAD, BODY, HANDLER: frames `response` and decides whether the connection persists; changes nothing here.

        Args:
            outgoing: filled in, for `start`.
            response: what a handler returned, or an error.
            date: the Date field line.
            may_persist: False if the server has already decided to close the connection.

        Raises:
            ValueError, TypeError: the response cannot be sent as it is.
        """
        request = outgoing.request = self.request
        # An unreadable request that begins like HEAD must get no content either: its client would read it as the next
        # response.
        head_only = request.method == "HEAD" if request is not None else self._begins_with(b"HEAD ")
        sends_content = has_content(response.status, head_only)
        lines, flags = encode_head(response.fields)
        declared = flags & CONTENT_LENGTH != 0
        framing = response_framing(response, declared, sends_content, request is None or request.minor == 0)
        if flags & (CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING):
            lines = self._strip_hop_by_hop(response, lines, framing == CHUNKED and response.trailers is not None)
            if flags & CLOSE:
                may_persist = False
        status_line = self._status_line(response.status)
        remaining = self._keep_alive.requests - self.served - 1
        is_last = remaining <= 0 < self._keep_alive.requests
        # In the middle of a body (not HANDLER) the rest of it is not read, so the next request could not be found.
        may_persist = may_persist and not is_last and self.phase == HANDLER and self._keep_alive.enabled
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

    def start(self, outgoing: Outgoing) -> None:
        """HEAD, BODY, HANDLER: from now on `outgoing` is being sent (SEND), and nothing more of its request is read."""
        self.outgoing = outgoing
        self.served += 1
        self.phase = SEND
        if self.sink is not None:
            self._abandon_body()

    def _begins_with(self, text: bytes) -> bool:
        """Whether the bytes that were not read yet begin with `text`."""
        return self._received.startswith(text, self._start)

    def _strip_hop_by_hop(self, response: Response, lines: bytes, has_trailers: bool) -> bytes:
        """Returns the field lines without those that are not the handler's to set (RFC 9110 §7.6.1), which are logged;
        but with Trailer, which it may set if there will be trailers (§6.6.2)."""
        kept = strip_hop_by_hop(response.fields)
        announced = [line for line in response.fields if line[0].lower() == "trailer"] if has_trailers else []
        dropped = [line[0] for line in response.fields if line not in kept and line not in announced]
        if dropped:
            names = ", ".join(dropped)
            log.error("the response to %r has hop-by-hop headers, which are dropped: %s", self.request, names)
            lines = encode_head(kept)[0]
        return lines + b"".join([b"Trailer: %b\r\n" % value.encode("latin-1") for _, value in announced])

    def _status_line(self, status: int) -> bytes:
        """RFC 9112 §4. Raises ValueError for a status that no final response can have."""
        if not 200 <= status < 600:
            raise ValueError(f"the status of a response must be from 200 to 599, not {status!r}")
        lines = _status_lines[self._keep_alive.minor]
        return lines[status - 200]

    def finish(self) -> None:
        """SEND: the response is encoded to its end; the next request may come (IDLE), or must not (LINGER)."""
        assert self.outgoing is not None
        goes_on = self.outgoing.persists
        self._release()
        if goes_on:
            self.phase = IDLE
        else:
            self.phase = LINGER
            self._consume(len(self._received))  # nothing gets a response after a close

    def close_idle(self) -> None:
        """IDLE: no further request will be read (LINGER)."""
        self.phase = LINGER

    def close(self) -> None:
        """Any phase: the connection is gone (CLOSED)."""
        self._abandon_body()
        self._release()
        self._consume(len(self._received))
        self.phase = CLOSED

    def _release(self) -> None:
        """Drops the request and its response: an idle connection holds nothing of them."""
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


# What is written into heads again and again, ready-made.
_status_lines: list[list[bytes]] = [
    [b"HTTP/1.%d %d %b\r\n" % (minor, status, PHRASES.get(status, "").encode("ascii")) for status in range(200, 600)]
    for minor in (0, 1)
]
_framing_lines: dict[int, bytes] = {CHUNKED: b"Transfer-Encoding: chunked\r\n", UNTIL_CLOSE: b"", NO_LENGTH: b""}
_short_length_lines: list[bytes] = [b"Content-Length: %d\r\n" % length for length in range(1024)]
_length_lines: dict[int, bytes] = {}
_MAX_REMEMBERED = 4096


def _framing_line(framing: int) -> bytes:
    """Returns the header line that tells the client how to find the end of the body, as `response_framing` says."""
    if 0 <= framing < len(_short_length_lines):
        return _short_length_lines[framing]
    if framing < 0:
        return _framing_lines[framing]
    line = _length_lines.get(framing)
    if line is None:
        line = b"Content-Length: %d\r\n" % framing
        remember(_length_lines, framing, line, _MAX_REMEMBERED)
    return line
