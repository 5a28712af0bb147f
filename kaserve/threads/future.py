"""Promise: a Future that costs a fraction of one, for answers that come from a thread at every request.

Knows what the server asks of a Future. `concurrent.futures.Future` has a Condition of its own, for those who wait in a
thread; the server never does, it is called. Whoever does wait gets what that takes only then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, TypeVar

__all__ = ["LightFuture"]

T = TypeVar("T")

_PENDING, _RUNNING, _CANCELLED, _DONE = range(4)


class LightFuture(Future[T]):
    """As a Future, but not for `concurrent.futures.wait` and `as_completed`, which look inside."""

    def __init__(self) -> None:  # not that of Future, which is what this is about
        self._lock = threading.Lock()
        self._state: Any = _PENDING
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], object]] = []

    def __repr__(self) -> str:
        return f"<Promise {('pending', 'running', 'cancelled', 'done')[self._state]}>"

    def cancel(self) -> bool:
        with self._lock:
            if self._state in (_RUNNING, _DONE):
                return False
            self._state = _CANCELLED
        self._tell()
        return True

    def cancelled(self) -> bool:
        return bool(self._state == _CANCELLED)

    def running(self) -> bool:
        return bool(self._state == _RUNNING)

    def done(self) -> bool:
        return bool(self._state >= _CANCELLED)

    def set_running_or_notify_cancel(self) -> bool:
        with self._lock:
            if self._state == _CANCELLED:
                return False
            if self._state != _PENDING:
                raise InvalidStateError(f"{self!r} is not pending")
            self._state = _RUNNING
            return True

    def set_result(self, result: T) -> None:
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._finish(None, exception)

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        with self._lock:
            if self._state >= _CANCELLED:
                raise InvalidStateError(f"{self!r} has an end already")
            self._value = value
            self._error = error
            self._state = _DONE
        self._tell()

    def _tell(self) -> None:
        """Calls back, each once: who comes later is called at once."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        with self._lock:
            if self._state < _CANCELLED:
                self._callbacks.append(fn)
                return
        fn(self)

    def result(self, timeout: float | None = None) -> T:
        error = self.exception(timeout)
        if error is not None:
            raise error
        value: T = self._value
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._state < _CANCELLED:
            over = threading.Event()
            self.add_done_callback(lambda _: over.set())
            if not over.wait(timeout):
                raise TimeoutError
        if self._state == _CANCELLED:
            raise CancelledError
        return self._error
