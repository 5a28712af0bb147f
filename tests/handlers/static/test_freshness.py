"""How long a look at the disk holds, and which changes a signature shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaserve.handlers.static.freshness import RACY_WINDOW, Freshness, file_signature, is_racy

SEEN = (1, 2, 3, 4, 5)


def test_nothing_is_fresh_before_the_first_look() -> None:
    for turn in (0, 1):
        assert not Freshness().is_fresh(turn, now=0.0, max_age=1e9)


def test_a_look_holds_for_its_turn() -> None:
    look = Freshness()
    look.renew(7, 100.0, SEEN)
    assert look.signature == SEEN
    assert look.is_fresh(7)
    assert not look.is_fresh(8, now=100.0)


def test_without_turns_a_look_holds_for_nothing() -> None:
    look = Freshness()
    look.renew(0, 100.0, SEEN)
    assert not look.is_fresh(0, now=100.0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(100.0, True, id="at once"),
        pytest.param(100.9, True, id="within the age"),
        pytest.param(101.0, False, id="beyond the age"),
        pytest.param(99.0, False, id="the clock was set back"),
    ],
)
@pytest.mark.parametrize("turn", [0, 7])
def test_a_look_holds_longer_where_that_does_no_harm(turn: int, now: float, expected: bool) -> None:
    look = Freshness()
    look.renew(turn, 100.0, SEEN)
    assert look.is_fresh(turn and 8, now=now, max_age=1.0) is expected


@pytest.mark.parametrize(
    ("age", "expected"), [pytest.param(RACY_WINDOW - 0.1, True, id="racy"), pytest.param(RACY_WINDOW, False, id="old")]
)
@pytest.mark.parametrize("older", ["mtime", "ctime"])
def test_a_recent_change_is_racy(tmp_path: Path, age: float, expected: bool, older: str) -> None:
    """The later of the two times counts."""
    (tmp_path / "a").touch()
    changed = os.stat(tmp_path / "a").st_ctime
    if older == "mtime":
        os.utime(tmp_path / "a", (1, 1))
    else:
        changed += 1000.0
        os.utime(tmp_path / "a", (changed, changed))
    status = os.stat(tmp_path / "a")
    assert is_racy(status, max(status.st_mtime, status.st_ctime) + age) is expected


def test_a_time_that_was_set_back_is_another_version(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"one")
        os.utime(tmp_path / name, ns=(0, 0))
    before = file_signature(os.stat(tmp_path / "a"))
    os.replace(tmp_path / "b", tmp_path / "a")
    assert file_signature(os.stat(tmp_path / "a")) != before
