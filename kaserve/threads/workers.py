"""Workers: a few threads for work that blocks, and a bounded queue.

Knows threads. Does not know what the work is.

`concurrent.futures.ThreadPoolExecutor` is not used for three reasons: its queue has no limit, it makes a Future for
each call (see `future`), and at exit the interpreter waits for its threads, so that one call that never returns keeps
the process alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

__all__ = ["Work", "Workers"]

log = logging.getLogger("kaserve")

# Seconds from one search for cancelled work to the next. A search of a queue of 2048 takes about as long as ten
# requests, so a server that is full must not search for each request that it rejects.
_SEARCH_INTERVAL = 0.05


class Work(Protocol):
    """What a thread does."""

    def run(self) -> None:
        """Does the work, in the thread. Does nothing if it was cancelled."""

    def is_cancelled(self) -> bool:
        """Whether nobody wants the work any more, so that it need not wait in the queue."""


class Workers:
    """Up to `threads` threads, each started only when there is work and no idle thread for it.

    They are daemon threads: work that never ends does not keep the process from exiting. May be used from any thread.

    Args:
        threads: number of threads.
        queue: number of works that may wait while every thread is busy.
        clock: returns monotonic seconds.
    """

    def __init__(self, threads: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_threads = threads
        self._max_unfinished = threads + queue
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # works that wait or run
        self._clock = clock
        self._next_search = 0.0
        self._closed = False

    def submit(self, work: Work) -> bool:
        """Runs `work` in one of the threads.

        Returns:
            False if it will not be run: the queue is full, the system cannot start a thread, or `close` was called.
        """
        with self._lock:
            if self._closed or (self._unfinished >= self._max_unfinished and not self._remove_cancelled()):
                return False
            if len(self._threads) < min(self._unfinished + 1, self._max_threads):
                self._start_thread()
            if not self._threads:
                return False
            self._unfinished += 1
            self._queue.put(work)  # with the lock, so that nothing comes after what `close` puts there
        return True

    def _remove_cancelled(self) -> bool:
        """Takes cancelled work out of the full queue. Returns True if there was any. The caller holds the lock.

        This is done when the room is needed, and not when work is cancelled: taking one out of the middle would need a
        queue that is slower for every request.
        """
        now = self._clock()
        if now < self._next_search:
            return False
        self._next_search = now + _SEARCH_INTERVAL
        kept: list[Work | None] = []
        removed = 0
        try:
            while True:
                work = self._queue.get_nowait()
                if work is not None and work.is_cancelled():
                    removed += 1
                else:
                    kept.append(work)
        except Empty:
            pass
        for work in kept:
            self._queue.put(work)
        self._unfinished -= removed
        return removed > 0

    def _start_thread(self) -> None:
        """Starts one more thread. If the system refuses, the threads that there are do the work."""
        name = f"kaserve worker {len(self._threads) + 1}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s could not be started: %s", name, error)
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        """Works until `close` puts a None into the queue."""
        while True:
            work = self._queue.get()
            if work is None:
                return
            try:
                work.run()
            except BaseException:  # SystemExit as well: it ends this piece of work, not the thread
                log.exception("work in a thread failed")
            del work  # an idle thread must not keep the last request in memory
            with self._lock:
                self._unfinished -= 1

    def close(self, timeout: float = 0.0) -> None:
        """Accepts no more work, and ends each thread when the accepted work is done. May be called twice.

        Args:
            timeout: seconds to wait for that, for all threads together.
        """
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
