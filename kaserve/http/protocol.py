"""HTTPProtocol: one connection's conversation, from bytes to requests and from responses to bytes.

Knows the order of things: which phase follows which, and what each may do. Does not know sockets, time, or handlers;
where a message ends and whether the connection goes on is decided in `framing`, how bytes are read and written in
`wire`. The owner feeds it, asks it, and sends what it is given:

    receive(data) -> read_head() -> read_body() -> respond(response, ...) -> encode_body(piece) ... -> finish()
"""

from __future__ import annotations

import logging

from .errors import PHRASES, HTTPError
from .framing import (
    CHUNKED,
    NO_LENGTH,
    UNTIL_CLOSE,
    allowed_trailers,
    check_expectation,
    has_body,
    persists,
    request_body,
    response_body,
    strip_hop_by_hop,
)
from .grammar import LONE_LINE_END, REQUEST_LINE_START
from .limits import Limits
from .messages import (
    CLOSE,
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    HOP_BY_HOP,
    TRANSFER_ENCODING,
    FieldLine,
    Request,
    Response,
    Trailers,
)
from .phases import BODY, CLOSED, HANDLER, HEAD, IDLE, LINGER, SEND, Phase
from .sinks import Sink, Spool, deliver
from .target import resolve_target
from .wire import ChunkedDecoder, encode_head, find_head_end, join, parse_head

__all__ = ["CONTINUE", "MAX_INLINE_BODY", "HTTPProtocol", "KeepAlive", "Phase"]

log = logging.getLogger("kaserve")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_INLINE_BODY = (
    16 * 1024
)  # bytes of a body that are copied behind the head; to copy more costs more than to send twice


_CR = 13
_CLOSE_LINES = b"Connection: close\r\n\r\n"


class KeepAlive:
    """What all connections of a server announce and count by. While it runs, `enabled` and `requests` may be changed,
    and the timeout by `announce`.

    timeout: seconds without a request that a client is promised. announced: the same as the whole number that is said,
    rounded down, but not to 0, which clients take for "closed already". requests: how many one connection takes, 0 for
    any number. minor: that of the highest version the server speaks. enabled: False makes every answer say
    `Connection: close`.
    """

    __slots__ = ("_lines", "_memory", "announced", "enabled", "minor", "requests", "timeout")

    def __init__(self, timeout: float, requests: int, minor: int = 1) -> None:
        self._memory: dict[int, dict[int, bytes]] = {}
        self.announce(timeout)
        self.requests = requests
        self.minor = minor
        self.enabled = timeout > 0

    def announce(self, timeout: float) -> None:
        """Promises another number of seconds from now on. Those of before may come again, and their lines are kept."""
        self.timeout = timeout
        self.announced = max(1, int(timeout))
        self._lines = self._memory.setdefault(self.announced, {})

    def lines(self, remaining: int) -> bytes:
        """That another request is welcome, for how long, and how many more unless there is no limit (RFC 9112 §9.3);
        then the empty line. Every connection counts down the same figures, so these lines are remembered."""
        lines = self._lines.get(remaining)
        if lines is None:
            most = b", max=%d" % remaining if remaining > 0 else b""
            lines = b"Connection: keep-alive\r\nKeep-Alive: timeout=%d%b\r\n\r\n" % (self.announced, most)
            _remember(self._lines, remaining, lines)
        return lines


