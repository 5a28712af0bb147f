"""Workers: a few threads for work that blocks, and a bounded queue in front of them.

Knows threads. Does not know what the work is.
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
    """At most `threads` threads, each started when there is work that no other is free for.

    They are daemons: work that never ends does not keep the process from ending. May be used from any thread.
    """

    def __init__(self, threads: int, queue: int) -> None:
        """queue: how much may wait when every thread is busy."""
        self._most_threads = threads
        self._most = threads + queue
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    def submit(self, work: Callable[[], object]) -> bool:
        """Has `work` called in one of the threads; False, and nothing happens, when too much is waiting already, or
        there is no thread to be had."""
        with self._lock:
            if self._closed or self._unfinished >= self._most:
                return False
            if len(self._threads) < min(self._unfinished + 1, self._most_threads):
                self._start_thread()
            if not self._threads:
                return False
            self._unfinished += 1
        self._queue.put(work)
        return True

    def _start_thread(self) -> None:
        """One more, unless the system has no room for it: then those that are there have more to do."""
        name = f"kaserve worker {len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s could not be started: %s", name, error)
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
            try:
                work()
            except BaseException:  # also SystemExit: it ends the work, and not the one who does it
                log.exception("work in a thread failed")
            del work  # nothing is held on to while there is nothing to do
            with self._lock:
                self._unfinished -= 1

    def close(self, timeout: float = 0.0) -> None:
        """Takes no more work, and ends each thread when what was taken is done. Waits for that, up to `timeout`
        seconds in all."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
