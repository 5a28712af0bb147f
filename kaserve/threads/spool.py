"""SpoolFile: what a slow client has not received yet of a response, in a temporary file.

Knows how much disk space responses may take, and where in its file the next bytes are. Does not know threads waiting
for each other (`pipe`), nor what is in the bytes.

The file has no name (`tempfile.TemporaryFile`), so the system frees its space when it is closed, even if the process is
killed. It is in the directory of `tempfile.gettempdir()`, which TMPDIR sets.
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import BinaryIO

from ..http.file_span import FileSpan

__all__ = ["SpoolFile", "SpoolSpace"]

# The largest span, and so the largest chunk on the wire: about what a client gets of a response that is not spooled.
_MAX_SPAN = 64 * 1024


class SpoolSpace:
    """The disk space for several responses. May be used from any thread.

    Args:
        per_response: bytes of one response that may be on disk. 0 keeps all responses off the disk.
        total: bytes of all responses together.
    """

    def __init__(self, per_response: int, total: int) -> None:
        self.per_response = per_response
        self._lock = threading.Lock()
        self._free = total

    def reserve(self, size: int) -> bool:
        """Takes `size` bytes of the total. Returns False if there are not so many left."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def release(self, size: int) -> None:
        """Returns `size` bytes to the total."""
        with self._lock:
            self._free += size


class SpoolFile:
    """The bytes of one response that are on disk, in the order in which they were added.

    One thread calls `write`, outside of any lock since a disk may be slow, and nothing that changes the sizes. What it
    wrote becomes part of the file with `commit`, which is called with the pipe's lock held, like everything else.

    Raises:
        OSError: no temporary file can be opened.
    """

    __slots__ = ("_file", "_reserved", "_size", "_space", "_taken")

    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        self._file: BinaryIO = tempfile.TemporaryFile(buffering=0)
        self._reserved = 0  # bytes of the space; the file is never larger
        self._size = 0
        self._taken = 0  # up to here the client has the bytes, or gets them now

    @property
    def unsent(self) -> int:
        """Number of bytes that `take` has not returned yet."""
        return self._size - self._taken

    def reserve(self, size: int) -> bool:
        """Makes sure that there is space for `size` more bytes. Returns False if a limit does not allow it."""
        missing = self._size + size - self._reserved
        if missing <= 0:
            return True
        if self._size + size > self._space.per_response or not self._space.reserve(missing):
            return False
        self._reserved += missing
        return True

    def write(self, data: bytes) -> None:
        """Writes `data` after the last byte.

        Raises:
            OSError: it could not be written. The file is as before: what was written is not committed.
        """
        view = memoryview(data)
        position = self._size
        while view:
            written = os.pwrite(self._file.fileno(), view, position)
            view = view[written:]
            position += written

    def commit(self, size: int) -> None:
        """Adds the `size` bytes that were written last."""
        self._size += size

    def take(self) -> FileSpan:
        """Returns the next bytes. They stay where they are, and are never overwritten."""
        length = min(self.unsent, _MAX_SPAN)
        span = FileSpan(self._file.fileno(), self._taken, length)
        self._taken += length
        return span

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()
        self._space.release(self._reserved)
        self._reserved = 0
