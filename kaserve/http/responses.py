"""HTTP/1.1 response parser, for clients.

Knows the status line (RFC 9112 §4), where a response ends (§6.3), and whether another request may follow (§9.3). Does
not know sockets. Field lines and chunks are parsed by `wire`, as strictly as those of a request. The server itself does
not need this module; `kaserve.probe` does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .errors import HTTPError
from .framing import CHUNKED, UNTIL_CLOSE
from .grammar import DIGITS, LONE_LINE_END, STATUS_LINE, TOKEN_TEXT
from .headers import CLOSE, CONTENT_LENGTH, KEEP_ALIVE, TRANSFER_ENCODING, FieldLine, Headers
from .limits import Limits
from .wire import ChunkedDecoder, parse_head

__all__ = [
    "TUNNEL",
    "BadResponse",
    "ReceivedResponse",
    "ResponseHead",
    "ResponseReader",
    "parse_response_head",
    "response_length",
    "response_persists",
]

TUNNEL = -4  # like CHUNKED and UNTIL_CLOSE of `framing`: the bytes that follow are not a message

# `parse_head` needs a request line in front; the field lines after it are the same in both directions.
_ANY_REQUEST_LINE = b"GET / HTTP/1.1\r\n"
_PREFIX = b"HTTP/"


class BadResponse(ValueError):
    """The bytes are not a response, or its end cannot be found. The text is one line."""


@dataclass(frozen=True)
class ResponseHead:
    """The head of a response.

    Attributes:
        status: 000 to 999; the parser does not judge it.
        reason: the reason phrase, perhaps empty.
        minor: 0 for HTTP/1.0, otherwise 1.
        fields: pairs of name and value, names in lower case.
        flags: the bits of `headers.FLAGS`, CLOSE and KEEP_ALIVE.
    """

    status: int
    reason: str
    minor: int
    fields: list[FieldLine]
    flags: int

    @property
    def headers(self) -> Headers:
        return Headers.view(self.fields)


def parse_response_head(head: bytes) -> ResponseHead:
    """Parses a complete head. A later minor version counts as 1 (RFC 9110 §2.5).

    Args:
        head: from the first byte of the status line to the CRLF of the last field line inclusive.

    Raises:
        BadResponse: the status line or a field line is malformed, or the major version is not 1.
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


def response_length(method: str, head: ResponseHead) -> int:
    """Returns the length of the body after `head`: bytes, `CHUNKED`, `UNTIL_CLOSE` or `TUNNEL` (RFC 9112 §6.3).

    Args:
        method: that of the request, which decides as well.
        head: the head of the response to it.

    Raises:
        BadResponse: two readers could disagree about the length.
    """
    # The steps are numbered as in §6.3.
    # Step 1: the fields of these responses describe the content that a GET would get, or nothing.
    if method == "HEAD" or 100 <= head.status < 200 or head.status in (204, 304):
        return 0
    if method == "CONNECT" and 200 <= head.status < 300:
        return TUNNEL  # Step 2.
    if head.flags & TRANSFER_ENCODING:
        # Step 3: it wins over Content-Length; `response_persists` is false then. Step 4: unless chunked is the final
        # coding, the body ends when the connection closes.
        return CHUNKED if _last_coding(head) == "chunked" else UNTIL_CLOSE
    if head.flags & CONTENT_LENGTH:
        lengths = head.headers.get_all("content-length")
        if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1")) is None or len(lengths[0]) > 19:
            raise BadResponse("Content-Length is not one number")  # Step 5.
        return int(lengths[0])  # Step 6.
    return UNTIL_CLOSE  # Step 8; step 7 is about requests.


def _last_coding(head: ResponseHead) -> str:
    """Returns the final transfer coding. Raises BadResponse for a malformed list or chunked twice (RFC 9112 §6.1)."""
    values = head.headers.get_all("transfer-encoding")
    codings = [coding.strip(" \t").lower() for value in values for coding in value.split(",")]
    # The grammar allows parameters, although no coding of today has one.
    names = [coding.partition(";")[0].rstrip(" \t") for coding in codings]
    if any(TOKEN_TEXT.fullmatch(name) is None for name in names) or names.count("chunked") > 1:
        raise BadResponse("Transfer-Encoding is malformed")
    return names[-1]


