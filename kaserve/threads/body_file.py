"""BodyFile: the body of a request as a file for a thread, while it arrives.

Knows how a read gets from a thread to the connection and back. Does not know how the body arrives.
"""

from __future__ import annotations

import io
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from ..http.body_stream import BodyStream

__all__ = ["BodyFile"]

_BUFFER_SIZE = 16 * 1024  # bytes, which count against the 64 KiB that a connection may hold unread


class BodyFile(io.BufferedReader):
    """The body of a request that arrives, as a binary file whose reads wait for the client.

    For a handler that streams and runs on threads of its own: in `kaserve.handlers.Threaded`, say. What reads binary
    files can read an upload: `hashlib.file_digest`, `tarfile.open(mode="r|*")`, `shutil.copyfileobj`. Reads raise what
    those of `BodyStream` raise, and RuntimeError in the server's own thread, which would wait for itself.

    A thread that waits here is occupied: while as many slow clients send as there are threads, others wait.
    """

    def __init__(self, stream: BodyStream) -> None:
        """Reads `stream`, which is the `stream` of a request, and nothing else does. Closing the file does not end the
        request."""
        super().__init__(_RawBody(stream), _BUFFER_SIZE)


class _RawBody(io.RawIOBase):
    def __init__(self, stream: BodyStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        view = memoryview(buffer)
        data = _read(self._stream, len(view))
        view[: len(data)] = data
        return len(data)


def _read(stream: BodyStream, n: int) -> bytes:
    """Has the connection read from `stream`, in its own thread, and waits for that."""
    arrived: Future[bytes] = Future()
    # The Future is added before the owner is looked at, and `BodyStream.close` does the two in the other order. So
    # either this thread sees that the request is over, or `close` completes the Future.
    stream.blocked.append(arrived)
    try:
        owner = stream.owner
        if owner is None:  # all of it has been received, or the request is over: a read does not wait
            data = stream.read(n)
            assert isinstance(data, bytes)
            return data
        if owner.is_own_thread():
            raise RuntimeError("a BodyFile waits for bytes, so it cannot be read in the server's own thread")
        owner.call(partial(_begin_read, stream, n, arrived))
        return arrived.result()
    finally:
        with suppress(ValueError):
            stream.blocked.remove(arrived)


def _begin_read(stream: BodyStream, n: int, arrived: Future[bytes]) -> None:
    """In the thread of the connection: reads, and completes `arrived` with the result."""
    if arrived.done():
        return  # the request is over
    try:
        data = stream.read(n)
    except Exception as error:
        arrived.set_exception(error)
        return
    if isinstance(data, Future):
        data.add_done_callback(partial(_end_read, arrived))
    else:
        arrived.set_result(data)


def _end_read(arrived: Future[bytes], done: Future[bytes]) -> None:
    """In the thread of the connection: what the read has waited for is here."""
    if arrived.done():
        return
    error = done.exception()
    if error is None:
        arrived.set_result(done.result())
    else:
        arrived.set_exception(error)
