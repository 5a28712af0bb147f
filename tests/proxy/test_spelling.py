"""How field names are written."""

from __future__ import annotations

import pytest

from kaserve.proxy.spelling import spelling


@pytest.mark.parametrize(
    "name",
    """
    Content-Type Host ETag WWW-Authenticate Sec-WebSocket-Key Sec-WebSocket-Accept Content-MD5 X-XSS-Protection TE DNT
    X-Request-ID X-Real-IP Sec-CH-UA-Mobile Sec-GPC X-CSRF-Token Content-Security-Policy SOAPAction HTTP2-Settings
    Access-Control-Allow-Origin Last-Event-ID X-UA-Compatible X_api_key A --A X--Y
    """.split(),
)
def test_names(name: str) -> None:
    assert spelling(name.lower()) == name
    assert spelling(name.lower()) is spelling(name.lower())  # remembered


def test_long_names_are_not_remembered() -> None:
    name = "x-" + "y" * 100
    assert spelling(name) == "X-Y" + "y" * 99
    assert spelling(name) is not spelling(name)
