"""The hello of granian in RSGI, its own and fastest interface."""

from typing import Any

HEADERS = [("content-type", "text/plain; charset=utf-8"), ("content-length", "5")]


async def app(scope: Any, protocol: Any) -> None:
    """Respond with five bytes of text."""
    protocol.response_str(200, HEADERS, "hello")
