"""Exceptions that leave other people's code: handlers, sinks, logs, callbacks.

Knows what is logged, and what is raised again because it is meant for the program. Does not know what failed, nor what
happens to the connection.
"""

from __future__ import annotations

import logging
from threading import current_thread, main_thread

__all__ = ["log_current_exception", "reraise_exit_signals"]

log = logging.getLogger("kaserve")


def log_current_exception(message: str) -> None:
    """Logs `message` with the traceback of the exception that is being handled. Never raises.

    The log is other people's code as well: a handler of it may write to a disk that is full. Callers stand where
    nothing else may fail, in the loop of the reactor and at the end of a connection, so what the log raises is dropped.
    """
    try:
        log.exception(message)
    except Exception:
        pass


def reraise_exit_signals(error: BaseException) -> None:
    """Raises `error` again if it is SystemExit or KeyboardInterrupt in the main thread; otherwise does nothing.

    Callers catch BaseException, since handlers raise more than Exception (asyncio's CancelledError, the outcomes of
    pytest), and whatever they raise is a fault of the handler and a 500. But in the main thread the exception may come
    from a signal handler that ran in the middle of it, and then it is meant for the program.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit)) and current_thread() is main_thread():
        raise error
