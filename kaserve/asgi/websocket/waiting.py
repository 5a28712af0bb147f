"""What waits for a WebSocket: the coroutines of a `receive` and a `send` that cannot return yet.

Not in `call`, which is compiled: a coroutine of Python is what every library accepts as one.
"""

from __future__ import annotations

from typing import Any, Protocol

from ...http.body_stream import ClientDisconnected
from ..waiter import Waiter

__all__ = ["Waited", "closed_error", "receive_later", "wait_for_room"]


class Waited(Protocol):
    """What they ask of a `WebSocketCall`."""

    def next_message(self) -> dict[str, Any] | None:
        """Returns the next message; None if there is none yet."""

    def has_room(self) -> bool:
        """Returns whether the client has received enough."""

    def closed_by_other(self) -> int:
        """Returns the code that the WebSocket is closed with; 0 if it is open, or the application has closed it."""

    def new_waiter(self) -> Waiter:
        """Returns what wakes a task when there is something new."""

    def forget(self, waiter: Waiter) -> None:
        """Nobody waits for it any more."""


async def receive_later(call: Waited) -> dict[str, Any]:
    """Waits for the next message, and returns it."""
    while True:
        await _news(call)
        message = call.next_message()
        if message is not None:
            return message


async def wait_for_room(call: Waited) -> None:
    """Waits until the client has received enough.

    Raises:
        ClientDisconnected: the WebSocket has been closed meanwhile, and not by the application.
    """
    while not call.has_room():
        await _news(call)
    code = call.closed_by_other()
    if code:
        raise closed_error(code)


async def _news(call: Waited) -> None:
    waiter = call.new_waiter()
    try:
        await waiter
    except BaseException:
        call.forget(waiter)
        raise


def closed_error(code: int) -> ClientDisconnected:
    """Returns what `send` raises when the WebSocket is closed."""
    return ClientDisconnected(f"the WebSocket is closed, with the code {code}")
