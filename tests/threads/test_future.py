"""LightFuture behaves as the standard Future, for the server and for threads that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

import pytest

from kaserve.threads.future import FutureLike, LightFuture

NewFuture = Callable[[], Future[Any]]


@pytest.fixture(params=[Future, LightFuture])
def new_future(request: pytest.FixtureRequest) -> NewFuture:
    """Both classes: every test of the one must hold for the other."""
    kind: NewFuture = request.param
    return kind


def test_it_has_what_a_connection_needs(new_future: NewFuture) -> None:
    future: FutureLike[Any] = new_future()  # for the type checker
    assert isinstance(future, FutureLike)


def test_a_result(new_future: NewFuture) -> None:
    future = new_future()
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert future.set_running_or_notify_cancel()
    assert (future.done(), future.running(), future.cancelled()) == (False, True, False)
    future.set_result(5)
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert (future.result(), future.exception()) == (5, None)


def test_an_error(new_future: NewFuture) -> None:
    future = new_future()
    error = ValueError("no")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(ValueError, match="no"):
        future.result()


def test_each_callback_is_called_once(new_future: NewFuture) -> None:
    future = new_future()
    called: list[object] = []
    future.add_done_callback(called.append)
    assert called == []
    future.set_result(5)
    assert called == [future]
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_only_a_pending_one_can_be_cancelled(new_future: NewFuture) -> None:
    future = new_future()
    called: list[object] = []
    future.add_done_callback(called.append)
    assert future.cancel()
    assert future.cancel()
    assert called == [future]
    assert (future.done(), future.cancelled()) == (True, True)
    assert not future.set_running_or_notify_cancel()
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()
    begun, done = new_future(), new_future()
    begun.set_running_or_notify_cancel()
    done.set_result(1)
    assert not begun.cancel()
    assert not done.cancel()


def test_it_is_completed_only_once() -> None:
    future = LightFuture[int]()
    future.set_result(1)
    with pytest.raises(InvalidStateError):
        future.set_result(2)
    with pytest.raises(InvalidStateError):
        future.set_exception(ValueError())
    with pytest.raises(InvalidStateError):
        future.set_running_or_notify_cancel()
    assert future.result() == 1


def test_a_thread_may_wait(new_future: NewFuture) -> None:
    future = new_future()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(future.result(10)))
    thread.start()
    future.set_result(5)
    thread.join(10)
    assert seen == [5]


def test_repr() -> None:
    future = LightFuture[int]()
    assert repr(future) == "<LightFuture pending>"
    future.cancel()
    assert repr(future) == "<LightFuture cancelled>"
