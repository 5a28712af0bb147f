"""Call: one request that an ASGI application responds to, with its `receive` and `send`.

Knows the messages of the specification ("HTTP Connection"), in which order they may come, and what the server does
about each. Does not know where the application comes from, nor how connections work: a request, its stream, and the
response that it returns or completes a Future with are all it has of them.

The order of what an application sends is a state: START, BODY, perhaps TRAILERS, COMPLETE. A response that is complete
with its first body message is one `Response` of bytes, and leaves in one send; so does one of several messages if all
of them have come before the connection had a chance to look. Otherwise the body is a `StreamedBody`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, cast

from ..http.body_stream import BodyStream, ClientDisconnected
from ..http.errors import HTTPError
from ..http.file_span import FileSpan
from ..http.headers import CONTENT_LENGTH, TRANSFER_ENCODING, FieldLine
from ..http.messages import Request, Response, new_response
from .body import MAX_AHEAD, StreamedBody
from .departures import is_departure
from .done import NOTHING, new_done
from .fields import ResponseFields, decode_fields, new_fields
from .scope import Scope
from .tasks import as_exception
from .waiting import receive_later

__all__ = ["Application", "Call", "Message", "new_call"]

log = logging.getLogger("kaserve")

Message = dict[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[Any]]

_START, _BODY, _TRAILERS, _COMPLETE = range(4)
_HAS_BODY = CONTENT_LENGTH | TRANSFER_ENCODING
_MAX_JOINED = 64 * 1024  # bytes of several body messages that leave as one, if all of them are here


class Call:
    """One request, until the application returns.

    Attributes:
        result: the response, or what it failed with; None while there is none.
        future: of the response; None while the handler is being called and can still return `result` itself.
        waiters: what wakes those who wait in `receive`.
    """

    __slots__ = (
        "_fields",
        "_has_left",
        "_has_trailers",
        "_loop",
        "_pieces",
        "_reading",
        "_request",
        "_response",
        "_state",
        "_status",
        "_stream",
        "_trailers",
        "_unread",
        "future",
        "result",
        "waiters",
    )

    def _fill(self, loop: asyncio.AbstractEventLoop, request: Request) -> None:
        """Sets the attributes, in place of an `__init__` (see `new_call`)."""
        self._loop = loop
        self._request = request
        self._stream: BodyStream | None = None
        self._unread = True  # the end of the request has not been told yet
        if request.flags & _HAS_BODY:
            self._stream = request.stream
        self._reading: Future[bytes] | None = None  # a read of the stream that waits
        self.waiters: list[asyncio.Future[None]] | None = None
        self._has_left = False  # the client sends no more, or has gone
        self._state = _START
        self._status = 0
        self._fields: ResponseFields | None = None
        self._has_trailers = False
        self._trailers: list[FieldLine] | None = None
        self._response: Response | None = None  # one whose body is `_pieces`
        self._pieces: StreamedBody | None = None
        self.result: Response | Exception | None = None
        self.future: Future[Response] | None = None

    def task_done(self, task: asyncio.Task[Any]) -> None:
        """The callback of the application's task."""
        self.end(task)

    def end(self, task: asyncio.Task[Any]) -> None:
        """The application has returned or failed. Ends the response if the application has not."""
        if task.cancelled():
            self.failed(asyncio.CancelledError())
            return
        error = task.exception()
        if error is not None:
            self.failed(error)
        elif self._state != _COMPLETE:
            self._returned_early()

    def client_left(self) -> None:
        """`Request.on_leave`: the client sends no more, or the connection has ended."""
        self._has_left = True
        self._notify()

    # What the application receives.

    def receive(self) -> Coroutine[Any, Any, Message]:
        """Returns the next message, once it is awaited: a part of the request's body or, when that has been read and
        the client has left or the response is complete, http.disconnect."""
        message = self.next_message()
        return receive_later(self, self._loop) if message is None else new_done(message)

    def next_message(self) -> Message | None:
        """Returns what `receive` does; None if there is nothing to be told yet."""
        if self._state == _COMPLETE:
            return {"type": "http.disconnect"}
        if self._unread:
            stream = self._stream
            if stream is None:
                self._unread = False
                return {"type": "http.request", "body": b"", "more_body": False}
            piece = self._read(stream)
            if piece is not None:
                self._unread = not stream.is_at_end
                return {"type": "http.request", "body": piece, "more_body": self._unread}
        return {"type": "http.disconnect"} if self._has_left and not self._unread else None

    def _read(self, stream: BodyStream) -> bytes | None:
        """Returns what is here of the body; None if nothing is, or no more will come, which is `_has_left` then."""
        reading = self._reading
        try:
            piece = stream.read() if reading is None else reading
            if isinstance(piece, Future):
                if not piece.done():
                    if reading is None:
                        self._reading = piece
                        piece.add_done_callback(lambda _: self._notify())
                    return None
                self._reading = None
                piece = piece.result()
            return piece
        except (HTTPError, ClientDisconnected, RuntimeError) as error:
            self._reading = None
            self._unread = False
            self._has_left = True
            if isinstance(error, HTTPError) and self._state == _START:
                self._complete(error)  # a body that is malformed, too large or too late
            return None

    def _notify(self) -> None:
        """Lets those look again who wait in `receive`."""
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def stop_reading(self) -> None:
        """Nobody waits in `receive` any more: nothing more of the body is wanted for now."""
        reading = self._reading
        if reading is not None and reading.cancel():
            self._reading = None

    # What it sends.

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Takes a message. To await what it returns waits while too much is ahead of the client.

        Raises:
            ClientDisconnected: the client has left, before the response was complete.
            RuntimeError: the message may not come now.
            TypeError, ValueError, KeyError: the message is malformed.
        """
        state = self._state
        if self._request.disconnected and state != _COMPLETE:
            raise ClientDisconnected("the client has left before the response was complete")
        kind = message["type"]
        if state == _BODY and kind == "http.response.body":
            pieces = self._add_body(message)
            if pieces is not None and pieces.ahead >= MAX_AHEAD:
                room: Coroutine[Any, Any, None] = pieces.drain(self._loop)
                return room
        elif state == _START and kind == "http.response.start":
            self._fields = new_fields(message.get("headers", ()))
            self._status = message["status"]
            self._has_trailers = "trailers" in message and bool(message["trailers"])
            self._state = _BODY
        else:
            self._send_other(kind, message)
        nothing: Coroutine[Any, Any, None] = NOTHING
        return nothing

    def _send_other(self, kind: str, message: Message) -> None:
        if kind == "http.response.trailers" and self._state == _TRAILERS:
            self._trailers = [*(self._trailers or ()), *decode_fields(message.get("headers", ()))]
            if not message.get("more_trailers", False):
                self._end_body()
        elif kind == "http.response.early_hint" and self._state == _START:
            self._request.inform(103, [("Link", bytes(link).decode("latin-1")) for link in message.get("links", ())])
        elif kind == "http.response.pathsend" and self._state == _BODY and self._pieces is None:
            self._send_file(message["path"])
        else:
            raise RuntimeError(f"the application has sent {kind!r}, but {_EXPECTED[self._state]}")

    def _add_body(self, message: Message) -> StreamedBody | None:
        """Takes a part of the body. Returns what the connection takes it from, if that is streamed."""
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _to_bytes(body)
        is_last = not message.get("more_body", False)
        pieces = self._pieces
        if pieces is None:
            if is_last and not self._has_trailers:
                self._state = _COMPLETE
                self._complete(self._whole_response(body))
                return None
            pieces = self._begin_streaming()
        pieces.put(body)
        if is_last and self._has_trailers:
            self._state = _TRAILERS
        elif is_last:
            self._end_body()
        return pieces

    def _whole_response(self, body: bytes) -> Response:
        """The response with all of its content.

        A Content-Length that disagrees with it goes on to the protocol, which makes it a 500: nothing has been sent
        yet, and neither a part of the content nor a connection that breaks off would tell anybody what is wrong.
        """
        fields = self._fields
        assert fields is not None
        length = fields.length
        if length is None:
            if not body and self._request.method == "HEAD":
                # The application left out the content of the GET, and its length with it. A Content-Length of 0 would
                # be wrong, and none is allowed (RFC 9110 §8.6, §9.3.2): an empty tuple has none.
                return new_response(self._status, (), fields.lines)
            return new_response(self._status, body, fields.lines)
        if length[1] == str(len(body)):
            return new_response(self._status, body, fields.lines)
        if not body:  # HEAD and 304 have the length of what a GET would get
            return new_response(self._status, (body,), fields.all_lines)
        return new_response(self._status, body, fields.all_lines)

    def _begin_streaming(self) -> StreamedBody:
        assert self._fields is not None
        pieces = self._pieces = StreamedBody()
        pieces.on_close = self.client_left
        response = self._response = Response(self._status, pieces, self._fields.all_lines)
        if self._has_trailers:
            response.trailers = lambda: self._trailers or ()
        self._complete(response)
        return pieces

    def _end_body(self) -> None:
        """The last piece has come. If the connection has not begun to take them, they may leave as one."""
        pieces, response = self._pieces, self._response
        assert response is not None
        assert self._fields is not None
        self._state = _COMPLETE
        if pieces is None:  # a file
            self._complete(response)
            return
        pieces.end()
        if pieces.ahead <= _MAX_JOINED and not self._has_trailers and response.body is pieces:
            whole = pieces.take_whole()
            if whole is not None:
                replacement = self._whole_response(whole)
                response.body, response.fields = replacement.body, replacement.fields

    def _send_file(self, path: str | os.PathLike[str]) -> None:
        """Sends a file, by the kernel; with trailers as soon as these have come."""
        assert self._fields is not None
        span = _open_file(path)
        if self._has_trailers:
            response = Response(self._status, (span,), self._fields.all_lines)
            response.trailers = lambda: self._trailers or ()
            self._response = response
            self._state = _TRAILERS
            return
        length = self._fields.length
        if length is None or length[1] == str(span.length):
            response = Response(self._status, span, self._fields.lines)
        else:
            response = Response(self._status, span, self._fields.all_lines)
        self._state = _COMPLETE
        self._complete(response)

    # The response.

    def _complete(self, result: Response | Exception) -> None:
        """The response begins, or there will be none."""
        future = self.future
        if future is None:
            if self.result is None:
                self.result = result
        elif future.done() or not future.set_running_or_notify_cancel():
            if isinstance(result, Response):
                _close(result)  # the client has left, and this is the only reference to the response
        elif isinstance(result, Response):
            future.set_result(result)
        else:
            future.set_exception(result)

    def failed(self, error: BaseException) -> None:
        """The application has raised `error`: a 500, or a reset if the response has begun."""
        if is_departure(error):
            self._depart()
        elif isinstance(error, asyncio.CancelledError) and (self._state == _COMPLETE or self._request.disconnected):
            pass  # at the end of the server
        elif self._state == _COMPLETE or self._request.disconnected:
            log.error("the application failed after its response to %r", self._request, exc_info=error)
        else:
            self._give_up(as_exception(error))

    def _returned_early(self) -> None:
        if self._has_left or self._request.disconnected:
            self._depart()
        elif self._state == _START:
            self._give_up(RuntimeError("the application returned without a response"))
        else:
            self._give_up(RuntimeError("the application returned before its response was complete"))

    def _depart(self) -> None:
        """The application has stopped because the client has left. One that has only finished sending waits still; it
        gets an error without a word in the log."""
        if self._state != _COMPLETE:
            error = ClientDisconnected("the client has left before the response was complete")
            self._give_up(
                error if self._pieces is not None else HTTPError(500, "the response was given up", close=True)
            )

    def _give_up(self, error: Exception) -> None:
        self._state = _COMPLETE
        if self._pieces is not None:
            self._pieces.fail(error)
        else:
            if self._response is not None:
                _close(self._response)  # a file whose trailers have not come
            self._complete(error)


def new_call(loop: asyncio.AbstractEventLoop, request: Request) -> Call:
    """Returns the call for `request`. Compiled, this costs less than a call of the class."""
    call = Call.__new__(Call)
    call._fill(loop, request)
    return call


def _open_file(path: str | os.PathLike[str]) -> FileSpan:
    """Opens a file to be sent. Anything else that has a path is rejected: a directory has no content, and to open a
    FIFO would wait for somebody who writes into it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    span = FileSpan(fd, 0, 0)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        span.close()
        raise ValueError(f"http.response.pathsend needs the path of a file, which {os.fspath(path)!r} is not")
    span.length = status.st_size
    return span


def _close(response: Response) -> None:
    """Closes a response that is not sent."""
    response.close()
    if type(response.body) is tuple:
        for piece in response.body:
            if isinstance(piece, FileSpan):
                piece.close()


def _mark_as_coroutine_functions() -> None:
    """Lets `iscoroutinefunction` find that what `send` and `receive` return is awaited. asgiref's `async_to_sync`, for
    one, warns of functions that it is not true of."""
    for function in (Call.receive, Call.send):
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(function)
        else:
            cast("Any", function)._is_coroutine = cast("Any", asyncio.coroutines)._is_coroutine


_mark_as_coroutine_functions()

_EXPECTED = (
    "http.response.start must come first",
    "the body of the response must come now",
    "http.response.trailers must come now",
    "the response is complete",
)


def _to_bytes(body: Any) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the body of a response must be bytes, not {type(body).__name__}")
