"""Workers: how many threads there are, how much may wait for them, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kaserve.threads.workers import Workers
from tests.tools.server import PATIENCE, wait_for


@contextmanager
def workers(threads: int, queue: int, clock: Callable[[], float] = time.monotonic) -> Iterator[Workers]:
    made = Workers(threads, queue, clock)
    try:
        yield made
    finally:
        made.close(PATIENCE)


class Work:
    """Work that begins, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.thread = ""
        self.cancelled = False

    def is_cancelled(self) -> bool:
        return self.cancelled

    def run(self) -> None:
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.may_end.wait(PATIENCE)


class TestWorkers:
    def test_work_at_the_same_time(self) -> None:
        with workers(3, 0) as pool:
            works = [Work() for _ in range(3)]
            for work in works:
                assert pool.submit(work)
            for work in works:
                assert work.begun.wait(PATIENCE)
            for work in works:
                work.may_end.set()
        assert {work.thread for work in works} == {f"kaserve worker {number}" for number in (1, 2, 3)}

    def test_no_more_threads_than_needed(self) -> None:
        with workers(8, 8) as pool:
            for _ in range(5):
                work = Work()
                work.may_end.set()
                assert pool.submit(work)
                wait_for(lambda: pool._unfinished == 0)
                assert work.thread == "kaserve worker 1"

    @pytest.mark.parametrize("queue", [0, 1, 3])
    def test_a_full_queue_rejects_work(self, queue: int) -> None:
        with workers(2, queue) as pool:
            works = [Work() for _ in range(2 + queue)]
            assert all(pool.submit(work) for work in works)
            late = Work()
            assert not pool.submit(late)
            works[0].may_end.set()
            wait_for(lambda: pool._unfinished == 1 + queue)
            late.may_end.set()
            assert pool.submit(late)
            for work in works:
                work.may_end.set()
            assert late.begun.wait(PATIENCE)

    def test_cancelled_work_makes_room_in_a_full_queue(self) -> None:
        with workers(1, 3) as pool:
            running, one, two, three = works = [Work() for _ in range(4)]
            assert all(pool.submit(work) for work in works)
            assert running.begun.wait(PATIENCE)
            running.cancelled = one.cancelled = three.cancelled = True
            late = [Work(), Work()]
            assert all(pool.submit(work) for work in late)
            assert not pool.submit(Work())
            for work in (*works, *late):
                work.may_end.set()
            wait_for(lambda: pool._unfinished == 0)
            assert [work.begun.is_set() for work in (one, two, three, *late)] == [False, True, False, True, True]

    def test_work_is_still_done_in_order_after_cancelled_work_was_removed(self) -> None:
        order: list[int] = []

        class Noted(Work):
            def __init__(self, number: int) -> None:
                super().__init__()
                self.cancelled = number % 3 == 0
                self.number = number

            def run(self) -> None:
                order.append(self.number)

        with workers(1, 100) as pool:
            running = Work()
            assert pool.submit(running)
            assert running.begun.wait(PATIENCE)
            assert all(pool.submit(Noted(number)) for number in range(120))
            running.may_end.set()
            wait_for(lambda: pool._unfinished == 0)
        # The queue was full once, at 100; what is cancelled after that is left to `run`.
        assert order == [number for number in range(120) if number % 3 or number > 100]

    def test_a_full_queue_is_searched_now_and_then(self) -> None:
        """Not for each rejected work: a search takes longer than a request."""
        now = 5.0
        with workers(1, 1, lambda: now) as pool:
            running, waiting, late = works = [Work() for _ in range(3)]
            assert pool.submit(running)
            assert running.begun.wait(PATIENCE)
            assert pool.submit(waiting)
            assert not pool.submit(late)
            waiting.cancelled = True
            assert not pool.submit(late)
            now += 0.1
            assert pool.submit(late)
            for work in works:
                work.may_end.set()

    def test_the_system_cannot_start_a_thread(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with workers(2, 0) as pool:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                for _ in range(5):  # more than the queue accepts: rejected work does not count
                    assert not pool.submit(Work())
            one, two = Work(), Work()
            assert pool.submit(one)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                assert pool.submit(two)  # the one thread does both
            one.may_end.set()
            two.may_end.set()
            assert two.begun.wait(PATIENCE)
            assert len(pool._threads) == 1
        assert "kaserve worker 2 could not be started: can't start new thread" in caplog.text

    @pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt])
    def test_an_error_ends_the_work_and_not_the_thread(
        self, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Fails(Work):
            def run(self) -> None:
                raise error

        with workers(1, 5) as pool:
            assert pool.submit(Fails())
            work = Work()
            work.may_end.set()
            assert pool.submit(work)
            assert work.begun.wait(PATIENCE)
        assert "work in a thread failed" in caplog.text

    def test_close_lets_accepted_work_finish(self) -> None:
        pool = Workers(1, 5)
        works = [Work() for _ in range(3)]
        for work in works:
            assert pool.submit(work)
        (thread,) = pool._threads
        pool.close()
        assert not pool.submit(Work())
        for work in works:
            work.may_end.set()
        thread.join(PATIENCE)
        assert all(work.begun.is_set() for work in works)
        assert not thread.is_alive()

    def test_daemon_threads_do_not_keep_the_process(self) -> None:
        with workers(1, 0) as pool:
            work = Work()
            assert pool.submit(work)
            assert pool._threads[0].daemon
            work.may_end.set()
