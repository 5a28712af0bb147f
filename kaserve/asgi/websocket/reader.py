"""MessageReader: from the bytes of a client to its messages.

Knows fragments and text, and one kind of frame: that which is a whole message, uncompressed. All other frames are read
by the sans-I/O protocol of websockets, and so is everything that is wrong about any frame.

Nearly all messages are such frames, and reading one in Python costs websockets 5 microseconds and four copies, most of
what a server has to do for an echo. So they are found here, in compiled code, and unmasked by the C function of
websockets. What this knows of a frame is its layout (RFC 6455 §5.2): a byte that says "final, text" or "final, binary",
the length, which has a bit for the mask, the mask, and the masked bytes. Whatever differs in a single bit of that is
left to websockets, and so is a message that is too large.
"""

from __future__ import annotations

from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

__all__ = ["MessageReader", "encode_frame"]

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127  # the length is in the next 2 or 8 bytes
_TOO_LARGE = 1 << 56
_NO_MESSAGES: list[str | bytes] = []

_TEXT, _BINARY, _CONT, _CLOSE = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.CLOSE
_apply_mask = apply_mask


class MessageReader:
    """The receiving side of one WebSocket.

    Attributes:
        control: the pings, pongs and close frames that the last `read` has found.
        failure: what is wrong with what the client has sent; None for nothing. It is in a close frame, which is in the
            output of the protocol, and nothing more is read.
    """

    __slots__ = (
        "_chunks",
        "_first",
        "_held",
        "_is_over",
        "_is_text",
        "_mask",
        "_max_size",
        "_missing",
        "_pieces",
        "_protocol",
        "control",
        "failure",
    )

    def __init__(self, protocol: Protocol, max_size: int) -> None:
        """Reads for a protocol that is open.

        Args:
            protocol: reads the other frames.
            max_size: bytes of a message, as in `protocol`.
        """
        self._protocol = protocol
        self._max_size = max_size
        self._held = b""  # the head of a frame, if that is incomplete
        self._missing = 0  # how many bytes are to come of a frame whose head is here
        self._chunks: list[memoryview] | None = None  # of such a frame if it is a whole message: what is here,
        self._first = 0  # the first byte of its head,
        self._mask = b""  # and the mask
        self._pieces: bytearray | None = None  # of a message in fragments,
        self._is_text = False  # and whether it is text
        self._is_over = False  # the client has closed, or failed
        self.control: list[Frame] = []
        self.failure: Close | None = None

    def read(self, data: bytes) -> list[str | bytes]:
        """Returns the messages that are complete with `data`: text is str, binary is bytes."""
        if self._is_over:
            return _NO_MESSAGES
        messages: list[str | bytes] = []
        position = 0
        if self._held:
            data = self._held + data
            self._held = b""
        elif self._missing:
            position = self._read_missing(data, messages)
        size = len(data)
        while position < size and not self._is_over:
            position = self._read_frame(data, position, messages)
        return messages

    def _read_frame(self, data: bytes, position: int, messages: list[str | bytes]) -> int:
        """Reads the frame at `position`, or what is here of it; returns the position after that."""
        size = len(data)
        if size - position < 2:
            self._held = data[position:]
            return size
        first, second = data[position], data[position + 1]
        length = second & 127
        start = position + 2
        if length >= _LENGTH_16:
            start += 2 if length == _LENGTH_16 else 8
        is_masked = second >= _MASKED
        if size < start + 4 * is_masked:
            self._held = data[position:]
            return size
        if length == _LENGTH_64 and data[position + 2]:
            length = _TOO_LARGE  # and not more, as it may be: compiled, it is a C integer
        elif length >= _LENGTH_16:
            length = int.from_bytes(data[position + 2 : start], "big")
        if is_masked:
            start += 4
        end = start + length
        if is_masked and first in (_FINAL_BINARY, _FINAL_TEXT) and length <= self._max_size and self._pieces is None:
            if end <= size:
                self._add_whole(first, data[start:end], data[start - 4 : start], messages)
                return end
            self._first, self._mask = first, data[start - 4 : start]
            self._chunks = [memoryview(data)[start:]]
        else:
            self._read_other(data[position:end], messages)
        self._missing = max(0, end - size)
        return min(size, end)

    def _read_missing(self, data: bytes, messages: list[str | bytes]) -> int:
        """Goes on with a frame that has not arrived completely; returns the position after it."""
        missing = self._missing
        size = min(len(data), missing)
        self._missing = missing - size
        chunks = self._chunks
        if chunks is None:
            self._read_other(data[:size], messages)
            return size
        chunks.append(memoryview(data)[:size])
        if size == missing:
            self._chunks = None
            self._add_whole(self._first, b"".join(chunks), self._mask, messages)
        return size

    def _add_whole(self, first: int, masked: bytes, mask: bytes, messages: list[str | bytes]) -> None:
        content = _apply_mask(masked, mask)
        if first == _FINAL_BINARY:
            messages.append(content)
        else:
            self._add_text(content, messages)

    def _read_other(self, data: bytes, messages: list[str | bytes]) -> None:
        """Has websockets read a frame, or what is here of it."""
        protocol = self._protocol
        protocol.receive_data(data)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            opcode = frame.opcode
            if opcode is not _TEXT and opcode is not _BINARY and opcode is not _CONT:
                self.control.append(frame)
                self._is_over = self._is_over or opcode is _CLOSE
            elif self.failure is None:
                self._add_fragment(frame, messages)
        if protocol.parser_exc is not None and self.failure is None:
            self._fail()

    def _add_fragment(self, frame: Frame, messages: list[str | bytes]) -> None:
        """Adds a message, or a fragment of one to the others."""
        data = bytes(frame.data)
        pieces = self._pieces
        if pieces is not None:
            pieces += data
        elif frame.fin:
            if frame.opcode is _TEXT:
                self._add_text(data, messages)
            else:
                messages.append(data)
            return
        else:
            self._pieces, self._is_text = bytearray(data), frame.opcode is _TEXT
        if frame.fin:
            self._pieces = None
            if self._is_text:
                self._add_text(bytes(pieces or b""), messages)
            else:
                messages.append(bytes(pieces or b""))

    def _fail(self) -> None:
        self._is_over = True
        self.failure = self._protocol.close_sent

    def _add_text(self, data: bytes, messages: list[str | bytes]) -> None:
        """Adds a text. One that is none fails the WebSocket (RFC 6455 §8.1)."""
        try:
            messages.append(data.decode())
        except UnicodeDecodeError as error:
            self._protocol.fail(CloseCode.INVALID_DATA, f"the text is not UTF-8, at byte {error.start}")
            self._fail()


def encode_frame(is_text: bool, data: bytes) -> bytes:
    """Returns an uncompressed message as a frame of a server, which is not masked (RFC 6455 §5.1)."""
    first = _FINAL_TEXT if is_text else _FINAL_BINARY
    size = len(data)
    if size < _LENGTH_16:
        return bytes((first, size)) + data
    if size < 65536:
        return bytes((first, _LENGTH_16, size >> 8, size & 255)) + data
    return bytes((first, _LENGTH_64)) + size.to_bytes(8, "big") + data
