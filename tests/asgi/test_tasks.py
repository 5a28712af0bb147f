"""Tasks that begin at once, and Futures of the two kinds."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from kaserve.asgi.loop import ReactorLoop
from kaserve.asgi.start import TaskStarter
from kaserve.asgi.tasks import RunningTasks, as_exception, future_of, wait_for

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture
def loop() -> Iterator[ReactorLoop]:
    made = ReactorLoop()
    yield made
    made.close()


def in_the_loop(loop: asyncio.AbstractEventLoop, function: Any) -> Any:
    """Calls `function` in a callback of the loop, as the reactor does, and returns what it returns."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append(function())
        finally:
            loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    return results[0]


class TestStartTask:
    def test_it_has_run_to_its_first_wait(self, loop: ReactorLoop) -> None:
        steps: list[str] = []

        async def work() -> None:
            steps.append("begun")
            await asyncio.sleep(0)
            steps.append("ended")

        task = in_the_loop(loop, lambda: TaskStarter(loop).start(work()))
        assert steps[0] == "begun"
        loop.run_until_complete(task)
        assert steps == ["begun", "ended"]

    def test_it_is_done_if_it_does_not_wait(self, loop: ReactorLoop) -> None:
        async def work() -> str:
            return "done"

        task = in_the_loop(loop, lambda: TaskStarter(loop).start(work()))
        assert task.result() == "done"

    def test_it_is_the_current_task_in_a_context_of_its_own(self, loop: ReactorLoop) -> None:
        seen: list[Any] = []

        async def work() -> None:
            seen.append(asyncio.current_task())
            VARIABLE.set("inside")
            await asyncio.sleep(0)
            seen.append((asyncio.current_task(), VARIABLE.get()))

        task = in_the_loop(loop, lambda: TaskStarter(loop).start(work()))
        loop.run_until_complete(task)
        assert seen == [task, (task, "inside")]
        assert VARIABLE.get() == "unset"

    def test_an_exception_is_that_of_the_task(self, loop: ReactorLoop) -> None:
        async def work() -> None:
            raise KeyError

        task = in_the_loop(loop, lambda: TaskStarter(loop).start(work()))
        assert isinstance(task.exception(), KeyError)

    def test_within_a_task_it_waits_for_its_turn(self, loop: ReactorLoop) -> None:
        """Two tasks cannot be the current one."""

        async def work() -> Any:
            return asyncio.current_task()

        async def outer() -> None:
            task = TaskStarter(loop).start(work())
            assert await task is task

        loop.run_until_complete(outer())

    def test_the_loop_is_as_before(self, loop: ReactorLoop) -> None:
        async def work() -> None: ...

        in_the_loop(loop, lambda: TaskStarter(loop).start(work()))
        assert "call_soon" not in vars(loop)


class TestFutureOf:
    def test_a_result(self, loop: ReactorLoop) -> None:
        async def work() -> str:
            await asyncio.sleep(0)
            return "result"

        future = in_the_loop(loop, lambda: future_of(loop, work()))
        loop.run_until_complete(asyncio.sleep(0.001))
        assert future.result(0) == "result"

    def test_an_exception(self, loop: ReactorLoop) -> None:
        async def work() -> None:
            raise KeyError

        future = in_the_loop(loop, lambda: future_of(loop, work()))
        loop.run_until_complete(asyncio.sleep(0))
        assert isinstance(future.exception(0), KeyError)

    def test_cancelling(self, loop: ReactorLoop) -> None:
        cancelled: list[bool] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        future = in_the_loop(loop, lambda: future_of(loop, work()))
        loop.run_until_complete(asyncio.sleep(0))
        future.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        assert cancelled == [True]


class TestWaitFor:
    def test_a_future_that_is_completed_later(self, loop: ReactorLoop) -> None:
        future: Future[str] = Future()
        loop.call_soon(lambda: future.set_result("result"))
        assert loop.run_until_complete(wait_for(loop, future)) == "result"

    def test_one_that_is_done(self, loop: ReactorLoop) -> None:
        future: Future[str] = Future()
        future.set_exception(KeyError())
        with pytest.raises(KeyError):
            loop.run_until_complete(wait_for(loop, future))

    def test_cancelling_the_waiting_cancels_it(self, loop: ReactorLoop) -> None:
        future: Future[str] = Future()
        with pytest.raises(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(wait_for(loop, future), 0.001))
        assert future.cancelled()


class TestRunningTasks:
    def test_they_are_waited_for_and_then_cancelled(self, loop: ReactorLoop) -> None:
        ended: list[str] = []

        async def work(seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
                ended.append("in time")
            except asyncio.CancelledError:
                ended.append("cancelled")

        async def run() -> None:
            tasks = RunningTasks()
            for seconds in (0.001, 3600):
                tasks.add(asyncio.create_task(work(seconds)))
            assert len(tasks) == 2
            await tasks.finish(0.01, 0.1)
            assert len(tasks) == 0

        loop.run_until_complete(run())
        assert ended == ["in time", "cancelled"]

    def test_those_that_go_on_leave_time_for_the_rest(self, loop: ReactorLoop) -> None:
        """Half of it is for the application's own shutdown."""

        async def go_on() -> None:
            for _ in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        async def run() -> None:
            tasks = RunningTasks()
            task = asyncio.create_task(go_on())
            tasks.add(task)
            await asyncio.sleep(0)
            async with asyncio.timeout(0.2):
                await tasks.finish(0.0, 0.02)
            assert len(tasks) == 1
            task.cancel()

        loop.run_until_complete(run())


def test_what_may_be_raised_in_a_turn() -> None:
    """SystemExit would end the server there, and StopIteration the body of a response."""
    error = KeyError()
    assert as_exception(error) is error
    for odd in (SystemExit(1), StopIteration(), asyncio.CancelledError()):
        made = as_exception(odd)
        assert type(made) is RuntimeError
        assert made.__cause__ is odd
