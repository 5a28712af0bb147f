"""The field Keep-Alive, as others write it: what a sender says of its connections.

No RFC defines it any more (RFC 2068 §19.7.1.1 was the last to), so it is read generously, and only taken for a hint.
"""

from __future__ import annotations

import re

__all__ = ["read_max", "read_timeout"]

_TIMEOUT = re.compile(r"\s*timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE | re.ASCII)
_MAX = re.compile(r"\s*max\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE | re.ASCII)


def read_timeout(value: str) -> int | None:
    """The seconds that an idle connection is kept; None if it does not say."""
    return _parameter(_TIMEOUT, value)


def read_max(value: str) -> int | None:
    """The requests that the connection still takes; None if it does not say."""
    return _parameter(_MAX, value)


def _parameter(pattern: re.Pattern[str], value: str) -> int | None:
    """The first one that matches, of those that commas or, as some have it, semicolons separate."""
    for part in re.split("[,;]", value):
        match = pattern.match(part)
        if match is not None:
            return int(match[1])
    return None
