"""Names of parametrized tests, for values that pytest itself would only number (`lines3`)."""

from __future__ import annotations

__all__ = ["readable"]

_MAX_LENGTH = 60


def readable(value: object) -> str:
    """Returns a value as part of the name of a test, for `ids=` of parametrize: in ASCII, and not too long."""
    if isinstance(value, tuple) and value and all(isinstance(each, str) for each in value):
        text = ascii("; ".join(value))[1:-1]
    elif isinstance(value, str):
        text = ascii(value)[1:-1]
    else:
        text = getattr(value, "__name__", None) or ascii(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}... ({len(text)})"
