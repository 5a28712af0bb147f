"""Errors: how those are worded that depend on a setting."""

from __future__ import annotations

import pytest

from kaserve.http.errors import body_too_large


@pytest.mark.parametrize(
    ("limit", "size"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1500, "1,500 bytes"),
        (1024, "1 KiB (1,024 bytes)"),
        (10 << 20, "10 MiB (10,485,760 bytes)"),
        (1 << 30, "1 GiB (1,073,741,824 bytes)"),
        (5000 << 40, "5000 TiB (5,497,558,138,880,000 bytes)"),
    ],
)
def test_a_413_names_the_limit(limit: int, size: str) -> None:
    """RFC 9110 §15.5.14."""
    error = body_too_large(limit)
    assert (error.status, error.reason) == (413, f"the body is larger than {size}, which is the limit here")
