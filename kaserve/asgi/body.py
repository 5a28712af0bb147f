"""StreamedBody: the body of a response that a coroutine makes piece by piece, in the reactor's own thread.

Knows how the two sides wait for each other: the connection gets a Future when there is no piece yet, and the coroutine
waits while too much is ahead of the client. Does not know what the pieces are, nor ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from ..threads.future import LightFuture

__all__ = ["MAX_AHEAD", "StreamedBody"]

# Bytes that may wait for the client outside of the kernel before the coroutine has to wait. A piece is taken while
# there are fewer, so that one piece more than that can be in memory.
MAX_AHEAD = 64 * 1024


class StreamedBody:
    """Pieces on their way from a coroutine to a connection.

    Attributes:
        ahead: bytes that the kernel has not accepted yet.
        is_ended: whether the last piece is here.
        is_closed: whether the connection wants no more: the response is complete, has no content, or the client left.
        on_close: called when the connection wants no more, although the body has not ended. None for nothing.
    """

    __slots__ = (
        "_awaited",
        "_begun",
        "_error",
        "_handed_out",
        "_pieces",
        "_waiters",
        "ahead",
        "is_closed",
        "is_ended",
        "on_close",
    )

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._begun = False  # the connection has asked for a piece
        self._handed_out = 0  # bytes of the piece that it got last
        self._awaited: Future[bytes] | None = None  # what it waits for
        self._error: Exception | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self.ahead = 0
        self.is_ended = False
        self.is_closed = False
        self.on_close: Callable[[], object] | None = None

    # For the coroutine.

    def put(self, piece: bytes) -> None:
        """Adds a piece. Ignored once the connection wants no more."""
        if piece and not self.is_closed:
            self._pieces.append(piece)
            self.ahead += len(piece)
            self._signal()

    async def drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Waits until the client has received so much that there is room for more.

        Raises:
            ClientDisconnected: it has left.
        """
        while self.ahead >= MAX_AHEAD and not self.is_closed:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def end(self) -> None:
        """There will be no more pieces."""
        self.is_ended = True
        self._signal()

    def fail(self, error: Exception) -> None:
        """There will be no more pieces, although the body is incomplete: the connection gets `error` in place of the
        next one."""
        self._error = error
        self.end()

    def take_whole(self) -> bytes | None:
        """Returns the whole body if it is here and the connection has not begun to take it; otherwise None."""
        if self._begun or not self.is_ended or self._error is not None:
            return None
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _signal(self) -> None:
        """Lets the connection look. It gets nothing with the Future itself, so that it finds all pieces at once that
        were added in the meantime."""
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.set_result(b"")

    # For the connection.

    def __iter__(self) -> StreamedBody:
        return self

    def __next__(self) -> bytes | Future[bytes]:
        """Returns the pieces that are here, as one; or a Future, after which to ask again."""
        self._begun = True
        self.ahead -= self._handed_out  # the kernel has accepted it
        self._handed_out = 0
        if self.ahead < MAX_AHEAD:
            self._release()
        if self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            self._handed_out = len(data)
            return data
        if self._error is not None:
            raise self._error
        if self.is_ended:
            raise StopIteration
        awaited: Future[bytes] = LightFuture()
        awaited.set_running_or_notify_cancel()  # it cannot be cancelled: the connection calls `close`
        self._awaited = awaited
        return awaited

    def close(self) -> None:
        self.is_closed = True
        self._awaited = None
        self._pieces.clear()
        self.ahead = self._handed_out = 0
        self._release()
        on_close, self.on_close = self.on_close, None  # a cycle otherwise, which reference counts do not free
        if on_close is not None and not self.is_ended:
            on_close()

    def _release(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