def response_persists(method: str, head: ResponseHead) -> bool:
    """Returns whether another request may follow, as far as this response says (RFC 9112 §9.3)."""
    if response_length(method, head) in (UNTIL_CLOSE, TUNNEL) or head.flags & CLOSE:
        return False
    if head.flags & TRANSFER_ENCODING and (head.flags & CONTENT_LENGTH or head.minor == 0):
        return False  # §6.1: ambiguous framing; the next response might begin elsewhere than we think
    return head.minor > 0 or head.flags & KEEP_ALIVE != 0


@dataclass(frozen=True)
class ReceivedResponse:
    """A complete response.

    Attributes:
        head: its head.
        body: its content, without the chunked coding.
        persists: whether another request may follow on this connection.
        trailers: pairs of name and value, names in lower case.
        interim: the heads of the 1xx responses that came before it.
    """

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
    """Reads the responses of one connection: bytes in, responses out, in the order of the requests."""

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits`: its `head` and `body` bound what is kept in memory. None for the defaults of a server."""
        self._limits = limits or Limits()
        self._methods: deque[str] = deque()
        self._received = b""
        self._ended = False
        self._head: ResponseHead | None = None
        self._interim: list[ResponseHead] = []
        self._decoder: ChunkedDecoder | None = None

    @property
    def pending(self) -> int:
        """The number of requests without a complete response so far."""
        return len(self._methods)

    @property
    def unread(self) -> bytes:
        """The bytes that were received and belong to no response that was read."""
        return self._received

    def expect(self, method: str) -> None:
        """Records that a request with `method` was sent."""
        self._methods.append(method)

    def receive(self, data: bytes) -> None:
        """Adds bytes that were received; b"" when the server has closed its side."""
        self._received += data
        self._ended = self._ended or not data

    def read(self) -> ReceivedResponse | None:
        """Returns the next response, or None while it is incomplete or no request is pending.

        Raises:
            BadResponse: nothing more can be read afterwards.
        """
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
        """Reads the next head into `_head`; False while it is incomplete."""
        end = self._received.find(b"\r\n\r\n", 0, self._limits.head + 4)
        if end >= 0:
            self._head = parse_response_head(self._received[: end + 2])
            self._received = self._received[end + 4 :]
            return True
        if self._received[: len(_PREFIX)] != _PREFIX[: len(self._received)]:
            raise BadResponse("what came is not HTTP")
        if LONE_LINE_END.search(self._received) is not None:
            raise BadResponse("a line of the head ends without CRLF")
        if len(self._received) > self._limits.head:
            raise BadResponse("the head is too large")
        if self._ended:
            raise BadResponse("the connection ended within the head" if self._received else "no response came")
        return False

    def _read_body(self, method: str, head: ResponseHead) -> ReceivedResponse | None:
        """Reads the body after `head`; None while it is incomplete."""
        length = response_length(method, head)
        if length > self._limits.body or len(self._received) > self._limits.body + self._limits.head:
            raise BadResponse("the body is too large")
        if length == CHUNKED:
            return self._read_chunks(method, head)
        if head.status == 101 or length == TUNNEL:
            length = 0  # the bytes that follow are of another protocol
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

    def _read_chunks(self, method: str, head: ResponseHead) -> ReceivedResponse | None:
        """Reads a chunked body; None while it is incomplete."""
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

    def _complete(self, method: str, head: ResponseHead, body: bytes, trailers: list[FieldLine]) -> ReceivedResponse:
        """Makes the response, and gets ready for the next one."""
        self._methods.popleft()
        interim, self._interim, self._head = self._interim, [], None
        persists = head.status != 101 and response_persists(method, head)
        return ReceivedResponse(head, body, persists, trailers, interim)
