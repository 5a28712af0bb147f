"""Work in slices: what is begun at once, what is done on other threads, and that it ends in every case."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from kaserve.threads.slices import IncrementalBody, begin


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Work:
    """Pieces, and a note of the threads they were made in and of the end."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.threads: list[int] = []
        self.ended = threading.Event()
        self.pieces = self._make(pieces, error)

    def _make(self, pieces: tuple[bytes, ...], error: Exception | None) -> Generator[bytes, None, None]:
        try:
            for piece in pieces:
                self.threads.append(threading.get_ident())
                yield piece
            if error is not None:
                raise error
        finally:
            self.ended.set()


def test_short_work_is_done_at_once(executor: ThreadPoolExecutor) -> None:
    work = Work(b"a", b"", b"b")
    assert begin(executor, work.pieces) == b"ab"
    assert work.ended.is_set()


def test_long_work_goes_on_in_other_threads(executor: ThreadPoolExecutor) -> None:
    work = Work(b"a", b"b", b"", b"", b"", b"c", b"d", b"", b"e")
    body = begin(executor, work.pieces)
    assert isinstance(body, IncrementalBody)
    first, *others = body
    assert first == b"abc"
    results: list[Any] = []
    for other in others:
        assert isinstance(other, Future)
        results.append(other.result())
    assert b"".join(results) == b"de"
    assert work.ended.is_set()
    here = threading.get_ident()
    assert [thread == here for thread in work.threads] == [True] * 6 + [False] * 3


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_an_error_at_the_beginning_is_raised_at_once(executor: ThreadPoolExecutor, pieces: int) -> None:
    with pytest.raises(PermissionError):
        begin(executor, Work(*[b"x"] * pieces, error=PermissionError()).pieces)


def test_an_error_later_arrives_with_its_piece(executor: ThreadPoolExecutor) -> None:
    body = begin(executor, Work(*[b"x"] * 6, error=PermissionError()).pieces)
    assert isinstance(body, IncrementalBody)
    assert next(body) == b"xxxxxx"
    piece = next(body)
    assert isinstance(piece, Future)
    with pytest.raises(PermissionError):
        piece.result()


def test_work_that_is_not_wanted_any_more_ends_where_it_stands(executor: ThreadPoolExecutor) -> None:
    work = Work(*[b"x"] * 100)
    body = IncrementalBody(executor, work.pieces)
    piece = next(body)
    assert isinstance(piece, Future)
    assert piece.result() == b"x"
    body.close()
    assert list(body) == []
    assert work.ended.wait(20)
    assert len(work.threads) == 1
    body.close()


def test_it_may_end_while_a_slice_is_made(executor: ThreadPoolExecutor) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def make() -> Generator[bytes, None, None]:
        try:
            started.set()
            assert go_on.wait(20)
            yield b"x"
        finally:
            ended.set()

    body = IncrementalBody(executor, make())
    piece = next(body)
    assert isinstance(piece, Future)
    assert started.wait(20)
    body.close()  # does not wait for it
    assert not ended.is_set()
    go_on.set()
    assert piece.result(20) == b"x"
    assert ended.wait(20)


def test_it_ends_also_when_the_threads_are_gone() -> None:
    executor = ThreadPoolExecutor(1)
    work = Work(*[b"x"] * 100)
    body = begin(executor, work.pieces)
    assert isinstance(body, IncrementalBody)
    executor.shutdown()
    body.close()
    assert work.ended.is_set()
