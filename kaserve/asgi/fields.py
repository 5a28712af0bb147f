"""The headers of an application's response: from ASGI's pairs of bytes to field lines.

Knows the forms that the specification allows, and which headers are the server's own. Does not know how a response is
sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..http.framing import strip_hop_by_hop
from ..http.headers import CONNECTION, CONTENT_LENGTH, FLAGS, HOP_BY_HOP, TRANSFER_ENCODING, FieldLine
from ..http.memo import remember

__all__ = ["ResponseFields", "decode_fields", "new_fields"]

# What a field name means here.
_OTHER = 0
_LENGTH = 1
_ONE_HOP = 2  # the server's own (RFC 9110 §7.6.1)

_OWN = CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING
_CLOSE = ("Connection", "close")

# Bounded memos. An application sends the same few headers again and again, and the encoder of responses knows a pair
# that it has seen before, as an object.
_MAX_REMEMBERED = 1024
_MAX_SIZE = 128  # bytes of a value
_lines: dict[tuple[bytes, bytes], FieldLine] = {}
_kinds: dict[bytes, int] = {}
# Those whose values hardly ever come again.
_UNIQUE = frozenset(
    {b"content-length", b"set-cookie", b"etag", b"last-modified", b"date", b"location", b"x-request-id"}
)


class ResponseFields:
    """The headers of one response.

    Attributes:
        lines: the field lines, without Content-Length.
        length: the field line of Content-Length; None without one. It is apart from the others, since mostly the
            server's own is the same, and the application's need not be sent.
    """

    __slots__ = ("length", "lines")

    def _fill(self, headers: Iterable[Any]) -> None:
        """Sets the attributes, in place of an `__init__` (see `new_fields`)."""
        self.length: FieldLine | None = None
        self.lines: list[FieldLine] = []
        lines = self.lines
        is_own = False
        for pair in headers:
            name, value = pair
            if type(name) is not bytes or type(value) is not bytes:
                name, value = _to_bytes(name), _to_bytes(value)
            known = _kinds.get(name)
            kind = _classify(name) if known is None else known
            if kind == _OTHER:
                lines.append(_line(name, value))
            elif kind == _LENGTH and self.length is None:
                self.length = _line(name, value)
            else:  # a second Content-Length goes on to the protocol, which rejects it
                lines.append(_line(name, value))
                is_own = is_own or kind == _ONE_HOP
        if is_own:
            self.lines = _without_hop_by_hop(lines)

    @property
    def all_lines(self) -> list[FieldLine]:
        """All field lines."""
        return self.lines if self.length is None else [*self.lines, self.length]


def new_fields(headers: Iterable[Any]) -> ResponseFields:
    """Returns the headers of an `http.response.start`, decoded.

    Raises:
        TypeError, ValueError: they are not pairs of bytes.
    """
    fields = ResponseFields.__new__(ResponseFields)
    fields._fill(headers)
    return fields


def decode_fields(headers: Iterable[Any]) -> list[FieldLine]:
    """Returns pairs of bytes as field lines, for trailers and informational responses."""
    return [_line(_to_bytes(name), _to_bytes(value)) for name, value in headers]


def _line(name: bytes, value: bytes) -> FieldLine:
    known = _lines.get((name, value))
    if known is not None:
        return known
    line = (name.decode("latin-1"), value.decode("latin-1"))
    if len(value) <= _MAX_SIZE and name not in _UNIQUE:
        remember(_lines, (name, value), line, _MAX_REMEMBERED)
    return line


def _to_bytes(data: Any) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"the headers of a response must be pairs of bytes, not of {type(data).__name__}")


def _classify(name: bytes) -> int:
    """What the field name means: _LENGTH, _ONE_HOP or _OTHER."""
    flag = FLAGS.get(name.decode("latin-1").lower(), 0)
    kind = _LENGTH if flag == CONTENT_LENGTH else _ONE_HOP if flag & _OWN else _OTHER
    remember(_kinds, name, kind, _MAX_REMEMBERED)
    return kind


def _without_hop_by_hop(lines: list[FieldLine]) -> list[FieldLine]:
    """`lines` without the headers that only the server may set, as the specification says of Transfer-Encoding.
    `Connection: close` remains, as the wish to close the connection after the response, and so does Trailer."""
    kept = [line for line in strip_hop_by_hop(lines) if line[0].lower() != "connection"]
    kept += [line for line in lines if line[0].lower() == "trailer" and line not in kept]
    if any(name.lower() == "connection" and "close" in _options(value) for name, value in lines):
        kept.append(_CLOSE)
    return kept


def _options(value: str) -> list[str]:
    return [option.strip(" \t").lower() for option in value.split(",")]
