"""Where a message ends and whether the connection goes on: each decided in one function, step by step as the RFC.

Knows RFC 9112 §6.3 (message body length) and §9.3 (persistence). Does not know how bodies are read or written. A length
is a count of bytes, or one of the negative marks below.
"""

from __future__ import annotations

from .errors import HTTPError
from .grammar import DIGITS, TOKEN
from .messages import (
    CLOSE,
    CONTENT_LENGTH,
    EXPECT,
    FLAGS,
    HOP_BY_HOP,
    KEEP_ALIVE,
    TRANSFER_ENCODING,
    FieldLine,
    FileSpan,
    Request,
    Response,
)

__all__ = [
    "CHUNKED",
    "NO_LENGTH",
    "UNTIL_CLOSE",
    "allowed_trailers",
    "check_expectation",
    "has_content",
    "persists",
    "request_framing",
    "response_framing",
    "strip_hop_by_hop",
]

CHUNKED = -1
UNTIL_CLOSE = -2
NO_LENGTH = -3

_MAX_DIGITS = 19  # what a 64-bit length has
_LARGEST = 2**63 - 1  # an answer's, which whoever reads it must be able to count


def request_framing(request: Request) -> int:
    """The length of the body of `request`: a count, or `CHUNKED` (RFC 9112 §6.3, whose steps are numbered here).

    Raises HTTPError 400 for framing that two readers could understand differently, 413 for a length beyond any number
    of 64 bits, and 501 for a transfer coding other than chunked.
    """
    if not request.flags & (TRANSFER_ENCODING | CONTENT_LENGTH):
        return 0  # Step 7: without either there is no body; a request is never delimited by closing.
    # Steps 1 and 2 are about responses.
    if request.flags & TRANSFER_ENCODING:
        # Step 3: it wins over Content-Length. `persists` closes the connection afterwards, as for HTTP/1.0 (§6.1).
        _check_codings(request.values("transfer-encoding"))
        return CHUNKED  # Step 4: chunked is the final coding.
    # Step 5: anything but one plain number is unrecoverable. A list of equal numbers may be refused, and is.
    lengths = request.values("content-length")
    if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1")) is None:
        raise HTTPError(400, "Content-Length is not one number")
    digits = lengths[0].lstrip("0")  # any number of zeros may stand in front; int() takes only so many
    if len(digits) > _MAX_DIGITS:
        raise HTTPError(413, "the body is too large")
    return int(digits or "0")  # Step 6.


def _check_codings(values: list[str]) -> None:
    """Raises HTTPError unless the codings are `chunked` alone: 400 where the end of the body could not be found for
    sure, 501 for a coding not known here (RFC 9112 §6.1, §6.3 step 4)."""
    codings = [coding.strip(" \t") for value in values for coding in value.split(",")]
    for coding in codings:
        if TOKEN.fullmatch(coding.encode("latin-1")) is None:
            raise HTTPError(400, "Transfer-Encoding is malformed")
    names = [coding.lower() for coding in codings]
    if "chunked" in names[:-1]:
        raise HTTPError(400, "chunked is not the last transfer coding, or not the only one of its kind")
    if names != ["chunked"]:
        raise HTTPError(501, "only the transfer coding chunked is known here")


def check_expectation(request: Request) -> bool:
    """Whether the client waits for `100 Continue` (RFC 9110 §10.1.1). Raises HTTPError 417 for other expectations.

    An HTTP/1.0 client cannot expect anything: its field is ignored.
    """
    if not request.flags & EXPECT or request.minor == 0:
        return False
    members = ",".join(request.values("expect")).split(",")
    expectations = {member.strip(" \t").lower() for member in members} - {""}  # empty ones are ignored (§5.6.1)
    if expectations - {"100-continue"}:
        raise HTTPError(417, "no expectation but 100-continue can be met")
    return bool(expectations)


