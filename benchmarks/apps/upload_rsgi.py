"""The upload of granian in RSGI, its own and fastest interface."""

from typing import Any


async def app(scope: Any, protocol: Any) -> None:
    """Read the whole body, and respond with its length in bytes."""
    response = str(len(await protocol()))
    headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(response)))]
    protocol.response_str(200, headers, response)
