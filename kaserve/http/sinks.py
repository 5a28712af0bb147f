"""Sinks: where the body of a request goes while it arrives, so that no handler ever waits for a client.

The default keeps small bodies in memory and spools large ones to a temporary file. A handler that wants the body
elsewhere returns its own sink from `BaseHandler.body_sink`. Does not know how a body is framed, nor connections.
"""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO, Protocol

from .body_stream import BodyStream
from .errors import HTTPError
from .framing import check_expectation
from .messages import Request

__all__ = ["MAX_SKIPPED", "DrainSink", "Received", "Sink", "Spool", "deliver", "drain_or_reject"]

_MAX_IN_MEMORY = 256 * 1024
_MAX_DRAINED = 1024 * 1024
_MAX_DRAINED_OF_REJECTED = 64 * 1024  # about what is on its way already when the head has been read
# Bytes of a streamed body that its handler has left unread, and that are skipped before the next request.
MAX_SKIPPED = 64 * 1024


class Received(Protocol):
    """What a sink made of a body: `Request.received`."""

    def close(self) -> None:
        """Releases what it holds. Called once the response has been sent, or never will be."""


class Sink(Protocol):
    """Receives a body piece by piece."""

    def write(self, data: bytes) -> None:
        """Takes the next piece, which is never empty.

        Raises:
            HTTPError: the response to the request; the rest of the body is not read.
        """

    def finish(self) -> Received | None:
        """Called when the body is complete; returns what becomes `Request.received`."""

    def abandon(self) -> None:
        """Called instead of `finish` when the body will never be complete."""


class Spool:
    """The default sink: memory up to 256 KiB, a nameless temporary file beyond. Its result is `Request.body`."""

    __slots__ = ("_file", "_size")

    def __init__(self) -> None:
        self._file: BinaryIO = io.BytesIO()
        self._size = 0

    def write(self, data: bytes) -> None:
        if self._size <= _MAX_IN_MEMORY < self._size + len(data) and isinstance(self._file, io.BytesIO):
            memory = self._file
            self._file = tempfile.TemporaryFile()
            self._file.write(memory.getbuffer())
        self._file.write(data)
        self._size += len(data)

    def finish(self) -> BinaryIO:
        """Returns the body, a file at its start."""
        self._file.seek(0)
        return self._file

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk: what was written last could not be flushed
            pass


class DrainSink:
    """Receives a small body without keeping it, so that the connection can persist."""

    __slots__ = ("_error", "_left")

    def __init__(self, limit: int = _MAX_DRAINED, error: HTTPError | None = None) -> None:
        """Makes a sink for up to `limit` bytes.

        Args:
            limit: bytes; to receive more would cost more than a new connection.
            error: raised once that is exceeded; by default a 413.
        """
        self._left = limit
        self._error = error

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise self._error or HTTPError(413, "this resource does not accept a body of this size")

    def finish(self) -> None:
        return None

    def abandon(self) -> None:
        pass


def drain_or_reject(request: Request, error: HTTPError) -> DrainSink:
    """Decides what becomes of the body of a request whose response is `error`, whatever the body is.

    Responding at once and closing saves the client the rest of a large upload. Draining a small body first saves it a
    new connection. The size of a chunked body is not known in advance, so it is drained up to the same limit.

    Returns:
        The sink for a body that is small enough to be drained.

    Raises:
        HTTPError: `error`, if the client announced a large body, or waits for `100 Continue` (RFC 9110 §10.1.1: it gets
            the final response instead).
    """
    if check_expectation(request) or (request.content_length or 0) > _MAX_DRAINED_OF_REJECTED:
        raise error
    return DrainSink(_MAX_DRAINED_OF_REJECTED, error)


def deliver(sink: Sink, request: Request) -> None:
    """Finishes `sink` and puts its result where the handler finds it: a spooled body in `request.body`, that of another
    sink in `request.received`."""
    if isinstance(sink, Spool):
        request.body = sink.finish()
    elif isinstance(sink, BodyStream):  # the handler has it already
        sink.trailers = request.trailers
        sink.finish()
    else:
        request.received = sink.finish()
