"""What is in a directory: kinds, links, orders, and never much at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.handlers.static.directories import Column, Entry, Kind, Order, open_to_read, read_runs, sort_runs


def refuse(name: bytes) -> os.stat_result:
    raise PermissionError(name)


def read(directory: Path, follow: Callable[[bytes], os.stat_result] = refuse, **how: bool) -> list[list[Entry]]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return list(read_runs(fd, follow, **{"show_hidden": False, **how}))
    finally:
        os.close(fd)


def entries(directory: Path, follow: Callable[[bytes], os.stat_result] = refuse, **how: bool) -> dict[bytes, Entry]:
    return {entry.name: entry for run in read(directory, follow, **how) for entry in run}


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"12345")
    os.mkfifo(tmp_path / "p")
    for path in tmp_path.iterdir():
        os.utime(path, (1e9, 1e9))
    assert entries(tmp_path) == {
        b"d": Entry(b"d", Kind.DIRECTORY, None, 1e9),
        b"f": Entry(b"f", Kind.FILE, 5, 1e9),
        b"p": Entry(b"p", Kind.OTHER, None, 1e9),
    }


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    os.utime(tmp_path / "f", (1e9, 1e9))
    (tmp_path / "l").symlink_to("f")
    found = entries(tmp_path, lambda name: os.stat(tmp_path / os.fsdecode(name)))
    assert found[b"l"] == Entry(b"l", Kind.FILE, 5, 1e9, True)


def test_of_a_link_that_nobody_may_follow_only_its_own_date_is_told(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("/etc/passwd")
    os.utime(tmp_path / "l", (1e9, 1e9), follow_symlinks=False)
    assert entries(tmp_path) == {b"l": Entry(b"l", Kind.LINK, None, 1e9, True)}


def test_hidden_entries(tmp_path: Path) -> None:
    for name in ("a", ".b", "..c"):
        (tmp_path / name).touch()
    assert set(entries(tmp_path)) == {b"a"}
    assert set(entries(tmp_path, show_hidden=True)) == {b"a", b".b", b"..c"}


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\x80")).touch()
    assert set(entries(tmp_path)) == {b"\xff\x80"}


@pytest.mark.parametrize(
    ("count", "prefix", "shown"),
    [(0, "f", [0]), (255, "f", [255]), (256, "f", [256, 0]), (600, "f", [256, 256, 88]), (600, ".", [0, 0, 0])],
)
def test_no_run_is_long(tmp_path: Path, count: int, prefix: str, shown: list[int]) -> None:
    """Whether what is read is shown or not."""
    for number in range(count):
        (tmp_path / f"{prefix}{number}").touch()
    assert [len(run) for run in read(tmp_path)] == shown


def test_links_make_runs_shorter(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"l{number}").symlink_to("nothing")
    assert [len(run) for run in read(tmp_path)] == [16, 16, 8]


def test_a_directory_that_may_only_be_searched(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    search = os.open(tmp_path, os.O_PATH)
    fd = open_to_read(search)
    os.close(search)
    assert [entry.name for run in read_runs(fd, refuse, show_hidden=False) for entry in run] == [b"a"]
    os.close(fd)


# Orders


def d(name: str, modified: float | None = 0) -> Entry:
    return Entry(name.encode(), Kind.DIRECTORY, None, modified)


def f(name: str, size: int | None = 0, modified: float | None = 0) -> Entry:
    return Entry(name.encode(), Kind.FILE, size, modified)


MIXED = [f("b", 2, 30), d("y", 5), f("a", 1, 20), f("c", 2, 10), Entry(b"n", Kind.LINK, None, None, True), d("x", 6)]


def in_order(found: list[Entry], order: Order, run: int = 2) -> str:
    runs = [found[start : start + run] for start in range(0, len(found), run)]
    return " ".join(entry.name.decode() for entry in sort_runs(runs, order) if entry is not None)


@pytest.mark.parametrize("run", [1, 2, 6])
@pytest.mark.parametrize(
    ("column", "descending", "expected"),
    [
        (Column.NAME, False, "x y a b c n"),
        (Column.NAME, True, "y x n c b a"),
        (Column.SIZE, False, "x y a b c n"),
        (Column.SIZE, True, "x y b c a n"),  # equals by name; what has no size comes last
        (Column.DATE, False, "y x c a b n"),
        (Column.DATE, True, "x y b a c n"),
    ],
)
def test_orders(column: Column, descending: bool, expected: str, run: int) -> None:
    """Directories come first, whatever is asked for."""
    assert in_order(MIXED, Order(column, descending), run) == expected


@pytest.mark.parametrize(
    "names",
    [
        "a B c",
        "file file1 file2 file010 file10 file10a file11",
        "v1.9 v1.10 v2.0",
        "2 10 a",
        "9999999999999999999999999 10000000000000000000000000",
        "x1y2 x1y10 x2y1",
        "ä ö",
        "A a",  # the same to a reader, so the bytes decide
        "\u0661 \u0662",  # digits, but no numbers
    ],
)
def test_names_stand_where_a_reader_looks_for_them(names: str) -> None:
    found = [f(name) for name in names.split()]
    assert in_order(found[::-1], Order()) == names
    assert in_order(found, Order(descending=True)) == " ".join(reversed(names.split()))


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.binary(min_size=1, max_size=4),
        st.sampled_from(Kind),
        st.none() | st.integers(0, 3),
        st.none() | st.floats(-2, 2),
        st.booleans(),
    ),
    unique_by=lambda entry: entry.name,
)


@given(ENTRIES, st.builds(Order, st.sampled_from(Column), st.booleans()), st.integers(1, 5))
def test_nothing_is_lost_and_the_runs_do_not_matter(found: list[Entry], order: Order, run: int) -> None:
    def merged(length: int) -> Iterator[Entry]:
        runs = [found[start : start + length] for start in range(0, len(found), length)]
        return (entry for entry in sort_runs(runs, order) if entry is not None)

    assert sorted(merged(run), key=lambda entry: entry.name) == sorted(found, key=lambda entry: entry.name)
    assert list(merged(run)) == list(merged(100))


def test_there_is_a_pause_for_each_run() -> None:
    paused = [entry is None for entry in sort_runs([[f("b")], [], [f("a")]], Order())]
    assert paused == [True, True, True, False, False]
