"""Checks of a head that has not arrived completely, and of one that is long enough to exceed a limit.

Knows what a head looks like from its first byte on, and the limits. What can never become a good head is rejected at
once, so that a TLS handshake on the wrong port, a bare LF or an endless line does not hold a connection until its
deadline. Does not know what the lines mean.
"""

from __future__ import annotations

from .errors import HTTPError
from .grammar import LONE_LINE_END, REQUEST_LINE_START
from .limits import Limits
from .wire import parse_head

__all__ = ["check_head_size", "check_incomplete_head"]

_CRLF = 2
_CR = 1  # of a line whose LF has not arrived


def check_head_size(head: bytes, limits: Limits) -> None:
    """Checks the lines of `head`, which is complete but for the empty line at its end, against `limits`.

    Raises:
        HTTPError: 414 for the request line, 431 for a header line or the whole (RFC 9110 §15.5.15, RFC 6585 §5).
    """
    lines = head.split(b"\r\n")
    if len(lines[0]) > limits.request_line:
        raise HTTPError(414, "the request line is too long")
    if max(map(len, lines[1:]), default=0) > limits.field_size:
        raise HTTPError(431, "a field line is too long")
    if len(head) > limits.head:
        raise HTTPError(431, "the head is too large")


def check_incomplete_head(data: bytes, start: int, scanned: int, limits: Limits) -> None:
    """Checks the part of a head that has arrived.

    Args:
        data: holds the head from `start` to its end.
        start: index of its first byte.
        scanned: up to here an earlier call has checked it.
        limits: of the lines and of the whole.

    Raises:
        HTTPError: 400 for what can never become a head, 414 and 431 for what exceeds a limit already.
    """
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        if REQUEST_LINE_START.fullmatch(data, start) is None:
            raise HTTPError(400, "the request line is malformed")
        if len(data) - start > limits.request_line + _CR:
            raise HTTPError(414, "the request line is too long")
    else:
        if line_end >= scanned:  # the request line has just become complete
            check_head_size(data[start:line_end], limits)
            parse_head(data, start, line_end + _CRLF)  # on its own: rejected whatever headers will follow
        if len(data) - data.rfind(b"\r\n") > _CRLF + limits.field_size + _CR:
            raise HTTPError(431, "a field line is too long")
    if LONE_LINE_END.search(data, max(start, scanned - 1)) is not None:
        raise HTTPError(400, "a line of the head ends without CRLF, or has a NUL")
    if len(data) - start > limits.head + _CRLF + _CR:
        raise HTTPError(431, "the head is too large")
