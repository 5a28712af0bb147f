"""Contents: small files in memory, known by their status."""

from __future__ import annotations

import os
from pathlib import Path

from kaserve.apps import Files
from kaserve.apps.contents import Contents
from kaserve.http.messages import Request

LATER = 10.0  # seconds after which a file counts as settled


def status_of(path: Path) -> os.stat_result:
    return os.stat(path)


def test_a_version_is_known_by_its_status(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    status = status_of(file)
    contents = Contents()
    assert not contents.has(status)
    contents.add(status, b"one", status.st_ctime + LATER)
    assert contents.has(status)
    assert contents.get(status) == b"one"


def test_what_was_changed_a_moment_ago_is_not_kept(tmp_path: Path) -> None:
    """A second change within the same tick of the file system's clock would leave the same times."""
    file = tmp_path / "a"
    file.write_bytes(b"one")
    status = status_of(file)
    contents = Contents()
    contents.add(status, b"one", status.st_ctime + 1.9)
    assert not contents.has(status)


def test_a_time_that_was_set_back_is_another_version(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 0))
    before = status_of(file)
    contents = Contents()
    contents.add(before, b"one", before.st_ctime + LATER)
    other = tmp_path / "b"
    other.write_bytes(b"two")
    os.utime(other, ns=(0, 0))
    os.replace(other, file)
    assert not contents.has(status_of(file))


def test_it_is_bounded(tmp_path: Path) -> None:
    contents = Contents(most=10)
    kept = []
    for name in "abcdef":
        file = tmp_path / name
        file.write_bytes(b"four")
        status = status_of(file)
        contents.add(status, b"four", status.st_ctime + LATER)
        kept.append(status)
    assert contents.has(kept[-1])
    assert sum(4 for status in kept if contents.has(status)) <= 10


def get(files: Files, path: str) -> object:
    response = files(Request("GET", path, 1, [("host", "h")]))
    assert response.status == 200
    return response.body


def test_an_edit_shows_at_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one")
    files = Files(tmp_path, clock=lambda: file.stat().st_ctime + LATER)
    assert [get(files, "/a.txt") for _ in range(3)] == [b"one"] * 3
    file.write_bytes(b"two")
    assert get(files, "/a.txt") == b"two"
    files.close()


def test_a_file_that_may_not_be_read_any_more_is_not_served_from_memory(tmp_path: Path) -> None:
    """Its mode is part of what ctime tells, so it is opened again, and that is what the system forbids."""
    file = tmp_path / "a.txt"
    file.write_bytes(b"one")
    files = Files(tmp_path, clock=lambda: file.stat().st_ctime + LATER)
    get(files, "/a.txt")
    known = status_of(file)
    file.chmod(0)
    changed = status_of(file)
    assert files._contents.has(known)
    assert not files._contents.has(changed)
    files.close()
