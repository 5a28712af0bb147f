"""Pipe: a response body that one thread makes and another one sends.

Knows how the two wait for each other: the server, which never blocks, gets a Future when there is no piece yet; the
thread that makes the pieces waits a moment for a client that does not keep up, and then spools the rest to a temporary
file, so that slow clients do not occupy threads. Does not know what is in the pieces.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future

from ..http.file_span import Piece
from .future import LightFuture
from .spool import SpoolFile, SpoolSpace

__all__ = ["Abandoned", "Patience", "Pipe"]

log = logging.getLogger("kaserve")

_MAX_BUFFERED = 64 * 1024
# A thread of the reactor that is busy with other connections, or a network that hesitates, should not lead to disk
# writes. On the other hand all threads may be waiting for slow clients while another client's request waits for one.
_PATIENCE = 0.02
_FAST = 16 * 1024 * 1024  # bytes per second; a response that moves faster is never spooled


class Abandoned(ConnectionError):
    """The rest of the response is not wanted: the client has left, or the response has no content."""


class Patience:
    """How long a thread still waits for its client before it spools.

    It is a budget for the whole response, since a client that makes the thread wait a little for each piece holds it as
    well. The client earns time by receiving bytes, so that the budget only runs out for one that is slow.

    Args:
        seconds: the budget at the beginning, and the most that it can be.

    Attributes:
        left: seconds.
    """

    __slots__ = ("_most", "left")

    def __init__(self, seconds: float = _PATIENCE) -> None:
        self._most = self.left = seconds

    def spend(self, seconds: float) -> None:
        """The thread has waited for so long."""
        self.left = max(0.0, self.left - seconds)

    def earn(self, size: int) -> None:
        """The client receives `size` bytes more; the kernel has accepted all bytes before them."""
        self.left = min(self._most, self.left + size / _FAST)


class Pipe:
    """A body of bytes pieces, and of spans of a temporary file where the client was slow.

    One thread calls `put` for each piece and at last `end` or `fail`. The server's thread iterates, and calls `close`
    in every case.

    Args:
        max_buffered: bytes that may wait for the client in memory. A piece is added while there are fewer, so that one
            piece more than that can be in memory.
        space: the disk space for what waits beyond that. With None, and when a limit of it is reached, `put` waits for
            the client instead.
        patience: seconds that `put` waits for the client before it uses the disk; see `Patience`.
    """

    __slots__ = (
        "_awaited",
        "_buffered",
        "_changed",
        "_closed",
        "_ended",
        "_error",
        "_file",
        "_max_buffered",
        "_patience",
        "_pieces",
        "_space",
        "_writing",
    )

    def __init__(
        self, max_buffered: int = _MAX_BUFFERED, space: SpoolSpace | None = None, patience: float = _PATIENCE
    ) -> None:
        self._max_buffered = max_buffered
        self._space = space if space is not None and space.per_response > 0 else None
        self._patience = Patience(patience)
        self._changed = threading.Condition(threading.Lock())
        # The order of the body: first `_pieces`, then what is unsent in `_file`. So a piece goes to memory only while
        # nothing is unsent there.
        self._pieces: list[bytes] = []
        self._buffered = 0  # bytes in `_pieces`
        self._file: SpoolFile | None = None
        self._writing = False  # whether the other thread writes to `_file`, without the lock
        self._awaited: Future[Piece] | None = None  # the next piece, if the server has asked before it was made
        self._ended = False
        self._error: Exception | None = None
        self._closed = False

    # In the thread that makes the pieces.

    def put(self, piece: bytes) -> None:
        """Sends `piece`. Blocks while the client is slow and the piece cannot be spooled.

        Raises:
            Abandoned: the server has closed the pipe.
        """
        awaited = None
        with self._changed:
            file = self._wait_for_room(len(piece))
            if file is None:
                awaited, self._awaited = self._awaited, None
                if awaited is None:
                    self._pieces.append(piece)
                    self._buffered += len(piece)
        if awaited is not None:  # without the lock, since this calls the server's callback
            awaited.set_result(piece)
        elif file is not None and not self._spool(file, piece):
            self.put(piece)  # which waits for the client, since there is no space any more

    def _wait_for_room(self, size: int) -> SpoolFile | None:
        """Waits until a piece of `size` bytes may be added. Returns the file for it, `_writing` being set, or None if
        it goes to memory. Called with the lock."""
        while not self._closed:
            if self._file is None or self._file.unsent == 0:
                if self._buffered < self._max_buffered:
                    return None
                if self._space is not None and self._patience.left > 0:
                    self._wait_patiently()
                    continue
            file = self._reserve(size)
            if file is not None:
                self._writing = True
                return file
            self._changed.wait()
        raise Abandoned("the rest of the response is not wanted: the client has left, or it has no content")

    def _wait_patiently(self) -> None:
        """Waits for a change, until the patience is exhausted at the latest."""
        began = time.monotonic()
        self._changed.wait(self._patience.left)
        self._patience.spend(time.monotonic() - began)

    def _reserve(self, size: int) -> SpoolFile | None:
        """Returns the file if `size` more bytes may be written to it."""
        if self._space is None:
            return None
        if self._file is None:
            try:
                self._file = SpoolFile(self._space)
            except OSError as error:
                self._stop_spooling(error)
                return None
        return self._file if self._file.reserve(size) else None

    def _spool(self, file: SpoolFile, piece: bytes) -> bool:
        """Writes `piece` to `file`. Returns False if that failed, and there is nothing of it in the file.

        The lock is not held meanwhile: a write may take long, and the server's thread would wait for it.
        """
        try:
            file.write(piece)
        except OSError as error:
            failure: OSError | None = error
        else:
            failure = None
        with self._changed:
            self._writing = False
            if self._closed:
                file.close()  # which `close` has left to this thread
                return failure is None
            if failure is not None:
                self._stop_spooling(failure)
                return False
            file.commit(len(piece))
            awaited, self._awaited = self._awaited, None
            span = None if awaited is None else file.take()
        if awaited is not None and span is not None:
            awaited.set_result(span)
        return True

    def _stop_spooling(self, error: OSError) -> None:
        """Nothing more of this response is spooled. What is in the file already is sent from there."""
        log.warning("a response to a slow client cannot be spooled, so it keeps its thread: %s", error)
        self._space = None

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

    def __next__(self) -> Piece | Future[Piece]:
        """The bytes that are there, or a Future of the next piece if there are none.

        A span is valid until the next call: the server asks for the next piece when it has sent the one before.
        """
        with self._changed:
            file = self._file
            if file is not None and file.unsent == 0 and not self._writing:
                # The client has caught up. The file is not used again from its beginning: what sendfile() sends are the
                # pages of the file themselves, and a new write would change those that are still on their way.
                file.close()
                self._file = file = None
            if self._pieces:
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._buffered = 0
                self._patience.earn(len(data))
                self._changed.notify()
                return data
            if file is not None and file.unsent:
                span = file.take()
                self._patience.earn(span.length)
                self._changed.notify()
                return span
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopIteration
            awaited: Future[Piece] = LightFuture()
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
            file, self._file = self._file, None
            if file is not None and not self._writing:
                file.close()
            self._changed.notify()
