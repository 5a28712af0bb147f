"""The Keep-Alive header as other servers and clients write it: what a sender announces about its connections.

Knows the parameters `timeout` and `max`. Does not know what kaserve sends itself (see `protocol.KeepAlive`). No RFC in
force defines the header (RFC 2068 §19.7.1.1 was the last one to), so it is parsed generously, and is only a hint.
"""

from __future__ import annotations

import re

__all__ = ["read_max", "read_timeout"]

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
