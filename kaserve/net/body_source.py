"""BodySource: the body of a response that is not in memory, piece by piece on its way to the socket.

Knows what bodies are made of, and that a piece may not be there yet. Does not know sockets: the writer sends what it is
given, and asks for more when the kernel has accepted that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

from ..http.file_span import FileSpan
from ..http.messages import Response
from ..http.outgoing import MAX_INLINE_BODY, Outgoing

__all__ = ["BodySource"]

log = logging.getLogger("kaserve")


class BodySource:
    """The pieces of one body, framed for the wire.

    A part of a file is not read here: it stays in `span`, and the writer has the kernel send it.

    Attributes:
        span: the file to be sent next, after what `advance` returned; None for none.
        offset, left: which part of it: its position in the file, and how many bytes. The writer moves them on.
        pending: a Future of the next piece, which is not done yet; None for none.
        file_bytes_left: bytes of files that may still be sent in this turn of the reactor. The owner of the writer sets
            it; it is here because an idle connection has no body, so that it takes no space there.
        bytes_sent: bytes of content so far.
    """

    __slots__ = (
        "_ended",
        "_first",
        "_outgoing",
        "_pieces",
        "_tail",
        "bytes_sent",
        "file_bytes_left",
        "left",
        "offset",
        "pending",
        "span",
    )

    def __init__(self, outgoing: Outgoing, response: Response) -> None:
        """Takes the first piece of the body of `response`.

        Raises:
            Exception: whatever the handler's own code raises. Nothing has been sent yet, so that the client can still
                get an error response.
        """
        body = response.body
        self._outgoing = outgoing
        self._pieces: Iterator[Any] = iter((body,) if isinstance(body, (bytes, FileSpan)) else cast("Any", body))
        self._tail = b""  # what the framing puts after the span
        self._ended = False
        self.span: FileSpan | None = None
        self.offset = 0
        self.left = 0
        self.file_bytes_left = 0
        self.pending: Future[Any] | None = None
        self.bytes_sent = 0
        self._first = self._take()

    def advance(self) -> bytes:
        """Returns what is to be sent next, before `span` if that is set; b"" while a piece is pending.

        Raises:
            ValueError: the body is shorter than its Content-Length.
            Exception: whatever the handler's own code raises.
        """
        piece, self._first = self._first, b""
        if piece == b"":
            piece = self._take()
        tail, self._tail = self._tail, b""
        if self.pending is not None:
            return tail
        if piece is None:
            self._ended = True
            return tail + self._outgoing.end()
        if isinstance(piece, bytes):
            self._count(len(piece))
            return tail + self._outgoing.encode(piece)
        return tail + self._begin_span(piece)

    def _begin_span(self, piece: FileSpan) -> bytes:
        """Sets `span`; returns what the framing puts before it. The piece itself is the handler's, and not changed."""
        self.left = self._count(piece.length)
        self.offset = piece.offset
        head, self._tail = self._outgoing.chunk_frame(self.left)
        self.span = piece if self.left else None
        return head

    def starts_large(self) -> bool:
        """Whether the first piece is still to come, and too large to be copied to the end of the head."""
        return isinstance(self._first, bytes) and len(self._first) > MAX_INLINE_BODY

    def is_pending(self) -> bool:
        """Whether the next piece is not there yet."""
        return self.pending is not None and not self.pending.done()

    def is_over(self) -> bool:
        """Whether neither `advance` nor `span` has anything left."""
        return self._ended and self.span is None

    def _count(self, size: int) -> int:
        """Returns how much of a piece of `size` bytes is sent: what exceeds a Content-Length is cut off."""
        outgoing = self._outgoing
        if outgoing.framing >= 0 and outgoing.left < size:
            log.error("the response to %r is longer than its Content-Length; the rest is cut off", outgoing.request)
            self._ended = True
            size = outgoing.left
        self.bytes_sent += size
        return size

    def _take(self) -> bytes | FileSpan | None:
        """Returns the next piece that is not empty, since an empty chunk would end the body; b"" while it is pending,
        None after the last one."""
        while True:
            piece: object = self.pending
            if piece is None:
                piece = next(self._pieces, None)
            if isinstance(piece, Future):
                self.pending = None if piece.done() else piece
                if self.pending is not None:
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
                raise TypeError(f"a body is made of bytes and FileSpan, not of {type(piece).__name__}")
