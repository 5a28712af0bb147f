"""Threads of an application that outlast the server: the process ends without them.

Knows the threads of the process. Does not know servers.

Python joins threads before it exits. One that is blocked, in `asyncio.to_thread` or a thread pool of the application's,
would hold the process for as long as it likes, after the graceful timeout and after two times Ctrl-C as well; whoever
has started the process kills it in the end, or waits. A coroutine can be cancelled, a thread cannot: so the process
does not wait for it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

__all__ = ["limit_exit"]

log = logging.getLogger("kaserve")

_PATIENCE = 0.5  # seconds; idle threads of a pool need a few milliseconds
_INTERVAL = 0.05


def limit_exit(code: int) -> None:
    """Has the process exit with `code` soon, even if threads of the application do not end. Called when nothing is left
    to do but to exit."""
    if _leftover_threads():
        threading.Thread(target=_watch, args=(code,), name="kaserve exit", daemon=True).start()


def _watch(code: int) -> None:
    """Runs while Python waits for the others. What is registered with `atexit` comes after that, so that it never
    coincides with this."""
    end = time.monotonic() + _PATIENCE
    while threads := _leftover_threads():
        if time.monotonic() >= end:
            log.warning(
                "%s still at work, and the process ends without waiting: %s",
                "1 thread is" if len(threads) == 1 else f"{len(threads)} threads are",
                ", ".join(sorted(thread.name for thread in threads)),
            )
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
        time.sleep(_INTERVAL)


def _leftover_threads() -> list[threading.Thread]:
    """The threads that Python waits for."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]
