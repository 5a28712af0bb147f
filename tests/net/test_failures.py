"""Exceptions of other people's code: what is logged, and what is raised again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from kaserve.net.failures import log_current_exception, reraise_exit_signals


class FailingHandler(logging.Handler):
    """A log whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")


@pytest.fixture
def failing_log() -> Iterator[None]:
    handler = FailingHandler()
    logging.getLogger("kaserve").addHandler(handler)
    yield
    logging.getLogger("kaserve").removeHandler(handler)


def test_the_log_has_the_message_and_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("the fault of a handler")
    except RuntimeError:
        log_current_exception("a handler failed")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "a handler failed"
    assert "the fault of a handler" in caplog.text


@pytest.mark.usefixtures("failing_log")
def test_a_failing_log_is_ignored() -> None:
    try:
        raise RuntimeError("the fault of a handler")
    except RuntimeError:
        log_current_exception("a handler failed")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["KeyboardInterrupt", "SystemExit"])
def test_exit_signals_are_raised_again_in_the_main_thread(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        reraise_exit_signals(error)
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [RuntimeError(), GeneratorExit(), asyncio.CancelledError()],
    ids=["RuntimeError", "GeneratorExit", "CancelledError"],
)
def test_other_exceptions_are_not_raised_again(error: BaseException) -> None:
    reraise_exit_signals(error)


def test_exit_signals_of_other_threads_are_faults_like_any_other() -> None:
    returned = []

    def run() -> None:
        reraise_exit_signals(SystemExit(3))
        returned.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert returned == [True]
