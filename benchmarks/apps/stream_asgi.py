"""A response of 1,000 pieces of 64 bytes, as a language model or a database cursor makes them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain; charset=utf-8")]}
PIECE = {"type": "http.response.body", "body": b"x" * 64, "more_body": True}
END = {"type": "http.response.body", "body": b""}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Respond with the pieces, of which each comes in a later turn of the loop."""
    await send(START)
    for _ in range(1000):
        await send(PIECE)
        await asyncio.sleep(0)
    await send(END)
