"""The contract of `wire`, in Python.

Knows syntax and nothing else. It is fast because persistent connections repeat themselves: the same field lines are
received and sent again and again, so each is checked once and then kept in a memo. The memos are bounded, and hold only
lines that passed the check.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import HTTPError
from .grammar import (
    CHUNK_SIZE_LINE,
    CHUNK_SIZE_LINE_START,
    FIELD_LINE,
    FIELD_NAME,
    FIELD_VALUE,
    LONE_LINE_END,
    OWS,
    REQUEST_LINE,
)
from .headers import (
    CLOSE,
    CONNECTION,
    CONTENT_LENGTH,
    DUPLICATE_HOST,
    FLAGS,
    HOP_BY_HOP,
    HOST,
    KEEP_ALIVE,
    TRANSFER_ENCODING,
    FieldLine,
)
from .limits import Limits
from .memo import remember
from .messages import Request

__all__ = ["ChunkedDecoder", "encode_head", "find_head_end", "join", "parse_head"]

# The limits of the memos: enough for the field lines of many different clients, at most about a megabyte.
_MAX_LINES = 1024
_MAX_LINE_SIZE = 512

_received: dict[bytes, tuple[FieldLine, int]] = {}
_sent: dict[FieldLine, tuple[bytes, int]] = {}


def find_head_end(data: bytes, start: int) -> int:
    """See `wire`."""
    return data.find(b"\r\n\r\n", start)


def parse_head(data: bytes, start: int, end: int) -> Request:
    """See `wire`."""
    lines = data[start:end].split(b"\r\n")
    match = REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise HTTPError(400, "the request line is malformed")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise HTTPError(505, "this server speaks HTTP/1.0 and HTTP/1.1 only")
    fields = []
    flags = 0
    host = ""
    for line in lines[1:-1]:
        known = _received.get(line)
        field, flag = _parse_field_line(line) if known is None else known
        fields.append(field)
        if flag:
            if flag == HOST:
                if flags & HOST:
                    flag = DUPLICATE_HOST
                else:
                    host = field[1]
            flags |= flag
    return Request(method.decode("ascii"), target.decode("ascii"), 0 if minor == b"0" else 1, fields, flags, host)


def _parse_field_line(line: bytes) -> tuple[FieldLine, int]:
    """Parses a field line into the field and its bits. Raises HTTPError 400 (RFC 9112 §5.1, §5.2)."""
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        if line[:1] in (b" ", b"\t"):
            raise HTTPError(400, "a field line is folded")
        raise HTTPError(400, "a field line is malformed")
    name = match[1].lower().decode("ascii")
    value = match[2].strip(OWS).decode("latin-1")
    parsed = (name, value), _flag(name, value)
    if len(line) <= _MAX_LINE_SIZE:
        remember(_received, line, parsed, _MAX_LINES)
    return parsed


def _flag(name: str, value: str) -> int:
    """Returns the bits of a field (see `headers.FLAGS`). Its name is in lower case."""
    flag = FLAGS.get(name, 0)
    if flag == CONNECTION:
        options = [option.strip(" \t").lower() for option in value.split(",")]  # RFC 9110 §7.6.1
        if "close" in options:
            flag |= CLOSE
        if "keep-alive" in options:
            flag |= KEEP_ALIVE
    return flag


def encode_head(fields: Sequence[FieldLine]) -> tuple[bytes, int]:
    """See `wire`."""
    lines = []
    flags = 0
    for field in fields:
        known = _sent.get(field)
        line, flag = _encode_field_line(field) if known is None else known
        lines.append(line)
        flags |= flag
    return b"".join(lines), flags


def _encode_field_line(field: object) -> tuple[bytes, int]:
    """Encodes a field into its line and its bits. The line is empty if the protocol writes this field itself.

    Raises TypeError if `field`, which may be anything, is not a pair of str, and ValueError for a bad name or value.
    """
    match field:
        case tuple((str(name), str(value))):
            pass
        case _:
            raise TypeError(f"not a pair of str: {field!r}")
    try:
        raw_name, raw_value = name.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"a field is not Latin-1: {field!r}") from None
    if FIELD_NAME.fullmatch(raw_name) is None:
        raise ValueError(f"not a field name: {name!r}")
    if FIELD_VALUE.fullmatch(raw_value) is None:
        raise ValueError(f"not a field value: {field!r}")
    flag = _flag(name.lower(), value)
    is_own = flag & (CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | HOP_BY_HOP)
    encoded = b"" if is_own else b"%b: %b\r\n" % (raw_name, raw_value.strip(OWS)), flag
    if len(name) + len(value) <= _MAX_LINE_SIZE:
        remember(_sent, (name, value), encoded, _MAX_LINES)
    return encoded


def join(pieces: Sequence[bytes]) -> bytes:
    """See `wire`."""
    return b"".join(pieces)


class ChunkedDecoder:
    """See `wire`. Between two calls it holds at most one incomplete line."""

    __slots__ = ("_extra", "_held", "_limits", "_read_line", "content", "done", "missing", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._extra = 0  # bytes of extensions and trailers so far
        self._held = b""
        self._read_line = ChunkedDecoder._read_size  # not bound to self: that would be a reference cycle
        self.content: list[bytes] = []
        self.missing = 0
        self.trailers: list[FieldLine] = []
        self.done = False

    def feed(self, data: bytes, start: int) -> int:
        """See `wire`."""
        position = start
        shift = 0  # what to add to an index of `data` to get the caller's, once held bytes are in front
        if self._held:
            data = self._held + data[start:]
            position, shift = 0, start - len(self._held)
            self._held = b""
        while not self.done:
            if self.missing:
                position = self._read_content(data, position)
                if self.missing:
                    break
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._hold(data[position:], start - shift - position)
                position = len(data)
                break
            self._read_line(self, data, position, line_end)
            position = line_end + 2
        return position + shift

    def _read_content(self, data: bytes, position: int) -> int:
        """Adds as much of the chunk as has arrived to the content, and returns the index after it."""
        piece = data[position : position + self.missing]
        if piece:
            self.content.append(piece)
            self.missing -= len(piece)
        return position + len(piece)

    def _read_size(self, data: bytes, start: int, end: int) -> None:
        """Reads chunk-size [ chunk-ext ], which starts a chunk or, if it is 0, the trailers."""
        match = CHUNK_SIZE_LINE.fullmatch(data, start, end) if end - start <= self._limits.chunk_line else None
        if match is None:
            raise HTTPError(400, "a chunk size is malformed")
        self._extra += end - match.end(1)
        if self._extra > self._limits.head:
            raise HTTPError(400, "there are too many chunk extensions")
        self.missing = int(match[1], 16)
        self._read_line = ChunkedDecoder._read_chunk_end if self.missing else ChunkedDecoder._read_trailer

    def _read_chunk_end(self, data: bytes, start: int, end: int) -> None:
        """Reads the CRLF that must follow the last byte of a chunk."""
        if start != end:
            raise HTTPError(400, "a chunk is longer than its size")
        self._read_line = ChunkedDecoder._read_size

    def _read_trailer(self, data: bytes, start: int, end: int) -> None:
        """Reads a trailer field, or the empty line that ends the body (RFC 9112 §7.1.2)."""
        if start == end:
            self.done = True
            return
        if end - start > self._limits.field_size or len(self.trailers) >= self._limits.fields:
            raise HTTPError(431, "the trailers are too large")
        self._extra += end - start
        if self._extra > self._limits.head:
            raise HTTPError(431, "the trailers are too large")
        field, _ = _parse_field_line(data[start:end])
        self.trailers.append(field)

    def _hold(self, rest: bytes, checked: int) -> None:
        """Keeps the start of a line for the next call, or raises HTTPError if it cannot become a valid line.

        `checked` is how many bytes of it were held before: without it, a line that arrives byte by byte would be
        searched from its start each time.
        """
        if self._read_line is ChunkedDecoder._read_chunk_end and rest not in (b"", b"\r"):
            raise HTTPError(400, "a chunk is longer than its size")
        if LONE_LINE_END.search(rest, max(0, checked - 1)) is not None:
            raise HTTPError(400, "a line of the chunked body ends without CRLF")
        if self._read_line is ChunkedDecoder._read_trailer:
            if len(rest) > self._limits.field_size + 1:  # 1: its CR
                raise HTTPError(431, "the trailers are too large")
        elif len(rest) > self._limits.chunk_line + 1 or not self._may_become_size(rest):
            raise HTTPError(400, "a chunk size is malformed")
        self._held = rest

    def _may_become_size(self, rest: bytes) -> bool:
        """Returns whether `rest` may be the start of a chunk-size line; True if the next line is another one."""
        return self._read_line is not ChunkedDecoder._read_size or CHUNK_SIZE_LINE_START.fullmatch(rest) is not None
