"""ResponseParser: the responses on one connection to a server, from bytes to heads and pieces of bodies.

Knows what has arrived, and how far it has been read. Does not know sockets, time, or which fields pass a proxy. What a
head means is decided in `responses`; how lines and chunks are parsed, in `wire`. Its owner passes on what it receives,
and reads what has become complete:

    expect(method) -> receive(data) -> read_head() ... -> read_body() ... until complete -> expect(method)

It believes the server as little as `protocol` believes clients: whatever two readers could understand differently is a
`BadResponse`, after which nothing more can be read. A response that was cut off never looks complete.

The received bytes are one `bytes` object with an index, as in `protocol` and for the same reason: nearly always all of
them are read before more are received, and then nothing is joined. An object that has bytes of the body only is handed
out as it came from the kernel, without a copy.
"""

from __future__ import annotations

from .errors import HTTPError
from .framing import CHUNKED, UNTIL_CLOSE, allowed_trailers
from .grammar import LONE_LINE_END
from .headers import FieldLine
from .limits import Limits
from .responses import (
    TUNNEL,
    BadResponse,
    MissingResponse,
    ResponseHead,
    TruncatedResponse,
    check_interim,
    check_switch,
    parse_response_head,
    response_length,
    response_persists,
)
from .wire import ChunkedDecoder, find_head_end, join

__all__ = ["MAX_INTERIM", "ResponseParser"]

MAX_INTERIM = 100  # 1xx responses before a final one; more are an endless response

_EVERYTHING = 1 << 62
_PREFIX = b"HTTP/"


