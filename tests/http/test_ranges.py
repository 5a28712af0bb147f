"""Ranges: what clients ask for, what they get of it, and how several parts are framed (RFC 9110 §14)."""

from __future__ import annotations

import email.parser
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.ranges import Range, content_range, frame_parts, parse_ranges
from tests.tools.ids import readable

SIZE = 10_000  # as in the examples of §14.1.2
HUGE = 5 * 1024**3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # int-range and suffix-range, §14.1.1, §14.1.2; the first ones are the RFC's own.
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes= 0-0, -2", [(0, 1), (9998, 10000)]),
        ("bytes=0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        ("bytes=500-600,601-999", [(500, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("bytes=0-", [(0, 10000)]),
        ("bytes=9999-", [(9999, 10000)]),
        ("bytes=0-9999", [(0, 10000)]),
        ("bytes=0-10000", [(0, 10000)]),  # a last-pos beyond the end is the end
        ("bytes=9999-99999999999999999999999999", [(9999, 10000)]),
        ("bytes=-10000", [(0, 10000)]),
        ("bytes=-10001", [(0, 10000)]),  # shorter than the suffix: all of it
        ("bytes=-" + "9" * 8000, [(0, 10000)]),
        ("bytes=5-5", [(5, 6)]),
        ("bytes=005-0007", [(5, 8)]),
        ("Bytes=0-1", [(0, 2)]),  # units are case-insensitive, §14.1
        ("BYTES=0-1", [(0, 2)]),
        # Lists, §5.6.1.
        ("bytes=0-1 , 5-6", [(0, 2), (5, 7)]),
        ("bytes=,0-1,\t,5-6,", [(0, 2), (5, 7)]),
        # None of them, or some of them, can be satisfied, §15.5.17.
        ("bytes=10000-", []),
        ("bytes=10000-10001", []),
        ("bytes=" + "9" * 8000 + "-", []),
        ("bytes=-0", []),
        ("bytes=-0,10000-", []),
        ("bytes=10000-,0-1", [(0, 2)]),
        ("bytes=0-1,-0", [(0, 2)]),
        # Not ranges of bytes, or malformed: ignored, §14.2.
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-0", None),
        ("bytes=0-1,3-2", None),
        ("bytes=20000-10000", None),
        ("bytes=0-1,x", None),
        ("bytes=0-1;2-3", None),
        ("bytes=0 -1", None),
        ("bytes=0- 1", None),
        ("bytes=+0-1", None),
        ("bytes=0-+1", None),
        ("bytes=0x0-1", None),
        ("bytes=0_0-1", None),
        ("bytes=--1", None),
        ("bytes=0--1", None),
        ("bytes=0-1-2", None),
        ("bytes=1", None),
        ("bytes=\xb2-", None),
        ("bytes =0-1", None),
        (" bytes=0-1", None),
        ("bytes 0-1", None),
        ("bytes:0-1", None),
        ("0-1", None),
        ("items=0-1", None),
        ("lines=1-5", None),
        ("seconds=0-1", None),
        ("bytes=0-1, bytes=3-4", None),  # two lines of the field
        # Joined, at the place of their first part.
        ("bytes=0-9,5-14", [(0, 15)]),
        ("bytes=5-14,0-9", [(0, 15)]),
        ("bytes=0-99,10-19,50-", [(0, 10000)]),
        ("bytes=50-59,0-9,55-69", [(50, 70), (0, 10)]),
        ("bytes=0-0,2-2,1-1", [(0, 3)]),
        ("bytes=20-29,0-9", [(20, 30), (0, 10)]),  # otherwise the order is the client's
        ("bytes=" + "0-," * 1000, [(0, 10000)]),
        ("bytes=" + ",".join(f"{n}-" for n in range(1000)), [(0, 10000)]),
        # As many parts as anybody needs, and one more.
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 128, 2)), [(n, n + 1) for n in range(0, 128, 2)]),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 130, 2)), None),
    ],
    ids=readable,
)
def test_what_is_asked_for(value: str, expected: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(value, SIZE) == expected


@pytest.mark.parametrize(
    "value", ["bytes=0-", "bytes=0-0", "bytes=1-", "bytes=-0", "bytes=-1", "bytes=x", "bytes=0-,5-"], ids=readable
)
def test_ranges_of_nothing_are_ignored(value: str) -> None:
    """§14.2: a client that always asks for `bytes=0-` gets an empty 200, not an error."""
    assert parse_ranges(value, 0) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=4294967295-4294967296", [(2**32 - 1, 2**32 + 1)]),
        ("bytes=5368709119-", [(HUGE - 1, HUGE)]),
        ("bytes=-1", [(HUGE - 1, HUGE)]),
        ("bytes=0-0,4294967296-4294967296,-1", [(0, 1), (2**32, 2**32 + 1), (HUGE - 1, HUGE)]),
        ("bytes=5368709120-", []),
    ],
    ids=readable,
)
def test_beyond_4_gib(value: str, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(value, HUGE) == expected


@given(st.text(alphabet="bytes=0123456789-, \t"), st.integers(min_value=0, max_value=1000))
def test_no_part_is_outside_or_empty_or_sent_twice(value: str, size: int) -> None:
    for text in (value, "bytes=" + value):
        ranges = parse_ranges(text, size) or []
        seen: set[int] = set()
        for part in ranges:
            covered = set(range(part.start, part.stop))
            assert covered
            assert covered <= set(range(size)) - seen
            seen |= covered


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=20))
def test_joined_parts_are_those_that_were_asked_for(asked: list[tuple[int, int]]) -> None:
    value = "bytes=" + ",".join(f"{start}-{start + more}" for start, more in asked)
    wanted = {byte for start, more in asked for byte in range(start, start + more + 1) if byte < 50}
    ranges = parse_ranges(value, 50)
    assert ranges is not None
    assert {byte for part in ranges for byte in range(part.start, part.stop)} == wanted


