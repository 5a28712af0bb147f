"""Outgoing: one response on its way to the client, framed.

Knows how the body of a response is framed, and what may follow the last piece of it. Does not know when anything is
sent. Whether the connection goes on afterwards, and how the body ends, is decided once, in `HTTPProtocol.prepare`; all
other code reads it here.
"""

from __future__ import annotations

import logging

from .framing import CHUNKED, allowed_trailers
from .messages import FieldLine, Request, Trailers
from .wire import encode_head

__all__ = ["MAX_INLINE_BODY", "Outgoing"]

log = logging.getLogger("kaserve")

# Bytes of a body that leave in the same send as the head, which means copying them to its end. Copying more costs more
# than the second send that it saves (measured with 64 KiB: 31.7 us copied, 27.1 us sent on its own).
MAX_INLINE_BODY = 16 * 1024


class Outgoing:
    """One response, from its head to its last byte. `HTTPProtocol.prepare` fills it in.

    Attributes:
        request: what the response is to; None if it could not be read.
        head: the status line and headers; with the content after them if `is_inline`.
        framing: how the client finds the end of the body (RFC 9112 §6.3): a count of bytes, or `framing.CHUNKED`,
            `framing.UNTIL_CLOSE` or `framing.NO_LENGTH`.
        has_content: whether content may follow the header section (it may be empty); not in response to HEAD, nor with
            204, 205 and 304.
        is_inline: whether all of the content is in `head`, so that nothing is left to be sent after it.
        is_limit: whether it is the last response because of the limit on requests (`KeepAlive.requests`).
        left: bytes of a counted body that have not been encoded yet. Not kept up to date if `is_inline`.
        trailers: what follows a chunked body, if anything.
        persists: whether the connection is kept after the response; `head` says so to the client.
    """

    __slots__ = ("framing", "has_content", "head", "is_inline", "is_limit", "left", "persists", "request", "trailers")

    def __init__(self) -> None:
        self.request: Request | None = None
        self.head = b""
        self.framing = 0
        self.has_content = False
        self.is_inline = False
        self.is_limit = False
        self.left = 0
        self.trailers: Trailers = None
        self.persists = False

    def encode(self, piece: bytes) -> bytes:
        """Returns the next piece of the body, which is not empty, as it goes on the wire.

        What exceeds a counted body is cut off: the client would take it for the next response.
        """
        if self.framing == CHUNKED:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        if self.framing >= 0:
            piece = piece[: self.left]
            self.left -= len(piece)
        return piece

    def chunk_frame(self, size: int) -> tuple[bytes, bytes]:
        """Returns what stands on the wire before and after a piece of `size` bytes that is sent without `encode`: one
        that the kernel takes from a file."""
        if self.framing == CHUNKED:
            return b"%x\r\n" % size, b"\r\n"
        if self.framing >= 0:
            self.left -= size
        return b"", b""

    def end(self) -> bytes:
        """Returns what follows the last piece of the body.

        Raises:
            ValueError: a counted body is too short. Only a reset can tell the client.
        """
        if self.framing == CHUNKED:
            return b"0\r\n\r\n" if self.trailers is None else b"0\r\n%b\r\n" % self._encode_trailers()
        if self.left > 0:
            raise ValueError(f"the body is {self.left} bytes shorter than its Content-Length")
        return b""

    def _encode_trailers(self) -> bytes:
        """Returns the trailer section. Trailers that cannot be sent are logged and left out, since it is too late to
        respond with an error, and the content is right without them."""
        trailers, self.trailers = self.trailers, None
        try:
            fields = trailers() if callable(trailers) else trailers
            lines = list(fields.items() if isinstance(fields, dict) else fields or ())
        except Exception:
            log.exception("the function for the trailers of the response to %r failed", self.request)
            return b""
        return b"".join(map(self._encode_trailer, lines))

    def _encode_trailer(self, line: FieldLine) -> bytes:
        try:
            encoded: bytes = encode_head([line])[0]
            if allowed_trailers([line]):
                return encoded
        except (TypeError, ValueError):
            pass
        log.error("the response to %r has a trailer that cannot be sent: %r", self.request, line)
        return b""
