"""SocketTunnel: bytes between a client and a socket, with the test in the place of the other thread."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Iterator

import pytest

from kaserve.http.messages import Response
from kaserve.net.poller import NOTHING, READ, WRITE
from kaserve.net.socket_tunnel import SocketTunnel
from tests.tools.net import Client, Net, open_descriptors

ASK = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
MUCH = bytes(range(256)) * 8000  # 2 MB


class Pair:
    """A client, and the other thread's end of its tunnel."""

    def __init__(self) -> None:
        self.began = 0
        self.net = Net(lambda request: Response.upgrade("echo", self.tunnel))
        self.tunnel = SocketTunnel(self.net.reactor, self._begin)
        self.client, self.connection = self.net.connect(tcp=True)
        self.far = Client(self.tunnel.lend())
        self.tunnel.start()

    def _begin(self) -> None:
        self.began += 1

    def open(self, rest: bytes = b"") -> Pair:
        """Has the client ask, and the tunnel open with `rest`."""
        self.tunnel.hold()
        self.tunnel.rest = rest
        self.client.send(ASK)
        self.net.settle()
        assert self.client.read() == HEAD + rest[:1_000_000] or rest
        self.client.received = b""
        return self

    @property
    def interest(self) -> int:
        return self.net.poller.watched.get(self.tunnel._near.fileno(), NOTHING)


@pytest.fixture
def pair() -> Iterator[Pair]:
    gc.collect()
    before = open_descriptors()
    pair = Pair()
    yield pair
    if pair.connection.protocol.served:
        pair.connection.abort()
        assert pair.tunnel.is_over  # whatever has ended it
    pair.tunnel.abandon()
    pair.net.close()
    pair.far.close()
    assert open_descriptors() <= before


def test_before_it_opens(pair: Pair) -> None:
    """What comes is kept, as far as it is read; and `hold` ends that."""
    pair.far.send(b"one")
    pair.net.settle()
    pair.far.send(b"two")
    pair.tunnel.look()
    assert (pair.tunnel.begun, pair.began, pair.interest) == (b"onetwo", 2, READ)
    pair.tunnel.look()
    assert pair.began == 2
    pair.tunnel.hold()
    pair.far.send(b"three")
    pair.net.settle()
    assert (pair.tunnel.begun, pair.interest) == (b"onetwo", NOTHING)


def test_an_end_before_it_opens(pair: Pair) -> None:
    pair.far.send(b"one")
    pair.far.finish()
    pair.net.settle()
    assert (pair.tunnel.begun, pair.tunnel.has_ended, pair.began, pair.interest) == (b"one", True, 2, NOTHING)
    pair.tunnel.look()
    assert pair.began == 2
    pair.open(b"rest")
    assert pair.client.ended  # in this direction
    pair.client.send(b"x")
    pair.net.settle()
    assert pair.far.read() == b"x"


def test_an_end_and_a_return_before_it_opens(pair: Pair) -> None:
    pair.far.close()
    pair.net.settle()
    pair.tunnel.finish()
    pair.open(b"rest")
    pair.client.finish()
    pair.net.settle()
    assert pair.net.stats.closed == {"tunnel closed": 1}


def test_a_return_before_it_opens(pair: Pair) -> None:
    pair.far.send(b" and more")
    pair.tunnel.hold()
    pair.tunnel.finish()
    pair.tunnel.rest = b"rest"
    pair.client.send(ASK)
    pair.net.settle()
    assert pair.client.read() == HEAD + b"rest and more"
    assert pair.client.ended


def test_a_failure_before_it_opens(pair: Pair) -> None:
    pair.tunnel.hold()
    pair.tunnel.fail()
    pair.client.send(ASK)
    pair.net.settle()
    pair.client.read()
    assert pair.client.was_reset


def test_it_was_abandoned_before_it_opens(pair: Pair) -> None:
    pair.tunnel.abandon()
    pair.tunnel.abandon()
    for call in (pair.tunnel.start, pair.tunnel.look, pair.tunnel.hold, pair.tunnel.finish, pair.tunnel.fail):
        call()
    pair.client.send(ASK)
    pair.net.settle()
    pair.client.read()
    assert pair.client.was_reset
    assert pair.far.read() == b""
    assert (pair.far.ended, pair.far.was_reset) == (True, False)


def test_bytes_that_were_not_read_are_no_reset_when_it_is_abandoned(pair: Pair) -> None:
    pair.far.send(b"x")
    pair.tunnel.abandon()
    pair.far.read()
    assert (pair.far.ended, pair.far.was_reset) == (True, False)


