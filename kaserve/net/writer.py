"""Writer: sends a connection's responses, and is the only thing that does.

Knows the socket and what is encoded: first the output buffer, then the body that is still to be encoded. Does not know
what a response means, nor what follows it; its caller looks at the `Progress` and decides.

The buffer is one `bytes` object with a queue after it, and not a bytearray: nearly every response is sent by one call,
and then no byte is copied. The responses to a pipeline are joined once, just before they are sent; adding each of them
to a bytearray took five times as long.
"""

from __future__ import annotations

import logging
import os
import socket

from ..http.wire import join
from .body_source import BodySource
from .progress import AWAITING, BLOCKED, BROKEN, ENCODED, LOST, SENT, Progress
from .sockets import PlainSocket
from .tls import TLSSocket

__all__ = ["Writer"]

log = logging.getLogger("kaserve")

# How often one call of `pump` goes on to the next piece, so that a fast reader of a large response does not keep the
# other connections waiting.
_MAX_PIECES_PER_PUMP = 16
_READ_SIZE = 32 * 1024  # where the system has no sendfile()
# The head waits in the kernel for the first bytes of its file: one segment on the network, not two.
_MSG_MORE: int = getattr(socket, "MSG_MORE", 0)


class Writer:
    """The sending side of one connection.

    Attributes:
        buffer: what is encoded and not yet accepted by the kernel.
        queued: bytes in the queue after it.
        source: the body that is still to be encoded; None for none.
        moved: bytes that the kernel has accepted since this was last set to 0.
    """

    __slots__ = ("_queue", "buffer", "moved", "queued", "source")

    def __init__(self) -> None:
        self.buffer: bytes | memoryview = b""
        self._queue: list[bytes] | None = None
        self.queued = 0
        self.source: BodySource | None = None
        self.moved = 0

    def enqueue(self, data: bytes) -> None:
        """Adds `data` to what leaves next, together with it: the responses to a pipeline leave in one send."""
        if not self.buffer:
            self.buffer = data
            return
        if self._queue is None:
            self._queue = []
        self._queue.append(data)
        self.queued += len(data)

    def flush(self, sock: PlainSocket | TLSSocket, flags: int = 0) -> Progress:
        """Sends the buffer and the queue after it: SENT if the kernel accepted all of that, else BLOCKED or LOST."""
        if self._queue is not None:
            self.buffer = join([bytes(self.buffer), *self._queue])
            self._queue = None
            self.queued = 0
        data = self.buffer
        try:
            sent = sock.send(data, flags)
        except (BlockingIOError, InterruptedError):
            return BLOCKED
        except OSError:
            return LOST
        self.moved += sent
        if sent == len(data):
            self.buffer = b""
            return SENT
        self.buffer = memoryview(data)[sent:]
        return BLOCKED

    def pump(self, sock: PlainSocket | TLSSocket) -> Progress:
        """Sends on in the body, each piece only when the kernel has accepted the one before, so that a piece that takes
        long to make does not hold back one that is there.

        Returns:
            ENCODED, BLOCKED, AWAITING, LOST or BROKEN.

        Raises:
            Exception: whatever the handler's own code raises; the response cannot be completed.
        """
        source = self.source
        assert source is not None
        for _ in range(_MAX_PIECES_PER_PUMP):
            if self.buffer:
                more = source.span is not None or source.starts_large()
                progress = self.flush(sock, _MSG_MORE if more else 0)
                if progress != SENT:
                    return progress
            if source.span is not None:
                progress = self._send_span(sock, source)
                if progress != SENT:
                    return progress
            if source.is_over():
                return ENCODED
            if source.is_pending():
                return AWAITING
            self.buffer = source.advance()
            if source.is_over():
                return ENCODED
            if not self.buffer and source.span is None:
                return AWAITING
        return BLOCKED

    def _send_span(self, sock: PlainSocket | TLSSocket, source: BodySource) -> Progress:
        """Has the kernel send a part of the file, from the page cache to the socket; SENT if that was the last part."""
        assert source.span is not None
        if source.file_bytes_left == 0:
            return BLOCKED
        try:
            sent = _send_file(sock, source.span.fd, source.offset, min(source.left, source.file_bytes_left))
        except (BlockingIOError, InterruptedError):
            return BLOCKED
        except (ConnectionError, TimeoutError):
            return LOST
        except OSError:
            log.exception("a file could not be sent")
            return BROKEN
        if sent == 0:  # what is missing cannot be made up, and its length has been announced
            log.error("a file became shorter while it was sent")
            return BROKEN
        self.moved += sent
        source.file_bytes_left -= sent
        source.offset += sent
        source.left -= sent
        if source.left:
            return BLOCKED
        source.span = None
        return SENT

    def clear(self) -> None:
        """Drops everything: the connection has ended."""
        self.buffer = b""
        self._queue = None
        self.queued = 0
        self.source = None


def _send_file(sock: PlainSocket | TLSSocket, fd: int, offset: int, count: int) -> int:
    """Sends up to `count` bytes of the file from `offset` on; returns how many, 0 at the end of the file."""
    if isinstance(sock, TLSSocket):
        return sock.sendfile(fd, offset, count)
    if hasattr(os, "sendfile"):
        return os.sendfile(sock.fileno(), fd, offset, count)
    data = os.pread(fd, min(count, _READ_SIZE), offset)
    return sock.send(data) if data else 0
