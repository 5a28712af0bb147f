"""WSGI: a handler that runs a WSGI application (PEP 3333), on the reactor's thread or on worker threads.

Knows when the application is called. Does not know what it is called with (`environ`), what its result means
(`start_response`), or how a response gets from a thread to the connection (`task`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from ...http.handler import BaseHandler
from ...http.headers import HOP_BY_HOP
from ...http.messages import Request, Response
from ...threads.spool import SpoolSpace
from ...threads.workers import Workers
from ..overload import queue_is_full
from .environ import EnvironBuilder
from .file_wrapper import FileWrapper
from .hop_by_hop import HopByHopFilter
from .start_response import (
    Application,
    Result,
    StartResponse,
    close_result,
    new_start_response,
    reject_write,
    to_bytes,
)
from .task import WSGITask
from .upgrade import ApplicationUpgrade

__all__ = ["WSGI", "Application"]

log = logging.getLogger("kaserve")

_MAX_SPOOLED = 1 << 30  # as much as a request body may have by default
_MAX_SPOOLED_TOTAL = 8 << 30


class WSGI(BaseHandler):
    """A handler that runs a WSGI application (PEP 3333).

    Args:
        app: the application.
        threads: number of threads, and so of requests that are handled at once. 0 calls the application on the
            reactor's own thread: the fastest way for an application that never blocks, but no other client is served
            while it runs.
        queue: number of requests that may wait for a thread; kaserve responds to further ones with 503.
        multiprocess: whether other processes serve the same application (`wsgi.multiprocess`).
        max_spooled: bytes of one response that are kept in a temporary file when its client is slow, so that the thread
            is free as soon as the application has made the response. Beyond that the thread waits for the client. 0
            keeps responses off the disk.
        max_spooled_total: the same for all responses of this application together.

    Raises:
        ValueError: one of the numbers is negative.
    """

    def __init__(
        self,
        app: Application,
        threads: int = 4,
        queue: int = 2048,
        *,
        multiprocess: bool = False,
        max_spooled: int = _MAX_SPOOLED,
        max_spooled_total: int = _MAX_SPOOLED_TOTAL,
    ) -> None:
        if threads < 0 or queue < 0:
            raise ValueError(f"threads and queue must be 0 or more, not {threads} and {queue}")
        if max_spooled < 0 or max_spooled_total < 0:
            raise ValueError(
                f"max_spooled and max_spooled_total must be 0 or more, not {max_spooled} and {max_spooled_total}"
            )
        self._app = app
        self._hop_by_hop = HopByHopFilter()
        self._space = SpoolSpace(max_spooled, max_spooled_total)
        self._workers = Workers(threads, queue) if threads else None
        self._service: Any = None  # of the server; None before `attach`
        self._environ_builder = EnvironBuilder(
            {
                "wsgi.file_wrapper": FileWrapper,
                "wsgi.multithread": threads > 1,
                "wsgi.multiprocess": multiprocess,
            }
        )

    def __call__(self, request: Request) -> Response | Future[Response]:
        """The application's response to `request`; with threads, a Future of it.

        Raises:
            HTTPError: 503, if too many requests wait for a thread.
        """
        workers = self._workers
        if workers is None:
            return _call_application(self._app, self._environ_builder, self._hop_by_hop, request)
        upgrade = None
        if request.flags & HOP_BY_HOP and self._service is not None and request.upgrades:
            upgrade = ApplicationUpgrade(self._service, request)
        task = WSGITask(self._app, self._environ_builder, self._hop_by_hop, self._space, request, upgrade)
        if not workers.submit(task):
            raise queue_is_full()
        return task.future if upgrade is None else upgrade.wait_for(task.future)

    def attach(self, service: Any) -> None:
        """As for any handler. A request for another protocol needs the server to give the application a socket."""
        self._service = service

    def close(self, timeout: float = 0.0) -> None:
        """Ends the threads, each after the request that it is working on.

        Args:
            timeout: seconds to wait for that, for all threads together.
        """
        if self._workers is not None:
            self._workers.close(timeout)


# On the reactor's thread.


def _call_application(
    app: Application, environ_builder: EnvironBuilder, hop_by_hop: HopByHopFilter, request: Request
) -> Response:
    """Calls the application and returns its response."""
    start_response = new_start_response(hop_by_hop)
    result = app(environ_builder.build(request), start_response)
    if type(result) is list and len(result) == 1 and start_response.written is None and type(result[0]) is bytes:
        # What nearly every framework returns: there is nothing to iterate over and nothing to close.
        return start_response.full_response(request, result[0])
    return _respond(request, start_response, result)


def _respond(request: Request, start_response: StartResponse, result: Result) -> Response:
    """The response that the application's result makes. It is closed here, unless the response owns it."""
    try:
        content = start_response.buffered_body(result)
        if content is None and type(result) is FileWrapper:
            response = start_response.file_response(result)
            if response is not None:
                return response
        if content is None:
            # An application may call start_response as late as while its first non-empty piece is made (PEP 3333, "The
            # start_response() Callable"), so the head is not known before that.
            # Each piece is checked here rather than when it is sent, so that the response to a HEAD is a 500, too.
            pieces = map(to_bytes, result)
            written = start_response.written
            first = b"".join(written) if written is not None else next(filter(None, pieces), b"")
            if first:
                start_response.send = reject_write
                if len(first) == start_response.declared_length:
                    response = start_response.full_response(request, first)
                    _exhaust(request, pieces, result)
                    return response
                return start_response.streamed_response(_StreamedResult(first, pieces, result))
            content = b""
        response = start_response.full_response(request, content)
    except BaseException:
        close_result(result)
        raise
    close_result(result)
    return response


def _exhaust(request: Request, pieces: Iterator[bytes], result: Result) -> None:
    """The first piece was as long as announced, as with frameworks that wrap what they return: it is the whole
    response, and leaves like one. What the application does after it is done now; too late to change the response."""
    try:
        if any(pieces):
            log.error("the response to %r is longer than its Content-Length; the rest was cut off", request)
    except Exception:
        log.exception("the application failed after its response to %r was complete", request)
    try:
        close_result(result)
    except Exception:
        log.exception("closing the response to %r failed", request)


class _StreamedResult:
    """The content of a response that the application makes while it is sent."""

    __slots__ = ("_first", "_pieces", "_result")

    def __init__(self, first: bytes, pieces: Iterator[bytes], result: Result) -> None:
        self._first = first
        self._pieces = pieces
        self._result: Result | None = result

    def __iter__(self) -> _StreamedResult:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, b""
        return first or next(self._pieces)

    def close(self) -> None:
        """Closes the application's result, once."""
        result, self._result = self._result, None
        close_result(result)
