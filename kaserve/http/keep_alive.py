"""The Keep-Alive header: what kaserve announces about its connections (`KeepAlive`), and what others announce.

Knows the parameters `timeout` and `max`. Does not decide whether a connection persists: `HTTPProtocol.prepare` does, by
the settings in `KeepAlive` among others. No RFC in force defines the header (RFC 2068 §19.7.1.1 was the last one to),
so that of others is parsed generously, and is only a hint.
"""

from __future__ import annotations

import re

from .memo import remember

__all__ = ["KeepAlive", "read_max", "read_timeout"]

_TIMEOUT = re.compile(r"\s*timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE | re.ASCII)
_MAX = re.compile(r"\s*max\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE | re.ASCII)


def read_timeout(value: str) -> int | None:
    """Returns for how many seconds the sender keeps an idle connection, or None if `value` does not say."""
    return _parameter(_TIMEOUT, value)


def read_max(value: str) -> int | None:
    """Returns how many more requests the sender accepts on the connection, or None if `value` does not say."""
    return _parameter(_MAX, value)


def _parameter(pattern: re.Pattern[str], value: str) -> int | None:
    """Returns the number of the first parameter that matches. Some senders separate parameters by semicolons."""
    for part in re.split("[,;]", value):
        match = pattern.match(part)
        if match is not None:
            return int(match[1])
    return None


class KeepAlive:
    """What all connections of a server announce: whether another request may follow, for how long, and how many more.

    While the server runs, `enabled` and `requests` may be changed, and the timeout by `announce`.

    Attributes:
        timeout: seconds without a request that a client is promised.
        announced: the same as the whole number in the header, rounded down; but at least 1, since clients take 0 for
            "closed already".
        requests: how many requests one connection takes; 0 for any number.
        minor: of the highest HTTP/1 version the server speaks.
        enabled: False makes every response say `Connection: close`.
    """

    __slots__ = ("_lines", "_memory", "_prefix", "announced", "enabled", "minor", "requests", "timeout")

    def __init__(self, timeout: float, requests: int, minor: int = 1) -> None:
        """Announces `timeout` (seconds; 0 to close after every response) and `requests`."""
        self._memory: dict[int, dict[int, bytes]] = {}
        self.announce(timeout)
        self.requests = requests
        self.minor = minor
        self.enabled = timeout > 0

    def announce(self, timeout: float) -> None:
        """Announces another number of seconds from now on. The lines of earlier ones are kept: they may come again."""
        self.timeout = timeout
        self.announced = max(1, int(timeout))
        self._lines = self._memory.setdefault(self.announced, {})
        self._prefix = b"Connection: keep-alive\r\nKeep-Alive: timeout=%d" % self.announced

    def lines(self, remaining: int) -> bytes:
        """Returns the header lines that invite another request (RFC 9112 §9.3), and the empty line that ends the head.

        Every connection counts down the same numbers, so the lines are remembered.

        Args:
            remaining: how many more requests the connection takes; 0 for any number.
        """
        lines = self._lines.get(remaining)
        if lines is None:
            most = b", max=" + str(remaining).encode("ascii") if remaining > 0 else b""
            lines = self._prefix + most + b"\r\n\r\n"
            remember(self._lines, remaining, lines, _MAX_REMEMBERED)
        return lines


_MAX_REMEMBERED = 4096
