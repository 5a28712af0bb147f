"""Pipe: pieces from one thread to another, without ever blocking the server and without losing any."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import Any

import pytest

from kaserve.http.messages import FileSpan
from kaserve.threads.pipe import Abandoned, Patience, Pipe
from kaserve.threads.spool import SpoolSpace
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

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    wait_for(lambda: puts == 3)
    parts = []
    for piece in pipe:
        data = content(piece.result(PATIENCE) if isinstance(piece, Future) else piece)
        assert len(data) <= 12
        parts.append(data)
    thread.join(PATIENCE)
    assert b"".join(parts) == b"".join(pieces)


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
        thread = threading.Thread(target=put, daemon=True)
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


# Slow clients.


@pytest.fixture
def make_pipe() -> Iterator[Callable[..., Pipe]]:
    """Makes pipes that are closed at the end of the test."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Pipe:
            return stack.enter_context(closing(Pipe(*arguments, **options)))

        yield make


class _Space(SpoolSpace):
    """Records how much disk space was used."""

    def __init__(self, per_response: int = 1 << 20, total: int = 1 << 20) -> None:
        super().__init__(per_response, total)
        self.used = 0
        self.most = 0

    def reserve(self, size: int) -> bool:
        reserved = super().reserve(size)
        if reserved:
            self.used += size
            self.most = max(self.most, self.used)
        return reserved

    def release(self, size: int) -> None:
        super().release(size)
        self.used -= size


def numbered(count: int, size: int = 100) -> list[bytes]:
    """Pieces that differ, so that a wrong order shows."""
    return [b"%0*d" % (size, number) for number in range(count)]


def content(piece: bytes | FileSpan) -> bytes:
    return os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSpan) else piece


def received(pipe: Pipe) -> Iterator[bytes]:
    """What a server gets from `pipe`; each span is read before the next call, as the server does."""
    for piece in pipe:
        yield content(piece.result(PATIENCE) if isinstance(piece, Future) else piece)


def test_what_a_slow_client_does_not_take_goes_to_a_file(make_pipe: Callable[..., Pipe]) -> None:
    """The thread is free as soon as the response is complete, and the memory is bounded."""
    space = _Space()
    pipe = make_pipe(250, space, patience=0.0)
    pieces = numbered(5000)
    for piece in pieces:
        pipe.put(piece)  # in this thread: nobody reads
    pipe.end()
    assert pipe._buffered == 300
    assert space.used == 500_000 - 300
    assert b"".join(received(pipe)) == b"".join(pieces)
    pipe.close()
    assert space.used == 0


def test_a_slow_client_and_a_fast_thread_at_once(make_pipe: Callable[..., Pipe]) -> None:
    space = _Space(per_response=3000)
    pipe = make_pipe(250, space, patience=0.0)
    pieces = numbered(3000)

    def put() -> None:
        for piece in pieces:
            pipe.put(piece)
        pipe.end()

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    assert b"".join(received(pipe)) == b"".join(pieces)
    thread.join(PATIENCE)
    assert space.most <= 3000
    pipe.close()
    assert space.used == 0


def test_a_client_that_keeps_up_causes_no_disk_writes(make_pipe: Callable[..., Pipe]) -> None:
    space = _Space()
    pipe = make_pipe(250, space, patience=PATIENCE)
    pieces = numbered(3000)

    def put() -> None:
        for piece in pieces:
            pipe.put(piece)
        pipe.end()

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    assert b"".join(received(pipe)) == b"".join(pieces)
    thread.join(PATIENCE)
    assert space.most == 0


def test_a_client_that_catches_up_is_served_from_memory_again(make_pipe: Callable[..., Pipe]) -> None:
    space = _Space()
    pipe = make_pipe(100, space, patience=0.0)
    for piece in numbered(3):
        pipe.put(piece)
    assert space.used == 200
    stream = received(pipe)
    assert next(stream) + next(stream) == b"".join(numbered(3))
    for number in range(100):  # each is taken before the next one is made
        pipe.put(b"%d" % number)
        assert next(stream) == b"%d" % number
    assert space.used == 0


def test_what_was_sent_from_a_file_is_never_overwritten(make_pipe: Callable[..., Pipe]) -> None:
    """sendfile() sends the pages of the file: what changes in them is changed for the client as well, until it has
    received them."""
    pipe = make_pipe(100, _Space(), patience=0.0)
    on_their_way = []
    pieces = numbered(40)
    for first, second in zip(pieces[::2], pieces[1::2], strict=True):
        pipe.put(first)
        pipe.put(second)
        assert next(pipe) == first
        span = next(pipe)
        assert isinstance(span, FileSpan)
        on_their_way.append((os.dup(span.fd), span, second))
        awaited = next(pipe)  # the kernel has accepted the span
        pipe.put(b"")
        assert isinstance(awaited, Future)
    for fd, span, second in on_their_way:
        assert os.pread(fd, span.length, span.offset) == second
        os.close(fd)


