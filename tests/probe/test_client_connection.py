"""A client's connection over sockets, and its time limits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kaserve.probe.client_connection import ClientConnection, NoResponse
from kaserve.probe.transport import SocketTransport
from tests.tools.fake_server import TARGET, FakeTransport
from tests.tools.net import FakeClock
from tests.tools.server import PATIENCE


@contextmanager
def scripted(serve: Callable[[socket.socket], object]) -> Iterator[ClientConnection]:
    """A connection whose other end belongs to `serve`, in a thread."""
    theirs, ours = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    clock = FakeClock()
    try:
        with ClientConnection(SocketTransport(ours, PATIENCE), clock, PATIENCE) as connection:
            yield connection
    finally:
        thread.join(PATIENCE)
        theirs.close()


def test_a_connection_over_a_socket() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        sock.shutdown(socket.SHUT_WR)

    with scripted(serve) as connection:
        assert connection.exchange("GET", TARGET.request("GET")).body == b"hello"
        assert connection.wait_for_end(PATIENCE) is not None
        assert connection.ended == "closed"
        assert not connection.was_reset(0)


def test_a_server_that_never_responds() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ClientConnection(SocketTransport(ours, PATIENCE), FakeClock(), 0.001) as connection:
        with pytest.raises(NoResponse, match=r"nothing for 0\.001 s"):
            connection.exchange("GET", TARGET.request("GET"))
        assert connection.ended == ""


def test_a_response_that_does_not_end() -> None:
    clock = FakeClock()
    message = "no complete response within 10 s"
    with ClientConnection(Endless(clock), clock, 10.0) as connection, pytest.raises(NoResponse, match=message):
        connection.exchange("GET", TARGET.request("GET"))


class Endless(FakeTransport):
    """One more byte each second."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._head = b"HTTP/1.1 200 OK\r\n\r\n"

    def send(self, data: bytes) -> None:
        pass

    def receive(self, seconds: float) -> bytes:
        self._clock.advance(1.0)
        data, self._head = self._head or b"x", b""
        return data

    def close(self) -> None:
        pass
