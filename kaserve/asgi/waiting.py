"""What waits: the coroutine of a `receive` that has nothing to return yet.

Not in `call`, which is compiled: a coroutine of Python is what every library accepts as one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

__all__ = ["Receiver", "receive_later"]


class Receiver(Protocol):
    """What it asks of a `Call`."""

    waiters: list[asyncio.Future[None]] | None

    def next_message(self) -> dict[str, Any] | None:
        """Returns the next message; None if there is none yet."""

    def stop_reading(self) -> None:
        """Nobody waits any more."""


async def receive_later(call: Receiver, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Waits for the next message, and returns it."""
    while True:
        waiter: asyncio.Future[None] = loop.create_future()
        if call.waiters is None:
            call.waiters = []
        call.waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if call.waiters is not None and waiter in call.waiters:
                call.waiters.remove(waiter)
            if not call.waiters:
                call.stop_reading()
            raise
        message = call.next_message()
        if message is not None:
            return message
