"""WebSocketEndpoint: the requests of an ASGI handler that ask for a WebSocket.

Knows how the application is called for one. Does not know what is in its messages (`call`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from ...http.handler import HandlerResult
from ...http.messages import Request, Response
from ...net.reactor import Reactor
from ...threads.future import LightFuture
from ..call import Application
from ..scope import ScopeBuilder
from ..start import TaskStarter
from ..tasks import RunningTasks, as_coroutine
from .call import WebSocketCall
from .handshake import Negotiator, check_request, offered_subprotocols
from .settings import WebSocketSettings

__all__ = ["WebSocketEndpoint"]


class WebSocketEndpoint:
    """Calls an application for WebSockets."""

    def __init__(
        self,
        app: Application,
        settings: WebSocketSettings,
        scopes: ScopeBuilder,
        loop: asyncio.AbstractEventLoop,
        reactor: Reactor,
        starter: TaskStarter,
        running: RunningTasks,
    ) -> None:
        """Takes the parts of an ASGI handler that it shares."""
        self._app = app
        self._settings = settings
        self._scopes = scopes
        self._loop = loop
        self._reactor = reactor
        self._starter = starter
        self._running = running
        self._negotiator = Negotiator(deflate=settings.deflate)

    def __call__(self, request: Request) -> HandlerResult:
        """Returns the 101, or the response that declines; a Future of it if the application has to wait first.

        Raises:
            HTTPError: the request is no handshake of a WebSocket.
        """
        check_request(request)
        call = WebSocketCall(self._loop, self._reactor, request, self._negotiator, self._settings)
        scope = self._scopes.build_websocket(request, offered_subprotocols(request))
        try:
            coroutine: Any = self._app(scope, call.receive, call.send)
            if not asyncio.iscoroutine(coroutine):
                coroutine = as_coroutine(coroutine)
        except Exception as error:  # of an application that is no coroutine function
            call.failed(error)
        else:
            task = self._starter.start(coroutine)
            if task.done():
                call.end(task)
            else:
                self._running.add(task)
                task.add_done_callback(call.task_done)
                request.on_leave = call.client_left
        result = call.result
        if isinstance(result, Response):
            return result
        if result is not None:
            raise result
        future: Future[Response] = LightFuture()
        call.future = future
        return future
