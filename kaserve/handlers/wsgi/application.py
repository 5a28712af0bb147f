"""WSGI: a handler that runs a WSGI application (PEP 3333), on the reactor or in threads.

Knows when an application is called, how its answer gets to the server, and that it is let go of in the end. Does not
know how requests look to it (`wsgi_environ`), nor what its answers mean (`wsgi_answer`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future

from ...http.errors import HTTPError
from ...http.handler import BaseHandler
from ...http.messages import Request, Response, error_response
from ...threads.future import LightFuture
from ...threads.pipe import Pipe
from ...threads.workers import Workers
from .environ import EnvironMaker
from .start_response import Application, FileWrapper, Result, StartResponse, close, new_start, require_bytes

__all__ = ["WSGI", "Application"]

log = logging.getLogger("kaserve")

_RETRY_AFTER = "1"  # seconds; a queue is worked off in less


class WSGI(BaseHandler):
    """Serves the WSGI application `app`.

    threads: how many requests it works on at the same time, each in a thread. 0 calls it on the reactor's own thread:
    the fastest way, for an application that never waits for anything, since nobody else is served meanwhile.
    queue: requests that may wait for a thread; more are answered with 503, at once.
    multiprocess: other processes serve the same application (`wsgi.multiprocess`).

    Raises ValueError for a number below 0.
    """

    def __init__(self, app: Application, threads: int = 4, queue: int = 2048, *, multiprocess: bool = False) -> None:
        if threads < 0 or queue < 0:
            raise ValueError("threads and queue are 0 or more")
        self._app = app
        self._workers = Workers(threads, queue) if threads else None
        self._environ = EnvironMaker(
            {
                "wsgi.file_wrapper": FileWrapper,
                "wsgi.multithread": threads > 1,
                "wsgi.multiprocess": multiprocess,
            }
        )

    def __call__(self, request: Request) -> Response | Future[Response]:
        workers = self._workers
        if workers is None:
            start = new_start()
            result = self._app(self._environ.make(request), start)
            if type(result) is list and len(result) == 1 and start.written is None and type(result[0]) is bytes:
                return start.whole(request, result[0])
            return _answer(request, start, result)
        delivery = WSGITask(self._app, self._environ, request)
        if not workers.submit(delivery.run):
            return _busy()
        return delivery.future

    def close(self, timeout: float = 0.0) -> None:
        """Ends the threads, each when the request it works on is answered; waits for that up to `timeout` seconds."""
        if self._workers is not None:
            self._workers.close(timeout)


def _busy() -> Response:
    """An ordinary answer, which keeps the connection: the client is to come back."""
    return error_response(HTTPError(503, "there are too many requests just now", (("Retry-After", _RETRY_AFTER),)))


# On the reactor.


def _answer(request: Request, start: StartResponse, result: Result) -> Response:
    """The answer that the application has returned; it owns `result`."""
    try:
        content = start.content(result)
        if content is None and type(result) is FileWrapper:
            response = start.file(result)
            if response is not None:
                return response
        if content is None:
            # Up to the first piece an application may take its time to call start_response.
            pieces = iter(result)
            first = b"".join(start.written) if start.written is not None else next(filter(None, pieces), b"")
            if first:
                require_bytes(first)  # also where HEAD wants none of it
                return start.pieces(_Pieces(first, pieces, result))
            content = b""
        response = start.whole(request, content)
    except BaseException:
        close(result)
        raise
    close(result)
    return response


class _Pieces:
    """The content of an answer that the application makes while it is sent."""

    __slots__ = ("_first", "_pieces", "_result")

    def __init__(self, first: bytes, pieces: Iterator[bytes], result: Result) -> None:
        self._first = first
        self._pieces = pieces
        self._result: Result | None = result

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, b""
        return first or next(self._pieces)

    def close(self) -> None:
        result, self._result = self._result, None
        close(result)


# In a thread.


class WSGITask:
    """A request on its way to a thread, and the answer on its way back.

    The application is called, iterated over and closed in one thread. The answer is there for the server as soon as its
    head is known; what follows goes through a pipe.
    """

    __slots__ = ("_app", "_environ", "_pipe", "_request", "_start", "future")

    def __init__(self, app: Application, environ: EnvironMaker, request: Request) -> None:
        self._app = app
        self._environ = environ
        self._request = request
        self.future: Future[Response] = LightFuture()
        self._start = new_start()
        self._start.transmit = self._put
        self._pipe: Pipe | None = None

    def run(self) -> None:
        """Everything, in the thread."""
        if not self.future.set_running_or_notify_cancel():
            return  # the client went while it waited
        result: Result = ()
        try:
            result = self._app(self._environ.make(self._request), self._start)
            if self._send(result):
                result = ()  # it is the server's to close
            if self._pipe is not None:
                self._pipe.end()
        except BaseException as error:
            self._fail(error)
        try:
            close(result)
        except Exception:
            log.exception("closing the answer to %r failed", self._request)

    def _send(self, result: Result) -> bool:
        """Sends what the application has returned; whether the server has it now, to be closed."""
        start, request = self._start, self._request
        if self._pipe is None:
            content = start.content(result)
            if content is not None:
                self.future.set_result(start.whole(request, content))
                return False
            response = start.file(result) if type(result) is FileWrapper else None
            if response is not None:
                self.future.set_result(response)
                return True
        for piece in result:
            if piece:
                start.write(piece)
        if not self.future.done():
            self.future.set_result(start.whole(request, b""))
        return False

    def _put(self, data: bytes) -> None:
        """Sends `data`, behind the head if it is the first. Waits for a client that is slow. Raises Abandoned."""
        pipe = self._pipe
        if pipe is None:
            start, future = self._start, self.future
            if start.length == len(data) and not future.done():  # all of it: no pipe is needed
                future.set_result(start.whole(self._request, data))
                return
            pipe = self._pipe = Pipe()
            if future.done():
                log.error("the answer to %r is longer than its Content-Length; the rest is cut off", self._request)
                pipe.close()
            else:
                future.set_result(start.pieces(pipe))
        pipe.put(data)

    def _fail(self, error: BaseException) -> None:
        """The application has failed: a 500, unless some of its answer was sent, which then ends too early."""
        if self._pipe is not None and self._pipe.abandoned:
            return  # it may have been because of that
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            # One that would end the server's thread, or seem to be the good end of an iterator there.
            cause, error = error, RuntimeError(f"the application raised {type(error).__name__}")
            error.__cause__ = cause
        if not self.future.done():
            self.future.set_exception(error)
        elif self._pipe is not None:
            self._pipe.fail(error)
        else:
            log.error("the application failed behind its answer to %r", self._request, exc_info=error)
