"""Pipe: a response body that one thread makes and another one sends.

Knows how the two wait for each other: the thread that makes the pieces blocks while the client is slow, and the server,
which never blocks, gets a Future when there is no piece yet. Does not know what is in the pieces.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

from .future import LightFuture

__all__ = ["Abandoned", "Pipe"]

_MAX_BUFFERED = 64 * 1024


class Abandoned(ConnectionError):
    """The rest of the response is not wanted: the client has left, or the response has no content."""


class Pipe:
    """A body of bytes pieces.

    One thread calls `put` for each piece and at last `end` or `fail`. The server's thread iterates, and calls `close`
    in every case.

    Args:
        max_buffered: bytes that may wait for the client. `put` returns while there are fewer, so that one piece more
            than that can be in memory.
    """

    __slots__ = ("_awaited", "_buffered", "_changed", "_closed", "_ended", "_error", "_max_buffered", "_pieces")

    def __init__(self, max_buffered: int = _MAX_BUFFERED) -> None:
        self._max_buffered = max_buffered
        self._changed = threading.Condition(threading.Lock())
        self._pieces: list[bytes] = []
        self._buffered = 0  # bytes in `_pieces`
        self._awaited: Future[bytes] | None = None  # the next piece, if the server has asked before it was made
        self._ended = False
        self._error: Exception | None = None
        self._closed = False

    # In the thread that makes the pieces.

    def put(self, piece: bytes) -> None:
        """Sends `piece`. Blocks while `max_buffered` bytes wait for the client.

        Raises:
            Abandoned: the server has closed the pipe.
        """
        with self._changed:
            while self._buffered >= self._max_buffered and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Abandoned("the rest of the response is not wanted: the client has left, or it has no content")
            awaited, self._awaited = self._awaited, None
            if awaited is None:
                self._pieces.append(piece)
                self._buffered += len(piece)
        if awaited is not None:  # without the lock, since this calls the server's callback
            awaited.set_result(piece)

    def end(self) -> None:
        """Ends the body after the pieces so far."""
        self._finish(None)

    def fail(self, error: Exception) -> None:
        """Ends the body too early: iterating raises `error` after the pieces so far."""
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        with self._changed:
            self._ended = True
            self._error = error
            awaited, self._awaited = self._awaited, None
        if awaited is not None:
            # An empty piece: the server then asks for the next one, and learns of the end or the error.
            awaited.set_result(b"")

    @property
    def abandoned(self) -> bool:
        """Whether the server has closed the pipe."""
        return self._closed

    # In the server's thread.

    def __iter__(self) -> Pipe:
        return self

    def __next__(self) -> bytes | Future[bytes]:
        """All the bytes that are there, or a Future of the next piece if there are none."""
        with self._changed:
            if self._pieces:
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._buffered = 0
                self._changed.notify()
                return data
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopIteration
            awaited: Future[bytes] = LightFuture()
            # Marked as running, so that it cannot be cancelled: `put` takes it out of `_awaited` and completes it
            # without the lock, and a piece must not be lost in between. A server that leaves calls `close`.
            awaited.set_running_or_notify_cancel()
            self._awaited = awaited
            return awaited

    def close(self) -> None:
        """Drops what is buffered, and makes `put` raise Abandoned from now on. May be called twice."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._awaited = None
            self._changed.notify()
