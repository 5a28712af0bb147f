"""Standard error for a server that must never block: the access log and the records of `logging`.

Knows no format. What cannot be written at once is dropped: losing lines is better than losing requests.

Making the descriptor non-blocking instead would be wrong: O_NONBLOCK belongs to the open file, which the shell and
other processes share, and they would get errors from their own writes.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading

__all__ = ["StderrHandler", "write_stderr"]


class _WritableCheck(threading.local):
    """Tells whether a descriptor can be written to without blocking.

    Creating a poll object costs more than using it, and two threads must not use the same one at once; so each thread
    has its own.
    """

    def __init__(self) -> None:
        self._polls: dict[int, select.poll] = {}

    def is_writable(self, fd: int) -> bool:
        if not hasattr(select, "poll"):
            return bool(select.select([], [fd], [], 0)[1])
        poll = self._polls.get(fd)
        if poll is None:
            poll = self._polls[fd] = select.poll()
            poll.register(fd, select.POLLOUT)
        return bool(poll.poll(0))  # True for errors as well, which the write then reports


_check = _WritableCheck()


def write_stderr(data: bytes) -> None:
    """Writes lines, as far as that does not block. Raises nothing: a closed stderr, a full disk or a pipe that is not
    read must not stop the server.

    Args:
        data: whole lines.
    """
    if sys.__stderr__ is None:  # closed before Python started; descriptor 2 may be a connection by now
        return
    try:
        fd = sys.__stderr__.fileno()
        for start in range(0, len(data), select.PIPE_BUF):
            # A pipe that polls as writable accepts PIPE_BUF bytes without blocking, and more may block (pipe(7)).
            if not _check.is_writable(fd):
                return
            os.write(fd, data[start : start + select.PIPE_BUF])
    except (OSError, ValueError):  # ValueError: closed since
        pass


class StderrHandler(logging.Handler):
    """A handler of `logging` that never blocks. logging's own blocks on a pipe that is not read, and prints a traceback
    to the same stderr if the disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes `record`."""
        try:
            text = self.format(record)
        except Exception:  # arguments that do not fit the message, or whose own code fails
            text = f"{record.levelname}: {record.msg!r}"
        write_stderr(f"{text}\n".encode("utf-8", "backslashreplace"))
