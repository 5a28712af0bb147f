"""Ranges of bytes (RFC 9110 §14): which parts of a representation are asked for, and how several make one body.

Knows the Range field and the form of multipart/byteranges. Does not know where the bytes come from. Pure functions,
over values. A range is obeyed or ignored, as §14.2 lets a server choose:

- what is not a range of bytes, or malformed in any part, is ignored;
- parts that overlap or touch are sent as one, so that no byte is sent twice;
- a set of more than 64 separate parts is ignored, since nobody needs it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Multipart", "Range", "content_range", "frame_parts", "parse_ranges"]

_MAX_PARTS = 64
_MAX_DIGITS = 19  # what a 64-bit length has; a longer number lies behind the end of everything

_SPECIFIER = re.compile(r"bytes=(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)  # units are case-insensitive, §14.1
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


class Range(NamedTuple):
    """The bytes from `start` up to, and without, `stop`."""

    start: int
    stop: int


class Multipart(NamedTuple):
    """How several ranges are sent: each behind its own head, and then the end."""

    content_type: str
    heads: list[bytes]
    end: bytes
    length: int  # of it all


def parse_ranges(value: str, size: int) -> list[Range] | None:
    """The ranges that a Range field asks for of a representation of `size` bytes, in the order in which they are sent.

    None: the field is to be ignored. No ranges at all: it is good, but none of them can be satisfied (416).
    """
    specifier = _SPECIFIER.fullmatch(value)
    if specifier is None:
        return None
    specs = [spec.strip(" \t") for spec in specifier[1].split(",")]
    specs = [spec for spec in specs if spec]  # empty elements are ignored, §5.6.1
    if not specs:
        return None
    ranges: list[Range] = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None:
            return None
        first, last = match.groups()
        if not first:  # suffix-range: the last so many
            if not last:
                return None
            length = min(_number(last), size)
            if length:
                ranges.append(Range(size - length, size))
            elif _number(last):  # all of nothing, which has no Content-Range (§14.1.2)
                return None
            continue
        start, stop = _number(first), _number(last) + 1 if last else size
        if last and stop <= start:
            return None
        if start < size:
            ranges.append(Range(start, min(stop, size)))
    return _coalesce(ranges)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits[: _MAX_DIGITS + 1] or "0")  # cut off, it is too large all the same


def _coalesce(ranges: list[Range]) -> list[Range] | None:
    """Joins what overlaps or touches, each at the place of its first part (§15.3.7.2); None if there are too many."""
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
    """The value of Content-Range (§14.4) for `part`, or None when nothing could be satisfied."""
    return f"bytes */{size}" if part is None else f"bytes {part.start}-{part.stop - 1}/{size}"


def frame_parts(ranges: list[Range], size: int, fields: list[tuple[str, str]], boundary: str) -> Multipart:
    """What stands between the parts of multipart/byteranges (§14.6).

    fields: what each part says of itself beside its range. boundary: characters that no part contains but by accident.
    """
    described = "".join(f"{name}: {value}\r\n" for name, value in fields)
    heads = [
        f"{'' if number == 0 else chr(13) + chr(10)}--{boundary}\r\n{described}"
        f"Content-Range: {content_range(part, size)}\r\n\r\n".encode("latin-1")
        for number, part in enumerate(ranges)
    ]
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(part.stop - part.start for part in ranges) + len(end)
    return Multipart(f"multipart/byteranges; boundary={boundary}", heads, end, length)
