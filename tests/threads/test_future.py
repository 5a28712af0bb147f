"""A promise is a Future in everything that the server, and whoever waits in a thread, asks of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

import pytest

from kaserve.threads.future import LightFuture

Make = Callable[[], Future[Any]]


@pytest.fixture(params=[Future, LightFuture])
def make(request: pytest.FixtureRequest) -> Make:
    """Both: what is said of the one is held against the other."""
    kind: Make = request.param
    return kind


def test_a_result(make: Make) -> None:
    future = make()
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert future.set_running_or_notify_cancel()
    assert (future.done(), future.running(), future.cancelled()) == (False, True, False)
    future.set_result(5)
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert (future.result(), future.exception()) == (5, None)


def test_an_error(make: Make) -> None:
    future = make()
    error = ValueError("no")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(ValueError, match="no"):
        future.result()


def test_who_wants_to_know_is_told_once(make: Make) -> None:
    future = make()
    told: list[object] = []
    future.add_done_callback(told.append)
    assert told == []
    future.set_result(5)
    assert told == [future]
    future.add_done_callback(told.append)
    assert told == [future, future]


def test_only_what_has_not_begun_can_be_cancelled(make: Make) -> None:
    future = make()
    told: list[object] = []
    future.add_done_callback(told.append)
    assert future.cancel()
    assert future.cancel()
    assert told == [future]
    assert (future.done(), future.cancelled()) == (True, True)
    assert not future.set_running_or_notify_cancel()
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()
    begun, done = make(), make()
    begun.set_running_or_notify_cancel()
    done.set_result(1)
    assert not begun.cancel()
    assert not done.cancel()


def test_there_is_one_end() -> None:
    promise = LightFuture[int]()
    promise.set_result(1)
    with pytest.raises(InvalidStateError):
        promise.set_result(2)
    with pytest.raises(InvalidStateError):
        promise.set_exception(ValueError())
    with pytest.raises(InvalidStateError):
        promise.set_running_or_notify_cancel()
    assert promise.result() == 1


def test_a_thread_may_wait(make: Make) -> None:
    future = make()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(future.result(10)))
    thread.start()
    future.set_result(5)
    thread.join(10)
    assert seen == [5]


def test_it_shows_itself() -> None:
    promise = LightFuture[int]()
    assert repr(promise) == "<Promise pending>"
    promise.cancel()
    assert repr(promise) == "<Promise cancelled>"
