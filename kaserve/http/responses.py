"""What the head of a response says, as its receiver must read it: status, fields, where the body ends, what follows it.

Knows the status line (RFC 9112 §4), where a response ends (§6.3), and whether another request may follow (§9.3). Each
is decided here once, for the proxy and for the probe. Does not know how the bytes arrive (`response_parser`). Field
lines are parsed by `wire`, as strictly as those of a request. The two faults that a proxy must or may repair in a
response are repaired here (§5.1, §5.2). Every other one is an error, since the next reader might see another message
than we do.
"""

from __future__ import annotations

import re

from .errors import HTTPError
from .framing import CHUNKED, UNTIL_CLOSE
from .grammar import STATUS_LINE, TCHAR
from .headers import CLOSE, CONTENT_LENGTH, KEEP_ALIVE, TRANSFER_ENCODING, FieldLine, Headers
from .memo import remember
from .wire import parse_head

__all__ = [
    "TUNNEL",
    "BadResponse",
    "MissingResponse",
    "ResponseHead",
    "TruncatedResponse",
    "check_interim",
    "check_switch",
    "parse_response_head",
    "response_length",
    "response_persists",
]

TUNNEL = -4  # like CHUNKED and UNTIL_CLOSE of `framing`: the bytes that follow are not a message

_MAX_LENGTH = 2**63 - 1  # bytes of a body; the compiled build keeps its length in a signed 64-bit number

# `parse_head` needs a request line in front; the field lines after it are the same in both directions.
_ANY_REQUEST_LINE = b"GET / HTTP/1.1\r\n"

_SPACE_BEFORE_COLON = re.compile(rb"(\r\n" + TCHAR.encode("ascii") + rb"+)[ \t]+:")
_FOLD = re.compile(rb"\r\n[ \t]+")

# A server sends few different status lines.
_status_lines: dict[bytes, tuple[int, str, int]] = {}
_MAX_STATUS_LINES = 256
_MAX_LINE_SIZE = 256


class BadResponse(ValueError):
    """The bytes are not a response, or its end cannot be found. The text is one line."""


class MissingResponse(BadResponse):
    """The connection ended before the first byte of a response."""


class TruncatedResponse(BadResponse):
    """The connection ended within a response."""


class ResponseHead:
    """The head of a response.

    Attributes:
        status: 100 to 599.
        reason: the reason phrase, perhaps empty.
        minor: 0 for HTTP/1.0, otherwise 1.
        fields: pairs of name and value, names in lower case.
        flags: the bits of `headers.FLAGS`, CLOSE and KEEP_ALIVE.
    """

    __slots__ = ("fields", "flags", "minor", "reason", "status")

    def __init__(self, status: int, reason: str, minor: int, fields: list[FieldLine], flags: int) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        self.flags = flags

    @property
    def headers(self) -> Headers:
        """The fields as a mapping with case-insensitive names, which is a view of `fields`."""
        return Headers.view(self.fields)

    def values(self, name: str) -> list[str]:
        """Returns the values of `name`, which must be in lower case. Cheaper than `headers`."""
        return [value for key, value in self.fields if key == name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResponseHead):
            return NotImplemented
        return (self.status, self.reason, self.minor, self.fields, self.flags) == (
            other.status,
            other.reason,
            other.minor,
            other.fields,
            other.flags,
        )

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.fields!r}>"


def parse_response_head(data: bytes, start: int, end: int) -> ResponseHead:
    """Parses a complete head. A later minor version counts as 1 (RFC 9110 §2.5).

    Args:
        data: holds the head.
        start: index of the first byte of the status line.
        end: index after the CRLF of the last field line: the empty line that ends the head is left out.

    Raises:
        BadResponse: the status line or a field line is malformed, or the major version is not 1.
    """
    line_end = data.find(b"\r\n", start, end)
    line = data[start:line_end]
    known = _status_lines.get(line)
    status, reason, minor = _parse_status_line(line) if known is None else known
    lines = _ANY_REQUEST_LINE + data[line_end + 2 : end]
    try:
        message = parse_head(lines, 0, len(lines))
    except HTTPError:
        lines = _repaired(lines)
        try:
            message = parse_head(lines, 0, len(lines))
        except HTTPError as error:
            raise BadResponse(error.reason) from None
    return ResponseHead(status, reason, minor, message.fields, message.flags)


def _parse_status_line(line: bytes) -> tuple[int, str, int]:
    """Parses a status line into status, reason phrase and minor version (RFC 9112 §4)."""
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("the status line is malformed")
    major, minor, digits, reason = match.groups(b"")
    if major != b"1":
        raise BadResponse("the version is not HTTP/1")
    status = int(digits)
    # RFC 9110 §15: others are invalid, and to be processed as a 5xx. What a gateway makes of an invalid response is a
    # 502 (§15.6.3); passed on, it would be as invalid for the client.
    if not 100 <= status < 600:
        raise BadResponse("the status is not between 100 and 599")
    parsed = status, reason.decode("latin-1"), 0 if minor == b"0" else 1
    if len(line) <= _MAX_LINE_SIZE:
        remember(_status_lines, line, parsed, _MAX_STATUS_LINES)
    return parsed


