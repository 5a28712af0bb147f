"""The contract of `wire` in Python.

Speed comes from the habit of persistent connections to repeat themselves: the same field lines arrive and leave again
and again, so each is checked once and then remembered. The memories are bounded, and hold only what passed the check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .errors import HTTPError
from .grammar import CHUNK_SIZE_LINE, FIELD_LINE, FIELD_NAME, FIELD_VALUE, LONE_LINE_END, OWS, REQUEST_LINE
from .limits import Limits
from .messages import (
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
    Request,
)

__all__ = ["ChunkedDecoder", "encode_head", "find_head_end", "join", "parse_head"]

# Bounds of the memories: enough for the fields of many different clients, at most about a megabyte.
_MAX_LINES = 1024
_LONGEST_LINE = 512

K = TypeVar("K")
V = TypeVar("V")

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
        raise HTTPError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
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
    """The field of `line` and the bit of its name. Raises HTTPError 400 (RFC 9112 §5.1, §5.2)."""
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        if line[:1] in (b" ", b"\t"):
            raise HTTPError(400, "a field line is folded")
        raise HTTPError(400, "a field line is malformed")
    name = match[1].lower().decode("ascii")
    value = match[2].strip(OWS).decode("latin-1")
    parsed = (name, value), _flag(name, value)
    _remember(_received, line, parsed, len(line))
    return parsed


def _flag(name: str, value: str) -> int:
    """The bits that the field sets; the name is in lower case."""
    flag = FLAGS.get(name, 0)
    if flag == CONNECTION:
        options = [option.strip(" \t").lower() for option in value.split(",")]  # RFC 9110 §7.6.1
        if "close" in options:
            flag |= CLOSE
        if "keep-alive" in options:
            flag |= KEEP_ALIVE
    return flag


def encode_head(status: int, fields: Sequence[FieldLine]) -> tuple[bytes, int]:
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
    """The line of `field`, empty when it is the protocol's own, and the bit of its name. Raises ValueError.

    field: may be anything; TypeError for what is not a FieldLine.
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
    ours = flag & (CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | HOP_BY_HOP)
    encoded = b"" if ours else b"%b: %b\r\n" % (raw_name, raw_value.strip(OWS)), flag
    _remember(_sent, (name, value), encoded, len(name) + len(value))
    return encoded


def join(pieces: Sequence[bytes]) -> bytes:
    """See `wire`."""
    return b"".join(pieces)


def _remember(memory: dict[K, V], key: K, value: V, size: int) -> None:
    """Keeps `value` unless it is large; a full memory starts anew, which costs less than any bookkeeping."""
    if size <= _LONGEST_LINE:
        if len(memory) >= _MAX_LINES:
            memory.clear()
        memory[key] = value


class ChunkedDecoder:
    """See `wire`. Between two calls it holds at most one line that has not come to its end."""

    __slots__ = ("_extra", "_held", "_limits", "_read_line", "content", "done", "missing", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._extra = 0  # bytes of extensions and trailers so far
        self._held = b""
        self._read_line = ChunkedDecoder._read_size  # not bound to self, which would make a cycle
        self.content: list[bytes] = []
        self.missing = 0
        self.trailers: list[FieldLine] = []
        self.done = False

    def feed(self, data: bytes, start: int) -> int:
        """See `wire`."""
        position = start
        shift = 0  # how far the indices of `data` are from the caller's, once held bytes stand in front
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
        """As much of the chunk as has come; the index behind it."""
        piece = data[position : position + self.missing]
        if piece:
            self.content.append(piece)
            self.missing -= len(piece)
        return position + len(piece)

    def _read_size(self, data: bytes, start: int, end: int) -> None:
        """chunk-size [ chunk-ext ], which starts a chunk or, being 0, the trailers."""
        match = CHUNK_SIZE_LINE.fullmatch(data, start, end) if end - start <= self._limits.chunk_line else None
        if match is None:
            raise HTTPError(400, "a chunk size is malformed")
        self._extra += end - match.end(1)
        if self._extra > self._limits.head:
            raise HTTPError(400, "there are too many chunk extensions")
        self.missing = int(match[1], 16)
        self._read_line = ChunkedDecoder._read_chunk_end if self.missing else ChunkedDecoder._read_trailer

    def _read_chunk_end(self, data: bytes, start: int, end: int) -> None:
        """The CRLF that must follow the last byte of a chunk at once."""
        if start != end:
            raise HTTPError(400, "a chunk is longer than its size")
        self._read_line = ChunkedDecoder._read_size

    def _read_trailer(self, data: bytes, start: int, end: int) -> None:
        """A trailer field, or the empty line that ends the body (RFC 9112 §7.1.2)."""
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

    def _hold(self, rest: bytes, seen: int) -> None:
        """Keeps the start of a line for the next call, unless no end could make it a good one.

        seen: how many bytes of it were held before, and need no second look.
        """
        if self._read_line is ChunkedDecoder._read_chunk_end and rest not in (b"", b"\r"):
            raise HTTPError(400, "a chunk is longer than its size")
        if LONE_LINE_END.search(rest, max(0, seen - 1)) is not None:
            raise HTTPError(400, "a line of the chunked body ends without CRLF")
        if self._read_line is ChunkedDecoder._read_trailer:
            if len(rest) > self._limits.field_size + 1:  # 1: its CR
                raise HTTPError(431, "the trailers are too large")
        elif len(rest) > self._limits.chunk_line + 1:
            raise HTTPError(400, "a chunk size is malformed")
        self._held = rest
