"""`kaserve.serve`: a server in an asyncio program, as a coroutine.

Knows how the life of a server follows that of a task. Does not know what is served, but that an ASGI application needs
a handler around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..asgi.application import ASGI
from ..asgi.call import Application
from ..config import Config
from ..handlers.interface import Interface, detect_interface
from ..http.handler import Handler
from .server import Server

__all__ = ["serve"]


async def serve(
    app: Handler | Application,
    config: Config | None = None,
    *,
    on_start: Callable[[Server], object] | None = None,
) -> None:
    """Serves in the event loop that runs this coroutine, until it is cancelled or the server's `shutdown` is complete.

    Cancelling shuts the server down gracefully, as the end of a `with` block does, and then this coroutine is
    cancelled. Signals are the program's own business.

    >>> import asyncio
    >>> from kaserve import Config, Request, Response, serve
    >>> async def hello(request: Request) -> Response:
    ...     return Response.text("hello")
    >>> asyncio.run(serve(hello, Config(port=0, access_log=False), on_start=lambda server: server.shutdown()))

    Args:
        app: an ASGI application, or a handler, which may be an `async def`.
        config: the settings; by default all have their default values.
        on_start: called with the server when it accepts requests.

    Raises:
        ConfigError: a setting has no effect here.
        OSError: an address is unavailable.
        StartupFailed: the startup of the ASGI application failed.
        TypeError: `app` is none of what can be served.
    """
    handler: Any = app
    if detect_interface(app, "app") is Interface.ASGI:
        handler = ASGI(handler)
    server = Server(handler, config)
    if on_start is not None:
        server.on_start = lambda: on_start(server)
    await server.serve()
