"""Threaded: a middleware that calls a handler on worker threads, so that it may block.

Knows how the response, and a body that is made while it is sent, get from a thread to the connection. Does not know
how threads are managed (`threads.workers`); `WSGI` uses the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Lock
from typing import Any

from ...http.file_span import FileSpan, Piece
from ...http.handler import BaseHandler, CoroutineHandler, Handler, HandlerResult
from ...http.messages import Request, Response
from ...http.tunnel import TunnelBody
from ...threads.future import LightFuture
from ...threads.workers import Workers
from ..overload import queue_is_full
from .base import Middleware

__all__ = ["Threaded"]

log = logging.getLogger("kaserve")

_WITHOUT_THREAD = (bytes, FileSpan, list, tuple, TunnelBody)  # bodies that are not made piece by piece


class Threaded(Middleware):
    """Calls a handler on worker threads, so that it may block: wait for a database, compute, or sleep.

    Other clients are served meanwhile. The handler is called on several threads at once, so it must be thread-safe. If
    the body of a response is an iterable, other than a list or a tuple, its pieces are made on the threads as well,
    each when the client has received the one before; so a slow client occupies no thread.

    If the client leaves, a request that waits for a thread is not begun, and `Request.disconnected` is True for one
    that has begun. The other hooks of the handler, such as `before_body`, are called on the server's own thread, and
    must not block.

    A handler that streams (`BaseHandler.streams`) reads the body with `kaserve.handlers.BodyFile(request.stream)`,
    which waits for the client, and keeps its thread meanwhile.

    >>> import time
    >>> from kaserve import Response
    >>> def slow(request):
    ...     time.sleep(0.001)
    ...     return Response.text("done")
    >>> handler = Threaded(slow, threads=8)
    >>> handler.close()
    """

    def __init__(self, handler: Handler, threads: int = 4, queue: int = 2048) -> None:
        """Puts threads in front of `handler`. They are started when there is work for them.

        Args:
            handler: a function or handler, which is closed together with this one.
            threads: number of threads, and so of requests that are handled at once; 1 or more.
            queue: number of requests that may wait for a thread. Further ones get a 503 with Retry-After.

        Raises:
            TypeError: `handler` is an `async def`, which runs in an event loop.
            ValueError: one of the numbers is too small.
        """
        if threads < 1 or queue < 0:
            raise ValueError(f"threads must be 1 or more and queue 0 or more, not {threads} and {queue}")
        super().__init__(handler)
        if isinstance(self.inner, CoroutineHandler):
            raise TypeError("an async handler needs no threads; what blocks in it is for asyncio.to_thread()")
        self._workers = Workers(threads, queue)

    def __call__(self, request: Request) -> HandlerResult:
        """Returns a Future of the response.

        Raises:
            HTTPError: 503, too many requests wait for a thread.
        """
        task = _Task(self.inner, request, self._workers)
        if not self._workers.submit(task):
            raise queue_is_full()
        return task.future

    def close(self, timeout: float = 0.0) -> None:
        """Closes the handler, and ends the threads, each after the request that it is working on.

        Args:
            timeout: seconds to wait for that, for all threads together.
        """
        self._workers.close(timeout)
        super().close()


class _Task:
    """One request that a handler responds to on a worker thread.

    Attributes:
        future: the response. The connection waits for it, and cancels it if the client leaves before a thread is free.
    """

    __slots__ = ("_handler", "_request", "_workers", "future")

    def __init__(self, handler: BaseHandler, request: Request, workers: Workers) -> None:
        self._handler = handler
        self._request = request
        self._workers = workers
        # Its result may be another Future, if the handler returns one; a connection waits for that in turn.
        self.future: Future[Any] = LightFuture()

    def is_cancelled(self) -> bool:
        """Whether the client has left before a thread was free."""
        return self.future.cancelled()

    def run(self) -> None:
        """Calls the handler, in the thread that calls this. Raises nothing: an error becomes the response."""
        if not self.future.set_running_or_notify_cancel():
            return  # the client left while the request waited for a thread
        try:
            result = self._handler(self._request)
        except BaseException as error:
            self.future.set_exception(_as_exception(error))
            return
        if isinstance(result, Response) and not isinstance(result.body, _WITHOUT_THREAD):
            result.body = _ThreadedBody(result.body, self._workers)
        self.future.set_result(result)


def _as_exception(error: BaseException) -> Exception:
    """`error` as it may be raised again on the server's own thread, where SystemExit would end the server."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"the handler raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


class _Step:
    """One piece of a body, or its end, as work for a thread."""

    __slots__ = ("_call", "_future")

    def __init__(self, call: Callable[[], None], future: Future[Piece] | None = None) -> None:
        self._call = call
        self._future = future

    def is_cancelled(self) -> bool:
        """Whether the client has left before a thread was free. The end of a body is for its maker, and is never."""
        return self._future is not None and self._future.cancelled()

    def run(self) -> None:
        self._call()


class _ThreadedBody(Iterator["Piece | Future[Piece]"]):
    """A response body whose pieces are made on worker threads, one at a time, each when the connection asks for it."""

    def __init__(self, body: Any, workers: Workers) -> None:
        self._body = body
        self._pieces: Iterator[Any] | None = None
        self._workers = workers
        self._lock = Lock()  # held while the iterator runs: close() may come meanwhile
        self._awaited: Future[Piece] | None = None  # a Future that the body itself has yielded
        self._is_over = False

    def __next__(self) -> Piece | Future[Piece]:
        if self._is_over:
            raise StopIteration
        future: Future[Piece] = LightFuture()
        # A response that has begun goes on, however many requests are waiting.
        if not self._workers.submit(_Step(lambda: self._make_piece(future), future), has_begun=True):
            raise RuntimeError("the threads of the handler have ended")
        return future

    def _make_piece(self, future: Future[Piece]) -> None:
        """Completes `future` with the next piece, or with b"" after the last one, in the thread that calls this."""
        if not future.set_running_or_notify_cancel():
            return  # the client has left
        try:
            with self._lock:
                if self._is_over:
                    piece: Any = None
                else:
                    if self._pieces is None:
                        self._pieces = iter(self._body)
                    piece = next(self._pieces, None)
                    self._is_over = piece is None
        except BaseException as error:
            future.set_exception(_as_exception(error))
            return
        if isinstance(piece, Future):
            self._awaited = piece
            piece.add_done_callback(lambda done: _pass_on(done, future))
        else:
            future.set_result(b"" if piece is None else piece)

    def close(self) -> None:
        """Ends the body. It is closed on a thread: a piece may be in the making, and closing may block as well."""
        self._is_over = True
        if self._awaited is not None:
            self._awaited.cancel()
        if hasattr(self._body, "close") and not self._workers.submit(_Step(self._close_body), has_begun=True):
            self._close_body()

    def _close_body(self) -> None:
        with self._lock:
            try:
                self._body.close()
            except Exception:
                log.exception("closing the body of a response failed")


def _pass_on(done: Future[Piece], future: Future[Piece]) -> None:
    """Completes `future` with the outcome of `done`."""
    if done.cancelled():
        future.set_result(b"")  # by `close`: the connection has ended
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())
