"""CoroutineHandlers: runs the coroutines of handlers that are `async def`.

Knows tasks, and how the result of a coroutine becomes a response. Does not know which handlers there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Coroutine
from concurrent.futures import Future
from typing import Any

from ..http.handler import HandlerResult
from ..http.messages import Request, Response
from ..net.failures import reraise_exit_signals
from ..net.service import Service
from ..threads.future import LightFuture
from .body import MAX_AHEAD, StreamedBody
from .departures import is_departure
from .start import TaskStarter
from .tasks import RunningTasks, as_exception, future_of

__all__ = ["CoroutineHandlers", "coroutines_of"]

log = logging.getLogger("kaserve")


def coroutines_of(service: Service, loop: asyncio.AbstractEventLoop) -> CoroutineHandlers:
    """Returns what runs the coroutines of `service`; all of its handlers share it."""
    for lifespan in service.lifespans:
        if isinstance(lifespan, CoroutineHandlers):
            return lifespan
    coroutines = CoroutineHandlers(loop)
    service.lifespans.append(coroutines)
    return coroutines


class CoroutineHandlers:
    """Runs coroutines until they are done; at the end of the server, for as long as a shutdown may take."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._starter = TaskStarter(loop)
        self._running = RunningTasks()

    def __call__(self, coroutine: Coroutine[Any, Any, Response], request: Request) -> HandlerResult:
        """Returns the response that `coroutine` makes; a Future of it if the coroutine has to wait."""
        task = self._starter.start(coroutine)
        if task.done():
            return self._result(task, request)
        self._running.add(task)
        future: Future[Response] = LightFuture()
        task.add_done_callback(lambda task: self._complete(future, task, request))
        return future

    def _complete(self, future: Future[Response], task: asyncio.Task[Response], request: Request) -> None:
        if not future.set_running_or_notify_cancel():  # the client has left
            error = None if task.cancelled() else task.exception()
            if error is not None and not is_departure(error):
                log.error("the handler failed on %r, whose client has left", request, exc_info=error)
            return
        try:
            future.set_result(self._result(task, request))
        except BaseException as error:
            reraise_exit_signals(error)
            future.set_exception(as_exception(error))

    def _result(self, task: asyncio.Task[Response], request: Request) -> Response:
        if task.cancelled():
            raise RuntimeError("the handler was cancelled")
        response = task.result()
        if isinstance(response, Response) and isinstance(response.body, AsyncIterable):
            self._stream(response, request)
        return response

    def _stream(self, response: Response, request: Request) -> None:
        """Makes the pieces of an asynchronous body in a task."""
        body: Any = response.body
        response.body = pieces = StreamedBody()
        self._running.add(self._loop.create_task(self._make_pieces(body, pieces, request)))

    async def _make_pieces(self, body: AsyncIterable[bytes], pieces: StreamedBody, request: Request) -> None:
        try:
            async for piece in body:
                if pieces.is_closed:
                    break
                if not isinstance(piece, bytes):
                    raise TypeError(f"a body is made of bytes, not of {type(piece).__name__}")
                pieces.put(piece)
                if pieces.ahead >= MAX_AHEAD:
                    await pieces.drain(self._loop)
            pieces.end()
        except BaseException as error:
            reraise_exit_signals(error)
            pieces.fail(as_exception(error))
            if pieces.is_closed and not is_departure(error) and not isinstance(error, asyncio.CancelledError):
                log.error("the body of the response to %r failed", request, exc_info=error)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    # `net.service.Lifespan`.

    def start(self) -> Future[None]:
        done: Future[None] = LightFuture()
        done.set_result(None)
        return done

    def stop(self, patience: float, seconds: float) -> Future[None]:
        return future_of(self._loop, self._running.finish(patience, seconds))
