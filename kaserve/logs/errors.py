"""The error log of the program: what went wrong, to stderr or to a file, and not too often.

For the command line alone: whoever has a program of his own sets up `logging` himself, and finds all that the server
says under the name "kaserve".
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from .stderr import StderrHandler

__all__ = ["RateLimit", "set_up"]

_MOST = 10  # of one kind
_PERIOD = 60.0  # seconds
_MAX_KINDS = 1000

# What a terminal could take for a command, C1 controls included, but for the lines of a traceback.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class RateLimit(logging.Filter):
    """Lets through at most `most` records of one kind in a period. The first one after that tells how many were not.
    What others log, an application for instance, is their own affair.

    Of one kind are those of the same place in the code with the same kind of exception, whatever they say: what a
    client can have the server say again and again is one kind.
    """

    def __init__(
        self, most: int = _MOST, period: float = _PERIOD, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._most = most
        self._period = period
        self._clock = clock
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "kaserve":
            return True
        now = self._clock()
        exception = record.exc_info[0] if record.exc_info else None
        key = (record.name, record.pathname, record.lineno, exception)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds[key] = _Kind(now)
        if now - kind.since >= self._period:
            if kind.count > self._most:
                record.msg = f"{record.getMessage()} ({kind.count - self._most} more like this were left out)"
                record.args = None
            kind.since, kind.count = now, 0
        kind.count += 1
        return kind.count <= self._most


class _Kind:
    __slots__ = ("count", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0


def set_up(path: str | None) -> Callable[[], object] | None:
    """Has all that is logged written to the file `path`, or to stderr; returns what opens the file anew, if any.

    Raises OSError when the file cannot be opened.
    """
    handler: logging.Handler
    reopen: Callable[[], object] | None = None
    if path is None:
        handler = StderrHandler()
        handler.setFormatter(_Formatter("kaserve: %(levelname)s: %(message)s"))
    else:
        handler = _File(path, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s: %(message)s"))
        reopen = handler.reopen
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return reopen


class _Formatter(logging.Formatter):
    """An exception may quote what a client sent, whoever raised it."""

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", super().format(record))


class _File(logging.FileHandler):
    def reopen(self) -> None:
        """Goes on in a new file of the same name, as when this one was renamed."""
        self.acquire()
        try:
            old, self.stream = self.stream, self._open()  # if it cannot be opened, this one goes on
            if old is not None:
                old.close()
        finally:
            self.release()
