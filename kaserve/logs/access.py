"""The access log: one line for each response, collected during a turn of the reactor and written at its end.

Does not know how a line looks (`formats`), when a turn ends (the reactor calls `flush`), or where the lines go.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..net.exchange import Exchange
from .formats import LogClock, make_format

__all__ = ["AccessLog"]


class AccessLog:
    """Collects a line per response and writes them together.

    One write per turn rather than per response: under load a turn has dozens of responses, and a system call for each
    line would cost more than making it.

    Args:
        write: called with the bytes of whole lines, at most once per turn. It must neither raise nor block.
        log_format: common, combined, json, pretty, or a text of gunicorn's atoms.
        color: whether `pretty` shows colour.
        time: returns the time in seconds since the epoch.

    Attributes:
        timed: whether lines show how long things took. The connection reads the clock more often only then.

    Raises:
        ValueError: `log_format` is none of these.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        log_format: str = "common",
        color: bool = False,
        time: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._clock = LogClock(time)
        self._format = make_format(log_format, self._clock, color=color)
        self.timed = self._format.timed
        self._lines: list[str] = []

    def log(self, exchange: Exchange) -> None:
        """Adds the line of a response, complete or not."""
        lines = self._lines
        if not lines:  # all lines of a turn have the time of the first
            self._clock.update()
        lines.append(self._format.line(exchange))

    def flush(self) -> None:
        """Writes the lines that were added since the last call."""
        if self._lines:
            lines, self._lines = self._lines, []
            lines.append("")  # so that join() ends the last line as well
            self._write("\n".join(lines).encode("ascii", "backslashreplace"))
