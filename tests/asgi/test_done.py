"""An awaitable that has its result: everything that awaits accepts it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from kaserve.asgi.done import NOTHING, new_done


def test_await() -> None:
    async def main() -> tuple[object, object, object]:
        done = new_done({"a": 1})
        return await done, await done, await NOTHING

    assert asyncio.run(main()) == ({"a": 1}, {"a": 1}, None)


def test_results_that_could_be_mistaken() -> None:
    """StopIteration unpacks a tuple, and raises an exception that it gets in place of a value."""

    async def main() -> list[object]:
        return [await new_done(value) for value in ((1, 2), (), KeyError("x"))]

    first, second, third = asyncio.run(main())
    assert (first, second) == ((1, 2), ())
    assert isinstance(third, KeyError)


def test_it_is_a_coroutine_for_asyncio() -> None:
    async def main() -> list[object]:
        task = asyncio.create_task(new_done(1))
        return [await task, await asyncio.wait_for(new_done(2), 1), *await asyncio.gather(new_done(3), new_done(4))]

    assert isinstance(NOTHING, Coroutine)
    assert asyncio.run(main()) == [1, 2, 3, 4]


def test_throw_and_close() -> None:
    NOTHING.close()
    with pytest.raises(KeyError):
        NOTHING.throw(KeyError())
    with pytest.raises(KeyError):
        NOTHING.throw(KeyError, KeyError())
