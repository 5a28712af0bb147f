"""Pipe: pieces from one thread to another, without ever blocking the server and without losing any."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from kaserve.threads.pipe import Abandoned, Pipe
from tests.tools.server import PATIENCE, wait_for


def test_what_is_there_comes_at_once() -> None:
    pipe = Pipe()
    for piece in (b"a", b"b", b"c"):
        pipe.put(piece)
    assert next(pipe) == b"abc"
    pipe.put(b"d")
    pipe.end()
    assert list(pipe) == [b"d"]
    assert list(pipe) == []


def test_a_missing_piece_is_a_future() -> None:
    pipe = Pipe()
    for piece in (b"a", b"b"):
        future = next(pipe)
        assert isinstance(future, Future)
        assert not future.done()
        assert not future.cancel()  # put() would not know in time
        pipe.put(piece)
        assert future.result(0) == piece
    future = next(pipe)
    pipe.end()
    assert isinstance(future, Future)
    assert future.result(0) == b""
    assert list(pipe) == []


def test_an_error_comes_after_the_pieces() -> None:
    pipe = Pipe()
    pipe.put(b"a")
    pipe.fail(LookupError("the error"))
    assert next(pipe) == b"a"
    with pytest.raises(LookupError):
        next(pipe)


def test_an_error_instead_of_an_awaited_piece() -> None:
    pipe = Pipe()
    future = next(pipe)
    pipe.fail(LookupError("the error"))
    assert isinstance(future, Future)
    assert future.result(0) == b""
    with pytest.raises(LookupError):
        next(pipe)


def test_put_blocks_while_too_much_is_buffered() -> None:
    pipe = Pipe(10)
    pieces = [b"x" * 4] * 20
    puts = 0

    def put() -> None:
        nonlocal puts
        for piece in pieces:
            pipe.put(piece)
            puts += 1
        pipe.end()

    thread = threading.Thread(target=put)
    thread.start()
    wait_for(lambda: puts == 3)
    received = []
    for piece in pipe:
        data = piece.result(PATIENCE) if isinstance(piece, Future) else piece
        assert len(data) <= 12
        received.append(data)
    thread.join(PATIENCE)
    assert b"".join(received) == b"".join(pieces)


@pytest.mark.parametrize("waits", [pytest.param(False, id="before put"), pytest.param(True, id="during put")])
def test_put_raises_after_close(waits: bool) -> None:
    pipe = Pipe(1)
    errors = []

    def put() -> None:
        pipe.put(b"x")
        try:
            pipe.put(b"y")
        except Abandoned as error:
            errors.append(error)

    if waits:
        thread = threading.Thread(target=put)
        thread.start()
        wait_for(lambda: pipe._buffered == 1)
        pipe.close()
        thread.join(PATIENCE)
        assert len(errors) == 1
    else:
        pipe.close()
        with pytest.raises(Abandoned):
            pipe.put(b"x")
    assert pipe.abandoned
    pipe.close()  # may be called twice
    pipe.end()


def test_an_awaited_piece_stays_pending_after_close() -> None:
    pipe = Pipe()
    future = next(pipe)
    pipe.close()
    pipe.end()
    assert isinstance(future, Future)
    assert not future.done()
