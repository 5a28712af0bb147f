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
from queue import SimpleQueue

__all__ = ["Workers"]

log = logging.getLogger("kaserve")


class Workers:
    """Up to `threads` threads, each started only when there is work and no idle thread for it.

    They are daemon threads: work that never ends does not keep the process from exiting. May be used from any thread.

    Args:
        threads: number of threads.
        queue: number of calls that may wait while every thread is busy.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._max_threads = threads
        self._max_unfinished = threads + queue
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # calls that wait or run
        self._closed = False

    def submit(self, work: Callable[[], object], *, has_begun: bool = False) -> bool:
        """Calls `work` in one of the threads.

        Args:
            work: the call.
            has_begun: whether it goes on with something that was accepted before, which must not fail because others
                are waiting. The caller makes sure that there is not more of that than was accepted.

        Returns:
            False if it will not be called: the queue is full, the system cannot start a thread, or `close` was called.
        """
        with self._lock:
            if self._closed or (self._unfinished >= self._max_unfinished and not has_begun):
                return False
            if len(self._threads) < min(self._unfinished + 1, self._max_threads):
                self._start_thread()
            if not self._threads:
                return False
            self._unfinished += 1
        self._queue.put(work)
        return True

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
                work()
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