def test_both_ways_at_the_speed_of_the_slower_side(pair: Pair) -> None:
    pair.open(b"rest")
    for source, target in ((pair.client, pair.far), (pair.far, pair.client)):
        sent = held = 0
        target.received = b""
        while len(target.received) < len(MUCH):
            if sent < len(MUCH):
                sent += source.send(MUCH[sent : sent + 300_000])
            pair.net.settle()
            held = max(held, len(pair.tunnel._unsent))
            target.read(70_000)
        assert target.received == MUCH
        assert held <= 65536
    pair.net.settle()
    assert pair.interest == READ


def test_a_slow_thread_has_the_client_wait(pair: Pair) -> None:
    pair.open()
    sent, last = 0, -1
    while sent != last:
        last = sent
        sent += pair.client.send(MUCH)
        pair.net.settle()
    assert pair.interest == READ | WRITE
    (tunnel,) = [pair.connection._exchange.tunnel] if pair.connection._exchange else []
    assert tunnel is not None
    assert tunnel.is_paused
    while pair.far.read():
        pair.net.settle()
    assert len(pair.far.received) == sent
    assert (pair.interest, tunnel.is_paused) == (READ, False)


def test_a_slow_client_has_the_thread_wait(pair: Pair) -> None:
    pair.open()
    sent, last = 0, -1
    while sent != last:
        last = sent
        sent += pair.far.send(MUCH)
        pair.net.settle()
    assert pair.interest == NOTHING
    pair.tunnel.finish()
    while not pair.client.ended:
        pair.client.read(100_000)
        pair.net.settle()
    assert len(pair.client.received) == sent


def test_the_client_finishes_while_the_thread_is_slow(pair: Pair) -> None:
    pair.open()
    sent, last = 0, -1
    while sent != last:
        last = sent
        sent += pair.client.send(MUCH)
        pair.net.settle()
    pair.client.finish()
    while not pair.far.ended:
        pair.far.read(50_000)
        pair.net.settle()
    assert len(pair.far.received) == sent
    pair.far.send(b"still here")
    pair.net.settle()
    assert pair.client.read() == b"still here"
    pair.far.finish()
    pair.net.settle()
    assert pair.net.stats.closed == {"tunnel closed": 1}


def test_the_thread_finishes_and_reads_on(pair: Pair) -> None:
    pair.open()
    pair.far.send(b"bye")
    pair.far.finish()
    pair.net.settle()
    assert (pair.client.read(), pair.client.ended, pair.interest) == (b"bye", True, NOTHING)
    pair.client.send(b"still here")
    pair.net.settle()
    assert pair.far.read() == b"still here"
    pair.tunnel.finish()
    pair.client.finish()
    pair.net.settle()
    assert pair.net.stats.closed == {"tunnel closed": 1}


def test_the_thread_closes_its_socket_while_the_client_sends(pair: Pair) -> None:
    pair.open()
    pair.far.close()
    pair.net.settle()
    pair.client.send(b"x")
    pair.net.settle()
    pair.client.send(b"y")
    pair.net.settle()
    pair.client.finish()
    pair.net.settle()
    pair.client.read()
    assert (pair.client.ended, pair.client.was_reset) == (True, False)
    assert pair.net.stats.closed == {"tunnel closed": 1}


def test_it_ends_when_the_thread_is_done(pair: Pair) -> None:
    """A thread of its own may still have the socket, which is at its end then."""
    pair.open()
    pair.far.send(b"bye")
    pair.tunnel.finish()
    pair.net.settle()
    assert (pair.client.read(), pair.client.ended) == (b"bye", True)
    pair.client.finish()
    pair.net.settle()
    pair.far.read()
    assert (pair.far.ended, pair.far.was_reset) == (True, False)


def test_it_is_reset_when_the_thread_has_failed(pair: Pair) -> None:
    pair.open()
    pair.tunnel.fail()
    pair.net.settle()
    pair.client.read()
    assert pair.client.was_reset
    assert pair.net.stats.closed == {"tunnel reset": 1}


def test_the_client_resets(pair: Pair) -> None:
    pair.open()
    pair.client.reset()
    pair.net.settle()
    pair.far.read()
    assert (pair.far.ended, pair.tunnel.is_over) == (True, True)


def test_the_lent_socket_is_closed_with_its_last_reference() -> None:
    """Without a warning: code that got its socket from a server does not close it."""
    net = Net()
    before = open_descriptors()
    tunnel = SocketTunnel(net.reactor, lambda: None)
    lent = tunnel.lend()
    assert isinstance(lent, socket.socket)
    assert open_descriptors() == before + 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del lent
        gc.collect()
    assert open_descriptors() == before + 1
    tunnel.abandon()
    assert open_descriptors() == before
    net.close()
