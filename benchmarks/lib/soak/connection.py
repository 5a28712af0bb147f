"""A connection of a client that checks each response by its content, and counts for all clients together."""

import asyncio
import select
import socket
import struct
import sys
from collections import Counter
from dataclasses import dataclass, field

from lib.responses import Response, read_response

RECENT_USE_SECONDS = 0.9
"""A draining server closes connections that were idle for a second; this is surely less, in ticks of any kernel."""
LAST_DATA_RECEIVED = 52
"""Offset in `struct tcp_info` (tcp(7)) of the milliseconds since the last byte arrived or the connection was made."""
RESET = struct.pack("ii", 1, 0)


class WrongResponse(Exception):
    """A response that is not the right one; the message says how."""


@dataclass
class Tally:
    """What all clients together have done and seen, by their kind."""

    visits: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    crossed: int = 0
    """Requests sent after more than RECENT_USE_SECONDS of idle time while a draining server closed the connection."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    wire: bytes
    method: str
    content: bytes
    """That the response must have."""


class Connection:
    """A connection of a client. kind: of the client, for the tally."""

    def __init__(self, kind: str, tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._kind = kind
        self._tally = tally
        self._reader = reader
        self._writer = writer
        self._responses = 0
        self._request_sent = False
        self._idle_before = 0.0

    def __str__(self) -> str:
        """What helps to understand a fault."""
        return f"after {self._responses} responses; before the last request, it was idle for {self._idle_before:.3f} s"

    @property
    def crossed(self) -> bool:
        """Whether a draining server may have closed it as idle while the last request was on its way."""
        return self._request_sent and self._idle_before > RECENT_USE_SECONDS

    def _idle_seconds(self) -> float:
        """Since the last byte arrived. The kernel knows: a busy client reads late."""
        sock = self._writer.get_extra_info("socket")
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECEIVED + 4)
        return int.from_bytes(info[LAST_DATA_RECEIVED:], sys.byteorder) / 1000

    @property
    def ended(self) -> bool:
        """Whether the server has closed its side. The kernel knows before the event loop does."""
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return self._reader.at_eof() or bool(poll.poll(0))

    async def send(self, data: bytes) -> None:
        self._tally.sent[self._kind] += len(data)
        if not self._request_sent:
            self._request_sent = True
            self._idle_before = self._idle_seconds()
        self._writer.write(data)
        await self._writer.drain()

    async def response(self, method: str) -> Response:
        """The next response, to a request with `method`."""
        response = await read_response(self._reader, method)
        self._request_sent = False
        self._responses += 1
        self._tally.responses[self._kind] += 1
        self._tally.received[self._kind] += response.size
        return response

    async def expect(self, request: Request) -> bool:
        """Checks the response to `request`; returns whether the connection may be used for another request."""
        response = await self.response(request.method)
        if response.status != 200:
            raise WrongResponse(f"status {response.status} for {request.wire[:60]!r}")
        if request.method != "HEAD" and response.content != request.content:
            raise WrongResponse(f"{response.content[:60]!r} ({len(response.content)} bytes) for {request.wire[:60]!r}")
        return response.persists

    async def some(self, most: int) -> bytes:
        """At most `most` bytes of content, after only the head was read, by `response("HEAD")`."""
        return await self._reader.read(most)

    async def end(self) -> bytes:
        """All that arrives until the server closes."""
        return await self._reader.read()

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()
