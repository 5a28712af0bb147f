"""The error log of the command line: what went wrong, to stderr or to a file, rate-limited.

Only the command line uses it. A program that embeds kaserve configures `logging` itself, and finds all that kaserve
logs under the name "kaserve".
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from ..http.memo import remember
from .stderr import StderrHandler

__all__ = ["RateLimit", "set_up"]

_LIMIT = 10  # records of one kind per period
_PERIOD = 60.0  # seconds
_MAX_KINDS = 1000

# What a terminal could take for a command, C1 controls included; but not the tab and the line feed, which tracebacks
# have.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class RateLimit(logging.Filter):
    """Lets through at most `limit` records of one kind per period; the first one of the next period says how many were
    not logged.

    Records are of one kind if they come from the same line of code with the same type of exception, whatever their text
    is: a client that makes the server log an error again and again cannot vary the kind, only the text. Only records of
    kaserve are limited, not those of an application.

    Args:
        limit: records of one kind per period.
        period: seconds.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, limit: int = _LIMIT, period: float = _PERIOD, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._limit = limit
        self._period = period
        self._clock = clock
        self._counts: dict[tuple[object, ...], _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log `record`."""
        if record.name.partition(".")[0] != "kaserve":
            return True
        now = self._clock()
        count = self._count_of(record, now)
        if now - count.since >= self._period:
            if count.records > self._limit:
                suppressed = count.records - self._limit
                record.msg = f"{record.getMessage()} ({suppressed} more like this were not logged)"
                record.args = None
            count.since, count.records = now, 0
        count.records += 1
        return count.records <= self._limit

    def _count_of(self, record: logging.LogRecord, now: float) -> _Count:
        exception = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.pathname, record.lineno, exception)
        count = self._counts.get(kind)
        if count is None:
            count = _Count(now)
            remember(self._counts, kind, count, _MAX_KINDS)
        return count


class _Count:
    """How many records of one kind there were, logged or not, since the time `since`."""

    __slots__ = ("records", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.records = 0


def set_up(path: str | None) -> Callable[[], object] | None:
    """Sends everything that the process logs to the file `path`, or to stderr if it is None.

    Returns:
        A function that opens the file again, for when it was renamed; None for stderr.

    Raises:
        OSError: the file cannot be opened.
    """
    handler: logging.Handler
    reopen: Callable[[], object] | None = None
    if path is None:
        handler = StderrHandler()
        handler.setFormatter(_Formatter("kaserve: %(levelname)s: %(message)s"))
    else:
        handler = _ReopenableFileHandler(path, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s: %(message)s"))
        reopen = handler.reopen
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return reopen


class _Formatter(logging.Formatter):
    """Escapes control characters in the whole record, traceback included: any exception may quote what a client
    sent."""

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", super().format(record))


class _ReopenableFileHandler(logging.FileHandler):
    """A file handler for logrotate's usual way: the file is renamed, and then the program is told."""

    def reopen(self) -> None:
        """Continues in a new file of the same name. If it cannot be opened, this raises and the old one stays."""
        self.acquire()
        try:
            old, self.stream = self.stream, self._open()
            if old is not None:
                old.close()
        finally:
            self.release()
