"""Waiter: what a coroutine waits for, in the place of an asyncio Future.

Knows what a task asks of a Future that it waits for. Does not know what is waited for.

A task that waits for a Future goes on in a callback of the loop, some time after the Future is done. What the reactor
has to tell a task comes in a turn of its own, in which no task is running. So the task may go on there and then, as
those of `start` begin: that saves the callback, and a trip through the loop, for each message of a WebSocket.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

__all__ = ["Waiter"]

_PENDING, _DONE, _CANCELLED = range(3)


class Waiter:
    """Something that one task can wait for, once."""

    # The first is part of what asyncio asks of a Future that is not its own (`asyncio.isfuture`).
    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop", "_state")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes one for a task that runs in `loop`."""
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._state = _PENDING

    def wake(self, *, now: bool = False) -> None:
        """Lets the task go on.

        Args:
            now: whether it may do so before this returns; only in the thread of the loop. It does then, unless another
                task is running.
        """
        if self._state == _PENDING:
            self._state = _DONE
            self._call(now)

    def _call(self, now: bool) -> None:
        callback, self._callback = self._callback, None
        context, self._context = self._context, None
        if callback is None or context is None:  # nobody waits yet
            return
        loop = self._loop
        if now and loop.is_running() and current_task(loop) is None:
            context.run(callback, self)
        else:
            loop.call_soon(callback, self, context=context)

    # What a task does with a Future.

    def __await__(self) -> Generator[Waiter, None, None]:
        if self._state == _PENDING:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the loop of the task."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        """Sets what continues the task."""
        self._callback, self._context = callback, context
        if self._state != _PENDING:
            self._call(False)

    def cancel(self, msg: Any = None) -> bool:
        """Cancels the waiting; called when the task is cancelled. Returns False if the waiting is over."""
        if self._state != _PENDING:
            return False
        self._state = _CANCELLED
        self._call(False)
        return True

    def result(self) -> None:
        """Returns when the waiting is over.

        Raises:
            CancelledError: it was cancelled.
        """
        if self._state == _CANCELLED:
            raise asyncio.CancelledError
