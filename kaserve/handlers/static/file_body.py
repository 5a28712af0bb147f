"""Bodies made of open files: whole or in parts, sent without passing through memory, and watched while they are.

Knows descriptors, and that reading from a disk takes time. Does not know HTTP, nor names. What is sent must be of one
version: a file that is replaced by another one does no harm, since the descriptor stays with the old; but one may also
be written to. So it is looked at once more before its last piece leaves, and what has become a mixture is broken off.
One that has grown may have been appended to, as logs are, or rewritten: samples taken before the first piece tell.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

from ...http.messages import FileSpan
from ...http.ranges import Range

__all__ = ["FileBody", "OpenFile", "read_exactly"]

_SLICE = 512 * 1024  # sent in one go, and so not more than others have to wait for
_TAIL = 64 * 1024  # held back until the file has been looked at
_COPY = 128 * 1024
_SAMPLES = 16
_SAMPLE = 256  # bytes
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


class OpenFile:
    """A descriptor that several answers share, and the status of its file when it was opened.

    Whoever calls `share` calls `close` once, as does whoever has made it. From any thread.
    """

    __slots__ = ("_lock", "_samples", "_users", "fd", "status")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.status = status
        self._users = 1
        self._lock = threading.Lock()
        self._samples: list[bytes] | None = None

    def share(self) -> OpenFile:
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                os.close(self.fd)

    def sample(self) -> None:
        """Keeps some of what is in the file now, once, to know it again when it has grown. Reads from the disk."""
        if self._samples is None:
            samples = self._read_samples()
            if os.fstat(self.fd).st_mtime_ns != self.status.st_mtime_ns:  # then they may be of another version
                self.check()
            self._samples = samples

    @property
    def is_sampled(self) -> bool:
        return self._samples is not None

    def sample_offsets(self) -> list[int]:
        """From the beginning to what was the end; where a file is appended to, the end moves, but nothing changes."""
        last = max(self.status.st_size - _SAMPLE, 0)
        return [last * number // (_SAMPLES - 1) for number in range(_SAMPLES)]

    def _read_samples(self) -> list[bytes]:
        return [os.pread(self.fd, min(_SAMPLE, self.status.st_size), offset) for offset in self.sample_offsets()]

    def check(self) -> None:
        """Raises OSError if what was read so far may be of another version than what follows."""
        before, status = self.status, os.fstat(self.fd)
        if status.st_mtime_ns == before.st_mtime_ns and status.st_size == before.st_size:
            return
        if status.st_size <= before.st_size or self._samples is None or self._samples != self._read_samples():
            raise OSError(errno.ESTALE, "the file was written to while it was sent")


class FileBody:
    """`pieces` of `file`, and text between them. It owns the file.

    pool: has other threads for work. A slice that is not in memory is read by one of them first, so that the disk is
    waited for there, and not where everybody else is served.
    """

    def __init__(self, file: OpenFile, pieces: Sequence[bytes | Range], pool: Executor) -> None:
        self._file = file
        self._pieces = pieces
        self._pool = pool
        self._closed = False

    def __iter__(self) -> Iterator[bytes | FileSpan | Future[bytes | FileSpan]]:
        file = self._file
        if not file.is_sampled:
            if all(_is_in_memory(file.fd, offset) for offset in file.sample_offsets()):
                file.sample()
            else:
                yield self._submit(_sample, file)
        *pieces, last = self._pieces
        if isinstance(last, Range):
            tail = max(last.start, last.stop - _TAIL)
            pieces.append(Range(last.start, tail))
            last = Range(tail, last.stop)
        for piece in pieces:
            yield from self._send(piece)
        file.check()
        yield from self._send(last)

    def _send(self, piece: bytes | Range) -> Iterator[bytes | FileSpan | Future[bytes | FileSpan]]:
        if isinstance(piece, bytes):
            yield piece
            return
        fd = self._file.fd
        for start in range(piece.start, piece.stop, _SLICE):
            stop = min(start + _SLICE, piece.stop)
            if not (_is_in_memory(fd, start) and _is_in_memory(fd, stop - 1)):
                yield self._warm(start, stop)
            yield FileSpan(fd, start, stop - start)

    def _warm(self, start: int, stop: int) -> Future[bytes | FileSpan]:
        """Has a slice read into the page cache; a piece without content."""
        return self._submit(_read_ahead, self._file.fd, start, stop)

    def _submit(self, work: Callable[..., bytes], *arguments: object) -> Future[bytes | FileSpan]:
        file = self._file.share()  # the client may be gone before the disk has answered
        future: Future[bytes | FileSpan] = self._pool.submit(work, *arguments)
        future.add_done_callback(lambda _: file.close())
        return future

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._file.close()


def _is_in_memory(fd: int, offset: int) -> bool:
    """Whether the byte at `offset` can be read without waiting; also where the system cannot tell."""
    if not _NO_WAIT:
        return True
    try:
        os.preadv(fd, (bytearray(1),), offset, _NO_WAIT)
    except BlockingIOError:
        return False
    except OSError:  # not every file system can tell
        pass
    return True


def _sample(file: OpenFile) -> bytes:
    file.sample()
    return b""


def _read_ahead(fd: int, start: int, stop: int) -> bytes:
    for offset in range(start, stop, _COPY):
        os.pread(fd, min(_COPY, stop - offset), offset)
    return b""


def read_exactly(fd: int, length: int, offset: int) -> bytes:
    """Reads as much as that. Raises OSError if the file ends before."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.ESTALE, "the file became shorter while it was read")
        data += more
    return data
