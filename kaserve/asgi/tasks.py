"""Tasks and Futures of the two kinds: of asyncio's, and of `concurrent.futures`, which connections wait for.

Knows how one is told of the other, and how tasks end with the server. Does not know what the tasks do, nor how they
begin (`start`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ..threads.future import LightFuture

__all__ = ["RunningTasks", "as_coroutine", "as_exception", "future_of", "wait_for"]

T = TypeVar("T")


def future_of(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Runs `coroutine` as a task, and returns a Future of its result for code that knows no asyncio. To cancel the
    Future cancels the task."""
    future: Future[T] = LightFuture()
    task = loop.create_task(coroutine)
    task.add_done_callback(lambda task: _complete(future, task))
    future.add_done_callback(lambda future: task.cancel() if future.cancelled() else None)
    return future


def _complete(future: Future[T], task: asyncio.Task[T]) -> None:
    if not future.set_running_or_notify_cancel():
        if not task.cancelled():
            task.exception()  # nobody waits for it any more; asyncio would log that nobody has asked
    elif task.cancelled():
        future.set_exception(RuntimeError("the task was cancelled"))
    elif (error := task.exception()) is not None:
        future.set_exception(as_exception(error))
    else:
        future.set_result(task.result())


async def as_coroutine(awaitable: Awaitable[T]) -> T:
    """Awaits something that is no coroutine, for a task, which needs one."""
    return await awaitable


def as_exception(error: BaseException) -> Exception:
    """Returns `error` as it may be raised again in the reactor's turn, where a SystemExit would end the server and a
    StopIteration the body of a response."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"it raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


class RunningTasks:
    """The tasks of requests, which the end of the server waits for: they may outlast the responses."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(self, task: asyncio.Task[Any]) -> None:
        """Keeps `task` until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __len__(self) -> int:
        return len(self._tasks)

    async def finish(self, patience: float, seconds: float) -> None:
        """Waits for those that run.

        Args:
            patience: seconds, after which they are cancelled, and have a moment to clean up.
            seconds: until everything must have ended. Half of what is left after `patience` is for the application's
                own shutdown, whatever its tasks do with their cancellation.
        """
        if self._tasks:
            await asyncio.wait(self._tasks.copy(), timeout=patience)
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks.copy(), timeout=min(_MAX_LAST_WORDS, max(0.0, seconds - patience) / 2))


_MAX_LAST_WORDS = 0.5  # seconds


async def wait_for(loop: asyncio.AbstractEventLoop, future: Future[T]) -> T:
    """Waits for a Future that is completed in the loop's own thread, and returns its result. To cancel the waiting
    cancels the Future."""
    if not future.done():
        waiter: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        except BaseException:
            future.cancel()
            raise
    return future.result()
