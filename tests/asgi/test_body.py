"""A body on its way from a coroutine to the connection."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from kaserve.asgi.body import MAX_AHEAD, StreamedBody


def test_pieces_that_are_here_come_as_one() -> None:
    body = StreamedBody()
    body.put(b"one ")
    body.put(b"")
    body.put(b"two")
    body.end()
    assert list(body) == [b"one two"]


def test_a_future_for_what_is_not_here() -> None:
    body = StreamedBody()
    awaited = next(body)
    assert isinstance(awaited, Future)
    assert not awaited.cancel()
    body.put(b"one")
    assert awaited.result(0) == b""  # look again
    assert next(body) == b"one"


def test_the_end_and_an_error_are_told() -> None:
    for fail in (False, True):
        body = StreamedBody()
        awaited = next(body)
        assert isinstance(awaited, Future)
        if fail:
            body.fail(KeyError())
        else:
            body.end()
        assert awaited.done()
        with pytest.raises(KeyError if fail else StopIteration):
            next(body)


def test_what_is_ahead() -> None:
    """A piece counts until the kernel has accepted it, which is when the connection asks for the next one."""
    body = StreamedBody()
    body.put(b"x" * 10)
    body.put(b"x" * 5)
    assert body.ahead == 15
    next(body)
    assert body.ahead == 15
    next(body)
    assert body.ahead == 0


def test_draining() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        body = StreamedBody()
        await body.drain(loop)
        body.put(b"x" * MAX_AHEAD)
        next(body)
        waiting = asyncio.ensure_future(body.drain(loop))
        await asyncio.sleep(0)
        assert not waiting.done()
        next(body)
        await waiting
        body.put(b"x" * MAX_AHEAD)
        waiting = asyncio.ensure_future(body.drain(loop))
        await asyncio.sleep(0)
        body.close()
        await waiting

    asyncio.run(main())


def test_the_whole() -> None:
    body = StreamedBody()
    body.put(b"one ")
    assert body.take_whole() is None
    body.put(b"two")
    body.end()
    assert body.take_whole() == b"one two"
    assert next(body) == b"one two"
    assert body.take_whole() is None


def test_a_close_before_the_end_is_told() -> None:
    told: list[bool] = []
    for ends in (True, False):
        body = StreamedBody()
        body.on_close = lambda: told.append(True)
        if ends:
            body.end()
        body.close()
        body.put(b"ignored")
        assert body.ahead == 0
    assert told == [True]
