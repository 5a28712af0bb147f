"""The parts of a server that depend on what the system has: how many connections its descriptors are enough for."""

from __future__ import annotations

import pytest

from kaserve.server import parts
from tests.tools.server import config

ONE = "/api=http://127.0.0.1:9000"
OTHER = "/api=http://127.0.0.1:9001"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1000),
        ({"max_connections": 50}, 50),
        ({"max_connections": 5000}, 1000),
        ({"proxy": ONE, "proxy_connections": 32}, 484),
        ({"proxy": (ONE, OTHER), "proxy_connections": 32}, 468),  # each has its own idle connections
        ({"proxy": ONE, "proxy_connections": 0}, 500),
        ({"proxy": ONE, "max_connections": 50}, 50),
        ({"proxy": ONE, "proxy_connections": 32, "max_connections": 900}, 484),
        ({"proxy": ONE, "proxy_connections": 5000}, 375),  # idle connections take a quarter at most
    ],
)
def test_connections_have_descriptors(
    settings: dict[str, object], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every client that is let in can be served: one whose request is passed on needs two descriptors."""
    monkeypatch.setattr(parts, "_available_descriptors", lambda: 1000)
    assert parts.max_connections(config(**settings)) == expected
