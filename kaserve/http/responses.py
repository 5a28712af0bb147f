"""The other direction: the answers of a server, as a client must read them.

Knows the status line (RFC 9112 §4), where an answer ends for the one who asked (§6.3) and whether another request may
follow (§9.3). Its syntax is the server's own: field lines and chunks are read by the two implementations behind
`wire`, as strictly as those of a request. The server does not need this module; `kaserve.probe` does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .errors import HTTPError
from .framing import CHUNKED, UNTIL_CLOSE
from .grammar import DIGITS, LONE_LINE_END, STATUS_LINE, TOKEN
from .limits import Limits
from .messages import CLOSE, CONTENT_LENGTH, KEEP_ALIVE, TRANSFER_ENCODING, FieldLine, Headers
from .wire import ChunkedDecoder, parse_head

__all__ = [
    "TUNNEL",
    "Answer",
    "BadResponse",
    "ResponseHead",
    "ResponseReader",
    "answer_length",
    "answer_persists",
    "parse_response_head",
]

TUNNEL = -4  # beside the marks of `framing`: what follows is no message at all

# The parser of heads wants a request line; the field lines behind it are the same in both directions.
_ANY_REQUEST_LINE = b"GET / HTTP/1.1\r\n"
_START = b"HTTP/"


class BadResponse(ValueError):
    """An answer that is not one, or whose end cannot be found; its text is one line."""


@dataclass(frozen=True)
class ResponseHead:
    """The head of an answer. fields: pairs, names in lower case. flags: the bits of `messages.FLAGS`."""

    status: int
    reason: str
    minor: int
    fields: list[FieldLine]
    flags: int

    @property
    def headers(self) -> Headers:
        return Headers(self.fields)


def parse_response_head(head: bytes) -> ResponseHead:
    """Reads a complete head, from the first byte of the status line to the CRLF of the last field line inclusive.

    Raises BadResponse for what is not a status line or a field line, and for a major version other than 1. A later
    minor version counts as 1 (RFC 9110 §2.5).
    """
    line, _, rest = head.partition(b"\r\n")
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("the status line is malformed")
    major, minor, status, reason = match.groups()
    if major != b"1":
        raise BadResponse("the version is not HTTP/1")
    try:
        request = parse_head(_ANY_REQUEST_LINE + rest, 0, len(_ANY_REQUEST_LINE) + len(rest))
    except HTTPError as error:
        raise BadResponse(error.reason) from None
    return ResponseHead(int(status), reason.decode("latin-1"), 0 if minor == b"0" else 1, request.fields, request.flags)


def answer_length(method: str, head: ResponseHead) -> int:
    """The length of the body behind `head`, the answer to `method` (RFC 9112 §6.3, whose steps are numbered here).

    A count, `CHUNKED`, `UNTIL_CLOSE` or `TUNNEL`. Raises BadResponse where two readers could disagree.
    """
    # Step 1, where the fields say what another answer would have had.
    if method == "HEAD" or 100 <= head.status < 200 or head.status in (204, 304):
        return 0
    if method == "CONNECT" and 200 <= head.status < 300:
        return TUNNEL  # Step 2.
    if head.flags & TRANSFER_ENCODING:
        # Step 3: it wins over Content-Length; `answer_persists` ends the connection then. Step 4: unless chunked is
        # the final coding, only the close tells the end.
        return CHUNKED if _last_coding(head) == "chunked" else UNTIL_CLOSE
    if head.flags & CONTENT_LENGTH:
        lengths = head.headers.get_all("content-length")
        if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1")) is None or len(lengths[0]) > 19:
            raise BadResponse("Content-Length is not one number")  # Step 5.
        return int(lengths[0])  # Step 6.
    return UNTIL_CLOSE  # Step 8; step 7 is about requests.


def _last_coding(head: ResponseHead) -> str:
    """The final transfer coding. Raises BadResponse for a list that is none, or with chunked twice (RFC 9112 §6.1)."""
    values = head.headers.get_all("transfer-encoding")
    codings = [coding.strip(" \t").lower() for value in values for coding in value.split(",")]
    # A parameter is grammar, though no coding of today has one.
    names = [coding.partition(";")[0].rstrip(" \t") for coding in codings]
    if any(TOKEN.fullmatch(name.encode("latin-1")) is None for name in names) or names.count("chunked") > 1:
        raise BadResponse("Transfer-Encoding is malformed")
    return names[-1]


def answer_persists(method: str, head: ResponseHead) -> bool:
    """Whether another request may follow, as far as this answer says (RFC 9112 §9.3)."""
    if answer_length(method, head) in (UNTIL_CLOSE, TUNNEL) or head.flags & CLOSE:
        return False
    if head.flags & TRANSFER_ENCODING and (head.flags & CONTENT_LENGTH or head.minor == 0):
        return False  # §6.1: faulty framing; whoever comes next could read something else than was meant
    return head.minor > 0 or head.flags & KEEP_ALIVE != 0


@dataclass(frozen=True)
class Answer:
    """An answer that is complete. interim: the heads with 1xx that came before."""

    head: ResponseHead
    body: bytes = b""
    persists: bool = True
    trailers: list[FieldLine] = field(default_factory=list)
    interim: list[ResponseHead] = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Headers:
        return self.head.headers


class ResponseReader:
    """The answers on one connection: bytes in, answers out, in the order of the requests.

    Bounded by `limits` as a server is: its `head` and its `body`.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._methods: deque[str] = deque()
        self._received = b""
        self._ended = False
        self._head: ResponseHead | None = None
        self._interim: list[ResponseHead] = []
        self._decoder: ChunkedDecoder | None = None

    @property
    def awaited(self) -> int:
        """Requests without an answer so far."""
        return len(self._methods)

    @property
    def unread(self) -> bytes:
        """What has come and belongs to no answer that was read."""
        return self._received

    def expect(self, method: str) -> None:
        """A request with `method` has been sent."""
        self._methods.append(method)

    def receive(self, data: bytes) -> None:
        """data: b"" when the server has closed its side."""
        self._received += data
        self._ended = self._ended or not data

    def read(self) -> Answer | None:
        """The next answer, None as long as it is not complete. Raises BadResponse, after which nothing can be read."""
        while self._methods:
            if self._head is None and not self._read_head():
                return None
            assert self._head is not None
            if 100 <= self._head.status < 200 and self._head.status != 101:
                self._interim.append(self._head)
                self._head = None
                continue
            return self._read_body(self._methods[0], self._head)
        return None

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n", 0, self._limits.head + 4)
        if end >= 0:
            self._head = parse_response_head(self._received[: end + 2])
            self._received = self._received[end + 4 :]
            return True
        if self._received[: len(_START)] != _START[: len(self._received)]:
            raise BadResponse("what came is not HTTP")
        if LONE_LINE_END.search(self._received) is not None:
            raise BadResponse("a line of the head ends without CRLF")
        if len(self._received) > self._limits.head:
            raise BadResponse("the head is too large")
        if self._ended:
            raise BadResponse("the connection ended within the head" if self._received else "no answer came")
        return False

    def _read_body(self, method: str, head: ResponseHead) -> Answer | None:
        length = answer_length(method, head)
        if length > self._limits.body or len(self._received) > self._limits.body + self._limits.head:
            raise BadResponse("the body is too large")
        if length == CHUNKED:
            return self._read_chunks(method, head)
        if head.status == 101 or length == TUNNEL:
            length = 0  # what follows is not ours to read
        elif length == UNTIL_CLOSE:
            if not self._ended:
                return None
            length = len(self._received)
        if len(self._received) < length:
            if self._ended:
                raise BadResponse("the connection ended within the body")
            return None
        body, self._received = self._received[:length], self._received[length:]
        return self._complete(method, head, body, [])

    def _read_chunks(self, method: str, head: ResponseHead) -> Answer | None:
        if self._decoder is None:
            self._decoder = ChunkedDecoder(self._limits)
        decoder = self._decoder
        try:
            self._received = self._received[decoder.feed(self._received, 0) :]
        except HTTPError as error:
            raise BadResponse(error.reason) from None
        if sum(map(len, decoder.content)) > self._limits.body:
            raise BadResponse("the body is too large")
        if not decoder.done:
            if self._ended:
                raise BadResponse("the connection ended within the body")
            return None
        self._decoder = None
        return self._complete(method, head, b"".join(decoder.content), list(decoder.trailers))

    def _complete(self, method: str, head: ResponseHead, body: bytes, trailers: list[FieldLine]) -> Answer:
        self._methods.popleft()
        interim, self._interim, self._head = self._interim, [], None
        persists = head.status != 101 and answer_persists(method, head)
        return Answer(head, body, persists, trailers, interim)
