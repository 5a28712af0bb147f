"""Standard error, as a server that must never wait writes to it: the access log, and what `logging` has to say.

Knows no format. What cannot be written at once is lost, rather than requests.
"""

from __future__ import annotations

import logging
import os
import select
import sys

__all__ = ["StderrHandler", "write_stderr"]


def write_stderr(data: bytes) -> None:
    """Writes lines as far as they can be written without waiting.

    Whoever closed stderr, filled its disk or does not read its pipe does not stop the server.
    """
    if sys.__stderr__ is None:  # closed before we began: descriptor 2 is something else by now
        return
    try:
        fd = sys.__stderr__.fileno()
        for start in range(0, len(data), select.PIPE_BUF):  # a pipe that is writable takes this much at once
            if not select.select([], [fd], [], 0)[1]:
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