def _repaired(lines: bytes) -> bytes:
    """Returns a head without the two faults that have one meaning only, and that old servers make.

    White space between a name and its colon: a proxy must remove it from a response (RFC 9112 §5.1). A folded line: a
    proxy must reject it or replace it by spaces (§5.2). What leaves us is one line, so no reader after us can see two.
    """
    if lines[len(_ANY_REQUEST_LINE) :][:1] in (b" ", b"\t"):
        raise BadResponse("there is white space in front of the first field line")  # §2.2: there is nothing to unfold
    return _SPACE_BEFORE_COLON.sub(rb"\1:", _FOLD.sub(b" ", lines))


def response_length(method: str, head: ResponseHead) -> int:
    """Returns the length of the body after `head`: bytes, `CHUNKED`, `UNTIL_CLOSE` or `TUNNEL` (RFC 9112 §6.3).

    Args:
        method: that of the request, which decides as well.
        head: the head of the response to it.

    Raises:
        BadResponse: two readers could disagree about the length. That includes fields that do not count because the
            response has no content: a client may get them, and is to believe them.
    """
    # The steps are numbered as in §6.3.
    if 100 <= head.status < 200:
        return TUNNEL if head.status == 101 else 0  # Step 1, whatever its fields say.
    length = UNTIL_CLOSE  # Step 8; step 7 is about requests.
    if head.flags & TRANSFER_ENCODING:
        _check_codings(head)
        length = CHUNKED  # Step 4.
    elif head.flags & CONTENT_LENGTH:
        length = _declared_length(head)
    # Step 1: the fields of these responses describe the content that a GET would get, or nothing.
    if method == "HEAD" or head.status in (204, 304):
        return 0
    if method == "CONNECT" and head.status < 300:
        return TUNNEL  # Step 2.
    return length


def _check_codings(head: ResponseHead) -> None:
    """Raises BadResponse unless chunked is the only coding, and nothing contradicts it (RFC 9112 §6.1, §6.3)."""
    if head.flags & CONTENT_LENGTH:
        raise BadResponse("there is a Content-Length beside Transfer-Encoding")  # Step 3: ought to be an error
    if head.minor == 0:
        raise BadResponse("an HTTP/1.0 response has a Transfer-Encoding")  # §6.1: its framing is faulty
    values = head.values("transfer-encoding")
    if [coding.strip(" \t").lower() for value in values for coding in value.split(",")] != ["chunked"]:
        # Nobody asked for another one: TE never names any (§7.4).
        raise BadResponse("the transfer coding is not chunked")


def _declared_length(head: ResponseHead) -> int:
    """Returns the value of Content-Length (RFC 9112 §6.3 steps 5 and 6). Raises BadResponse unless it is one number."""
    values = head.values("content-length")
    # Among ASCII characters, isdigit() finds the same as DIGITS.
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()) or len(values[0]) > 19:
        raise BadResponse("Content-Length is not one number")
    length = int(values[0])
    if length > _MAX_LENGTH:
        raise BadResponse("Content-Length is too large")
    return length


def response_persists(head: ResponseHead, length: int) -> bool:
    """Returns whether another request may follow the response (RFC 9112 §9.3).

    Args:
        head: the head of the response.
        length: what `response_length` says of it.
    """
    if head.flags & CLOSE or length in (UNTIL_CLOSE, TUNNEL):
        return False
    if head.status == 204 and head.flags & (CONTENT_LENGTH | TRANSFER_ENCODING) and _claims_content(head):
        return (
            False  # RFC 9110 §8.6, RFC 9112 §6.1: forbidden. Perhaps content follows, and would look like a response.
        )
    return head.minor > 0 or head.flags & KEEP_ALIVE != 0


def _claims_content(head: ResponseHead) -> bool:
    return head.flags & TRANSFER_ENCODING != 0 or _declared_length(head) > 0


def check_interim(head: ResponseHead) -> None:
    """Checks a 1xx other than 101, after which another head follows (RFC 9110 §15.2).

    Raises:
        BadResponse: it announces content, which it must not have (RFC 9110 §8.6, RFC 9112 §6.1): what follows would be
            content for one reader, and a response for the next.
    """
    if head.flags & (CONTENT_LENGTH | TRANSFER_ENCODING) and _claims_content(head):
        raise BadResponse("an informational response announces content")


def check_switch(head: ResponseHead, asked: bool) -> None:
    """Checks a 101, after which the connection is another protocol's (RFC 9110 §7.8, §15.2.2).

    Args:
        head: its head.
        asked: whether the request asked for another protocol.

    Raises:
        BadResponse: it may not switch.
    """
    if not asked:
        raise BadResponse("a 101 came that the request did not ask for")
    options = [option.strip(" \t").lower() for option in ",".join(head.values("connection")).split(",")]
    if head.minor == 0 or "upgrade" not in options or "upgrade" not in head.headers:
        raise BadResponse("a 101 does not say to what it switches")
