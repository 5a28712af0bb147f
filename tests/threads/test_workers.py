"""Threads for what blocks, the queue in front of them, and the pipe on the way back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from kaserve.threads.pipe import Abandoned, Pipe
from kaserve.threads.workers import Workers
from tests.tools.server import PATIENCE, wait_for


@contextmanager
def workers(threads: int, queue: int) -> Iterator[Workers]:
    made = Workers(threads, queue)
    try:
        yield made
    finally:
        made.close(PATIENCE)


class Work:
    """Begins, and then waits for a word."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.thread = ""

    def __call__(self) -> None:
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.may_end.wait(PATIENCE)


class TestWorkers:
    def test_work_at_the_same_time(self) -> None:
        with workers(3, 0) as some:
            works = [Work() for _ in range(3)]
            for work in works:
                assert some.submit(work)
            for work in works:
                assert work.begun.wait(PATIENCE)
            for work in works:
                work.may_end.set()
        assert {work.thread for work in works} == {f"kaserve worker {number}" for number in (1, 2, 3)}

    def test_are_no_more_than_the_work(self) -> None:
        with workers(8, 8) as some:
            for _ in range(5):
                work = Work()
                work.may_end.set()
                assert some.submit(work)
                wait_for(lambda: some._unfinished == 0)
                assert work.thread == "kaserve worker 1"

    @pytest.mark.parametrize("queue", [0, 1, 3])
    def test_what_finds_no_room_is_not_taken(self, queue: int) -> None:
        with workers(2, queue) as some:
            works = [Work() for _ in range(2 + queue)]
            assert all(some.submit(work) for work in works)
            late = Work()
            assert not some.submit(late)
            works[0].may_end.set()
            wait_for(lambda: some._unfinished == 1 + queue)
            late.may_end.set()
            assert some.submit(late)
            for work in works:
                work.may_end.set()
            assert late.begun.wait(PATIENCE)

    def test_the_system_has_no_room_for_one(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with workers(2, 0) as some:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                for _ in range(5):  # more than there is room for: nothing of it is kept
                    assert not some.submit(Work())
            one, two = Work(), Work()
            assert some.submit(one)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                assert some.submit(two)  # the one that is there does both
            one.may_end.set()
            two.may_end.set()
            assert two.begun.wait(PATIENCE)
            assert len(some._threads) == 1
        assert "kaserve worker 2 could not be started: can't start new thread" in caplog.text

    @pytest.mark.parametrize("fault", [LookupError, SystemExit, KeyboardInterrupt])
    def test_a_fault_ends_the_work_and_not_the_thread(
        self, fault: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails() -> None:
            raise fault

        with workers(1, 5) as some:
            assert some.submit(fails)
            work = Work()
            work.may_end.set()
            assert some.submit(work)
            assert work.begun.wait(PATIENCE)
        assert "work in a thread failed" in caplog.text

    def test_finish_what_they_took_when_they_are_closed(self) -> None:
        some = Workers(1, 5)
        works = [Work() for _ in range(3)]
        for work in works:
            assert some.submit(work)
        (thread,) = some._threads
        some.close()
        assert not some.submit(Work())
        for work in works:
            work.may_end.set()
        thread.join(PATIENCE)
        assert all(work.begun.is_set() for work in works)
        assert not thread.is_alive()

    def test_do_not_keep_the_process(self) -> None:
        with workers(1, 0) as some:
            work = Work()
            assert some.submit(work)
            assert some._threads[0].daemon
            work.may_end.set()


class TestPipe:
    def test_what_is_there_comes_at_once(self) -> None:
        pipe = Pipe()
        for piece in (b"a", b"b", b"c"):
            pipe.put(piece)
        assert next(pipe) == b"abc"
        pipe.put(b"d")
        pipe.end()
        assert list(pipe) == [b"d"]
        assert list(pipe) == []

    def test_what_is_not_there_is_promised(self) -> None:
        pipe = Pipe()
        for piece in (b"a", b"b"):
            promise = next(pipe)
            assert isinstance(promise, Future)
            assert not promise.done()
            assert not promise.cancel()  # which would be known too late, at the other end
            pipe.put(piece)
            assert promise.result(0) == piece
        promise = next(pipe)
        pipe.end()
        assert isinstance(promise, Future)
        assert promise.result(0) == b""
        assert list(pipe) == []

    def test_a_fault_comes_behind_what_was_there(self) -> None:
        pipe = Pipe()
        pipe.put(b"a")
        pipe.fail(LookupError("the fault"))
        assert next(pipe) == b"a"
        with pytest.raises(LookupError):
            next(pipe)

    def test_a_fault_instead_of_what_was_promised(self) -> None:
        pipe = Pipe()
        promise = next(pipe)
        pipe.fail(LookupError("the fault"))
        assert isinstance(promise, Future)
        assert promise.result(0) == b""
        with pytest.raises(LookupError):
            next(pipe)

    def test_put_waits_while_too_much_is_held(self) -> None:
        pipe = Pipe(10)
        pieces = [b"x" * 4] * 20
        puts = 0

        def put() -> None:
            nonlocal puts
            for piece in pieces:
                pipe.put(piece)
                puts += 1
            pipe.end()

        thread = threading.Thread(target=put)
        thread.start()
        wait_for(lambda: puts == 3)
        received = []
        for piece in pipe:
            data = piece.result(PATIENCE) if isinstance(piece, Future) else piece
            assert len(data) <= 12
            received.append(data)
        thread.join(PATIENCE)
        assert b"".join(received) == b"".join(pieces)

    @pytest.mark.parametrize("waits", [False, True])
    def test_closed_it_takes_nothing_more(self, waits: bool) -> None:
        pipe = Pipe(1)
        faults = []

        def put() -> None:
            pipe.put(b"x")
            try:
                pipe.put(b"y")
            except Abandoned as error:
                faults.append(error)

        if waits:
            thread = threading.Thread(target=put)
            thread.start()
            wait_for(lambda: pipe._held == 1)
            pipe.close()
            thread.join(PATIENCE)
            assert len(faults) == 1
        else:
            pipe.close()
            with pytest.raises(Abandoned):
                pipe.put(b"x")
        assert pipe.abandoned
        pipe.close()  # as often as you like
        pipe.end()

    def test_closed_it_breaks_its_promise_quietly(self) -> None:
        pipe = Pipe()
        promise = next(pipe)
        pipe.close()
        pipe.end()
        assert isinstance(promise, Future)
        assert not promise.done()
