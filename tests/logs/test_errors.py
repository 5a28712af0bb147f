"""The error log of the command line: everything once, nothing too often, and in a new file when it is told to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaserve.logs import errors as errorlog
from kaserve.logs.errors import RateLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Shown(logging.Handler):
    """A logger of the server's, and what gets through."""

    def __init__(self, clock: Clock, name: str = "kaserve") -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(RateLimit(3, 60.0, clock=clock))
        self.logger = logging.Logger(name)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def complain(self, number: int) -> None:
        self.logger.error("request %d failed", number)


def test_the_first_ones_are_shown_and_the_rest_is_counted(clock: Clock) -> None:
    shown = Shown(clock)
    for number in range(10):
        shown.complain(number)
    assert shown.lines == ["request 0 failed", "request 1 failed", "request 2 failed"]
    clock.now += 60.0
    shown.complain(10)
    shown.complain(11)
    assert shown.lines[3:] == ["request 10 failed (7 more like this were not logged)", "request 11 failed"]


def test_what_is_rare_is_always_shown(clock: Clock) -> None:
    shown = Shown(clock)
    for number in range(10):
        shown.complain(number)
        clock.now += 20.0
    assert shown.lines == [f"request {number} failed" for number in range(10)]


def test_one_kind_does_not_hide_another(clock: Clock) -> None:
    shown = Shown(clock)
    for number in range(10):
        shown.complain(number)
    shown.logger.error("something else")
    for error in (KeyError(), ValueError()):
        for _ in range(4):
            try:
                raise error
            except Exception:
                shown.logger.exception("the handler failed")
    assert shown.lines[3:] == ["something else", *["the handler failed"] * 6]


def test_what_others_log_is_their_own_affair(clock: Clock) -> None:
    shown = Shown(clock, "kaserves.application")
    for number in range(10):
        shown.complain(number)
    assert len(shown.lines) == 10


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A root logger that nobody has set up."""
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    yield root
    for handler in root.handlers:
        handler.close()


def test_to_stderr(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    root.handlers.clear()  # those of pytest
    assert errorlog.set_up(None) is None
    root.error("it %s", "failed")
    assert capfd.readouterr().err == "kaserve: ERROR: it failed\n"


def test_to_a_file_and_then_to_a_new_one(
    root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.handlers.clear()
    path = tmp_path / "errors"
    reopen = errorlog.set_up(str(path))
    assert reopen is not None
    root.error("old")
    path.rename(tmp_path / "errors.1")
    root.error("old too")
    reopen()
    root.error("new")
    assert [line.split(" ", 2)[2] for line in (tmp_path / "errors.1").read_text().splitlines()] == [
        "ERROR: old",
        "ERROR: old too",
    ]
    assert path.read_text().endswith(" ERROR: new\n")
    assert capsys.readouterr().err == ""


def test_a_terminal_obeys_nobody(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    """An application that raises ValueError(path) has no way to know that the path holds an escape sequence."""
    root.handlers.clear()
    errorlog.set_up(None)
    try:
        raise ValueError("\x1b[2J\x9b31m\rkaserve: \x7f caf\xe9")
    except ValueError:
        root.exception("it\tfailed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "kaserve: ERROR: it\tfailed"
    assert lines[-1] == r"ValueError: \x1b[2J\x9b31m\x0dkaserve: \x7f café"