class ResponseParser:
    """Parses the responses to requests that are sent one after the other.

    Attributes:
        complete: whether the response has been read to its end; True before the first request.
        persists: whether another request may follow, once `complete`. The owner also makes sure that nothing is unread
            (`has_received`) and that the server has not closed: this is only what the response says.
        length: of the body, after the final head: bytes, `CHUNKED`, `UNTIL_CLOSE` or, after a 101, `TUNNEL`.
        trailers: the allowed trailers as pairs, names in lower case, once a chunked body is complete.
        ended: whether the server has finished sending.
    """

    __slots__ = (
        "_content",
        "_content_start",
        "_decoder",
        "_head_due",
        "_interim_left",
        "_left",
        "_limits",
        "_may_persist",
        "_method",
        "_received",
        "_scanned",
        "_start",
        "_upgrade",
        "complete",
        "ended",
        "length",
        "persists",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        """Makes a parser for a new connection.

        Args:
            limits: those on the head, on the number of fields, and on chunks. A body may have any size: it is passed
                on while it arrives.
        """
        self._limits = limits
        self._received = b""  # what was received and not read yet starts at _start
        self._start = 0
        self._scanned = 0  # up to here there is no end of the head
        self._content = b""  # of chunks; what was not read yet starts at _content_start
        self._content_start = 0
        self._decoder: ChunkedDecoder | None = None
        self._left = 0  # bytes of a body with Content-Length that are still to come
        self._method = ""
        self._upgrade = False
        self._head_due = False
        self._interim_left = 0
        self._may_persist = False
        self.complete = True
        self.persists = True
        self.length = 0
        self.trailers: list[FieldLine] = []
        self.ended = False

    def expect(self, method: str, *, upgrade: bool = False) -> None:
        """Makes a response due: a request was sent.

        Args:
            method: of the request.
            upgrade: whether it asked for another protocol, so that a 101 may come (RFC 9110 §7.8).

        Raises:
            RuntimeError: the response before has not been read to its end.
        """
        if not self.complete:
            raise RuntimeError("the response to the request before is incomplete")
        self._method = method
        self._upgrade = upgrade
        self._head_due = True
        self._interim_left = MAX_INTERIM
        self.complete = self.persists = self._may_persist = False
        self.length = 0
        if self.trailers:
            self.trailers = []

    def receive(self, data: bytes) -> None:
        """Accepts what the server has sent; b"" if it will send nothing more."""
        if not data:
            self.ended = True
        elif self._start == len(self._received):
            self._received = data
            self._start = self._scanned = 0
        else:
            self._received = self._received[self._start :] + data
            self._scanned -= self._start
            self._start = 0

    def has_received(self) -> bool:
        """Returns whether there are unread bytes; after a complete response they are stray ones."""
        return self._start < len(self._received) or self._content_start < len(self._content)

    def read_head(self) -> ResponseHead | None:
        """Reads the next head.

        Returns:
            The head, once; also those of informational responses (1xx), after which another one follows. None if more
            bytes are needed, and after the final head.

        Raises:
            BadResponse: what came is no response, or one whose end is not certain; `MissingResponse` if nothing came.
        """
        if not self._head_due:
            return None
        data, start = self._received, self._start
        end = find_head_end(data, self._scanned)
        if end < 0:
            self._await_head()
            return None
        if end - start > self._limits.head:
            raise BadResponse("the head is too large")
        head = parse_response_head(data, start, end + 2)
        self._consume(end + 4)
        if len(head.fields) > self._limits.fields:
            raise BadResponse("there are too many headers")
        if head.status < 200 and head.status != 101:
            self._interim_left -= 1
            if self._interim_left < 0:
                raise BadResponse("there are too many informational responses")
            check_interim(head)
        else:
            self._begin_body(head)
        return head

    def _consume(self, position: int) -> None:
        """Marks everything before `position` as read. If that is all, the bytes are released."""
        if position == len(self._received):
            self._received = b""
            position = 0
        self._start = self._scanned = position

    def _await_head(self) -> None:
        """Checks an incomplete head: bytes that can never become one are rejected now."""
        data, start = self._received, self._start
        size = len(data) - start
        if not data.startswith(_PREFIX[:size], start):
            raise BadResponse("what came is not HTTP/1")
        if LONE_LINE_END.search(data, max(start, self._scanned - 1)) is not None:
            raise BadResponse("a line of the head ends without CRLF, or has a NUL")
        if size > self._limits.head + 3:  # 3: all but the last byte of its end
            raise BadResponse("the head is too large")
        if self.ended:
            if size:
                raise TruncatedResponse("the connection ended within the head")
            raise MissingResponse("the connection ended without a response")
        self._scanned = max(start, len(data) - 3)

    def _begin_body(self, head: ResponseHead) -> None:
        """Gets ready for the body after the final head."""
        if head.status == 101:
            check_switch(head, self._upgrade)
        length = response_length(self._method, head)
        self._head_due = False
        self.length = length
        self._may_persist = response_persists(head, length)
        if length > 0:
            self._left = length
        elif length == CHUNKED:
            self._decoder = ChunkedDecoder(self._limits)
        elif length in (0, TUNNEL):
            self._complete()

    def _complete(self) -> None:
        self.complete = True
        self.persists = self._may_persist

    def read_body(self, most: int = _EVERYTHING) -> bytes:
        """Reads what has arrived of the content of the body.

        Args:
            most: bytes to return at most.

        Returns:
            The content, without the chunked coding; b"" if more bytes are needed, or the body is complete.

        Raises:
            BadResponse: the body is malformed; `TruncatedResponse` if the connection ended within it. What came before
                has been returned then, or is lost with the malformed piece.
        """
        if self.complete or self._head_due:
            return b""
        if self._decoder is not None:
            return self._read_chunks(most)
        if self.length == UNTIL_CLOSE:
            return self._read_until_close(most)
        return self._read_counted(most)

    def _read_counted(self, most: int) -> bytes:
        """Reads a body with Content-Length."""
        piece = self._take(min(most, self._left))
        self._left -= len(piece)
        if self._left == 0:
            self._complete()
        elif self.ended and not piece:
            raise TruncatedResponse("the connection ended within the body")
        return piece

    def _read_until_close(self, most: int) -> bytes:
        """Reads a body that ends with the connection (RFC 9112 §6.3 step 8)."""
        piece = self._take(most)
        if self.ended and self._start == len(self._received):
            self._complete()
        return piece

    def _take(self, most: int) -> bytes:
        """Takes up to `most` unread bytes."""
        data, start = self._received, self._start
        stop = min(len(data), start + most)
        piece = data[start:stop]
        self._consume(stop)
        return piece

    def _read_chunks(self, most: int) -> bytes:
        """Reads a chunked body, and the trailers after it."""
        assert self._decoder is not None
        decoder = self._decoder
        if self._content_start == len(self._content) and not decoder.done:
            self._decode(decoder)
        start = self._content_start
        stop = min(len(self._content), start + most)
        piece = self._content[start:stop]
        self._content_start = stop
        if stop == len(self._content):
            self._content = b""
            self._content_start = 0
            if decoder.done:
                self._decoder = None
                self._complete()
            elif self.ended and not piece:
                raise TruncatedResponse("the connection ended within the body")
        return piece

    def _decode(self, decoder: ChunkedDecoder) -> None:
        """Decodes what has arrived of the chunks into `_content`."""
        try:
            stop = decoder.feed(self._received, self._start)
        except HTTPError as error:
            raise BadResponse(error.reason) from None
        self._consume(stop)
        pieces = decoder.content
        self._content = pieces[0] if len(pieces) == 1 else join(pieces)
        self._content_start = 0
        pieces.clear()
        if decoder.done and decoder.trailers:
            self.trailers = allowed_trailers(decoder.trailers)

    def take_rest(self) -> bytes:
        """Takes all unread bytes. After a 101 they are the first ones of the other protocol."""
        return self._take(_EVERYTHING)
