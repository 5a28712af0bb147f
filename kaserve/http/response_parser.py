"""ResponseParser: the responses on one connection to a server, as they arrive.

Knows heads, where bodies end, and what a proxy must not pass on. Does not know sockets, nor where the bytes go. It is
strict, since two readers of the same bytes must not disagree: what is doubtful is a BadResponse, after which nothing
more can be read.

It is used like this, with `receive` whenever bytes have come:

    expect(method) -> read_head() ... -> read_body() ... -> complete

Like `HTTPProtocol`, it keeps what was received as one `bytes` object and a position in it, so that nearly every
response is read where the kernel has put it.
"""

from __future__ import annotations

from .errors import HTTPError
from .framing import CHUNKED, UNTIL_CLOSE, allowed_trailers
from .grammar import LONE_LINE_END
from .headers import CONTENT_LENGTH, TRANSFER_ENCODING, FieldLine
from .limits import Limits
from .responses import BadResponse, ResponseHead, parse_response_head, response_length, response_persists
from .wire import ChunkedDecoder, find_head_end

__all__ = ["ResponseParser"]

_PREFIX = b"HTTP/"
_MAX_INTERIM = 100  # interim responses to one request


class ResponseParser:
    """Reads the responses of one connection.

    Attributes:
        complete: whether the final response has been read to its end.
        persists: whether another request may follow, as far as that response says. Known once its head was read.
        length: how its body ends: a number of bytes, `framing.CHUNKED` or `framing.UNTIL_CLOSE`.
        trailers: what came after a chunked body, without what must not be there (RFC 9110 §6.5.1).
    """

    __slots__ = (
        "_asks_upgrade",
        "_decoder",
        "_ended",
        "_interim_left",
        "_left",
        "_limits",
        "_method",
        "_received",
        "_scanned",
        "_start",
        "complete",
        "length",
        "persists",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        """Starts. Of `limits` those of heads and chunks count; a body may have any length."""
        self._limits = limits
        self._method = ""
        self._asks_upgrade = False
        self._received = b""  # what is not read yet starts at _start
        self._start = 0
        self._scanned = 0
        self._ended = False
        self._decoder: ChunkedDecoder | None = None
        self._left = 0
        self._interim_left = 0
        self.complete = True
        self.persists = True
        self.length = 0
        self.trailers: list[FieldLine] = []

    def expect(self, method: str, *, upgrade: bool = False) -> None:
        """Records that a request was sent.

        Args:
            method: its method, which decides how the response ends.
            upgrade: whether it asked for another protocol, so that a 101 is an answer.
        """
        self._method = method
        self._asks_upgrade = upgrade
        self._interim_left = _MAX_INTERIM
        self.complete = False
        self.persists = True
        self.length = 0
        self.trailers = []

    def receive(self, data: bytes) -> None:
        """Adds what has come; b"" if the server has finished sending."""
        if not data:
            self._ended = True
        elif self._start == len(self._received):
            self._received = data
            self._start = self._scanned = 0
        else:
            self._received = self._received[self._start :] + data
            self._scanned -= self._start
            self._start = 0

    def has_received(self) -> bool:
        """Whether there are unread bytes. After a complete response nobody has asked for them."""
        return self._start < len(self._received)

    def take_rest(self) -> bytes:
        """Returns all unread bytes: those of the protocol that a 101 has switched to."""
        rest = self._received[self._start :]
        self._consume(len(self._received))
        return rest

    def read_head(self) -> ResponseHead | None:
        """Returns the next head, of an interim response or the final one; None if it has not come completely.

        Raises:
            BadResponse: it is malformed, or will never be complete.
        """
        data = self._received
        end = find_head_end(data, self._scanned)
        if end < 0 or end < self._start:
            self._check_incomplete()
            return None
        if end - self._start > self._limits.head:
            raise BadResponse("the head is too large")
        if data[self._start : self._start + len(_PREFIX)] != _PREFIX:
            raise BadResponse("what came is not HTTP")
        head = parse_response_head(data[self._start : end + 2])
        self._consume(end + 4)
        if len(head.fields) > self._limits.fields:
            raise BadResponse("there are too many headers")
        if head.status < 100 or head.status > 599:
            raise BadResponse(f"its status is {head.status}")  # RFC 9110 §15: there is no such class
        if head.status == 101:
            self._switch(head)
        elif head.status < 200:
            self._check_interim(head)
        else:
            self._begin_body(head)
        return head

    def _consume(self, position: int) -> None:
        if position == len(self._received):
            self._received = b""
            position = 0
        self._start = self._scanned = position

    def _check_incomplete(self) -> None:
        """Checks the beginning of a head: what can never become one is not waited for."""
        data = self._received[self._start : self._start + self._limits.head + 1]
        if data[: len(_PREFIX)] != _PREFIX[: len(data)]:
            raise BadResponse("what came is not HTTP")
        if LONE_LINE_END.search(data) is not None:
            raise BadResponse("a line of the head ends without CRLF")
        if len(data) > self._limits.head:
            raise BadResponse("the head is too large")
        if self._ended:
            raise BadResponse("the connection ended within the head" if data else "no response came")
        self._scanned = max(self._start, len(self._received) - 3)

    def _check_interim(self, head: ResponseHead) -> None:
        """RFC 9110 §8.6, RFC 9112 §6.1: an interim response has no body, and must not look as if it had one."""
        self._interim_left -= 1
        if self._interim_left < 0:
            raise BadResponse("there are too many interim responses")
        if head.flags & (TRANSFER_ENCODING | CONTENT_LENGTH):
            raise BadResponse("an interim response has a length")

    def _switch(self, head: ResponseHead) -> None:
        """RFC 9110 §7.8: a 101 answers a request that asked for it, and says which protocol follows."""
        if not self._asks_upgrade:
            raise BadResponse("it switches protocols, although nobody asked for that")
        if "upgrade" not in head.headers:
            raise BadResponse("it does not say which protocol it switches to")
        self.complete = True
        self.persists = False

    def _begin_body(self, head: ResponseHead) -> None:
        """Decides how the body ends. A response with two lengths is refused, although RFC 9112 §6.3 lets a reader
        choose the coding: a server that sends both is confused, or somebody confuses it."""
        flags = head.flags
        if flags & TRANSFER_ENCODING and (flags & CONTENT_LENGTH or head.minor == 0):
            raise BadResponse("Transfer-Encoding is there beside Content-Length, or in HTTP/1.0")
        length = response_length(self._method, head)
        if length == UNTIL_CLOSE and flags & TRANSFER_ENCODING:
            raise BadResponse("the transfer coding is not chunked")
        if flags & TRANSFER_ENCODING and head.headers.get_all("transfer-encoding") != ["chunked"]:
            codings = ",".join(head.headers.get_all("transfer-encoding")).lower()
            if codings.strip(" \t") != "chunked" and length == CHUNKED:
                raise BadResponse("there is a transfer coding beside chunked")
        self.length = length
        self.persists = response_persists(self._method, head)
        if length == CHUNKED:
            self._decoder = ChunkedDecoder(self._limits)
        else:
            self._left = max(length, 0)
            self.complete = length == 0

    def read_body(self) -> bytes:
        """Returns what has come of the content; b"" if nothing has, or if the response is complete.

        Raises:
            BadResponse: the body is malformed, or the connection ended within it.
        """
        if self.complete:
            return b""
        if self.length == CHUNKED:
            data = self._read_chunks()
        elif self.length == UNTIL_CLOSE:
            data = self.take_rest()
            self.complete = self._ended and not data
        else:
            data = self._read_counted()
        if not data and not self.complete and self._ended:
            raise BadResponse("the connection ended within the body")
        return data

    def _read_counted(self) -> bytes:
        stop = min(len(self._received), self._start + self._left)
        whole = self._start == 0 and stop == len(self._received)
        data = self._received if whole else self._received[self._start : stop]
        self._left -= len(data)
        self._consume(stop)
        self.complete = self._left == 0
        return data

    def _read_chunks(self) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        if not self.has_received():
            return b""
        try:
            self._consume(decoder.feed(self._received, self._start))
        except HTTPError as error:
            raise BadResponse(error.reason) from None
        data = decoder.content[0] if len(decoder.content) == 1 else b"".join(decoder.content)
        decoder.content.clear()
        if decoder.done:
            self.trailers = allowed_trailers(decoder.trailers)
            self._decoder = None
            self.complete = True
        return data
