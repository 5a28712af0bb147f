"""FileWrapper: `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").

Knows which files the kernel can send by itself. Does not know when a response is made of one.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from stat import S_ISREG
from typing import Any, BinaryIO

from ...http.file_span import FileSpan

__all__ = ["FileWrapper"]


class FileWrapper:
    """A file as an iterable of bytes.

    When an application returns it unchanged, the server sends the file itself with sendfile(), from its present
    position on, without reading it.

    Args:
        file: anything with read(size); its close() is called once, if it has one.
        block_size: bytes per read, where the file has to be read.

    Attributes:
        file: the wrapped file.
    """

    __slots__ = ("_block_size", "_close", "file")

    def __init__(self, file: BinaryIO, block_size: int = 65536) -> None:
        self.file = file
        self._block_size = block_size
        self._close: Callable[[], object] | None = getattr(file, "close", None)

    def __iter__(self) -> FileWrapper:
        # Itself and no generator: some middleware keeps only the iterator, and closes that.
        return self

    def __next__(self) -> bytes:
        data = self.file.read(self._block_size)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Closes the file if it has a close(). Further calls do nothing."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def file_span(self) -> FileSpan | None:
        """The rest of the file as a span that the kernel can send; None if the file has to be read.

        Many objects have a fileno() that is not what read() reads: gzip.GzipFile has the one of the compressed file. So
        only the types of `io` and `tempfile` themselves are trusted; a subclass may read in its own way.
        """
        file: Any = self.file
        if isinstance(file, tempfile._TemporaryFileWrapper):
            file = file.file
        raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
        if type(raw) is not io.FileIO:
            return None
        try:
            file.flush()
            # tell() of the buffered file, not of the raw one, which has read ahead.
            fd, position = file.fileno(), file.tell()
            status = os.fstat(fd)
        except (OSError, ValueError):  # a pipe, which has no position; or a closed file, and reading it will say so
            return None
        if not S_ISREG(status.st_mode):
            return None
        return FileSpan(fd, position, max(0, status.st_size - position), self)