class HTTPProtocol:
    """One connection. The methods follow `phase`; each says in which one it may be called.

    Malformed input raises HTTPError from `read_head` or `read_body`; the owner answers it with `respond`, after which
    nothing more is read.
    """

    __slots__ = (
        "_decoder",
        "_keep_alive",
        "_limits",
        "_persists",
        "_received",
        "_scanned",
        "_start",
        "_trailers",
        "body_left",
        "ended",
        "phase",
        "request",
        "sends_body",
        "served",
        "sink",
    )

    def __init__(self, limits: Limits, keep_alive: KeepAlive) -> None:
        self._limits = limits
        self._keep_alive = keep_alive
        self.phase: Phase = IDLE
        self.request: Request | None = None  # the one being read or answered
        self.served = 0  # requests answered on this connection
        self.sink: Sink | None = (
            None  # where the body goes; a Spool unless the owner puts another here before read_body
        )
        self.ended = False  # the client will send nothing more
        self._received = b""  # what was received and not yet read starts at _start
        self._start = 0
        self._scanned = 0  # up to here there is no end of a head
        self._decoder: ChunkedDecoder | None = None
        self.body_left = 0  # bytes of a body that may still come, or must still be sent; or a mark of `framing`
        self.sends_body = False  # whether the answer being sent has content
        self._trailers: Trailers = None  # what is to follow it
        self._persists = True

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

    @property
    def has_received(self) -> bool:
        """Whether there are bytes not read yet: more of a request, or the next ones of a pipeline."""
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
        size = end - self._start
        if size > self._limits.unchecked:
            self._check_lines(data[self._start : end])
        request = self.request = parse_head(data, self._start, end + 2)
        self._consume(end + 4)
        if request.field_count > self._limits.fields:
            raise HTTPError(431, "there are too many fields")
        resolve_target(request)
        length = request_body(request)
        check_expectation(request)
        if self._keep_alive.minor == 0:
            request.minor = 0  # a server of HTTP/1.0 takes everybody for one of its kind
        if length == 0:
            self.phase = HANDLER
        else:
            self._await_body(request, length)
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
        """Looks at a head that is not complete: what can never become one is refused now, not at the deadline."""
        data, start = self._received, self._start
        if len(data) - start == 1 and data[start] == _CR and not self.ended:
            return  # half of an empty line
        self.phase = HEAD
        line_end = data.find(b"\r\n", start)
        if line_end < 0:
            if REQUEST_LINE_START.fullmatch(data, start) is None:
                raise HTTPError(400, "the request line is malformed")
            if len(data) - start > self._limits.request_line + 1:  # 1: its CR
                raise HTTPError(414, "the request line is too long")
        else:
            if line_end >= self._scanned:
                self._check_lines(data[start:line_end])
                parse_head(data, start, line_end + 2)  # the request line alone: refused whatever will follow it
            if len(data) - data.rfind(b"\r\n") > self._limits.field_size + 3:  # 3: a line end, and another CR
                raise HTTPError(431, "a field line is too long")
        if LONE_LINE_END.search(data, max(start, self._scanned - 1)) is not None:
            raise HTTPError(400, "a line of the head ends without CRLF, or has a NUL")
        if len(data) - start > self._limits.head + 3:
            raise HTTPError(431, "the head is too large")
        if self.ended:
            raise HTTPError(400, "the head is incomplete")
        self._scanned = max(start, len(data) - 3)

    def _check_lines(self, head: bytes) -> None:
        """The limits of a head, complete or not, that is long enough to exceed one."""
        lines = head.split(b"\r\n")
        if len(lines[0]) > self._limits.request_line:
            raise HTTPError(414, "the request line is too long")
        if max(map(len, lines[1:]), default=0) > self._limits.field_size:
            raise HTTPError(431, "a field line is too long")
        if len(head) > self._limits.head:
            raise HTTPError(431, "the head is too large")

    def _await_body(self, request: Request, length: int) -> None:
        if length == CHUNKED:
            if request.flags & CONTENT_LENGTH:
                request.headers.remove("content-length")  # it means nothing (RFC 9112 §6.3); `flags` remembers it
            self._decoder = ChunkedDecoder(self._limits)
            self.body_left = self._limits.body
        elif length > self._limits.body:
            raise HTTPError(413, "the body is too large")
        else:
            self.body_left = length
        self.phase = BODY

    @property
    def must_continue(self) -> bool:
        """BODY: whether the client waits for `CONTINUE` before it sends the body, of which nothing has come yet."""
        assert self.request is not None
        return not self.has_received and check_expectation(self.request)

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
        stop = min(len(self._received), start + self.body_left)
        if stop > start:
            sink.write(self._received[start:stop])
            self.body_left -= stop - start
            self._consume(stop)
        return self.body_left == 0

    def _read_chunks(self, sink: Sink) -> bool:
        """Transfer-Encoding: chunk after chunk, up to the limit of any body, and then the trailers."""
        assert self.request is not None
        assert self._decoder is not None
        decoder = self._decoder
        stop = decoder.feed(self._received, self._start)
        for piece in decoder.content:
            self.body_left -= len(piece)
            if self.body_left >= 0:
                sink.write(piece)
        decoder.content.clear()
        if self.body_left < decoder.missing:
            raise HTTPError(413, "the body is too large")
        self._consume(stop)
        if decoder.done:
            self.request.trailers = allowed_trailers(decoder.trailers)
        return decoder.done

    # Answering: SEND.

    def respond(self, response: Response, date: bytes, wanted: bool) -> bytes:
        """HEAD, BODY, HANDLER: the head of the answer (SEND), and with it a body of up to `MAX_INLINE_BODY` bytes.

        When `sends_body`, any other goes through `encode_body`.

        date: the Date field line. wanted: nobody but this request speaks against another one on this connection.
        Raises ValueError, and changes nothing, when the response cannot be sent as it is.
        """
        request = self.request
        if request is None and self._received.startswith(b"HEAD ", self._start):
            request = Request("HEAD", "", 0, [], 0)  # unreadable, but that it wants no content is plain
        lines, flags = encode_head(response.fields)
        length = response_body(request, response, flags & CONTENT_LENGTH != 0)
        if length == CHUNKED:
            self._trailers = response.trailers
        if flags & (CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING):
            lines = self._leave_out(response, lines, length == CHUNKED and response.trailers is not None)
        status_line = self._status_line(response.status)
        if flags & CLOSE:
            wanted = False
        remaining = self._keep_alive.requests - self.served - 1
        last = remaining <= 0 < self._keep_alive.requests
        if last or self.phase != HANDLER:  # a body that nobody reads is not read at all
            wanted = False
        self._persists = persists(request, length, wanted and self._keep_alive.enabled)
        self.served += 1
        self.phase = SEND
        if self.sink is not None:
            self._abandon_body()
        self.sends_body = has_body(request, response.status)
        self.body_left = length
        body = response.body
        return join(
            (
                status_line,
                b"" if flags & DATE else date,
                lines,
                _length_line(length),
                self._keep_alive.lines(max(remaining, 0)) if self._persists else _CLOSE_LINES,
                body if isinstance(body, bytes) and self.sends_body and length <= MAX_INLINE_BODY else b"",
            )
        )

    def _leave_out(self, response: Response, lines: bytes, has_trailers: bool) -> bytes:
        """The field lines without those that are not the handler's to set, which is told to the log; and with Trailer,
        which it may set where there will be some (RFC 9110 §6.6.2)."""
        kept = strip_hop_by_hop(response.fields)
        announced = [line for line in response.fields if line[0].lower() == "trailer"] if has_trailers else []
        left_out = [line[0] for line in response.fields if line not in kept and line not in announced]
        if left_out:
            names = ", ".join(left_out)
            log.error("the answer to %r has fields of one hop, which are left out: %s", self.request, names)
            lines = encode_head(kept)[0]
        return lines + b"".join([b"Trailer: %b\r\n" % value.encode("latin-1") for _, value in announced])

    def _status_line(self, status: int) -> bytes:
        """RFC 9112 §4. Raises ValueError for a status that is not for a final answer."""
        if not 200 <= status < 600:
            raise ValueError(f"not the status of an answer: {status!r}")
        lines = _status_lines[self._keep_alive.minor]
        return lines[status - 200]

    def encode_body(self, piece: bytes) -> bytes:
        """SEND: the next piece, never empty, as it goes on the wire; what exceeds a counted body is cut off."""
        if self.body_left == CHUNKED:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        if self.body_left >= 0:
            piece = piece[: self.body_left]
            self.body_left -= len(piece)
        return piece

    def chunk_frame(self, size: int) -> tuple[bytes, bytes]:
        """SEND: what stands on the wire around a piece of `size` bytes that is sent past `encode_body`."""
        if self.body_left == CHUNKED:
            return b"%x\r\n" % size, b"\r\n"
        if self.body_left >= 0:
            self.body_left -= size
        return b"", b""

    def end_body(self) -> bytes:
        """SEND: what goes on the wire behind the last piece. Raises ValueError when a counted body is too short."""
        if self.body_left == CHUNKED:
            trailers, self._trailers = self._trailers, None
            return b"0\r\n\r\n" if trailers is None else b"0\r\n%b\r\n" % self._encode_trailers(trailers)
        if self.body_left > 0:
            raise ValueError(f"the body is {self.body_left} bytes shorter than its Content-Length")
        return b""

    def _encode_trailers(self, trailers: Trailers) -> bytes:
        """The trailer section, without those that may not stand there or cannot be sent: what is wrong with them is
        told to the log, and harms no content."""
        try:
            fields = trailers() if callable(trailers) else trailers
            fields = list(fields.items() if isinstance(fields, dict) else fields or ())
        except Exception:
            log.exception("the trailers of the answer to %r could not be had", self.request)
            return b""
        return b"".join(map(self._encode_trailer, fields))

    def _encode_trailer(self, field: FieldLine) -> bytes:
        try:
            line: bytes = encode_head([field])[0]
            if allowed_trailers([field]):
                return line
        except (TypeError, ValueError):
            pass
        log.error("the answer to %r has a trailer that cannot be sent: %r", self.request, field)
        return b""

    def finish(self) -> None:
        """SEND: the answer is on its way; the next request is welcome (IDLE) or not (LINGER)."""
        if self.request is not None:
            self.request.close()
            self.request = None
        if self._persists:
            self.phase = IDLE
        else:
            self.phase = LINGER
            self._consume(len(self._received))  # nothing is answered after a close

    def part(self) -> None:
        """IDLE: no further request will be read (LINGER)."""
        self.phase = LINGER

    def close(self) -> None:
        """Any phase: the connection is gone (CLOSED)."""
        self._abandon_body()
        if self.request is not None:
            self.request.close()
            self.request = None
        self._consume(len(self._received))
        self.phase = CLOSED

    def _abandon_body(self) -> None:
        """The body of the request, should it still be arriving, will not be read to its end."""
        self._decoder = None
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.abandon()


# What is written into heads again and again, ready-made.
_status_lines: list[list[bytes]] = [
    [b"HTTP/1.%d %d %b\r\n" % (minor, status, PHRASES.get(status, "").encode("ascii")) for status in range(200, 600)]
    for minor in (0, 1)
]
_length_lines: dict[int, bytes] = {CHUNKED: b"Transfer-Encoding: chunked\r\n", UNTIL_CLOSE: b"", NO_LENGTH: b""}
_short_length_lines: list[bytes] = [b"Content-Length: %d\r\n" % length for length in range(1024)]
_MAX_REMEMBERED = 4096


def _length_line(length: int) -> bytes:
    """How the end of the body is found: the framing field for a length of `framing.response_body`."""
    if 0 <= length < len(_short_length_lines):
        return _short_length_lines[length]
    line = _length_lines.get(length)
    if line is None:
        line = b"Content-Length: %d\r\n" % length
        _remember(_length_lines, length, line)
    return line


def _remember(lines: dict[int, bytes], number: int, line: bytes) -> None:
    """Once there are very many they are not coming again."""
    if len(lines) < _MAX_REMEMBERED:
        lines[number] = line
