"""LightFuture: a Future that costs a fraction of the standard one, for responses that come from a thread.

A WSGI application in threads makes one Future per request, and one more per piece of a streamed response.
`concurrent.futures.Future` makes a Condition for each, for threads that wait in `result()`. The server never waits like
that: it is called back. So a LightFuture has one Lock, and makes an Event only if a thread really waits. Measured with
timeit and processor time (CPython 3.11, medians of 9 runs of 50,000, three times): creating one, adding a callback,
`set_running_or_notify_cancel()`, `set_result()`, the callback and `result()` take 1.06 to 1.09 us with LightFuture, and
2.55 to 2.57 us with `concurrent.futures.Future`.

Knows what the server needs of a Future (`FutureLike`). Does not know what the results are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["FutureLike", "LightFuture"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_PENDING, _RUNNING, _CANCELLED, _DONE = range(4)


@runtime_checkable
class FutureLike(Protocol[T_co]):
    """The methods of a Future that a connection calls, and no others.

    `concurrent.futures.Future` and LightFuture have them. (asyncio's Future does not fit: it belongs to a loop, and
    calls back only while that loop runs.)

    `http.handler.HandlerResult` still names Future and not this Protocol, and LightFuture derives from Future. A
    connection must tell a Future from a Response and from a mistake, by isinstance, and isinstance with a Protocol
    looks up each method by name. For a LightFuture that takes 8 us on Python 3.11 instead of 0.03 us: as long as a
    whole request.
    """

    def done(self) -> bool:
        """Whether it has a result or an exception, or was cancelled."""

    def result(self) -> T_co:
        """The result, once it is done; raises the exception if there is one instead."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Calls `fn` with the Future when it is done, in whichever thread completes it; at once if it is done."""

    def cancel(self) -> bool:
        """Cancels what has not begun. Returns False if it has."""

    def cancelled(self) -> bool:
        """Whether it was cancelled."""

    def exception(self) -> BaseException | None:
        """The exception, once it is done; None if there is a result instead."""


class Outcome:
    """The methods of a LightFuture. They are apart from it because they are compiled: a compiled class cannot derive
    from a class such as `concurrent.futures.Future`, but such a class can derive from a compiled one as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage = _PENDING
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], object]] = []

    def __repr__(self) -> str:
        return f"<LightFuture {('pending', 'running', 'cancelled', 'done')[self._stage]}>"

    def cancel(self) -> bool:
        with self._lock:
            if self._stage in (_RUNNING, _DONE):
                return False
            self._stage = _CANCELLED
        self._run_callbacks()
        return True

    def cancelled(self) -> bool:
        return self._stage == _CANCELLED

    def running(self) -> bool:
        return self._stage == _RUNNING

    def done(self) -> bool:
        return self._stage >= _CANCELLED

    def set_running_or_notify_cancel(self) -> bool:
        with self._lock:
            if self._stage == _CANCELLED:
                return False
            if self._stage != _PENDING:
                raise InvalidStateError(f"{self!r} is not pending")
            self._stage = _RUNNING
            return True

    def set_result(self, result: Any) -> None:
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._finish(None, exception)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        """Sets the result or the exception."""
        with self._lock:
            if self._stage >= _CANCELLED:
                raise InvalidStateError(f"{self!r} already has a result")
            self._value = value
            self._error = error
            self._stage = _DONE
        self._run_callbacks()

    def _run_callbacks(self) -> None:
        """Calls each callback once, without the lock, so that a callback may use the Future. One that is added from now
        on is called by `add_done_callback` itself."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        with self._lock:
            if self._stage < _CANCELLED:
                self._callbacks.append(fn)
                return
        fn(self)

    def result(self, timeout: float | None = None) -> Any:
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._stage < _CANCELLED:
            done = threading.Event()
            self.add_done_callback(lambda _: done.set())
            if not done.wait(timeout):
                raise TimeoutError
        if self._stage == _CANCELLED:
            raise CancelledError
        return self._error


class LightFuture(Outcome, Future[T]):
    """A Future for everything but `concurrent.futures.wait` and `as_completed`, which use the internals of theirs. It
    has none of them: `Future.__init__` is not called, since the Condition that it makes is the cost to be saved."""
