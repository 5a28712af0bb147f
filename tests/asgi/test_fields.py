"""The headers of an application's response."""

from __future__ import annotations

from typing import Any

import pytest

from kaserve.asgi.fields import decode_fields, new_fields


def test_any_pairs_of_bytes() -> None:
    """The specification: an iterable of iterables of two byte strings. Some applications have lists, some
    generators."""
    kinds: list[Any] = [
        [(b"x-a", b"1")],
        [[b"x-a", b"1"]],
        iter([(b"x-a", memoryview(b"1"))]),
        ((bytearray(b"x-a"), bytearray(b"1")),),
    ]
    for headers in kinds:
        assert new_fields(headers).lines == [("x-a", "1")]


def test_the_same_pair_is_the_same_object() -> None:
    """The compiled encoder knows a pair that it has seen before."""
    first, second = (new_fields([(b"content-type", b"text/plain")]).lines[0] for _ in range(2))
    assert first is second


def test_the_length_is_apart() -> None:
    fields = new_fields([(b"Content-Length", b"5"), (b"x-a", b"1")])
    assert (fields.length, fields.lines) == (("Content-Length", "5"), [("x-a", "1")])
    assert fields.all_lines == [("x-a", "1"), ("Content-Length", "5")]


def test_a_second_length_is_left_to_the_protocol() -> None:
    """Which rejects it (RFC 9110 §8.6)."""
    fields = new_fields([(b"content-length", b"5"), (b"content-length", b"6")])
    assert fields.lines == [("content-length", "6")]


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([(b"connection", b"keep-alive")], []),
        ([(b"connection", b"x-a, Close"), (b"x-a", b"1")], [("Connection", "close")]),
        ([(b"transfer-encoding", b"chunked"), (b"x-a", b"1")], [("x-a", "1")]),
        ([(b"trailer", b"x-sum"), (b"upgrade", b"h2c")], [("trailer", "x-sum")]),
    ],
)
def test_hop_by_hop_headers(headers: list[tuple[bytes, bytes]], kept: list[tuple[str, str]]) -> None:
    """RFC 9110 §7.6.1; the wish to close remains, and so does Trailer (§6.6.2)."""
    assert new_fields(headers).lines == kept


@pytest.mark.parametrize("headers", [[("x-a", b"1")], [(b"x-a", "1")], [(b"x-a", None)], [(b"x-a",)], [b"x-a"], 5])
def test_malformed_ones(headers: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        new_fields(headers)


def test_trailers_and_hints() -> None:
    assert decode_fields([(b"x-sum", b"caf\xe9")]) == [("x-sum", "caf\xe9")]
