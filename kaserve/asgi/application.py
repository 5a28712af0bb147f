"""ASGI: a handler that runs an ASGI application.

Knows when the application is called, and what of it still runs when the server stops. Does not know what it is called
with (`scope`), what its messages mean (`call`), nor how its startup goes (`lifespan`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future
from types import CoroutineType
from typing import Any, cast

from ..http.errors import HTTPError
from ..http.handler import BaseHandler, HandlerResult
from ..http.headers import HOP_BY_HOP
from ..http.messages import Request, Response
from ..net.service import Service
from ..threads.future import LightFuture
from .call import Application, new_call
from .host import loop_of
from .lifespan import MODES, Lifespan
from .scope import Scope, ScopeBuilder
from .start import TaskStarter
from .tasks import RunningTasks, as_coroutine, future_of
from .websocket.settings import MISSING, WebSocketSettings, is_available

__all__ = ["ASGI"]

log = logging.getLogger("kaserve")

_COROUTINE = CoroutineType
_UPGRADE = HOP_BY_HOP  # the bit that the header Upgrade sets, among others


class ASGI(BaseHandler):
    """A handler that runs an ASGI application: Starlette, FastAPI, Django, Quart, Litestar and others.

    The application runs in an asyncio event loop in the server's own thread. It is called when the head of a request
    has been read, and receives the body while it arrives. It can be mounted beside other handlers
    (`kaserve.handlers.Mount`).

    Args:
        app: the application, which is called with (scope, receive, send).
        root_path: the path that a proxy in front has taken off (`scope["root_path"]`); "" for none. What `Mount` takes
            off is added to it.
        lifespan: "auto" to tell the application of the server's start and stop if it wants to know, "on" if that must
            work, "off" not to.
        ws_max_size: bytes of a message from a WebSocket client, beyond which the WebSocket is closed with 1009.
        ws_ping_interval: seconds between two pings of such a client; 0 sends none.
        ws_ping_timeout: seconds that it has to respond to one, after which the WebSocket is closed with 1011; 0 is no
            limit.
        ws_per_message_deflate: whether messages may be compressed (RFC 7692).

    Raises:
        ValueError: `root_path` is not a path, or `lifespan` none of the three.
    """

    streams = True

    def __init__(
        self,
        app: Application | Callable[[Scope], Any],
        *,
        root_path: str = "",
        lifespan: str = "auto",
        ws_max_size: int = 16777216,  # these are the defaults of WebSocketSettings; help() shows literals alone
        ws_ping_interval: float = 20.0,
        ws_ping_timeout: float = 20.0,
        ws_per_message_deflate: bool = True,
    ) -> None:
        if root_path and (root_path[0] != "/" or root_path[-1] == "/"):
            raise ValueError(f"root_path must begin with a slash and not end in one, such as /api, not {root_path!r}")
        if lifespan not in MODES:
            raise ValueError(f"lifespan must be {', '.join(MODES[:-1])} or {MODES[-1]}, not {lifespan!r}")
        self._app = _as_asgi_3(app)
        self._mode = lifespan
        self._scopes = ScopeBuilder(root_path)
        self._loop: Any = None
        self._starter: TaskStarter | None = None
        self._lifespan: Lifespan | None = None
        self._running = RunningTasks()
        self._websocket_settings = WebSocketSettings(
            ws_max_size, ws_ping_interval, ws_ping_timeout, ws_per_message_deflate
        )
        self._websockets: Callable[[Request], HandlerResult] = _not_running

    def __call__(self, request: Request) -> HandlerResult:
        """Returns the application's response; a Future of it if the application has to wait first."""
        starter = self._starter
        if starter is None:
            raise RuntimeError("an ASGI application can only be called by a running server")
        if request.flags & _UPGRADE and request.method == "GET" and "websocket" in request.upgrades:
            return self._websockets(request)
        call = new_call(self._loop, request)
        try:
            coroutine: Any = self._app(self._scopes.build(request), call.receive, call.send)
            if type(coroutine) is not _COROUTINE and not asyncio.iscoroutine(coroutine):
                coroutine = as_coroutine(coroutine)
        except Exception as error:  # of an application that is no coroutine function
            call.failed(error)
        else:
            task = starter.start(coroutine)
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

    def attach(self, service: Service) -> None:
        """Gets the event loop of the server."""
        self._loop = loop = loop_of(service)
        self._starter = TaskStarter(loop)
        self._lifespan = Lifespan(self._app, self._mode, loop)
        service.lifespans.append(self)
        self._websockets = self._new_websockets(service, loop)

    def _new_websockets(self, service: Service, loop: asyncio.AbstractEventLoop) -> Callable[[Request], HandlerResult]:
        """Returns what responds to requests for a WebSocket."""
        if not is_available():
            return _NoWebSockets()
        from .websocket.endpoint import WebSocketEndpoint  # an option

        assert self._starter is not None
        return WebSocketEndpoint(
            self._app, self._websocket_settings, self._scopes, loop, service.reactor, self._starter, self._running
        )

    # `net.service.Lifespan`.

    def start(self) -> Future[None]:
        """Has the application start; called by the server."""
        return future_of(self._loop, self._start())

    async def _start(self) -> None:
        assert self._lifespan is not None
        await self._lifespan.start()
        self._scopes.state = self._lifespan.state

    def stop(self, patience: float, seconds: float) -> Future[None]:
        """Has it stop, after its running calls; called by the server."""
        return future_of(self._loop, self._stop(patience, seconds))

    async def _stop(self, patience: float, seconds: float) -> None:
        """Waits for what still runs, such as background tasks after a response, and then ends the application."""
        assert self._lifespan is not None
        await self._running.finish(patience, seconds)
        await self._lifespan.stop()


class _NoWebSockets:
    """Responds where the package is not installed. One line in the log is enough."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, request: Request) -> HandlerResult:
        if not self._told:
            self._told = True
            log.warning("%r got a 501: %s", request, MISSING)
        raise HTTPError(501, "this server does not speak WebSocket")


def _not_running(request: Request) -> HandlerResult:
    raise AssertionError("not attached to a server")


def _as_asgi_3(app: Application | Callable[[Scope], Any]) -> Application:
    """Returns `app` itself; one of ASGI 2, which is called with the scope alone, as one of ASGI 3 (specification,
    "Legacy Applications")."""
    if inspect.isclass(app):
        is_double = True
    else:
        function = app if inspect.isroutine(app) else type(app).__call__
        is_double = not inspect.iscoroutinefunction(function) and _has_one_parameter(app)
    if not is_double:
        return cast("Application", app)

    async def call_twice(scope: Scope, receive: Any, send: Any) -> None:
        await cast("Any", app)(scope)(receive, send)

    return call_twice


def _has_one_parameter(app: Any) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return False
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return kinds in ([inspect.Parameter.POSITIONAL_OR_KEYWORD], [inspect.Parameter.POSITIONAL_ONLY])