def test_the_space_is_released_when_the_client_has_caught_up(make_pipe: Callable[..., Pipe]) -> None:
    """A response that never ends does not fill the disk while its client takes everything in the end."""
    space = _Space(per_response=1000)
    pipe = make_pipe(100, space, patience=0.0)
    pieces = numbered(10)
    for _ in range(50):
        awaited = next(pipe)
        for piece in pieces:
            pipe.put(piece)
        assert isinstance(awaited, Future)
        data = content(awaited.result(0))
        while len(data) < 1000:
            part = next(pipe)
            assert not isinstance(part, Future)
            data += content(part)
        assert data == b"".join(pieces)
    assert space.most == 800


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param((500, 1 << 20), id="of the response"),
        pytest.param((1 << 20, 500), id="of all responses"),
        pytest.param((0, 1 << 20), id="0"),
    ],
)
def test_put_waits_at_a_limit_of_the_disk_space(make_pipe: Callable[..., Pipe], limits: tuple[int, int]) -> None:
    space = _Space(*limits)
    _assert_waits(make_pipe(100, space, patience=0.0), puts_before=6 if limits[0] else 1)
    assert space.most <= 500


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_put_waits_when_the_file_cannot_be_written(
    make_pipe: Callable[..., Pipe], number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A part of a piece that is on the disk already is not sent twice."""
    left = 450
    write = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal left
        if left == 0:
            raise OSError(number, os.strerror(number))
        written = write(fd, data[:left], offset)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    _assert_waits(make_pipe(100, SpoolSpace(1 << 20, 1 << 20), patience=0.0), puts_before=5)
    assert caplog.text.count("cannot be spooled") == 1


def test_put_waits_when_there_is_no_directory_for_the_file(
    make_pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def temporary_file(**options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    _assert_waits(make_pipe(100, SpoolSpace(1 << 20, 1 << 20), patience=0.0), puts_before=1)
    assert caplog.text.count("cannot be spooled") == 1


def _assert_waits(pipe: Pipe, puts_before: int) -> None:
    """A thread is blocked after `puts_before` pieces, and all of them arrive, once."""
    pieces = numbered(40)
    puts = 0

    def put() -> None:
        nonlocal puts
        for piece in pieces:
            pipe.put(piece)
            puts += 1
        pipe.end()

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    wait_for(lambda: puts == puts_before)
    assert b"".join(received(pipe)) == b"".join(pieces)
    thread.join(PATIENCE)


def test_an_error_comes_after_what_is_in_the_file(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe(100, SpoolSpace(1000, 1000), patience=0.0)
    for piece in numbered(3):
        pipe.put(piece)
    pipe.fail(LookupError("the error"))
    stream = received(pipe)
    assert next(stream) + next(stream) == b"".join(numbered(3))
    with pytest.raises(LookupError):
        next(stream)


def test_close_deletes_the_file(make_pipe: Callable[..., Pipe]) -> None:
    space = _Space()
    pipe = make_pipe(100, space, patience=0.0)
    for piece in numbered(3):
        pipe.put(piece)
    next(pipe)
    span = next(pipe)
    assert isinstance(span, FileSpan)
    pipe.close()
    assert space.used == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(span.fd)
    pipe.close()


def test_close_during_a_write_leaves_the_file_to_the_thread_that_writes(
    make_pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor might otherwise belong to another file already."""
    space = _Space()
    pipe = make_pipe(100, space, patience=0.0)
    write = os.pwrite
    written_to = []

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        pipe.close()  # what the server's thread might do at this moment
        written_to.append(fd)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pipe.put(b"a" * 100)
    pipe.put(b"b" * 100)
    assert len(written_to) == 1
    assert space.used == 0
    with pytest.raises(Abandoned):
        pipe.put(b"c")


def test_a_piece_that_is_awaited_during_a_write_is_a_span(
    make_pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_pipe(100, _Space(), patience=0.0)
    write = os.pwrite
    futures = []

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        assert next(pipe) == b"a" * 100
        futures.append(next(pipe))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pipe.put(b"a" * 100)
    pipe.put(b"b" * 100)
    (future,) = futures
    assert isinstance(future, Future)
    assert content(future.result(0)) == b"b" * 100


def test_patience_is_for_the_whole_response() -> None:
    patience = Patience(1.0)
    for _ in range(3):
        patience.spend(0.25)
    assert patience.left == 0.25
    patience.earn(8 << 20)  # half a second's worth of what counts as fast
    assert patience.left == 0.75
    patience.earn(1 << 30)
    assert patience.left == 1.0
    patience.spend(5.0)
    assert patience.left == 0.0
