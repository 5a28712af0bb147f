"""Pollers: each that is available on this system, with the same results."""

from __future__ import annotations

import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from kaserve.net import poller as module
from kaserve.net.poller import HALF_CLOSE, HANGUP, READ, WRITE, Poller, SelectorPoller, new_poller
from tests.tools.net import open_descriptors, tcp_pair

POLLERS: list[Callable[[], Poller]] = [SelectorPoller, new_poller]
if hasattr(select, "epoll") and module.Epoll is not select.epoll:
    POLLERS.append(select.epoll)


@pytest.fixture(params=POLLERS, ids=["selectors", "new_poller", "select.epoll"][: len(POLLERS)])
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    before = open_descriptors()
    poller: Poller = request.param()
    yield poller
    poller.close()
    poller.close()
    assert open_descriptors() <= before


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    theirs, ours = tcp_pair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


Pair = tuple[socket.socket, socket.socket]


def found(poller: Poller) -> dict[int, int]:
    return {fd: events & (READ | WRITE) for fd, events in poller.poll(0.0)}


def test_readable_writable_and_neither(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    assert found(poller) == {}
    theirs.send(b"x")
    assert found(poller) == {ours.fileno(): READ}
    poller.modify(ours.fileno(), READ | WRITE)
    assert found(poller) == {ours.fileno(): READ | WRITE}
    poller.modify(ours.fileno(), WRITE)
    assert found(poller) == {ours.fileno(): WRITE}
    poller.unregister(ours.fileno())
    assert found(poller) == {}


def test_several_at_once(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(50)]
    for ours, theirs in pairs:
        poller.register(ours.fileno(), READ)
        theirs.send(b"x")
    assert found(poller) == {ours.fileno(): READ for ours, _ in pairs}
    for ours, theirs in pairs:
        poller.unregister(ours.fileno())
        ours.close()
        theirs.close()


def test_a_peer_that_closed_is_an_event(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    theirs.close()
    [(fd, _)] = poller.poll(None)
    assert fd == ours.fileno()


def leaving(poller: Poller) -> int:
    """How the only peer leaves."""
    ready = poller.poll(0.0)
    return ready[0][1] & (HALF_CLOSE | HANGUP) if ready else 0


def test_a_peer_that_leaves_is_reported_without_reading(poller: Poller, tcp: Pair) -> None:
    ours, theirs = tcp
    poller.register(ours.fileno(), HALF_CLOSE | HANGUP)
    assert poller.poll(0.0) == []
    theirs.shutdown(socket.SHUT_WR)
    assert leaving(poller) == HALF_CLOSE
    poller.modify(ours.fileno(), HANGUP)
    assert poller.poll(0.0) == [], "a half-close persists, and the loop would spin"
    poller.modify(ours.fileno(), HALF_CLOSE | HANGUP)
    assert leaving(poller) == HALF_CLOSE
    poller.modify(ours.fileno(), READ)
    assert found(poller) == {ours.fileno(): READ}
    poller.unregister(ours.fileno())


def test_a_peer_that_resets_is_reported_without_reading(poller: Poller, tcp: Pair) -> None:
    ours, theirs = tcp
    poller.register(ours.fileno(), READ)
    poller.modify(ours.fileno(), HALF_CLOSE | HANGUP)
    reset(theirs)
    assert leaving(poller) & HANGUP
    poller.unregister(ours.fileno())


def test_a_reset_after_a_half_close_is_a_hangup(poller: Poller, tcp: Pair) -> None:
    if isinstance(poller, SelectorPoller):
        pytest.skip("selectors cannot wait for HANGUP alone; a deadline ends the connection there")
    ours, theirs = tcp
    poller.register(ours.fileno(), HANGUP)
    theirs.shutdown(socket.SHUT_WR)
    assert poller.poll(0.0) == []
    reset(theirs)
    assert leaving(poller) & HANGUP


def test_data_are_not_reported_where_only_leaving_is_waited_for(poller: Poller, tcp: Pair) -> None:
    ours, theirs = tcp
    poller.register(ours.fileno(), HALF_CLOSE | HANGUP)
    theirs.send(b"x")
    assert poller.poll(0.0) == []
    assert poller.poll(0.0) == []
    poller.modify(ours.fileno(), READ)
    assert found(poller) == {ours.fileno(): READ}
    poller.modify(ours.fileno(), HALF_CLOSE | HANGUP)
    poller.unregister(ours.fileno())
    assert poller.poll(0.0) == []


@pytest.mark.parametrize("timeout", [0.0, 1e-9])
def test_a_short_timeout_without_events(poller: Poller, timeout: float) -> None:
    """A timeout shorter than the clock can measure is short, and not endless."""
    assert poller.poll(timeout) == []


def test_a_very_long_timeout_ends_with_an_event(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    theirs.send(b"x")
    assert len(poller.poll(1e6)) == 1


def test_wrong_calls_raise_the_error_of_the_system(poller: Poller, pair: Pair) -> None:
    if isinstance(poller, SelectorPoller):
        pytest.skip("selectors raises KeyError, from a table of its own")
    ours, _ = pair
    fd = ours.fileno()
    with pytest.raises(FileNotFoundError):
        poller.modify(fd, READ)
    with pytest.raises(FileNotFoundError):
        poller.unregister(fd)
    poller.register(fd, READ)
    with pytest.raises(FileExistsError):
        poller.register(fd, READ)


def test_its_own_descriptor_can_be_polled(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    assert select.select([poller.fileno()], [], [], 0)[0] == []
    theirs.send(b"x")
    assert select.select([poller.fileno()], [], [], 0)[0] == [poller.fileno()]


def test_a_signal_is_handled_during_the_wait(poller: Poller, pair: Pair) -> None:
    """Its Python handler runs, and events that it causes are returned."""
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    before = signal.signal(signal.SIGALRM, lambda *_: theirs.send(b"x"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while not (ready := poller.poll(10.0)):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [fd for fd, _ in ready] == [ours.fileno()]


def wait_forever(poller: Poller) -> None:
    while True:
        poller.poll(10.0)


def test_an_exception_of_a_signal_handler_ends_the_wait(poller: Poller) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            wait_forever(poller)
    finally:
        signal.signal(signal.SIGALRM, before)
