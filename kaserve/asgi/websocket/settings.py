"""WebSocketSettings: the limits and deadlines of WebSockets.

Knows their defaults and what values they may have. Does not need the package websockets, so that the settings can be
read where it is not installed.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

__all__ = ["MISSING", "WebSocketSettings", "is_available"]

MISSING = "WebSockets need the package websockets: pip install 'kaserve[websocket]'"
"""What a user is told if it is not installed."""


class WebSocketSettings(NamedTuple):
    """The settings of the WebSockets of one application.

    Attributes:
        max_size: bytes of a message from the client, decompressed, above which the WebSocket is closed with 1009.
        ping_interval: seconds between two pings; 0 sends none.
        ping_timeout: seconds that a client has to respond to a ping, after which the WebSocket is closed with 1011; 0
            is no limit.
        deflate: whether messages may be compressed (RFC 7692).
    """

    max_size: int = 16 * 1024 * 1024
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    deflate: bool = True


def is_available() -> bool:
    """Returns whether the package websockets is installed, without importing it."""
    return importlib.util.find_spec("websockets") is not None
