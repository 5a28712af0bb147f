"""Standard error, as a server that must never wait writes to it: the access log, and what `logging` has to say.

Knows no format. What cannot be written at once is lost, rather than requests.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading

__all__ = ["StderrHandler", "write_stderr"]


class _Looks(threading.local):
    """Whether a descriptor takes something without waiting.

    Making a poll object costs more than asking it, and no two threads may ask the same one; so each thread has its own.
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
        return bool(poll.poll(0))  # also in trouble, of which the write will tell


_looks = _Looks()


def write_stderr(data: bytes) -> None:
    """Writes lines as far as they can be written without waiting.

    Whoever closed stderr, filled its disk or does not read its pipe does not stop the server.
    """
    if sys.__stderr__ is None:  # closed before we began: descriptor 2 is something else by now
        return
    try:
        fd = sys.__stderr__.fileno()
        for start in range(0, len(data), select.PIPE_BUF):  # a pipe that is writable takes this much at once
            if not _looks.is_writable(fd):
                return
            os.write(fd, data[start : start + select.PIPE_BUF])
    except (OSError, ValueError):  # ValueError: closed since
        pass


class StderrHandler(logging.Handler):
    """In place of logging's own, which waits for whoever reads the pipe, and shows a traceback for a full disk."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # arguments that do not fit the message, or whose own code fails
            text = f"{record.levelname}: {record.msg!r}"
        write_stderr(f"{text}\n".encode("utf-8", "backslashreplace"))
