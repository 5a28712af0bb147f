"""Server-sent events, one each second, from a coroutine that listens for the client's leaving meanwhile, as frameworks
do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
EVENT = {"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Send events until the client leaves."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    leaving = asyncio.ensure_future(receive())
    while not leaving.done():
        await send(EVENT)
        await asyncio.wait([leaving], timeout=1)
