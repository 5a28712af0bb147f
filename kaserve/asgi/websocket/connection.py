"""WebSocket: a tunnel that speaks RFC 6455, by the sans-I/O protocol of the package websockets.

Knows messages, the closing handshake, pings and flow control. Does not know frames, masks and compression, which are
the business of websockets and `reader`, nor ASGI: its owner takes messages, sends messages, and is told when there is
something new.

Closing has one place, `_finish`: from then on the owner gets no more messages, but `close_code` and `close_reason`.
Whichever side closes, a close frame is sent if one can be sent (§7.1.1). If the client was first, the connection ends
with our response to its frame. If we were, because the owner closes or the server stops, the client has
`CLOSE_TIMEOUT` to send its own.

Flow control: what the owner has not taken is limited to `MAX_UNREAD` bytes, and one reading of the socket more; then
the tunnel pauses. Pings go unread as well then, so there is no deadline for a pong that may lie among what is unread.
In the other direction `send` says whether the client keeps up. A client that sends pings and reads nothing has no more
than one pong kept for it, as §5.5.3 allows.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol

from ...http.tunnel import Tunnel, TunnelConnection
from ...net.reactor import Reactor
from ...net.timerwheel import Alarm
from .reader import MessageReader, encode_frame
from .settings import WebSocketSettings

__all__ = ["CLOSE_TIMEOUT", "MAX_UNREAD", "WebSocket"]

MAX_UNREAD = 64 * 1024  # bytes of messages that wait for the owner
CLOSE_TIMEOUT = 5.0  # seconds that a client has to respond to a close frame

# What a message costs beside its content, or a flood of empty ones would count for nothing.
_OVERHEAD = 64
# Messages below this are sent as they are: without a context, deflate makes them hardly smaller (RFC 7692 §6).
_MIN_DEFLATED = 256
_MAX_REASON = 123  # bytes: the payload of a control frame is at most 125, and the code has two (§5.5)
_PING_DATA = struct.Struct("!I")
_ABNORMAL = 1006  # never on the wire (§7.4.1): the connection was lost without a close frame
_NO_STATUS = 1005  # never on the wire: the client's close frame had no code

_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY
_PONG, _CLOSE = Opcode.PONG, Opcode.CLOSE


class WebSocket(Tunnel):
    """One WebSocket.

    Attributes:
        unread: the messages that the owner has not taken, in order: text is str, binary is bytes.
        close_code: why it is closed (RFC 6455 §7.1.5), as soon as it is; None while it is open. Messages in `unread`
            may have come before that.
        close_reason: the reason in words; often "".
    """

    __slots__ = (
        "_accepted",
        "_alarm",
        "_connection",
        "_extensions",
        "_is_blocked",
        "_is_paused",
        "_notify",
        "_ping",
        "_pings",
        "_pong",
        "_protocol",
        "_queued",
        "_reactor",
        "_reader",
        "_settings",
        "_unread_size",
        "close_code",
        "close_reason",
        "unread",
    )

    def __init__(
        self,
        reactor: Reactor,
        settings: WebSocketSettings,
        extensions: Sequence[Extension],
        notify: Callable[[bool], object],
    ) -> None:
        """Makes one whose 101 is still to be sent.

        Args:
            reactor: has the time and the timers.
            settings: its limits and deadlines.
            extensions: what was agreed on.
            notify: called when there is a message or room, when it is closed, and when the connection has ended; with
                True if it may use the WebSocket before it returns.
        """
        self._reactor = reactor
        self._settings = settings
        self._extensions = extensions
        self._notify = notify
        self._protocol = Protocol(SERVER, max_size=settings.max_size)
        self._protocol.extensions = list(extensions)
        self._connection: TunnelConnection | None = None
        self._reader = MessageReader(self._protocol, settings.max_size)
        self.unread: deque[str | bytes] = deque()
        self._unread_size = 0
        self._is_paused = False
        self._is_blocked = True  # not all that was written has been accepted
        self._pong: bytes | None = None  # the frame of a pong that waits for room
        self._alarm = Alarm(self._expired)
        self._pings = 0
        self._ping: bytes | None = None  # what the pong that is waited for must have
        self._accepted = self._queued = 0  # bytes that the kernel had accepted, and still had, at the last look
        self.close_code: int | None = None
        self.close_reason = ""

    # For the owner.

    def take(self) -> str | bytes:
        """Removes and returns the first message of `unread`."""
        message = self.unread.popleft()
        self._unread_size -= len(message) + _OVERHEAD
        if self._is_paused and self._unread_size < MAX_UNREAD:
            self._is_paused = False
            assert self._connection is not None
            self._connection.resume()
        return message

    def send(self, message: str | bytes) -> bool:
        """Sends a message. Ignored once the WebSocket is closed.

        Returns:
            False if the kernel has not accepted all of it; wait until `has_room` before sending more.
        """
        if self.close_code is not None:
            return not self._is_blocked
        is_text = isinstance(message, str)
        data = message.encode() if isinstance(message, str) else message
        if self._extensions and len(data) >= _MIN_DEFLATED:
            frame = Frame(_TEXT if is_text else _BINARY, data).serialize(mask=False, extensions=self._extensions)
        else:
            frame = encode_frame(is_text, data)
        self._write(frame)
        return not self._is_blocked

    def has_room(self) -> bool:
        """Returns whether the kernel has accepted everything; also once nothing can be sent any more."""
        return not self._is_blocked or self.close_code is not None

    def close(self, code: int, reason: str = "") -> None:
        """Closes the WebSocket: sends a close frame and waits for that of the client. Ignored if it is closed.

        Raises:
            ValueError: the code is none that may be sent (RFC 6455 §7.4).
        """
        if self.close_code is not None:
            return
        try:
            self._protocol.send_close(code, _shortened(reason))
        except ProtocolError as error:
            raise ValueError(f"{code} is no code that a WebSocket can be closed with") from error
        self._finish(code, reason)
        self._send_output()
        self._schedule(CLOSE_TIMEOUT)

    # `Tunnel`.

    def opened(self, connection: TunnelConnection) -> None:
        self._connection = connection
        self._is_blocked = False
        self._send_output()
        if self.close_code is None and self._settings.ping_interval:
            self._schedule(self._settings.ping_interval)
        self._notify(False)

    def received(self, data: bytes) -> None:
        reader = self._reader
        messages = reader.read(data)
        if messages and self.close_code is None:
            for message in messages:
                self.unread.append(message)
                self._unread_size += len(message) + _OVERHEAD
        if reader.control:
            self._take_control()
        failure = reader.failure
        if failure is not None:
            self._finish(failure.code, failure.reason)
        if self._protocol.writes:
            self._send_output()
        if self._unread_size >= MAX_UNREAD and not self._is_paused:
            self._is_paused = True
            assert self._connection is not None
            self._connection.pause()
        if self.unread:
            self._notify(True)

    def ended(self) -> None:
        """Without a close frame of its own the client has broken off (§7.1.5)."""
        self._protocol.receive_eof()
        self._finish(_ABNORMAL)
        self._end()

    def drained(self) -> None:
        self._is_blocked = False
        pong, self._pong = self._pong, None
        if pong is not None:
            self._write(pong)
        self._notify(False)

    def stopping(self) -> None:
        self.close(CloseCode.GOING_AWAY, "the server stops")

    def closed(self) -> None:
        self._connection = None
        self._finish(_ABNORMAL)
        self._reactor.wheel.cancel(self._alarm)

    # Receiving.

    def _take_control(self) -> None:
        """Pongs, and the client's close frame. Pings are websockets' own business."""
        control, self._reader.control = self._reader.control, []
        for frame in control:
            if frame.opcode is _CLOSE:
                received = self._protocol.close_rcvd
                if received is not None:
                    self._finish(received.code, received.reason)
            elif frame.opcode is _PONG and frame.data == self._ping:
                self._ping = None
                self._schedule(self._settings.ping_interval)

    # Sending.

    def _write(self, data: bytes) -> None:
        connection = self._connection
        if connection is None:
            self._protocol.writes.append(data)  # `opened` sends it
        elif not connection.write(data):
            self._is_blocked = True

    def _send_output(self) -> None:
        """Sends what websockets has to say by itself: pongs, close frames, and that it is over."""
        if self._connection is None:
            return
        for data in self._protocol.data_to_send():
            if not data:  # websockets' sign for the end of the stream
                self._end()
            elif self._is_blocked and data[0] == _PONG_FRAME:
                self._pong = data
            else:
                self._write(data)

    # Closing.

    def _finish(self, code: int, reason: str = "") -> None:
        """There will be no more messages. The first reason counts."""
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
            self._ping = None
            self._reactor.wheel.cancel(self._alarm)
            if self._is_paused and self._connection is not None:
                self._is_paused = False
                self._connection.resume()  # for the client's close frame
            self._notify(False)

    def _end(self) -> None:
        """The connection is of no use any more."""
        if self._connection is not None:
            self._connection.close()

    # Deadlines.

    def _schedule(self, seconds: float) -> None:
        self._reactor.wheel.schedule(self._alarm, self._reactor.now + seconds)

    def _expired(self) -> None:
        if self.close_code is not None:
            self._end()  # the client has not responded to our close frame
        elif self._ping is None:
            self._send_ping()
        elif self._is_paused or self._client_takes_bytes():
            self._schedule(self._settings.ping_timeout)
        else:
            self._protocol.fail(CloseCode.INTERNAL_ERROR, "no response to a ping")
            self._finish(_ABNORMAL)
            self._send_output()

    def _send_ping(self) -> None:
        """Pings, if a pong would be read."""
        settings, connection = self._settings, self._connection
        assert connection is not None
        if not self._is_paused:
            self._pings += 1
            data = _PING_DATA.pack(self._pings & 0xFFFFFFFF)
            self._write(Frame(Opcode.PING, data).serialize(mask=False))
            if settings.ping_timeout:
                self._ping = data
                self._note_progress()
                self._schedule(settings.ping_timeout)
                return
        self._schedule(settings.ping_interval)

    def _client_takes_bytes(self) -> bool:
        """Whether the ping may still be on its way to a client that is slow, but there."""
        accepted, queued = self._accepted, self._queued
        self._note_progress()
        connection = self._connection
        assert connection is not None
        is_complete = self._accepted == connection.sent and self._queued == 0
        return not is_complete and (self._accepted > accepted or self._queued < queued)

    def _note_progress(self) -> None:
        connection = self._connection
        assert connection is not None
        kept, self._queued = connection.unsent()
        self._accepted = connection.sent - kept


_PONG_FRAME = 0x8A  # the first byte of one


def _shortened(reason: str) -> str:
    data = reason.encode()
    return reason if len(data) <= _MAX_REASON else data[:_MAX_REASON].decode(errors="ignore")
