"""Pipe: the body of an answer that is made in one thread and sent by another.

Knows how the two wait for each other: whoever makes the pieces is stopped while the client is slow, and the server,
which never waits, is given a promise when there is nothing yet. Does not know what is in the pieces.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

from .future import LightFuture

__all__ = ["Abandoned", "Pipe"]

_MAX_HELD = 64 * 1024


class Abandoned(ConnectionError):
    """Nobody takes the rest: the client has gone, or never wanted a body."""


class Pipe:
    """One thread calls `put` and, at last, `end` or `fail`; the server iterates, and calls `close` in every case."""

    __slots__ = ("_changed", "_closed", "_ended", "_error", "_held", "_most_held", "_pieces", "_promise")

    def __init__(self, most_held: int = _MAX_HELD) -> None:
        """most_held: bytes that wait for the client; `put` returns while there are fewer."""
        self._most_held = most_held
        self._changed = threading.Condition(threading.Lock())
        self._pieces: list[bytes] = []
        self._held = 0
        self._promise: Future[bytes] | None = None  # of the next piece, once the server has asked in vain
        self._ended = False
        self._error: Exception | None = None
        self._closed = False

    # In the thread that makes the pieces.

    def put(self, piece: bytes) -> None:
        """Sends `piece`, once there is room for it. Raises Abandoned when nobody wants it any more."""
        with self._changed:
            while self._held >= self._most_held and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Abandoned("the client does not take the rest of the answer")
            promise, self._promise = self._promise, None
            if promise is None:
                self._pieces.append(piece)
                self._held += len(piece)
        if promise is not None:  # without the lock: whoever waits for it is called at once
            promise.set_result(piece)

    def end(self) -> None:
        """There are no more pieces."""
        self._finish(None)

    def fail(self, error: Exception) -> None:
        """There will be no more pieces, though there should be; the server is told behind the last one."""
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        with self._changed:
            self._ended = True
            self._error = error
            promise, self._promise = self._promise, None
        if promise is not None:
            promise.set_result(b"")  # and the next one is asked for, which is not there

    @property
    def abandoned(self) -> bool:
        return self._closed

    # In the thread of the server.

    def __iter__(self) -> Pipe:
        return self

    def __next__(self) -> bytes | Future[bytes]:
        """All that is there, or the promise of the next piece."""
        with self._changed:
            if self._pieces:
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._held = 0
                self._changed.notify()
                return data
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopIteration
            promise: Future[bytes] = LightFuture()
            promise.set_running_or_notify_cancel()  # so that it cannot be cancelled: it may be kept at any moment
            self._promise = promise
            return promise

    def close(self) -> None:
        """The rest is not wanted."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._promise = None
            self._changed.notify()
