"""WSGITask: one request that a WSGI application handles on a worker thread.

Knows how the response gets from that thread to the connection. Does not know which thread it is, nor what the rules of
PEP 3333 make of a result (`start_response`).
"""

from __future__ import annotations

import logging
from concurrent.futures import Future

from ...http.messages import Request, Response
from ...threads.future import LightFuture
from ...threads.pipe import Pipe
from ...threads.spool import SpoolSpace
from .environ import EnvironBuilder
from .file_wrapper import FileWrapper
from .hop_by_hop import HopByHopFilter
from .start_response import Application, Result, StartResponse, close_result, new_start_response
from .upgrade import ApplicationUpgrade

__all__ = ["WSGITask"]

log = logging.getLogger("kaserve")


class WSGITask:
    """A request that waits for a thread, and then its response on the way back.

    The application is called, iterated over and closed in one thread. The response is in `future` as soon as its head
    is known; content that is not complete by then follows through a pipe.

    Args:
        app: the application.
        environ_builder: builds its environ.
        hop_by_hop: the filter of its response headers.
        space: the disk space for what a slow client does not take of its responses.
        request: the request, whose body has been received.
        upgrade: adds a socket to the environ, if the request asks for another protocol.

    Attributes:
        future: the response. The connection waits for it, and cancels it if the client leaves before a thread is free.
    """

    __slots__ = ("_app", "_environ_builder", "_pipe", "_request", "_space", "_start_response", "_upgrade", "future")

    def __init__(
        self,
        app: Application,
        environ_builder: EnvironBuilder,
        hop_by_hop: HopByHopFilter,
        space: SpoolSpace,
        request: Request,
        upgrade: ApplicationUpgrade | None = None,
    ) -> None:
        self._upgrade = upgrade
        self._app = app
        self._space = space
        self._environ_builder = environ_builder
        self._request = request
        self.future: Future[Response] = LightFuture()
        self._start_response: StartResponse = new_start_response(hop_by_hop)
        self._start_response.send = self._send
        self._pipe: Pipe | None = None

    def is_cancelled(self) -> bool:
        """Whether the client has left before a thread was free."""
        return self.future.cancelled()

    def run(self) -> None:
        """Handles the request, in the thread that calls this. Raises nothing: an error becomes the response."""
        if not self.future.set_running_or_notify_cancel():
            return  # the client left while the request waited for a thread
        result: Result = ()
        try:
            environ = self._environ_builder.build(self._request)
            if self._upgrade is not None:
                self._upgrade.add_socket(environ)
            result = self._app(environ, self._start_response)
            if self._respond(result):
                result = ()  # the response owns it, and closing the response closes it
            if self._pipe is not None:
                self._pipe.end()
        except BaseException as error:
            self._fail(error)
        try:
            close_result(result)
        except Exception:
            log.exception("closing the response to %r failed", self._request)

    def _respond(self, result: Result) -> bool:
        """Sends the application's result. Returns True if the response now owns `result`, and closes it."""
        start_response, request = self._start_response, self._request
        if self._pipe is None:
            content = start_response.buffered_body(result)
            if content is not None:
                self.future.set_result(start_response.full_response(request, content))
                return False
            response = start_response.file_response(result) if type(result) is FileWrapper else None
            if response is not None:
                self.future.set_result(response)
                return True
        for piece in result:
            start_response.write(piece)
        if not self.future.done():
            self.future.set_result(start_response.full_response(request, b""))
        return False

    def _send(self, data: bytes) -> None:
        """Sends `data`; the first call sends the head with it. Blocks for as long as `Pipe.put`.

        Raises:
            Abandoned: the rest of the response is not wanted any more.
        """
        pipe = self._pipe
        if pipe is None:
            start_response, future = self._start_response, self.future
            if start_response.declared_length == len(data) and not future.done():
                # This is all of it, so that no pipe is needed. Frameworks that set Content-Length and yield the content
                # in one piece are common.
                future.set_result(start_response.full_response(self._request, data))
                return
            pipe = self._pipe = Pipe(space=self._space)
            if future.done():
                log.error("the response to %r is longer than its Content-Length; the rest was cut off", self._request)
                pipe.close()
            else:
                future.set_result(start_response.streamed_response(pipe))
        pipe.put(data)

    def _fail(self, error: BaseException) -> None:
        """Makes `error` a 500; if a part of the response was sent already, the connection ends before the rest."""
        if self._pipe is not None and self._pipe.abandoned:
            return  # it may be Abandoned itself, or a consequence of it; the end of the connection is counted already
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            # Raised again on the reactor's thread, SystemExit would end the server, and StopIteration out of an
            # iterator would look like the regular end of the content.
            cause, error = error, RuntimeError(f"the application raised {type(error).__name__}")
            error.__cause__ = cause
        if not self.future.done():
            self.future.set_exception(error)
        elif self._pipe is not None:
            self._pipe.fail(error)
        else:
            log.error("the application failed after its response to %r was complete", self._request, exc_info=error)
