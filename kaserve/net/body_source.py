"""Stream: the body of an answer that is not in memory, piece by piece on its way to the socket.

Knows what bodies are made of, and that a piece may not be there yet. Does not know sockets: the connection sends what
it is given, and asks for more when the kernel has taken it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from ..http.messages import FileSpan, Response
from ..http.outgoing import MAX_INLINE_BODY
from ..http.protocol import HTTPProtocol

__all__ = ["Stream"]

log = logging.getLogger("kaserve")

Piece = bytes | FileSpan | None  # None: there are no more


class Stream:
    """The body of one answer.

    span: the part of a file that is to be sent next, behind what `advance` returned; the connection moves it on.
    awaited: a piece that is not there yet. size: bytes of content so far.
    """

    __slots__ = ("_closing", "_ended", "_first", "_pieces", "_protocol", "awaited", "size", "span")

    def __init__(self, response: Response, protocol: HTTPProtocol) -> None:
        """Takes the first piece, which may raise whatever the handler's own code does: nothing has been sent yet."""
        body = response.body
        self._protocol = protocol
        self._pieces: Iterator[Any] = iter((body,) if isinstance(body, (bytes, FileSpan)) else body)
        self._closing = b""  # goes behind the span
        self.span: FileSpan | None = None
        self.awaited: Future[Any] | None = None
        self._ended = False
        self.size = 0
        self._first = self._take()

    def advance(self) -> bytes:
        """What is to be sent next; then `span`, if there is one. No content as long as a piece is awaited.

        Raises whatever the handler's own code does, and ValueError when a body is shorter than its Content-Length.
        """
        piece, self._first = self._first, b""
        if piece == b"":
            piece = self._take()
        closing, self._closing = self._closing, b""
        if self.awaited is not None:
            return closing
        if piece is None:
            closing += self._protocol.end_body()
            self._ended = True
            return closing
        if isinstance(piece, bytes):
            self._count(len(piece))
            return closing + self._protocol.encode_body(piece)
        self.span = FileSpan(piece.fd, piece.offset, self._count(piece.length))
        opening, self._closing = self._protocol.chunk_frame(self.span.length)
        if not self.span.length:  # it was cut off to nothing
            self.span = None
        return closing + opening

    def starts_large(self) -> bool:
        """Whether the first piece is still to come, and too large to be copied behind the head."""
        return isinstance(self._first, bytes) and len(self._first) > MAX_INLINE_BODY

    def is_over(self) -> bool:
        """Whether `advance` has nothing left, and neither has the span."""
        return self._ended and self.span is None

    def _count(self, size: int) -> int:
        """How much of a piece of `size` bytes is sent; what exceeds the announced length is cut off."""
        left = self._protocol.body_left
        if 0 <= left < size:
            log.error("the answer to %r is longer than its Content-Length; the rest is cut off", self._protocol.request)
            self._ended = True
            size = left
        self.size += size
        return size

    def _take(self) -> Piece:
        """The next piece that is not empty, since an empty chunk would end the body; b"" while it is awaited."""
        while True:
            piece: object = self.awaited
            if piece is None:
                piece = next(self._pieces, None)
            if isinstance(piece, Future):
                self.awaited = None if piece.done() else piece
                if self.awaited is not None:
                    return b""
                piece = piece.result()
            if piece is None:
                return None
            if isinstance(piece, bytes):
                if piece:
                    return piece
            elif isinstance(piece, FileSpan):
                if piece.length:
                    return piece
            else:
                raise TypeError(f"a body is made of bytes and spans of files, not of {type(piece).__name__}")
