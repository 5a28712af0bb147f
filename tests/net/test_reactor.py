"""The reactor, turned by hand with fake clocks: what it does in a turn, in which order, and what wakes it."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import pytest

from kaserve.net.poller import NOTHING, READ, WRITE
from kaserve.net.reactor import Reactor
from kaserve.net.timerwheel import Timer
from tests.tools.net import EPOCH, START, FakeClock, WatchedPoller, open_descriptors

TICK = 0.125  # of the reactor's wheel: no timer is later than that


class Watched:
    """A channel with a socket pair, which records its calls."""

    def __init__(self, reactor: Reactor, journal: list[str], name: str = "channel") -> None:
        self.sock, self.peer = socket.socketpair()
        self.fd = self.sock.fileno()
        self.events: list[int] = []
        self._reactor = reactor
        self._journal = journal
        self._name = name

    def ready(self, events: int) -> None:
        self.events.append(events)
        self._journal.append(self._name)

    def registered(self) -> int:
        poller = self._reactor._poller
        assert isinstance(poller, WatchedPoller)
        return poller.watched.get(self.fd, NOTHING)

    def close(self) -> None:
        self.sock.close()
        self.peer.close()


class Plain:
    """A channel without a descriptor, for `Reactor.again`."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def ready(self, events: int) -> None:
        self._then()


