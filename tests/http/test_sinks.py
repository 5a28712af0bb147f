"""Sinks: where a body goes while it arrives."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.errors import HTTPError
from kaserve.http.headers import CONTENT_LENGTH, EXPECT
from kaserve.http.messages import Request
from kaserve.http.sinks import DrainSink, Spool, drain_or_reject

IN_MEMORY = 256 * 1024


def test_nothing() -> None:
    with Spool().finish() as body:
        assert body.read() == b""


def test_a_small_body_stays_in_memory() -> None:
    spool = Spool()
    spool.write(b"hello, ")
    spool.write(b"world")
    with spool.finish() as body:
        assert isinstance(body, io.BytesIO)
        assert body.read() == b"hello, world"


def test_a_large_body_goes_to_a_file_without_a_name() -> None:
    spool = Spool()
    spool.write(b"a" * IN_MEMORY)
    spool.write(b"b")
    spool.write(b"c" * 10)
    with spool.finish() as body:
        assert not isinstance(body, io.BytesIO)
        assert body.fileno() >= 0
        assert body.read() == b"a" * IN_MEMORY + b"b" + b"c" * 10


@pytest.mark.parametrize(("size", "in_memory"), [(IN_MEMORY, True), (IN_MEMORY + 1, False)])
def test_both_sides_of_the_limit(size: int, in_memory: bool) -> None:
    spool = Spool()
    spool.write(b"x" * size)
    with spool.finish() as body:
        assert isinstance(body, io.BytesIO) is in_memory
        assert body.read() == b"x" * size


def test_the_body_is_at_its_start_and_can_be_read_again() -> None:
    spool = Spool()
    spool.write(b"hello")
    with spool.finish() as body:
        assert body.tell() == 0
        assert body.read() == b"hello"
        body.seek(0)
        assert body.read() == b"hello"


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY + 5])
def test_an_abandoned_body_leaves_nothing_open(size: int) -> None:
    spool = Spool()
    spool.write(b"x" * size)
    spool.abandon()
    with pytest.raises(ValueError, match="closed"):
        spool.write(b"x")


@given(st.lists(st.integers(min_value=1, max_value=100_000), max_size=8))
def test_any_pieces(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    spool = Spool()
    for piece in pieces:
        spool.write(piece)
    with spool.finish() as body:
        assert body.read() == b"".join(pieces)


def test_a_small_body_that_nobody_reads_is_let_by() -> None:
    sink = DrainSink(10)
    sink.write(b"12345")
    sink.write(b"67890")
    sink.finish()


def test_a_large_body_that_nobody_reads_is_refused() -> None:
    """RFC 9112 §9.3: read to its end, or the connection closes."""
    sink = DrainSink(10)
    sink.write(b"1234567890")
    with pytest.raises(HTTPError) as refusal:
        sink.write(b"1")
    assert refusal.value.status == 413


@pytest.mark.parametrize("minor", [0, 1])
def test_only_a_client_of_http_1_1_that_waits_for_100_continue_is_not_drained(minor: int) -> None:
    """RFC 9110 §10.1.1: the Expect of an HTTP/1.0 client is ignored, here as well."""
    fields = [("content-length", "5"), ("expect", "100-continue")]
    request = Request("PUT", "/", minor, fields, CONTENT_LENGTH | EXPECT)
    error = HTTPError(403, "no")
    if minor == 0:
        assert isinstance(drain_or_reject(request, error), DrainSink)
        return
    with pytest.raises(HTTPError) as raised:
        drain_or_reject(request, error)
    assert raised.value is error
