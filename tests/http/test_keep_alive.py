"""The Keep-Alive header of other servers and clients."""

from __future__ import annotations

import pytest

from kaserve.http.keep_alive import read_max, read_timeout


@pytest.mark.parametrize(
    ("value", "timeout", "max_requests"),
    [
        ("timeout=7", 7, None),
        ("max=3,timeout=7", 7, 3),
        ("timeout=7;max=3", 7, 3),
        (" Timeout = 15 , MAX=0", 15, 0),
        ('timeout="15"', 15, None),
        ("timeout=5, timeout=6", 5, None),
        ("xtimeout=5, timeout=-1, timeout=\u0665, max", None, None),
        ("timeout=9999999999", 999999999, None),  # at most nine digits are read
        ("300", None, None),  # as old browsers sent it
        ("", None, None),
    ],
)
def test_timeout_and_max(value: str, timeout: int | None, max_requests: int | None) -> None:
    assert (read_timeout(value), read_max(value)) == (timeout, max_requests)
