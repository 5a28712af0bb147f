"""Sinks: where the body of a request goes while it arrives, so that no handler ever waits for a client.

The default keeps small bodies in memory and spools large ones to a temporary file. A handler that wants the body
elsewhere brings its own sink (see `protocol.HTTPProtocol.sink`).
"""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO, Protocol

__all__ = ["Sink", "Spool"]

_MOST_IN_MEMORY = 256 * 1024


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
        if self._size <= _MOST_IN_MEMORY < self._size + len(data) and isinstance(self._file, io.BytesIO):
            memory = self._file
            self._file = tempfile.TemporaryFile()
            self._file.write(memory.getbuffer())
        self._file.write(data)
        self._size += len(data)

    def finish(self) -> BinaryIO:
        self._file.seek(0)
        return self._file

    def abandon(self) -> None:
        self._file.close()
