"""StreamedRequest: what a connection remembers while its handler reads the body of a request as it arrives.

Knows the connection, and how much of `body_timeout` is left. Does not know what the handler does with the body. It is
there only while a request is streamed, so that other requests, and idle connections, carry nothing of it.

The deadline of a body counts only while the handler waits for bytes: a slow handler is not the client's fault. When the
handler has some the clock stops, and when it asks again the clock goes on. If it started again instead, a client that
sends a byte a minute would hold its connection for ever, since each byte completes a read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import get_ident
from typing import Any, Protocol

from ..http.body_stream import BodyStream
from ..http.phases import BODY, HANDLER, Phase
from ..http.protocol import CONTINUE, HTTPProtocol
from .reactor import Channel
from .service import Service
from .writer import Writer

__all__ = ["StreamedRequest", "StreamingConnection", "pause_deadline", "resume_deadline"]


class StreamingConnection(Channel, Protocol):
    """What it knows of the connection."""

    phase: Phase


class StreamedRequest:
    """The owner of a `BodyStream`; see there for its methods.

    Attributes:
        seconds_left: the rest of the deadline, for when the handler asks again; None for all of it.
        min_progress_left: bytes that must still arrive within that time.
    """

    __slots__ = (
        "_connection",
        "_host",
        "_protocol",
        "_reactor",
        "_thread",
        "_writer",
        "min_progress_left",
        "seconds_left",
    )

    def __init__(
        self, connection: StreamingConnection, protocol: HTTPProtocol, writer: Writer, service: Service
    ) -> None:
        """Begins, in the thread of the reactor."""
        self._connection = connection
        self._protocol = protocol
        self._writer = writer
        self._reactor = service.reactor
        self._host = service.host
        self._thread = get_ident()
        self.seconds_left: float | None = None
        self.min_progress_left = 0

    def is_own_thread(self) -> bool:
        return get_ident() == self._thread

    def want_body(self, stream: BodyStream) -> None:
        # Not after the head of the response: 1xx responses come before the final one (RFC 9110 §15.2).
        if stream.awaits_continue and self._protocol.phase == HANDLER:
            stream.awaits_continue = False
            self._writer.enqueue(CONTINUE)
        if self._connection.phase != BODY:
            self._reactor.again(self._connection)

    def call(self, function: Callable[[], object]) -> None:
        self._reactor.call(function)

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        if self._host is None:
            raise RuntimeError("only an async handler can wait for a body in a coroutine")
        return self._host.wait(future)

    # The deadline, for the connection.

    def pause(self, seconds: float, min_progress: int) -> None:
        """The handler waits no longer: keeps the rest of the deadline, and of the bytes that extend it."""
        self.seconds_left = seconds if min_progress > 0 else None
        self.min_progress_left = min_progress

    def resume(self, seconds: float, min_progress: int) -> tuple[float, int]:
        """The handler waits again: returns the rest of both. The arguments are those of a new deadline."""
        left, self.seconds_left = self.seconds_left, None
        if left is None:
            return seconds, min_progress
        return min(left, seconds), min(self.min_progress_left, min_progress)


def pause_deadline(protocol: HTTPProtocol, seconds: float, min_progress: int) -> None:
    """BODY ends: a handler that streams waits for no more bytes now, or the body is complete.

    Args:
        protocol: the conversation.
        seconds: until the deadline.
        min_progress: bytes that must still arrive within that time.
    """
    owner = _streamed_request(protocol)
    if owner is not None:
        owner.pause(seconds, min_progress)


def resume_deadline(protocol: HTTPProtocol, seconds: float, min_progress: int) -> tuple[float, int]:
    """BODY begins: returns the seconds until the deadline, and the bytes that extend it. For a handler that streams,
    and has waited before, they are what was left then. The arguments are those of a new deadline."""
    owner = _streamed_request(protocol)
    return (seconds, min_progress) if owner is None else owner.resume(seconds, min_progress)


def _streamed_request(protocol: HTTPProtocol) -> StreamedRequest | None:
    sink = protocol.sink
    if not isinstance(sink, BodyStream):
        return None
    assert isinstance(sink.owner, StreamedRequest)
    return sink.owner
