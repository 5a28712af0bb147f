"""ReactorLoop: CPython's own tests of event loops run on it, and what it has in addition.

CPython's tests are those for any selector loop: descriptors, sockets, servers, transports, sendfile, signals, child
processes, executors, pseudo terminals. They come with Python, but some distributions leave them out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kaserve.asgi.loop import ReactorLoop
from kaserve.net.poller import NOTHING, READ
from kaserve.net.reactor import Reactor
from tests.tools.net import FakeClock

try:
    from test.test_asyncio import (  # type: ignore[import-not-found]  # not among the stubs
        test_buffered_proto,
        test_events,
        test_sendfile,
        test_server,
        test_sock_lowlevel,
    )
    from test.test_asyncio import test_subprocess as subprocesses
    from test.test_asyncio.utils import TestCase  # type: ignore[import-not-found]
except ImportError:
    TestCase = None

if TestCase is not None:

    class TestEvents(
        test_events.UnixEventLoopTestsMixin,  # type: ignore[misc]
        test_events.SubprocessTestsMixin,  # type: ignore[misc]
        TestCase,  # type: ignore[misc]
    ):
        def create_event_loop(self) -> ReactorLoop:
            return ReactorLoop()

    class TestSockets(test_sock_lowlevel.BaseSockTestsMixin, TestCase):  # type: ignore[misc]
        def create_event_loop(self) -> ReactorLoop:
            return ReactorLoop()

    class TestSendfile(test_sendfile.SendfileTestsBase, TestCase):  # type: ignore[misc]
        def create_event_loop(self) -> ReactorLoop:
            return ReactorLoop()

    class TestBufferedProtocols(test_buffered_proto.BaseTestBufferedProtocol, TestCase):  # type: ignore[misc]
        def new_loop(self) -> ReactorLoop:
            return ReactorLoop()

    class TestServers(test_server.BaseStartServer, TestCase):  # type: ignore[misc]
        def new_loop(self) -> ReactorLoop:
            return ReactorLoop()

    class TestChildProcesses(subprocesses.SubprocessMixin, TestCase):  # type: ignore[misc]
        def setUp(self) -> None:
            super().setUp()
            self.loop = ReactorLoop()
            self.set_event_loop(self.loop)
            if sys.version_info < (3, 12):
                asyncio.get_event_loop_policy().set_child_watcher(asyncio.ThreadedChildWatcher())


@pytest.fixture
def loop() -> Iterator[ReactorLoop]:
    made = ReactorLoop()
    yield made
    made.close()


class Recorder:
    """A channel of the reactor."""

    def __init__(self) -> None:
        self.events: list[int] = []

    def ready(self, events: int) -> None:
        self.events.append(events)


class TestReactorLoop:
    def test_one_wait_for_both(self, loop: ReactorLoop) -> None:
        """A channel of the reactor and a descriptor of asyncio's come out of one poll."""
        ours, theirs = socket.socketpair()
        other, another = socket.socketpair()
        with ours, theirs, other, another:
            channel = Recorder()
            loop.reactor.watch(ours.fileno(), channel, NOTHING, READ)
            seen: list[str] = []
            loop.add_reader(other, lambda: seen.append("asyncio"))
            theirs.send(b"x")
            another.send(b"x")
            loop.turn(0.0)
            assert (channel.events, seen) == ([READ], ["asyncio"])
            loop.reactor.watch(ours.fileno(), channel, READ, NOTHING)
            loop.remove_reader(other)

    def test_timers_are_on_the_clock_of_the_reactor(self) -> None:
        clock = FakeClock()
        reactor = Reactor(clock)
        loop = ReactorLoop(reactor)
        fired: list[float] = []
        loop.call_later(5, lambda: fired.append(loop.time()))
        assert loop.timeout() == 5.0
        clock.advance(4.9)
        loop.turn(0.0)
        assert fired == []
        clock.advance(0.2)
        loop.turn(0.0)
        assert fired == [clock.now]
        loop.close()
        assert not reactor.is_hosted
        reactor.close()

    def test_a_call_from_a_callback_is_made_before_the_wait(self, loop: ReactorLoop) -> None:
        """And does not wake the poller for it; so a response that a task completes leaves at once."""
        made: list[str] = []
        loop.call_soon(lambda: loop.reactor.call(lambda: made.append("call")))
        loop.turn(0.0)
        assert not loop.reactor._wakeup._is_awake
        loop.turn(0.0)
        assert made == ["call"]

    def test_what_such_a_call_adds_to_asyncio_is_not_waited_for(self, loop: ReactorLoop) -> None:
        done: list[str] = []
        loop.call_soon(lambda: loop.reactor.call(lambda: loop.call_soon(lambda: done.append("callback"))))
        loop.turn(0.0)
        loop.turn(None)
        assert done == ["callback"]

    def test_a_call_from_another_thread_wakes_it(self, loop: ReactorLoop) -> None:
        thread = threading.Thread(target=lambda: loop.reactor.call(loop.stop))
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()

    def test_a_signal_wakes_it_after_asyncios_handlers_are_gone(self, loop: ReactorLoop) -> None:
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.set_wakeup_fd(-1) == loop.reactor.signal_fileno()

    def test_a_descriptor_that_is_no_longer_open(self, loop: ReactorLoop) -> None:
        ours, theirs = socket.socketpair()
        loop.add_reader(ours.fileno(), lambda: None)
        fd = ours.fileno()
        ours.close()
        loop.remove_reader(fd)
        theirs.close()

    def test_a_regular_file_is_refused_as_by_asyncio(self, loop: ReactorLoop, tmp_path: Any) -> None:
        (tmp_path / "file").write_text("x")
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            with pytest.raises(PermissionError):
                loop.add_reader(fd, lambda: None)
            assert not loop.remove_reader(fd)
        finally:
            os.close(fd)

    def test_a_turn_waits_no_longer_than_it_is_told(self, loop: ReactorLoop) -> None:
        loop.call_later(3600, lambda: None)
        loop.turn(0.001)
        loop.turn(0.0)

    def test_closing_twice(self) -> None:
        loop = ReactorLoop()
        loop.close()
        loop.close()