@pytest.mark.parametrize("value", ["bytes=" + "-" * 8000, "bytes=" + " " * 8000, "bytes=" + "0-0," * 2000 + "x"])
def test_nothing_is_slow_to_read(value: str) -> None:
    start = time.perf_counter()
    assert parse_ranges(value, SIZE) is None
    assert time.perf_counter() - start < 0.5


def test_content_range() -> None:
    """§14.4."""
    assert content_range(Range(0, 1), 10) == "bytes 0-0/10"
    assert content_range(Range(42, 1234), 1234) == "bytes 42-1233/1234"
    assert content_range(None, 47022) == "bytes */47022"


def test_the_form_of_several_parts() -> None:
    """§14.6: another parser takes them apart again, and the length is exact."""
    content = bytes(range(256)) * 4
    ranges = [Range(0, 1), Range(1000, 1024), Range(10, 300)]
    framed = frame_parts(ranges, len(content), [("Content-Type", "text/plain")], "boundary")
    assert framed.content_type == "multipart/byteranges; boundary=boundary"
    body = b"".join(head + content[start:stop] for head, (start, stop) in zip(framed.heads, ranges, strict=True))
    body += framed.end
    assert len(body) == framed.length
    wire = f"Content-Type: {framed.content_type}\r\n\r\n".encode() + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(wire)
    parts = list(message.iter_parts())
    assert [part["Content-Range"] for part in parts] == ["bytes 0-0/1024", "bytes 1000-1023/1024", "bytes 10-299/1024"]
    assert {part["Content-Type"] for part in parts} == {"text/plain"}
    assert body.split(b"\r\n\r\n", 1)[1][:1] == content[:1]


def test_the_form_to_the_byte() -> None:
    """RFC 2046 §5.1.1 allows a preamble; zsync expects its line end, as nginx and Apache send it."""
    framed = frame_parts([Range(0, 2), Range(4, 5)], 5, [("Content-Type", "a/b"), ("Content-Encoding", "br")], "B")
    assert framed.heads == [
        b"\r\n--B\r\nContent-Type: a/b\r\nContent-Encoding: br\r\nContent-Range: bytes 0-1/5\r\n\r\n",
        b"\r\n--B\r\nContent-Type: a/b\r\nContent-Encoding: br\r\nContent-Range: bytes 4-4/5\r\n\r\n",
    ]
    assert framed.end == b"\r\n--B--\r\n"
