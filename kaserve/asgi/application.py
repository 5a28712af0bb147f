"""ASGI: a handler that runs an ASGI application.

Knows when the application is called, and what of it still runs when the server stops. Does not know what it is called
with (`scope`), what its messages mean (`call`), nor how its startup goes (`lifespan`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from ..http.handler import BaseHandler, HandlerResult
from ..http.messages import Request, Response
from ..net.service import Service
from ..threads.future import LightFuture
from .call import Application, Call
from .host import loop_of
from .lifespan import MODES, Lifespan
from .scope import ScopeBuilder
from .tasks import future_of, start_task

__all__ = ["ASGI"]


class ASGI(BaseHandler):
    """A handler that runs an ASGI application: Starlette, FastAPI, Django, Quart, Litestar and others.

    The application runs in an asyncio event loop in the server's own thread. It is called when the head of a request has
    been read, and receives the body while it arrives. It can be mounted beside other handlers (`kaserve.handlers.Mount`).

    Args:
        app: the application, which is called with (scope, receive, send).
        root_path: the path that a proxy in front has taken off (`scope["root_path"]`); "" for none. What `Mount` takes off
            is added to it.
        lifespan: "auto" to tell the application of the server's start and stop if it wants to know, "on" if that must
            work, "off" not to.

    Raises:
        ValueError: `root_path` is not a path, or `lifespan` none of the three.
    """

    streams = True

    def __init__(self, app: Application, *, root_path: str = "", lifespan: str = "auto") -> None:
        if root_path and (root_path[0] != "/" or root_path[-1] == "/"):
            raise ValueError(f"root_path must begin with a slash and not end in one, such as /api, not {root_path!r}")
        if lifespan not in MODES:
            raise ValueError(f"lifespan must be {', '.join(MODES[:-1])} or {MODES[-1]}, not {lifespan!r}")
        self._app = app
        self._mode = lifespan
        self._scopes = ScopeBuilder(root_path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lifespan: Lifespan | None = None
        self._calls: set[Call] = set()  # whose applications still run

    def __call__(self, request: Request) -> HandlerResult:
        """Returns the application's response; a Future of it if the application has to wait first."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("an ASGI application can only be called by a running server")
        call = Call(self._app, loop, request)
        task = start_task(loop, call.run(self._scopes.build(request)))
        if not task.done():
            self._keep(call, task, request)
        result = call.result
        if isinstance(result, Response):
            return result
        if result is not None:
            raise result
        future: Future[Response] = LightFuture()
        call.future = future
        return future

    def _keep(self, call: Call, task: asyncio.Task[None], request: Request) -> None:
        """The application waits for something, and may outlast the response."""
        call.task = task
        self._calls.add(call)
        task.add_done_callback(lambda _: self._calls.discard(call))
        request.on_leave = call.client_left

    def attach(self, service: Service) -> None:
        self._loop = loop = loop_of(service)
        self._lifespan = Lifespan(self._app, self._mode, loop)
        service.lifespans.append(self)

    # `net.service.Lifespan`.

    def start(self) -> Future[None]:
        assert self._loop is not None
        return future_of(self._loop, self._start())

    async def _start(self) -> None:
        assert self._lifespan is not None
        await self._lifespan.start()
        self._scopes.state = self._lifespan.state

    def stop(self, patience: float, seconds: float) -> Future[None]:
        assert self._loop is not None
        return future_of(self._loop, self._stop(patience))

    async def _stop(self, patience: float) -> None:
        """Waits for what still runs, such as background tasks after a response; then ends it, and the application."""
        tasks = [call.task for call in self._calls if call.task is not None]
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=patience)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=_LAST_WORDS)
        assert self._lifespan is not None
        await self._lifespan.stop()


_LAST_WORDS = 0.5  # seconds for an application that was cancelled to clean up, before its lifespan ends
