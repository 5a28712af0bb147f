"""Long work for one response, in short slices: the first few at once, the rest on other threads as the client reads.

Knows response bodies and threads. Does not know what the work is: a generator that yields every few milliseconds what
it has made of the body since, which may be nothing (b"").

The slices of one response never run at the same time, and each is requested only when the one before has been sent.
Because they are short, a running slice holds the interpreter's lock, and so delays the reactor, no longer than it
takes, and a thread is soon free again for another response.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from threading import Lock

from ..http.file_span import Piece

__all__ = ["IncrementalBody", "begin"]

_SLICES_AT_ONCE = 6  # work with fewer slices is complete before the response begins, and needs no other thread


class IncrementalBody(Iterator[Piece | Future[Piece]]):
    """A response body that is made slice by slice.

    Args:
        executor: runs the slices.
        work: makes the body; each item is one slice.
        begun: the beginning of the body, if some slices have run already.
    """

    def __init__(self, executor: Executor, work: Generator[bytes, None, None], begun: bytes = b"") -> None:
        self._executor = executor
        self._work = work
        self._begun = begun
        self._lock = Lock()  # held while the generator runs: close() may come meanwhile
        self._finished = False

    def __next__(self) -> Piece | Future[Piece]:
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if self._finished:
            raise StopIteration
        return self._executor.submit(self._run_slice)

    def _run_slice(self) -> Piece:
        """Runs one slice and returns its piece; b"" at the end of the work, and then the next __next__ stops."""
        with self._lock:
            for piece in self._work:
                return piece
            self._finished = True
            return b""

    def close(self) -> None:
        """Stops the work after the slice that may be running. May be called twice.

        The generator is closed on another thread: it may have to wait for that slice, and its own cleanup may take
        long.
        """
        self._finished = True
        try:
            self._executor.submit(self._close_work)
        except RuntimeError:  # the executor is shut down, so that no slice is running
            self._close_work()

    def _close_work(self) -> None:
        with self._lock:
            self._work.close()


def begin(executor: Executor, work: Generator[bytes, None, None]) -> bytes | IncrementalBody:
    """Runs the first slices of `work` at once.

    Returns:
        The whole body if these were all; otherwise an IncrementalBody that goes on on the executor's threads.

    Raises:
        Exception: whatever the first slices raise, while there can still be an error response.
    """
    begun = []
    for piece in work:
        begun.append(piece)
        if len(begun) == _SLICES_AT_ONCE:
            return IncrementalBody(executor, work, b"".join(begun))
    return b"".join(begun)
