"""Where a message ends and whether the connection persists: each is decided in one function, in the steps of the RFC.

Knows RFC 9112 §6.3 (message body length) and §9.3 (persistence). Does not know how bodies are read or written. A
framing is a number of bytes, or one of the negative constants `CHUNKED`, `UNTIL_CLOSE` and `NO_LENGTH`: one int,
because the compiled build keeps it in a C variable.
"""

from __future__ import annotations

from .errors import HTTPError
from .file_span import FileSpan
from .grammar import DIGITS, TOKEN
from .headers import CLOSE, CONTENT_LENGTH, EXPECT, FLAGS, HOP_BY_HOP, KEEP_ALIVE, TRANSFER_ENCODING, FieldLine
from .messages import Request, Response

__all__ = [
    "CHUNKED",
    "NO_LENGTH",
    "UNTIL_CLOSE",
    "allowed_trailers",
    "asks_to_close",
    "check_expectation",
    "has_content",
    "persists",
    "request_framing",
    "response_framing",
    "strip_hop_by_hop",
]

CHUNKED = -1
UNTIL_CLOSE = -2  # the body ends when the connection does
NO_LENGTH = -3  # there is no body, and no Content-Length either

_MAX_DIGITS = 19  # of a length that fits into 64 bits
_MAX_LENGTH = 2**63 - 1  # bytes of a response; clients keep the length in a signed 64-bit number


def request_framing(request: Request) -> int:
    """Decides how the body of a request ends (RFC 9112 §6.3, whose steps are numbered here).

    Returns:
        The number of bytes, or `CHUNKED`.

    Raises:
        HTTPError: 400 for framing that two readers could understand differently (request smuggling), 413 for a length
            of more than 64 bits, 501 for a transfer coding other than chunked.
    """
    if not request.flags & (TRANSFER_ENCODING | CONTENT_LENGTH):
        return 0  # Step 7: there is no body. Only the body of a response can end with the connection.
    # Steps 1 and 2 are about responses.
    if request.flags & TRANSFER_ENCODING:
        # Step 3: it overrides Content-Length. If both are there, or the client speaks HTTP/1.0, `persists` closes the
        # connection after the response (§6.1).
        _check_codings(request.values("transfer-encoding"))
        return CHUNKED  # Step 4: chunked is the final coding.
    # Step 5: anything but one number is an unrecoverable error. A list of equal numbers may be rejected, too, and is.
    lengths = request.values("content-length")
    if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1")) is None:
        raise HTTPError(400, "Content-Length is not one number")
    digits = lengths[0].lstrip("0")  # any number of leading zeros is valid, but int() raises for more than 4300 digits
    if len(digits) > _MAX_DIGITS:
        raise HTTPError(413, "the body is too large")
    return int(digits or "0")  # Step 6.


def _check_codings(values: list[str]) -> None:
    """Checks that the only coding is `chunked` (RFC 9112 §6.1, §6.3 step 4). Raises HTTPError: 400 if the end of the
    body is not certain, 501 for a coding that is not supported."""
    codings = [coding.strip(" \t") for value in values for coding in value.split(",")]
    for coding in codings:
        if TOKEN.fullmatch(coding.encode("latin-1")) is None:
            raise HTTPError(400, "Transfer-Encoding is malformed")
    names = [coding.lower() for coding in codings]
    if "chunked" in names[:-1]:
        raise HTTPError(400, "chunked must be the last transfer coding, and be there once")
    if names != ["chunked"]:
        raise HTTPError(501, "the only transfer coding that is supported is chunked")


