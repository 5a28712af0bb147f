"""MessageReader: from bytes to messages, however they are cut, and what is wrong with them."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("websockets")

from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, State

from kaserve.asgi.websocket.reader import MessageReader, encode_frame
from tests.tools.websocket import binary, close, frame, text

MAX_SIZE = 100_000


def new_reader(max_size: int = MAX_SIZE) -> MessageReader:
    return MessageReader(Protocol(SERVER, state=State.OPEN, max_size=max_size), max_size)


MANY = [
    (text("a"), "a"),
    (text(""), ""),
    (binary(b"x" * 125), b"x" * 125),
    (binary(b"x" * 126), b"x" * 126),
    (frame(Opcode.PING, b"ping"), None),
    (text("x" * 65535), "x" * 65535),
    (text("x" * 65536), "x" * 65536),
    (frame(Opcode.TEXT, b"\xe2\x82", fin=False) + frame(Opcode.CONT, b"\xac"), "\u20ac"),
    (frame(Opcode.BINARY, b"1", fin=False) + frame(Opcode.PONG, b"") + frame(Opcode.CONT, b"2"), b"12"),
    (frame(Opcode.BINARY, b"", fin=False) + frame(Opcode.CONT, b"", fin=False) + frame(Opcode.CONT, b""), b""),
    (binary(b"last"), b"last"),
]


class TestWhatIsRight:
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 13, 14, 127, 1000, 65536, 1 << 20])
    def test_cut_into_pieces(self, size: int) -> None:
        """§5.4: a frame may arrive in any number of pieces, and several in one."""
        stream = b"".join(each for each, _ in MANY)
        reader, messages = new_reader(), []
        for start in range(0, len(stream), size):
            messages += reader.read(stream[start : start + size])
        assert messages == [message for _, message in MANY if message is not None]
        assert reader.failure is None

    @pytest.mark.parametrize("seed", range(20))
    def test_cut_at_random(self, seed: int) -> None:
        rng = random.Random(seed)
        chosen = [rng.choice(MANY) for _ in range(20)]
        stream = b"".join(each for each, _ in chosen)
        reader, messages = new_reader(), []
        while stream:
            size = rng.choice([1, 2, 5, 100, 40_000])
            messages += reader.read(stream[:size])
            stream = stream[size:]
        assert messages == [message for _, message in chosen if message is not None]

    def test_control_frames_are_kept_apart(self) -> None:
        reader = new_reader()
        assert reader.read(text("a") + frame(Opcode.PONG, b"1") + text("b") + close(1000)) == ["a", "b"]
        assert [each.opcode for each in reader.control] == [Opcode.PONG, Opcode.CLOSE]

    def test_nothing_is_read_after_a_close_frame(self) -> None:
        assert new_reader().read(close(1000) + text("late")) == []


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(Opcode.TEXT, b"a", mask=False), 1002),  # §5.1
            (frame(Opcode.TEXT, b"a", rsv1=True), 1002),  # §5.2
            (b"\xa1\x80\1\2\3\4", 1002),
            (b"\x91\x80\1\2\3\4", 1002),
            (b"\x83\x80\1\2\3\4", 1002),
            (b"\x8b\x80\1\2\3\4", 1002),
            (frame(Opcode.CONT, b"a"), 1002),  # §5.4
            (frame(Opcode.TEXT, b"a", fin=False) + text("b"), 1002),
            (frame(Opcode.TEXT, b"a", fin=False) + binary(b"b"), 1002),
            (frame(Opcode.PING, b"x" * 126), 1002),  # §5.5
            (frame(Opcode.PING, b"x", fin=False), 1002),
            (frame(Opcode.CLOSE, b"\x03"), 1002),  # §5.5.1
            (close(1005), 1002),  # §7.4.1
            (close(1006), 1002),
            (close(999), 1002),
            (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
            (frame(Opcode.TEXT, b"\xff"), 1007),  # §8.1
            (frame(Opcode.TEXT, b"\xed\xa0\x80"), 1007),
            (frame(Opcode.TEXT, b"\xe2\x82", fin=False) + frame(Opcode.CONT, b"x"), 1007),
            (binary(b"x" * (MAX_SIZE + 1)), 1009),
            (frame(Opcode.BINARY, b"x" * MAX_SIZE, fin=False) + frame(Opcode.CONT, b"x"), 1009),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 1009),
            (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 1009),
        ],
    )
    @pytest.mark.parametrize("at_once", [True, False])
    def test_the_code(self, data: bytes, code: int, at_once: bool) -> None:
        reader = new_reader()
        pieces = [data] if at_once else [data[i : i + 1] for i in range(min(len(data), 200))] + [data[200:]]
        for piece in pieces:
            assert reader.read(text("before")) == ["before"] if piece is data else True
            assert reader.read(piece) == []
        assert reader.failure is not None
        assert reader.failure.code == code
        assert reader.read(text("after")) == []
        output = reader._protocol.data_to_send()
        assert output[-1] == b""  # the end of the stream, after
        assert output[-2][2:4] == code.to_bytes(2, "big")  # the close frame

    def test_messages_before_it_are_returned(self) -> None:
        reader = new_reader()
        assert reader.read(text("a") + frame(Opcode.TEXT, b"\xff") + text("b")) == ["a"]
        assert reader.failure is not None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("is_text", [True, False])
def test_encode_frame(size: int, is_text: bool) -> None:
    """As websockets encodes it, and reads it."""
    data = b"x" * size
    encoded = encode_frame(is_text, data)
    assert encoded == Frame(Opcode.TEXT if is_text else Opcode.BINARY, data).serialize(mask=False)
    client = Protocol(CLIENT, state=State.OPEN)
    client.receive_data(encoded)
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.data) == (Opcode.TEXT if is_text else Opcode.BINARY, data)
