"""Sinks: where the body of a request goes while it arrives, so that no handler ever waits for a client.

The default keeps small bodies in memory and spools large ones to a temporary file. A handler that wants the body
elsewhere brings its own sink (see `protocol.HTTPProtocol.sink`).
"""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO, Protocol

from .errors import HTTPError
from .messages import EXPECT, Request

__all__ = ["Discard", "DrainSink", "Sink", "Spool", "drain_or_reject"]

_MAX_IN_MEMORY = 256 * 1024
_SMALL = 64 * 1024  # bytes, about what is on its way already when the head is read


class Sink(Protocol):
    """What takes a body piece by piece."""

    def write(self, data: bytes) -> None:
        """The next piece, never empty. May raise HTTPError (413 with the wish for no more, say)."""

    def finish(self) -> BinaryIO:
        """The body is complete; what becomes `Request.body`."""

    def abandon(self) -> None:
        """The body will never be complete."""


class Spool:
    """The default sink: memory up to 256 KiB, a temporary file without a name beyond."""

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
        self._file.seek(0)
        return self._file

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk, on which what was written last could not be kept
            pass


class Discard:
    """For handlers that read no bodies: takes a small one without keeping it, so that the connection can go on."""

    __slots__ = ("_left",)

    def __init__(self, most: int = 1 << 20) -> None:
        """most: bytes; more than that is not worth receiving."""
        self._left = most

    def write(self, data: bytes) -> None:
        """Raises HTTPError 413 once it was too much."""
        self._left -= len(data)
        if self._left < 0:
            raise HTTPError(413, "nobody reads a body here, and this one is too large to be ignored")

    def finish(self) -> BinaryIO:
        return io.BytesIO()

    def abandon(self) -> None:
        pass


def drain_or_reject(request: Request, error: HTTPError) -> Sink:
    """Where the body of a refused request goes if it is small; for any other, raises `error`.

    A client that waits for `100 Continue` gets its answer instead (RFC 9110 §10.1.1). How much comes in chunks shows
    only when it comes.
    """
    if request.flags & EXPECT or (request.content_length or 0) > _SMALL:
        raise error
    return DrainSink(error)


class DrainSink:
    """Takes a small body without keeping it; raises `error` once it was too much."""

    def __init__(self, error: HTTPError) -> None:
        self.error = error
        self._left = _SMALL

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise self.error

    def finish(self) -> BinaryIO:
        return io.BytesIO()

    def abandon(self) -> None:
        """Nothing is held."""
