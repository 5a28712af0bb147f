"""BodyStream: the body of a request, which its handler reads while it arrives.

Knows what has arrived and is unread, which read waits for more, and what comes after the last byte. Does not know how a
body is framed (`protocol` writes into it, as into any sink), nor connections: its owner is told when bytes are wanted.

The stream is *pulled*. What is here is returned at once. For more, `read` returns a Future and tells the owner, and
only then does anything read from the socket. So a handler that is slower than its client fills the buffers of the
kernel, and then the client has to wait; it never fills our memory. That is also why a stream has no size limit of its
own: it holds what one `recv` has brought.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, BinaryIO, Protocol, TypeVar

from .headers import FieldLine

__all__ = ["BodyStream", "ClientDisconnected", "ReceivedBody", "StreamOwner"]

T = TypeVar("T")

_READ_SIZE = 64 * 1024


class ClientDisconnected(ConnectionError):
    """The client has left before its request was complete. A handler need not catch it: there is no one to respond to,
    and it is not logged."""


class StreamOwner(Protocol):
    """What a stream asks of the connection that it comes from (`net.streaming`)."""

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the thread of the connection."""

    def want_body(self, stream: BodyStream) -> None:
        """A read of `stream` waits for bytes that are not here. Called in its own thread."""

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called in its own thread, soon. Safe from any thread."""

    def wait(self, future: Future[T]) -> Awaitable[T]:
        """Waits for `future` in a coroutine."""


class BodyStream:
    """The body of a request while it arrives: `Request.stream`.

    A handler gets it with `streams = True`, or by returning a `BodyStream()` from `body_sink`. Its methods are called
    in the server's own thread; in other threads use `kaserve.handlers.BodyFile`.

    Attributes:
        trailers: the trailers as pairs, names in lower case, once the end has been reached (RFC 9110 §6.5); empty
            before.
        owner: the connection; None if nothing more can come: the body had been received before, or the request is
            over; or if the request has not begun.
        awaits_continue: whether the client waits for `100 Continue`, which has not been sent yet.
        blocked: Futures of threads that wait in a `BodyFile`.
    """

    __slots__ = (
        "_data",
        "_end",
        "_pieces",
        "_start",
        "_waiting",
        "_wanted",
        "awaits_continue",
        "blocked",
        "owner",
        "trailers",
    )

    def __init__(self) -> None:
        """Makes a stream for `BaseHandler.body_sink` to return."""
        self.owner: StreamOwner | None = None
        self.trailers: list[FieldLine] = []
        self.awaits_continue = False
        self.blocked: list[Future[Any]] = []
        self._data = b""  # what is unread starts at _start, and goes on in _pieces
        self._start = 0
        self._pieces: list[bytes] = []
        # What a read gets after the last byte: b"", or an exception. None while more may come.
        self._end: bytes | Exception | None = None
        self._waiting: Future[bytes] | None = None  # a read that waits for bytes, and how many it wants at most
        self._wanted = 0

    # For the handler.

    def read(self, n: int = _READ_SIZE) -> bytes | Future[bytes]:
        """Returns the next 1 to `n` bytes, b"" after the last one.

        Returns:
            The bytes if any are here, else a Future of them, which is completed in the server's own thread.
            There is one read at a time: the Future must be done, or cancelled, before the next call. If the first read
            has to wait, it has `100 Continue` sent to a client that asks for it (RFC 9110 §10.1.1).

        Raises:
            HTTPError: the body is malformed or incomplete (400), too large (413), or did not arrive in time (408). A
                handler lets it through, and the client gets that response if none has been started.
            ClientDisconnected: the client has left.
            RuntimeError: the response is complete; another read is waiting; or this is not the server's own thread.
                The Future raises the same exceptions.
        """
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        owner = self.owner
        if owner is not None and not owner.is_own_thread():
            raise RuntimeError(
                "a BodyStream is read in the server's own thread; use kaserve.handlers.BodyFile in others"
            )
        if self.is_waiting:
            raise RuntimeError("the read before this one is still waiting")
        if self._has_data() or self._end is not None:
            return self._take(n)
        if owner is None:
            raise RuntimeError("this stream belongs to no request yet")
        waiting: Future[bytes] = Future()
        self._waiting = waiting
        self._wanted = n
        owner.want_body(self)
        return waiting

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        """The next piece, for a handler that is an `async def`: `async for piece in request.stream`. Raises what `read`
        raises."""
        owner = self.owner
        piece = self.read()
        if isinstance(piece, Future):
            assert owner is not None
            piece = await owner.wait(piece)
        if not piece:
            raise StopAsyncIteration
        return piece

    def consume(self, write: Callable[[bytes], object], then: Callable[[], T]) -> Future[T]:
        """Reads the whole body, and calls `write` with each piece and then `then`, in the server's own thread.

        Args:
            write: gets each piece, such as `hashlib.sha256().update`. It must not block.
            then: makes the result, such as the response.

        Returns:
            A Future of the result of `then`, which a handler may return as it is. It raises what `read`, `write` or
            `then` raise. If it is cancelled, nothing more is read.
        """
        result: Future[T] = Future()
        result.add_done_callback(self._stop_consuming)
        self._consume(write, then, result, None)
        return result

    def _consume(
        self,
        write: Callable[[bytes], object],
        then: Callable[[], T],
        result: Future[T],
        arrived: Future[bytes] | None,
    ) -> None:
        """Goes on with what is here, or with what a read has waited for."""
        try:
            piece = self.read() if arrived is None else arrived.result()
            while not result.cancelled():
                if isinstance(piece, Future):
                    piece.add_done_callback(partial(self._consume, write, then, result))
                    return
                if not piece:
                    value = then()
                    if result.set_running_or_notify_cancel():
                        result.set_result(value)
                    return
                write(piece)
                piece = self.read()
        except Exception as error:
            if result.set_running_or_notify_cancel():
                result.set_exception(error)

    def _stop_consuming(self, result: Future[T]) -> None:
        """The Future of `consume` is done. If it was cancelled, what arrives is not for that."""
        waiting = self._waiting
        if result.cancelled() and waiting is not None:
            waiting.cancel()

    # For the protocol, which writes into it as into any sink.

    def write(self, data: bytes) -> None:
        """Adds bytes that have arrived. A read that waits gets them from `wake`, all that came together."""
        self._pieces.append(data)
        self.awaits_continue = False

    def finish(self) -> None:
        """The body is complete."""
        self._end = b""

    def fail(self, error: Exception) -> None:
        """No more will come, since `error` has happened. What is here can still be read."""
        if self._end is None:
            self._end = error

    def abandon(self) -> None:
        """The client has left."""
        self.close(disconnected=True)

    def wake(self) -> None:
        """Completes the read that waits, if there is something for it."""
        waiting = self._waiting
        if waiting is None or not (self._has_data() or self._end is not None):
            return
        self._waiting = None
        if not waiting.set_running_or_notify_cancel():
            return
        if isinstance(self._end, Exception) and not self._has_data():
            waiting.set_exception(self._end)
        else:
            waiting.set_result(self._take(self._wanted))

    def close(self, *, disconnected: bool = False) -> None:
        """The request is over. Unread bytes are dropped, and later reads fail, so that no part looks like the whole."""
        if self._end != b"" or self._has_data():
            if disconnected:
                self._end = ClientDisconnected("the client has left before its request was complete")
            elif not isinstance(self._end, Exception):
                self._end = RuntimeError("the response is complete, and its request can no longer be read")
        if isinstance(self._end, Exception):
            self._end.__traceback__ = None  # its frames refer to the stream: a cycle, which reference counts never free
        self._data = b""
        self._start = 0
        self._pieces.clear()
        self.wake()
        # In this order. A thread adds its Future and looks for the owner after that, so one of the two sees the other.
        # What it has asked the owner to call may never be called, since the server may have stopped.
        self.owner = None
        for blocked in self.blocked:
            if not blocked.done():
                if isinstance(self._end, Exception):
                    blocked.set_exception(self._end)
                else:
                    blocked.set_result(b"")

    # State.

    @property
    def is_waiting(self) -> bool:
        """Whether a read waits for bytes."""
        return self._waiting is not None and not self._waiting.done()

    @property
    def is_at_end(self) -> bool:
        """Whether all of the body has been read."""
        return self._end == b"" and not self._has_data()

    @property
    def failure(self) -> Exception | None:
        """Why no more will come although the body is incomplete; None if it is complete, or still arriving."""
        return self._end if isinstance(self._end, Exception) else None

    def _has_data(self) -> bool:
        return self._start < len(self._data) or bool(self._pieces)

    def _take(self, n: int) -> bytes:
        """Returns up to `n` unread bytes; without any, what follows the last one."""
        if self._start == len(self._data):
            self._data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._start = 0
            self._pieces.clear()
        if not self._data:
            if isinstance(self._end, Exception):
                raise self._end
            return b""
        start = self._start
        if start == 0 and len(self._data) <= n:
            data, self._data = self._data, b""
            return data
        data = self._data[start : start + n]
        self._start = start + len(data)
        if self._start == len(self._data):
            self._data = b""
            self._start = 0
        return data


class ReceivedBody(BodyStream):
    """A body that has been received completely, as a stream: what is not here is in a file."""

    __slots__ = ("_file",)

    def __init__(self, file: BinaryIO, trailers: list[FieldLine]) -> None:
        """Reads on in `file`."""
        super().__init__()
        self._file = file
        self.trailers = trailers
        self._end = b""

    def _take(self, n: int) -> bytes:
        return self._file.read(n)

    def _has_data(self) -> bool:
        position = self._file.tell()
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(position)
        return position < size
