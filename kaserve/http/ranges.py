"""Ranges of bytes (RFC 9110 §14): which parts of a representation a client wants, and how several make one body.

Knows the Range header and the format of multipart/byteranges. Does not know where the bytes come from. Pure functions,
over values. A server may ignore a Range (§14.2), and this one does so as follows:

- a header that is not about bytes, or is malformed in any part, is ignored;
- parts that overlap or touch are sent as one, so that no byte is sent twice;
- more than 64 separate parts are ignored: no client needs them, and each costs a header of its own;
- ranges of an empty file are ignored: some clients ask everything with `bytes=0-`, and a 416 would tell them that there
  is no such file. nginx, Apache and Go do the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Multipart", "Range", "content_range", "frame_parts", "parse_ranges"]

_MAX_PARTS = 64
_MAX_DIGITS = 19  # of a 64-bit length; a longer number is beyond the end of any file

_SPECIFIER = re.compile(r"bytes=(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)  # units are case-insensitive, §14.1
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


class Range(NamedTuple):
    """The bytes from `start` up to, but not including, `stop`."""

    start: int
    stop: int


class Multipart(NamedTuple):
    """How several ranges are sent in one body.

    Attributes:
        content_type: the value of Content-Type.
        heads: what comes before each range.
        end: what comes after the last one.
        length: of all together, the ranges included, in bytes.
    """

    content_type: str
    heads: list[bytes]
    end: bytes
    length: int


def parse_ranges(value: str, size: int) -> list[Range] | None:
    """Returns the ranges of a Range header, in the order in which they are sent.

    Args:
        value: of the header.
        size: of the representation, in bytes.

    Returns:
        The ranges; none if the header is valid but none of them can be satisfied (a 416); None if it is to be ignored.
    """
    specifier = _SPECIFIER.fullmatch(value)
    if specifier is None or size == 0:
        return None
    specs = [spec.strip(" \t") for spec in specifier[1].split(",")]
    specs = [spec for spec in specs if spec]  # empty elements are ignored, §5.6.1
    if not specs:
        return None
    ranges: list[Range] = []
    for spec in specs:
        part = _parse_spec(spec, size)
        if part is None:
            return None
        if part.start < part.stop:
            ranges.append(part)
    return _coalesce(ranges)


def _parse_spec(spec: str, size: int) -> Range | None:
    """One range, which is empty if it cannot be satisfied; None if the header is to be ignored because of it."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start, stop = _number(first), _number(last) + 1 if last else size
        return None if last and stop <= start else Range(start, min(stop, size))
    if not last:
        return None
    # suffix-range: so many bytes at the end (§14.1.2).
    return Range(size - min(_number(last), size), size)


def _number(digits: str) -> int:
    """A number, but one that is far too large may be another one that is too large: int() is slow for long ones."""
    digits = digits.lstrip("0")
    return int(digits[: _MAX_DIGITS + 1] or "0")


def _coalesce(ranges: list[Range]) -> list[Range] | None:
    """Joins ranges that overlap or touch, at the place of their first one (§15.3.7.2); None if too many are left."""
    if len(ranges) < 2:
        return ranges
    joined: list[tuple[int, Range]] = []  # with the place in the order asked for
    for place, each in sorted(enumerate(ranges), key=lambda item: item[1]):
        if joined and each.start <= joined[-1][1].stop:
            earlier, last = joined[-1]
            joined[-1] = min(earlier, place), Range(last.start, max(last.stop, each.stop))
        else:
            joined.append((place, each))
    if len(joined) > _MAX_PARTS:
        return None
    return [each for _, each in sorted(joined)]


def content_range(part: Range | None, size: int) -> str:
    """Returns the value of Content-Range (§14.4).

    Args:
        part: what is sent; None in a 416, which sends nothing.
        size: of the representation, in bytes.
    """
    return f"bytes */{size}" if part is None else f"bytes {part.start}-{part.stop - 1}/{size}"


def frame_parts(ranges: list[Range], size: int, headers: list[tuple[str, str]], boundary: str) -> Multipart:
    """Returns what comes between the parts of multipart/byteranges (§14.6).

    There is a line end in front of the first boundary, too, as nginx and Apache have it: an empty preamble (RFC 2046
    §5.1.1). §14.6 allows it, and zsync waits for it for ever.

    Args:
        ranges: two or more.
        size: of the representation, in bytes.
        headers: of each part, in addition to its Content-Range.
        boundary: a text that appears in the content only by an unlikely accident; best at random.
    """
    described = "".join(f"{name}: {value}\r\n" for name, value in headers)
    heads = [
        f"\r\n--{boundary}\r\n{described}Content-Range: {content_range(part, size)}\r\n\r\n".encode("latin-1")
        for part in ranges
    ]
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(part.stop - part.start for part in ranges) + len(end)
    return Multipart(f"multipart/byteranges; boundary={boundary}", heads, end, length)
