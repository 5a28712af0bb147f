"""Long work for one answer, done in slices: a few at once, the rest on other threads, as fast as the client reads.

Knows bodies of responses and threads. Does not know what the work is: a generator that yields after every few
milliseconds, with what it has made of the body by then, which may be nothing.

The slices of one answer never run at the same time, and each is asked for only when the one before has been sent.
Since they are short, a slice that runs holds up the reactor for no longer than it takes, in spite of the interpreter's
lock, and a thread is free again soon.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from threading import Lock

from ..http.messages import Piece

__all__ = ["IncrementalBody", "begin"]

_AT_ONCE = 6  # slices; work with fewer is done before it is answered


class IncrementalBody(Iterator[Piece | Future[Piece]]):
    """The body of a response, made in slices by `executor`: what has been begun already, then the rest of `work`."""

    def __init__(self, executor: Executor, work: Generator[bytes, None, None], begun: bytes = b"") -> None:
        self._executor = executor
        self._work = work
        self._begun = begun
        self._lock = Lock()  # held while the generator runs
        self._finished = False

    def __next__(self) -> Piece | Future[Piece]:
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if self._finished:
            raise StopIteration
        return self._executor.submit(self._slice)

    def _slice(self) -> Piece:
        """The next piece; at the end nothing, and the iteration ends with the next call."""
        with self._lock:
            for piece in self._work:
                return piece
            self._finished = True
            return b""

    def close(self) -> None:
        """Ends the work where it stands. May be called while a slice runs, and twice."""
        self._finished = True
        try:
            self._executor.submit(self._close)
        except RuntimeError:  # the threads are gone, so nothing runs
            self._close()

    def _close(self) -> None:
        with self._lock:
            self._work.close()


def begin(executor: Executor, work: Generator[bytes, None, None]) -> bytes | IncrementalBody:
    """All of `work` if it takes a few slices only, otherwise a body that goes on with it.

    Whatever `work` raises meanwhile is raised here, while there still can be another answer.
    """
    begun = []
    for piece in work:
        begun.append(piece)
        if len(begun) == _AT_ONCE:
            return IncrementalBody(executor, work, b"".join(begun))
    return b"".join(begun)
