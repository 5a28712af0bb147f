"""Starting a task at once, and waiting for a `concurrent.futures.Future` in a coroutine of the same thread.

Knows how asyncio's tasks begin, and how the two kinds of Future are told of each other. Does not know what the tasks
do.

A task begins with a callback of the loop. Most applications respond without ever waiting, and then the trip through the
loop is most of what a task costs. Python 3.12 has eager tasks for that, which run until they wait for the first time
when they are made. In Python 3.11 the same is possible: a task hands its first step to `loop.call_soon`, and what is
put in the place of that method for this one call gets the step, and runs it. The task is a real one: `current_task`,
cancellation and context variables are as in any other.

An eager task must not begin within another task, which in Python 3.11 would be an error. So this is for callbacks of
the reactor, which are called by no task.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from typing import Any, TypeVar

from ..threads.future import LightFuture

__all__ = ["RunningTasks", "as_exception", "future_of", "start_task", "wait_for"]

T = TypeVar("T")

_IS_EAGER = sys.version_info >= (3, 12)


def start_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Returns a task of `coroutine`, which has run until it waits for something, or to its end.

    If the loop is one that cannot, or in Python 3.11 another task is running, it begins in the next iteration.

    Raises:
        RuntimeError: `loop` does not run in this thread.
    """
    if asyncio._get_running_loop() is not loop:
        coroutine.close()
        raise RuntimeError("an application or handler of asyncio was called in another thread than that of its loop")
    if _IS_EAGER:
        return asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg]  # since Python 3.12
    return _start_task_of_3_11(loop, coroutine)


def _start_task_of_3_11(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    if asyncio.current_task(loop) is not None:
        return loop.create_task(coroutine)
    steps: list[tuple[Callable[[], object], Context]] = []
    try:
        vars(loop)["call_soon"] = lambda step, *, context: steps.append((step, context))
    except TypeError:  # a loop in C without a dictionary
        return loop.create_task(coroutine)
    try:
        task = asyncio.Task(coroutine, loop=loop)
    finally:
        del vars(loop)["call_soon"]  # which has hidden the method
    ((step, context),) = steps
    context.run(step)
    return task


def future_of(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Runs `coroutine` as a task, and returns a Future of its result for code that knows no asyncio. To cancel the
    Future cancels the task."""
    future: Future[T] = LightFuture()
    task = start_task(loop, coroutine)
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

    async def finish(self, patience: float) -> None:
        """Waits for those that run.

        Args:
            patience: seconds, after which they are cancelled, and have a moment to clean up.
        """
        if self._tasks:
            await asyncio.wait(self._tasks.copy(), timeout=patience)
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks.copy(), timeout=_LAST_WORDS)


_LAST_WORDS = 0.5  # seconds


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
