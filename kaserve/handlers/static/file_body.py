"""Response bodies made of open files: sent slice by slice, without passing through Python, and of one version only.

Knows descriptors, and that reading from a disk takes time. Does not know HTTP, nor names.

What is checked, and why no more:

- Every byte that is sent has to be of the version that the headers describe. A file that is replaced (a rename, as any
  careful program does it) needs no check: the descriptor stays with the old version. A file that is written to in place
  is noticed by the size and the time of its descriptor, read once more before the last slice is sent: then the body
  ends with an error, the connection is reset, and the client does not take the mixture for the file. The last slice is
  small, so that what is written while it is sent is the only thing that can be missed.
- A file that has grown may have been appended to, as logs are, which does no harm: the response ends where the file
  ended. Or it was overwritten by something longer. The last bytes of the old version tell the two apart: an append
  leaves them alone. They are read once for each open file, if that takes no disk.
- nginx and Go check none of this. Samples all over the file, taken before sending and compared afterwards, were tried
  here: 32 system calls for each file, to notice the rare writer who makes a file longer and also leaves its end alone.

Sending a slice that is not in the page cache would block the reactor until the disk has delivered it. So each slice is
looked up in the page cache first, and if it is not there another thread reads it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

from ...http.file_span import FileSpan
from ...http.ranges import Range

__all__ = ["FileBody", "OpenFile", "read_exactly"]

# Large enough for few system calls, and small enough for other connections to wait for one.
_SLICE = 512 * 1024
_LAST_SLICE = 64 * 1024  # fits into the send buffer of most sockets, so it is sent at once
_READ_AHEAD = 128 * 1024
_END = 256  # bytes
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


class OpenFile:
    """A descriptor that several responses share, and the status of its file when it was opened.

    Every user calls `close` once: the one that has made it, and each one that has called `share`. All methods may be
    called from any thread.

    Attributes:
        fd: a descriptor of a regular file, open for reading.
        status: of that descriptor.
    """

    __slots__ = ("_end", "_lock", "_users", "fd", "status")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.status = status
        self._users = 1
        self._lock = threading.Lock()
        self._end: bytes | None = None  # the last bytes of the version that was opened, once they have been read

    def share(self) -> OpenFile:
        """Returns the same file, for one more user."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Ends the use by one user; the last one closes the descriptor."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                os.close(self.fd)

    def remember_end(self, *, may_wait: bool) -> None:
        """Reads the last bytes of the file, so that `check` can recognise an append.

        Without them, `check` takes an append for any other change. So a file whose end is not in the page cache can do
        without: what is written to at present is there.

        Args:
            may_wait: whether to read them also if the disk has to be waited for.

        Raises:
            OSError: the file has changed already.
        """
        if self._end is not None:
            return
        end = self._read_end() if may_wait else _read_cached(self.fd, self._end_length, self._end_offset)
        if end is None:
            return
        if os.fstat(self.fd).st_mtime_ns != self.status.st_mtime_ns:  # then they may be of another version
            self.check()
        self._end = end

    def check(self) -> None:
        """Checks that all that was read until now is of one version.

        Raises:
            OSError: it may be a mixture.
        """
        before, status = self.status, os.fstat(self.fd)
        if status.st_mtime_ns == before.st_mtime_ns and status.st_size == before.st_size:
            return
        if status.st_size <= before.st_size or self._end is None or self._end != self._read_end():
            raise OSError(errno.ESTALE, "the file was written to while it was sent")

    @property
    def _end_length(self) -> int:
        return min(_END, self.status.st_size)

    @property
    def _end_offset(self) -> int:
        return self.status.st_size - self._end_length

    def _read_end(self) -> bytes:
        return os.pread(self.fd, self._end_length, self._end_offset)


class FileBody:
    """A response body made of parts of a file, and of text between them.

    It owns the file: `close` ends its use. A slice that is not in the page cache is preceded by a Future with an empty
    piece, done when another thread has read it.
    """

    def __init__(self, file: OpenFile, pieces: Sequence[bytes | Range], executor: Executor) -> None:
        """Makes a body of `pieces` in their order.

        Args:
            file: the open file.
            pieces: text, and ranges of the file that lie within it; at least one.
            executor: has threads that may wait for the disk.
        """
        self._file = file
        self._pieces = pieces
        self._executor = executor
        self._closed = False

    def __iter__(self) -> Iterator[bytes | FileSpan | Future[bytes | FileSpan]]:
        file = self._file
        file.remember_end(may_wait=False)
        for piece, is_last in _cut(self._pieces):
            # One look is enough: a sequential read fills the cache from the front, so the last byte comes last.
            if isinstance(piece, Range) and _read_cached(file.fd, 1, piece.stop - 1) is None:
                yield self._read_ahead(piece)
            if is_last:
                file.check()
            yield piece if isinstance(piece, bytes) else FileSpan(file.fd, piece.start, piece.stop - piece.start)

    def _read_ahead(self, part: Range) -> Future[bytes | FileSpan]:
        """Has a slice read into the page cache by another thread; the result is a piece without content."""
        file = self._file.share()  # the client may be gone before the disk has delivered
        future: Future[bytes | FileSpan] = self._executor.submit(_read_through, file.fd, part)
        future.add_done_callback(lambda _: file.close())
        return future

    def close(self) -> None:
        """Ends the use of the file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._file.close()


def _cut(pieces: Sequence[bytes | Range]) -> Iterator[tuple[bytes | Range, bool]]:
    """Cuts ranges into slices; with each, whether it is the last of all."""
    *others, last = pieces
    if isinstance(last, Range):
        boundary = max(last.start, last.stop - _LAST_SLICE)
        others.append(Range(last.start, boundary))
        last = Range(boundary, last.stop)
    for piece in others:
        if isinstance(piece, bytes):
            yield piece, False
        else:
            for start in range(piece.start, piece.stop, _SLICE):
                yield Range(start, min(start + _SLICE, piece.stop)), False
    yield last, True


def _read_cached(fd: int, length: int, offset: int) -> bytes | None:
    """Reads up to `length` bytes if they are in the page cache; None if the disk would have to be waited for."""
    if not _NO_WAIT:  # this system cannot say
        return os.pread(fd, length, offset)
    buffer = bytearray(length)
    try:
        return bytes(buffer[: os.preadv(fd, (buffer,), offset, _NO_WAIT)])
    except BlockingIOError:
        return None
    except OSError:  # this file system cannot say
        return os.pread(fd, length, offset)


def _read_through(fd: int, part: Range) -> bytes:
    """Reads part of a file for its effect on the page cache; posix_fadvise() would only ask for it, and not wait."""
    for start in range(part.start, part.stop, _READ_AHEAD):
        os.pread(fd, min(_READ_AHEAD, part.stop - start), start)
    return b""


def read_exactly(fd: int, length: int, offset: int) -> bytes:
    """Returns `length` bytes of an open file.

    Raises:
        OSError: the file ends before.
    """
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.ESTALE, "the file became shorter while it was read")
        data += more
    return data