class Noted(Timer):
    """A timer that records that it fired, and then calls a function."""

    def __init__(self, journal: list[str], then: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._journal = journal
        self._then = then

    def expired(self, now: float) -> None:
        self._journal.append(f"expired at {now - START:g}")
        self._then()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def time() -> FakeClock:
    return FakeClock(EPOCH)


@pytest.fixture
def reactor(clock: FakeClock, time: FakeClock) -> Iterator[Reactor]:
    reactor = Reactor(clock, time, WatchedPoller())
    yield reactor
    reactor.close()


@pytest.fixture
def journal() -> list[str]:
    return []


@pytest.fixture
def channel(reactor: Reactor, journal: list[str]) -> Iterator[Watched]:
    channel = Watched(reactor, journal)
    yield channel
    channel.close()


# What a turn does, and in which order.


def test_readiness_is_handled_before_expiries_in_the_same_turn(
    reactor: Reactor, clock: FakeClock, channel: Watched, journal: list[str]
) -> None:
    """Close policy, point 1: a request that is already here is never lost to a deadline that passed meanwhile."""
    reactor.watch(channel.fd, channel, NOTHING, READ)
    reactor.wheel.schedule(Noted(journal), START + 1)
    reactor.again(Plain(lambda: journal.append("again")))
    reactor.call(lambda: journal.append("call"))
    reactor.after_turn.append(lambda: journal.append("after"))
    channel.peer.send(b"x")
    clock.advance(5)
    reactor.step()
    assert journal == ["channel", "again", "call", "expired at 5", "after"]


def test_a_channel_that_was_ready_can_extend_its_own_deadline(
    reactor: Reactor, clock: FakeClock, channel: Watched, journal: list[str]
) -> None:
    timer = Noted(journal)
    renews = Plain(lambda: reactor.wheel.schedule(timer, reactor.now + 10))
    reactor.watch(channel.fd, renews, NOTHING, READ)
    reactor.wheel.schedule(timer, START + 1)
    channel.peer.send(b"x")
    clock.advance(5)
    reactor.step()
    assert journal == []
    reactor.watch(channel.fd, renews, READ, NOTHING)
    clock.advance(10 + TICK)
    reactor.step()
    assert journal == [f"expired at {15 + TICK:g}"]


def test_a_timer_may_cancel_another_one_that_is_due_in_the_same_turn(
    reactor: Reactor, clock: FakeClock, journal: list[str]
) -> None:
    second = Noted(journal)
    first = Noted(journal, lambda: reactor.wheel.cancel(second))
    reactor.wheel.schedule(first, START + 1)
    reactor.wheel.schedule(second, START + 2)
    clock.advance(5)
    reactor.step()
    assert len(journal) == 1
    assert second.deadline == inf


def test_very_many_due_timers_are_called_in_several_turns(
    reactor: Reactor, clock: FakeClock, channel: Watched, journal: list[str]
) -> None:
    """So a request that comes meanwhile waits for some of them, and not for all."""
    for _ in range(1000):
        reactor.wheel.schedule(Noted(journal), START + 1)
    reactor.watch(channel.fd, channel, NOTHING, READ)
    clock.advance(5)
    reactor.step()
    called = len(journal)
    assert 0 < called < 500
    assert reactor.timeout() == 0.0
    channel.peer.send(b"x")
    reactor.step(None)
    assert journal[called] == "channel"
    while reactor.timeout() == 0.0:
        reactor.step()
    assert journal.count("expired at 5") == 1000


def test_a_step_without_a_timeout_waits_no_longer_than_for_the_next_deadline(
    reactor: Reactor, clock: FakeClock, journal: list[str]
) -> None:
    reactor.wheel.schedule(Noted(journal), START + 1)
    clock.advance(5)
    reactor.step(None)
    assert journal == ["expired at 5"]


def test_again_is_one_call_in_the_next_turn_without_events(reactor: Reactor, channel: Watched) -> None:
    reactor.again(channel)
    assert channel.events == []
    assert reactor.timeout() == 0.0
    reactor.step()
    assert channel.events == [NOTHING]
    assert reactor.timeout() is None
    reactor.step()
    assert channel.events == [NOTHING]


def test_again_within_a_turn_waits_for_the_next_turn(reactor: Reactor, journal: list[str]) -> None:
    def ask_again() -> None:
        journal.append("again")
        reactor.again(insatiable)

    insatiable = Plain(ask_again)
    reactor.again(insatiable)
    for turns in range(1, 4):
        reactor.step()
        assert len(journal) == turns


def test_after_turn_is_called_at_the_end_of_every_turn(reactor: Reactor, journal: list[str]) -> None:
    reactor.after_turn.append(lambda: journal.append("first"))
    reactor.after_turn.append(lambda: journal.append("second"))
    reactor.step()
    reactor.step()
    assert journal == ["first", "second"] * 2


# Time.


def test_the_time_is_read_once_per_turn(reactor: Reactor, clock: FakeClock) -> None:
    assert reactor.now == START
    clock.advance(3)
    assert reactor.now == START
    seen = []

    def take_time() -> None:
        clock.advance(7)
        seen.append(reactor.now)

    reactor.again(Plain(take_time))
    reactor.call(lambda: seen.append(reactor.now))
    reactor.step()
    assert seen == [START + 3] * 2


def test_the_date_line_follows_the_time_of_day_alone(reactor: Reactor, clock: FakeClock, time: FakeClock) -> None:
    """RFC 9110 §5.6.7 and §6.6.1: IMF-fixdate, of the time the message is made."""
    assert reactor.date_line == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    clock.advance(3600)
    reactor.step()
    assert reactor.date_line == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    time.advance(0.9)
    reactor.step()
    assert reactor.date_line == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    time.advance(0.1)
    reactor.step()
    assert reactor.date_line == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    time.advance(-3600)  # an administrator sets it back
    reactor.step()
    assert reactor.date_line == b"Date: Sun, 06 Nov 1994 07:49:38 GMT\r\n"


def test_timeout_says_when_the_next_timer_is_due(reactor: Reactor, clock: FakeClock, journal: list[str]) -> None:
    assert reactor.timeout() is None
    reactor.wheel.schedule(Noted(journal), START + 10)
    timeout = reactor.timeout()
    assert timeout is not None
    assert 10 <= timeout <= 10 + TICK
    clock.advance(4)  # by the clock, not by the time of the last turn
    assert reactor.timeout() == timeout - 4
    clock.advance(20)
    assert reactor.timeout() == 0.0
    reactor.step()
    assert len(journal) == 1
    assert reactor.timeout() is None


def test_a_turn_does_not_wait_while_work_is_left(reactor: Reactor, channel: Watched) -> None:
    """`step(None)` returns at once while there is something to do."""
    reactor.again(channel)
    reactor.step(None)  # hangs here if it waits
    assert channel.events == [NOTHING]


# Interest.


def test_watch_makes_every_transition(reactor: Reactor, channel: Watched) -> None:
    before = NOTHING
    for events in (READ, WRITE, READ, READ | WRITE, NOTHING, NOTHING, WRITE, WRITE, NOTHING):
        reactor.watch(channel.fd, channel, before, events)
        assert channel.registered() == events
        before = events


def test_only_watched_events_are_reported(reactor: Reactor, channel: Watched) -> None:
    channel.peer.send(b"x")
    reactor.watch(channel.fd, channel, NOTHING, WRITE)
    reactor.step()
    reactor.watch(channel.fd, channel, WRITE, READ)
    reactor.step()
    reactor.watch(channel.fd, channel, READ, READ | WRITE)
    reactor.step()
    reactor.watch(channel.fd, channel, READ | WRITE, NOTHING)
    reactor.step()
    assert channel.events == [WRITE, READ, READ | WRITE]


@pytest.mark.parametrize("events", [pytest.param(READ, id="read"), pytest.param(WRITE, id="write")])
def test_trouble_is_reported_whatever_events_are_watched(reactor: Reactor, channel: Watched, events: int) -> None:
    """Otherwise a peer that hangs up while the server only wants to write would never be noticed."""
    reactor.watch(channel.fd, channel, NOTHING, events)
    channel.peer.close()
    reactor.step()
    (reported,) = channel.events
    assert reported & events


# Waking.


def test_fileno_is_readable_when_a_step_has_something_to_do(reactor: Reactor, channel: Watched) -> None:
    def readable() -> bool:
        return bool(select.select([reactor.fileno()], [], [], 0)[0])

    assert not readable()
    reactor.call(lambda: None)
    assert readable()
    reactor.step()
    assert not readable()
    reactor.watch(channel.fd, channel, NOTHING, READ)
    assert not readable()
    channel.peer.send(b"x")
    assert readable()


def test_a_call_from_another_thread_wakes_a_sleeping_step(reactor: Reactor) -> None:
    ran_in = []
    thread = threading.Thread(target=lambda: reactor.step(None))
    thread.start()
    reactor.call(lambda: ran_in.append(threading.current_thread()))
    thread.join(10)
    assert not thread.is_alive()
    assert ran_in == [thread]


def test_stop_from_another_thread_ends_run_after_the_turn(reactor: Reactor, journal: list[str]) -> None:
    reactor.after_turn.append(lambda: journal.append("after"))
    thread = threading.Thread(target=reactor.run)
    thread.start()
    reactor.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert journal[-1] == "after"


def test_calls_are_made_in_order_and_those_they_make_wait_for_the_next_turn(
    reactor: Reactor, journal: list[str]
) -> None:
    reactor.call(lambda: reactor.call(lambda: journal.append("third")))
    reactor.call(lambda: journal.append("first"))
    reactor.call(lambda: journal.append("second"))
    reactor.step()
    assert journal == ["first", "second"]
    reactor.step(None)  # it is awake
    assert journal == ["first", "second", "third"]


def test_a_call_from_within_the_turn_wakes_nothing(reactor: Reactor, journal: list[str]) -> None:
    """The turn makes it, or else the next one does not wait. To wake a reactor that is awake costs two system calls."""

    def after_turn() -> None:
        journal.append("after")
        reactor.call(lambda: journal.append("late"))

    reactor.after_turn.append(after_turn)
    reactor.call(lambda: None)
    reactor.step()
    assert not select.select([reactor.fileno()], [], [], 0)[0]
    assert reactor.timeout() == 0.0
    reactor.after_turn.clear()
    reactor.step(None)
    assert journal == ["after", "late"]
    assert reactor.timeout() is None


def test_any_number_of_calls_may_wait(reactor: Reactor) -> None:
    """The buffer of the wakeup socket holds fewer bytes than there may be calls: the caller never blocks, and no call
    is lost."""
    made: list[int] = []
    for number in range(5000):
        reactor.call(partial(made.append, number))
    reactor.step()
    assert made == list(range(5000))
    assert not select.select([reactor.fileno()], [], [], 0)[0]


def test_calls_before_the_next_turn_cost_one_byte(reactor: Reactor) -> None:
    for _ in range(3):
        for _ in range(10):
            reactor.call(lambda: None)
        assert reactor._wakeup._receiver.recv(100, socket.MSG_PEEK) == b"\0"
        reactor.step()
        assert not select.select([reactor.fileno()], [], [], 0)[0]


def test_a_call_that_runs_before_its_byte_arrives_does_not_hide_the_next_call(reactor: Reactor) -> None:
    """The turn takes place while another thread is between adding its call and sending the byte."""
    made: list[int] = []
    reactor._calls.append(lambda: made.append(1))
    reactor.step()
    reactor._wakeup.wake()
    reactor.step()
    reactor.call(lambda: made.append(2))
    reactor.step(None)
    assert made == [1, 2]


def test_an_exception_in_a_call_stops_neither_the_turn_nor_the_other_calls(
    reactor: Reactor, clock: FakeClock, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the fault of the caller")

    reactor.wheel.schedule(Noted(journal), START + 1)
    reactor.after_turn.append(lambda: journal.append("after"))
    reactor.call(fail)
    reactor.call(lambda: journal.append("call"))
    clock.advance(2)
    reactor.step()
    assert journal == ["call", "expired at 2", "after"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "the fault of the caller" in caplog.text


# The end.


def test_no_exception_stops_the_turn_or_the_next_one(
    reactor: Reactor, clock: FakeClock, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when logging it fails as well."""

    def fail() -> None:
        journal.append("fails")
        raise AssertionError("this cannot happen")

    def note() -> None:
        journal.append("goes on")

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    handler = Failing()
    logging.getLogger("kaserve").addHandler(handler)
    for seconds, function in ((1.0, fail), (1.5, note)):
        reactor.again(Plain(function))
        reactor.call(function)
        reactor.wheel.schedule(Noted([], function), clock.now + seconds)
        reactor.after_turn.append(function)
    clock.advance(2)
    reactor.step()
    logging.getLogger("kaserve").removeHandler(handler)
    assert journal == ["fails", "goes on"] * 4
    reactor.after_turn.clear()


def test_close_closes_every_descriptor() -> None:
    before = open_descriptors()
    reactor = Reactor()
    assert open_descriptors() > before
    reactor.close()
    assert open_descriptors() <= before


def test_a_call_after_close_is_harmless() -> None:
    """A second shutdown from another thread may come when the server has already ended."""
    reactor = Reactor()
    reactor.close()
    reactor.call(lambda: None)
    reactor.stop()


def test_very_many_deadlines_at_once_do_not_delay_ready_channels(
    reactor: Reactor, clock: FakeClock, journal: list[str], channel: Watched
) -> None:
    """A bounded number of timers is called in each turn, and a channel that becomes ready comes before the rest."""
    reactor.watch(channel.fd, channel, NOTHING, READ)
    for _ in range(1000):
        reactor.wheel.schedule(Noted(journal), START + 1)
    clock.advance(1 + TICK)
    reactor.step()
    first = len(journal)
    assert 0 < first < 500
    channel.peer.send(b"x")
    assert reactor.timeout() == 0.0
    reactor.step()
    assert journal[first] == "channel"
    channel.sock.recv(1)
    while reactor.timeout() == 0.0:
        reactor.step()
    assert len(journal) == 1001
