"""BodyStream without a connection: what was written, what comes after it, and reads that wait."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from kaserve.http.body_stream import BodyStream, ClientDisconnected, ReceivedBody
from kaserve.http.errors import HTTPError
from kaserve.http.messages import Request


class Owner:
    """Plays the connection: counts the reads that wait."""

    def __init__(self) -> None:
        self.wanted = 0

    def is_own_thread(self) -> bool:
        return True

    def want_body(self, stream: BodyStream) -> None:
        self.wanted += 1

    def call(self, function: Callable[[], object]) -> None:
        raise AssertionError

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        raise AssertionError


@pytest.fixture
def stream() -> BodyStream:
    made = BodyStream()
    made.owner = Owner()
    return made


def arrive(stream: BodyStream, *pieces: bytes) -> None:
    for piece in pieces:
        stream.write(piece)
    stream.wake()


def waiting(stream: BodyStream, n: int = 100) -> Future[bytes]:
    read = stream.read(n)
    assert isinstance(read, Future)
    assert stream.is_waiting
    return read


def test_a_read_that_waits_gets_all_that_came_together(stream: BodyStream) -> None:
    read = waiting(stream)
    stream.wake()
    assert not read.done()
    arrive(stream, b"one", b"two", b"three")
    assert read.result(0) == b"onetwothree"
    assert not stream.is_waiting
    assert isinstance(stream.owner, Owner)
    assert stream.owner.wanted == 1


@pytest.mark.parametrize("n", range(1, 9))
def test_reads_of_any_size(stream: BodyStream, n: int) -> None:
    stream.write(b"abc")
    stream.write(b"de")
    stream.finish()
    pieces: list[Any] = []
    while piece := stream.read(n):
        pieces.append(piece)
    assert b"".join(pieces) == b"abcde"
    assert max(map(len, pieces)) <= n
    assert stream.read() == b""


def test_what_came_before_a_fault_is_read_first(stream: BodyStream) -> None:
    stream.write(b"abc")
    stream.fail(HTTPError(400, "broken"))
    stream.fail(HTTPError(413, "a later fault is none"))
    assert stream.failure is not None
    assert stream.read() == b"abc"
    for _ in range(2):
        with pytest.raises(HTTPError, match="broken"):
            stream.read()


@pytest.mark.parametrize("disconnected", [False, True])
@pytest.mark.parametrize("finished", [False, True])
def test_no_part_looks_like_the_whole(stream: BodyStream, finished: bool, disconnected: bool) -> None:
    stream.write(b"abc")
    if finished:
        stream.finish()
    stream.close(disconnected=disconnected)
    with pytest.raises(ClientDisconnected if disconnected else RuntimeError):
        stream.read()
    assert stream.owner is None


def test_a_complete_body_stays_complete(stream: BodyStream) -> None:
    stream.write(b"abc")
    stream.finish()
    assert stream.read() == b"abc"
    stream.close(disconnected=True)
    assert stream.read() == b""


def test_a_fault_is_kept_when_the_request_is_over(stream: BodyStream) -> None:
    stream.fail(HTTPError(408, "too late"))
    stream.close()
    with pytest.raises(HTTPError, match="too late"):
        stream.read()


def test_a_stream_of_no_request_cannot_be_read() -> None:
    with pytest.raises(RuntimeError, match="belongs to no request"):
        BodyStream().read()


def test_consume_of_a_cancelled_read(stream: BodyStream) -> None:
    done: Future[Any] = stream.consume(len, list)
    assert stream._waiting is not None
    stream._waiting.cancel()
    assert isinstance(done.exception(0), CancelledError)


def test_a_received_body_is_a_stream() -> None:
    request = Request("POST", "/", 1, [])
    assert request.stream.read() == b""
    request.body = io.BytesIO(b"abcdef")
    request.trailers = [("a", "b")]
    assert (request.stream.read(4), request.stream.read(4)) == (b"abcd", b"ef")
    assert request.stream.trailers == [("a", "b")]
    request.body.seek(0)
    pieces: list[bytes] = []
    assert request.stream.consume(pieces.append, lambda: "done").result(0) == "done"
    assert pieces == [b"abcdef"]
    assert isinstance(request.stream, ReceivedBody)
