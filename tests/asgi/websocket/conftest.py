"""A net with a WebSocket application, for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tools.asgi import Application
from tests.tools.websocket import MakeWebSocketNet, WebSocketNet


@pytest.fixture
def net() -> Iterator[MakeWebSocketNet]:
    nets: list[WebSocketNet] = []

    def make(app: Application, **settings: Any) -> WebSocketNet:
        nets.append(WebSocketNet(app, **settings))
        return nets[-1]

    yield make
    for each in nets:
        each.close()
