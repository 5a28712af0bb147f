"""TaskStarter: tasks that begin at once.

Knows how asyncio's tasks begin. Does not know what they do.

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
from asyncio import Task, current_task
from collections.abc import Coroutine
from typing import Any

__all__ = ["TaskStarter"]

_HAS_EAGER_TASKS = sys.version_info >= (3, 12)
_running_loop = asyncio._get_running_loop
_task: Any = Task


class TaskStarter:
    """Starts tasks in one loop."""

    __slots__ = ("_attributes", "_capturer", "_context", "_loop", "_step")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        try:
            self._attributes: dict[str, Any] | None = vars(loop)
        except TypeError:  # a loop in C that has none: in Python 3.11 its tasks begin in the next iteration
            self._attributes = None
        self._capturer = self._capture
        self._step: Any = None
        self._context: Any = None

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Returns a task of `coroutine`, which has run until it waits for something, or to its end.

        If the loop is one that cannot, or has a task factory, or in Python 3.11 another task is running, it begins in
        the next iteration.

        Raises:
            RuntimeError: the loop does not run in this thread.
        """
        loop = self._loop
        if _running_loop() is not loop:
            coroutine.close()
            raise RuntimeError(
                "an application or handler of asyncio was called in another thread than that of its loop"
            )
        if loop.get_task_factory() is not None:  # the application's own: it may want to know of every task
            return loop.create_task(coroutine)
        if _HAS_EAGER_TASKS:
            task: asyncio.Task[Any] = _task(coroutine, loop=loop, eager_start=True)
            return task
        attributes = self._attributes
        if attributes is None or current_task(loop) is not None:
            return loop.create_task(coroutine)
        attributes["call_soon"] = self._capturer
        try:
            task = _task(coroutine, loop=loop)
        finally:
            del attributes["call_soon"]  # which has hidden the method
        step, context = self._step, self._context
        self._step = self._context = None
        if step is None:  # a loop that calls the method in another way
            return task
        context.run(step)
        return task

    def _capture(self, step: Any, *, context: Any) -> None:
        """`call_soon` for the first step of a new task."""
        self._step = step
        self._context = context
