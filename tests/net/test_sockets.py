"""Plain sockets: each implementation that is available, with the same results and exceptions."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from kaserve.net import sockets
from kaserve.net.sockets import PlainSocket
from tests.tools.net import open_descriptors, tcp_pair

Adopt = Callable[[socket.socket], PlainSocket]
ADOPT: list[Adopt] = [lambda sock: sock, *([sockets.Socket] if sockets.Socket is not None else [])]


@pytest.fixture(params=ADOPT, ids=["standard library", "compiled"][: len(ADOPT)])
def adopt(request: pytest.FixtureRequest) -> Adopt:
    chosen: Adopt = request.param
    return chosen


@pytest.fixture
def pair(adopt: Adopt) -> Iterator[tuple[socket.socket, PlainSocket]]:
    """The client's end, and the server's end as the implementation wraps it."""
    before = open_descriptors()
    theirs, accepted = tcp_pair()
    accepted.setblocking(False)
    ours = adopt(accepted)
    yield theirs, ours
    theirs.close()
    ours.close()
    assert open_descriptors() <= before


Pair = tuple[socket.socket, PlainSocket]


def test_sending_and_receiving(pair: Pair) -> None:
    theirs, ours = pair
    theirs.sendall(b"question")
    assert ours.recv(5) == b"quest"
    assert ours.recv(65536) == b"ion"
    assert ours.send(b"answer") == 6
    assert ours.send(memoryview(b"<more>")[1:5]) == 4
    assert theirs.recv(100) == b"answermore"


def test_flags_are_passed_on(pair: Pair) -> None:
    """MSG_MORE: the corked bytes leave with the bytes that follow."""
    theirs, ours = pair
    theirs.setblocking(False)
    ours.send(b"head", getattr(socket, "MSG_MORE", 0))
    ours.send(b"body")
    assert theirs.recv(100) == b"headbody"


def test_nothing_has_arrived_yet(pair: Pair) -> None:
    _, ours = pair
    with pytest.raises(BlockingIOError):
        ours.recv(1)


def test_the_end_of_the_stream(pair: Pair) -> None:
    theirs, ours = pair
    theirs.shutdown(socket.SHUT_WR)
    assert ours.recv(100) == b""
    ours.shutdown(socket.SHUT_WR)
    assert theirs.recv(100) == b""


def send_all(sock: PlainSocket, data: bytes) -> None:
    while data:
        data = data[sock.send(data) :]


def test_a_full_send_buffer_takes_a_part_and_then_nothing(pair: Pair) -> None:
    _, ours = pair
    data = bytes(64 * 1024 * 1024)
    sent = ours.send(data)
    assert 0 < sent < len(data)
    with pytest.raises(BlockingIOError):
        send_all(ours, data)


def test_a_peer_that_is_gone_raises_an_exception_and_no_signal(pair: Pair) -> None:
    theirs, ours = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    with pytest.raises(BrokenPipeError):
        ours.send(b"x")


def test_an_option(pair: Pair) -> None:
    """SO_LINGER of zero: closing is a reset."""
    theirs, ours = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()
    with pytest.raises(ConnectionResetError):
        theirs.recv(1)


def test_a_closed_socket(pair: Pair) -> None:
    _, ours = pair
    fd = ours.fileno()
    assert os.fstat(fd)
    ours.close()
    ours.close()
    assert ours.fileno() == -1
    with pytest.raises(OSError, match="Bad file") as refused:
        ours.send(b"x")
    assert refused.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file"):
        ours.recv(1)
    with pytest.raises(OSError, match="Bad file"):
        ours.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match="Bad file"):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_socket_that_is_released_is_closed(adopt: Adopt) -> None:
    before = open_descriptors()
    theirs, accepted = tcp_pair()
    with theirs:
        ours = adopt(accepted)
        if ours is accepted:
            accepted.close()
            pytest.skip("this is a socket.socket, which warns when it is not closed")
        del ours
        assert theirs.recv(1) == b""
    assert open_descriptors() <= before


def test_a_socket_without_init_closes_nothing(pair: Pair) -> None:
    """Descriptor 0 is standard input."""
    kind = type(pair[1])
    kind.__new__(kind)
    assert os.fstat(0)
