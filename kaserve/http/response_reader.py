"""ResponseReader: complete responses, for clients that keep them in memory and may pipeline their requests.

Knows that responses come in the order of the requests, and how large a body may be. Does not know how they are read
(`response_parser`). The server itself does not need this module; `kaserve.probe` does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .headers import FieldLine, Headers
from .limits import Limits
from .response_parser import ResponseParser
from .responses import BadResponse, ResponseHead

__all__ = ["ReceivedResponse", "ResponseReader"]


@dataclass(frozen=True)
class ReceivedResponse:
    """A complete response.

    Attributes:
        head: its head.
        body: its content, without the chunked coding.
        persists: whether another request may follow on this connection.
        trailers: pairs of name and value, names in lower case.
        interim: the heads of the 1xx responses that came before it.
    """

    head: ResponseHead
    body: bytes = b""
    persists: bool = True
    trailers: list[FieldLine] = field(default_factory=list)
    interim: list[ResponseHead] = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Headers:
        return self.head.headers


class ResponseReader:
    """Reads the responses of one connection: bytes in, responses out, in the order of the requests."""

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits`: also its `body` bounds what is kept in memory. None for the defaults of a server."""
        self._limits = limits or Limits()
        self._parser = ResponseParser(self._limits)
        self._methods: deque[str] = deque()
        self._head: ResponseHead | None = None
        self._interim: list[ResponseHead] = []
        self._body: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> int:
        """The number of requests without a complete response so far."""
        return len(self._methods)

    def has_unread(self) -> bool:
        """Returns whether bytes were received that belong to no response that was read."""
        return self._parser.has_received()

    def expect(self, method: str) -> None:
        """Records that a request with `method` was sent."""
        self._methods.append(method)

    def receive(self, data: bytes) -> None:
        """Adds bytes that were received; b"" when the server has closed its side."""
        self._parser.receive(data)

    def read(self) -> ReceivedResponse | None:
        """Returns the next response, or None while it is incomplete or no request is pending.

        Raises:
            BadResponse: nothing more can be read afterwards.
        """
        if not self._methods:
            return None
        if self._parser.complete:
            self._parser.expect(self._methods[0])
        if self._head is None and not self._read_heads():
            return None
        self._read_body()
        return self._take() if self._parser.complete else None

    def _read_heads(self) -> bool:
        """Reads heads up to the final one; False while that is incomplete."""
        while (head := self._parser.read_head()) is not None:
            if head.status >= 200:
                self._head = head
                if self._parser.length > self._limits.body:
                    raise BadResponse("the body is too large")
                return True
            self._interim.append(head)
        return False

    def _read_body(self) -> None:
        while piece := self._parser.read_body():
            self._body.append(piece)
            self._size += len(piece)
            if self._size > self._limits.body:
                raise BadResponse("the body is too large")

    def _take(self) -> ReceivedResponse:
        """Makes the response, and gets ready for the next one."""
        assert self._head is not None
        self._methods.popleft()
        parser = self._parser
        response = ReceivedResponse(self._head, b"".join(self._body), parser.persists, parser.trailers, self._interim)
        self._head, self._interim, self._body, self._size = None, [], [], 0
        return response