def response_framing(response: Response, declared: bool, sends_content: bool, is_http_1_0: bool) -> int:
    """Decides how the body of a response ends (RFC 9112 §6.3, whose steps are numbered here).

    Args:
        response: the response.
        declared: whether the handler gave a Content-Length.
        sends_content: what `has_content` says.
        is_http_1_0: whether the client speaks HTTP/1.0, or its request could not be read.

    Returns:
        A number of bytes, `CHUNKED` or `UNTIL_CLOSE`. For a response without content: what its Content-Length is to
        say, or `NO_LENGTH` if it has none.

    Raises:
        ValueError: the Content-Length is not a number, or disagrees with a body whose length is known.
    """
    body = response.body
    known = -1
    if isinstance(body, bytes):
        known = len(body)
    elif isinstance(body, FileSpan):
        known = body.length
    # Step 1: HEAD, 204, 205 and 304 (1xx never comes from a handler).
    if not sends_content:
        if response.status == 204:
            return NO_LENGTH  # RFC 9110 §8.6: must not have a Content-Length.
        if response.status == 205:
            return 0  # §15.3.6: says that there is nothing
        if declared:
            return _declared_length(response)  # what GET would have got
        if response.status == 304 or known < 0:
            return NO_LENGTH  # unknown without making a body that nobody wants
        return known
    # Step 2 is about CONNECT, which never gets here. Steps 3 to 6 in the order a sender has it:
    if declared:
        length = _declared_length(response)
        if 0 <= known != length:
            raise ValueError(f"Content-Length says {length}, but the body has {known} bytes")
        return length
    if known >= 0:
        return known
    return UNTIL_CLOSE if is_http_1_0 else CHUNKED  # Step 8: HTTP/1.0 has no other way.


def has_content(status: int, head_only: bool) -> bool:
    """Whether a response with `status` is followed by content (RFC 9110 §6.4.1).

    Args:
        status: of the response.
        head_only: whether the request was HEAD.
    """
    return not head_only and status not in (204, 205, 304)


def _declared_length(response: Response) -> int:
    """The Content-Length a handler gave. Raises ValueError unless it is one number."""
    lengths = response.headers.get_all("content-length")
    if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1", "replace")) is None:
        raise ValueError(f"not a Content-Length: {lengths!r}")
    length = int(lengths[0])
    if length > _LARGEST:
        raise ValueError(f"the Content-Length is too large: {length}")
    return length


def persists(request: Request | None, framing: int, may_persist: bool) -> bool:
    """Whether the connection is kept after the response to `request` (RFC 9112 §9.3).

    Args:
        request: None if it could not be read.
        framing: of the response, as `response_framing` says.
        may_persist: False if the server or the handler wants to close.
    """
    if not may_persist or request is None or framing == UNTIL_CLOSE:
        return False
    flags = request.flags
    if flags & TRANSFER_ENCODING and (flags & CONTENT_LENGTH or request.minor == 0):
        return False  # §6.1: an attempt at smuggling, or faulty framing; answered, and that is all.
    if flags & CLOSE:
        return False
    return request.minor > 0 or flags & KEEP_ALIVE != 0


def _options(value: str) -> set[str]:
    """What a Connection line says."""
    return {option.strip(" \t").lower() for option in value.split(",")}


def strip_hop_by_hop(fields: list[FieldLine]) -> list[FieldLine]:
    """The fields of an answer without those of one hop, which are the server's own, and without those that the
    handler's own Connection line would make such (RFC 9110 §7.6.1). That a line wishes to close, or to keep the
    connection, is no fault: it is kept, and understood elsewhere."""
    lines = [value for name, value in fields if name.lower() == "connection"]
    named = _options(",".join(lines)) - {"close", "keep-alive", ""}
    return [
        (name, value)
        for name, value in fields
        if (key := name.lower()) not in named
        and not FLAGS.get(key, 0) & (HOP_BY_HOP | TRANSFER_ENCODING)
        and not (key == "connection" and named.intersection(_options(value)))
    ]


# What a trailer may not bring: framing, routing, request modifiers, authentication, the handling of the content, and
# what belongs to one hop (RFC 9110 §6.5.1).
_NEVER_TRAILERS = frozenset(
    """
    transfer-encoding content-length host trailer
    connection keep-alive proxy-connection te upgrade forwarded via
    x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip
    cache-control expect max-forwards pragma range origin
    if-match if-none-match if-modified-since if-unmodified-since if-range
    authorization proxy-authorization www-authenticate proxy-authenticate cookie set-cookie
    content-encoding content-type content-range content-location
    """.split()
)


def allowed_trailers(trailers: list[FieldLine]) -> list[FieldLine]:
    """The trailers that a handler may see, or send; the forbidden ones are dropped."""
    return [line for line in trailers if line[0].lower() not in _NEVER_TRAILERS]
