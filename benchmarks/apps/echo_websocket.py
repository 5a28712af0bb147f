"""An ASGI application that sends back each message of a WebSocket, without a framework."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