def check_expectation(request: Request) -> bool:
    """Returns whether the client waits for `100 Continue` (RFC 9110 §10.1.1).

    The header of an HTTP/1.0 client is ignored, as that section requires.

    Raises:
        HTTPError: 417 for any other expectation.
    """
    if not request.flags & EXPECT or request.minor == 0:
        return False
    members = ",".join(request.values("expect")).split(",")
    expectations = {member.strip(" \t").lower() for member in members} - {""}  # empty ones are ignored (§5.6.1)
    if expectations - {"100-continue"}:
        raise HTTPError(417, "the only expectation that is supported is 100-continue")
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
            return 0  # RFC 9110 §15.3.6: must say that it has no content.
        if declared:
            return _declared_length(response)  # HEAD, 304: what a GET would get.
        if response.status == 304 or known < 0:
            return NO_LENGTH  # The length is not known without making the body.
        return known
    # Step 2 is about CONNECT, which is not supported. Steps 3 to 6, from the point of view of a sender:
    if declared:
        length = _declared_length(response)
        if 0 <= known != length:
            raise ValueError(f"Content-Length says {length}, but the body has {known} bytes")
        return length
    if known >= 0:
        return known
    return UNTIL_CLOSE if is_http_1_0 else CHUNKED  # Step 8: HTTP/1.0 does not know chunks.


def has_content(status: int, head_only: bool) -> bool:
    """Returns whether the head of a response is followed by content (RFC 9110 §6.4.1).

    Args:
        status: the status of the response.
        head_only: whether the request was HEAD.
    """
    return not head_only and status not in (204, 205, 304)


def _declared_length(response: Response) -> int:
    """Returns the Content-Length that the handler gave. Raises ValueError unless it is one number."""
    lengths = response.headers.get_all("content-length")
    if len(lengths) != 1 or DIGITS.fullmatch(lengths[0].encode("latin-1", "replace")) is None:
        raise ValueError(f"not a Content-Length: {lengths!r}")
    length = int(lengths[0])
    if length > _MAX_LENGTH:
        raise ValueError(f"the Content-Length is too large: {length}")
    return length


def persists(request: Request | None, framing: int, may_persist: bool) -> bool:
    """Decides whether the connection persists after the response to `request` (RFC 9112 §9.3).

    Args:
        request: None if it could not be read.
        framing: the framing of the response, from `response_framing`.
        may_persist: False if the server or the handler wants to close.
    """
    if not may_persist or request is None or framing == UNTIL_CLOSE:
        return False
    flags = request.flags
    if flags & TRANSFER_ENCODING and (flags & CONTENT_LENGTH or request.minor == 0):
        return False  # §6.1: perhaps request smuggling. The request gets its response, but no second one is read.
    return not asks_to_close(request)


def asks_to_close(request: Request) -> bool:
    """Returns whether the client wants the connection to end after the response (RFC 9112 §9.3, §9.6): it says `close`,
    or speaks HTTP/1.0 without saying `keep-alive`."""
    flags = request.flags
    return flags & CLOSE != 0 or (request.minor == 0 and flags & KEEP_ALIVE == 0)


def _options(value: str) -> set[str]:
    """Returns the options in the value of a Connection header, in lower case."""
    return {option.strip(" \t").lower() for option in value.split(",")}


def strip_hop_by_hop(fields: list[FieldLine]) -> list[FieldLine]:
    """Returns the headers of a response without the hop-by-hop ones (RFC 9110 §7.6.1).

    Those are the server's to set. The ones that the handler's own Connection header names are hop-by-hop as well. A
    Connection header that says only `close` or `keep-alive` stays: it is the handler's wish, which the encoder reads.
    """
    lines = [value for name, value in fields if name.lower() == "connection"]
    named = _options(",".join(lines)) - {"close", "keep-alive", ""}
    return [
        (name, value)
        for name, value in fields
        if (key := name.lower()) not in named
        and not FLAGS.get(key, 0) & (HOP_BY_HOP | TRANSFER_ENCODING)
        and not (key == "connection" and named.intersection(_options(value)))
    ]


# Fields that must not be trailers: those for framing, routing, conditions and other request modifiers, authentication,
# and processing of the content, and the hop-by-hop ones (RFC 9110 §6.5.1).
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
    """Returns the trailers without the forbidden ones, which a handler neither sees nor sends."""
    return [line for line in trailers if line[0].lower() not in _NEVER_TRAILERS]
