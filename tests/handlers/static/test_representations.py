"""Representations: how a version of a file is described, and which are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kaserve.handlers.static.file_body import OpenFile
from kaserve.handlers.static.freshness import file_signature
from kaserve.handlers.static.representations import OpenFileCache, Representation, RepresentationCache, describe
from kaserve.handlers.static.site_headers import FileHeaders

LATER = 10.0  # seconds after which a file is not racy any more


NOTHING = FileHeaders((), ())


def represent(
    path: Path, content: bytes | None = None, site_headers: FileHeaders = NOTHING, **more: Any
) -> Representation:
    if content is not None:
        path.write_bytes(content)
    status = os.stat(path)
    segments, now = (os.fsencode(path.name),), status.st_ctime + LATER
    representation = describe(segments, status, "text/plain", now, site_headers, **more)
    representation.content = content
    return representation


def fields(representation: Representation) -> dict[str, str]:
    return dict(representation.headers)


def test_the_headers_of_a_file(tmp_path: Path) -> None:
    cached = ("Cache-Control", "no-cache")
    said = represent(tmp_path / "a", b"one", FileHeaders((cached, ("X-A", "b")), (cached,)))
    assert list(fields(said)) == ["Content-Type", "Cache-Control", "X-A", "ETag", "Last-Modified", "Accept-Ranges"]
    assert said.not_modified_headers == (("ETag", said.etag), cached)  # RFC 9110 §15.4.5
    assert said.size == 3


def test_each_coding_has_its_own_tag(tmp_path: Path) -> None:
    """RFC 9110 §8.8.3.3; and its headers say that other clients get another one (§12.5.5)."""
    plain = represent(tmp_path / "a", b"one")
    coded = represent(tmp_path / "a", coding="gzip")
    made = represent(tmp_path / "a", coding="gzip", is_derived=True)
    assert len({plain.etag, coded.etag, made.etag}) == 3
    assert made.etag.startswith('W/"')
    assert coded.etag.startswith('"')
    assert "Vary" not in fields(plain)
    for each in (coded, made):
        assert fields(each)["Content-Encoding"] == "gzip"
        assert dict(each.not_modified_headers)["Vary"] == "Accept-Encoding"
    assert "Accept-Ranges" not in fields(made)
    assert made.size == -1


def test_vary_is_joined_with_the_one_that_is_there(tmp_path: Path) -> None:
    said = represent(tmp_path / "a", b"one", FileHeaders((("Vary", "Origin"),), (("Vary", "Origin"),))).varying()
    for each in (said.headers, said.not_modified_headers):
        assert [line for line in each if line[0] == "Vary"] == [("Vary", "Origin, Accept-Encoding")]
    assert (said.content, said.size) == (b"one", 3)


# The cache


def test_a_version_is_known_by_its_status(tmp_path: Path) -> None:
    said = represent(tmp_path / "a", b"one")
    cache = RepresentationCache()
    assert cache.get(((b"a",), ""), said.signature) is None
    cache.put(((b"a",), ""), said, said.status.st_ctime + LATER)
    assert cache.get(((b"a",), ""), said.signature) is said
    assert cache.get(((b"b",), ""), said.signature) is None
    assert cache.get(((b"a",), "gzip"), said.signature) is None


def test_a_racy_file_is_not_kept(tmp_path: Path) -> None:
    """A second change within the same tick of the file system's clock would leave the same times."""
    said = represent(tmp_path / "a", b"one")
    cache = RepresentationCache()
    cache.put(((b"a",), ""), said, said.status.st_ctime + 1.9)
    assert len(cache) == 0


def test_it_is_bounded_in_bytes(tmp_path: Path) -> None:
    cache = RepresentationCache(max_bytes=10)
    said = [represent(tmp_path / name, b"four") for name in "abcdef"]
    for each in said:
        cache.put((each.segments, ""), each, each.status.st_ctime + LATER)
    assert cache.get((said[-1].segments, ""), said[-1].signature) is said[-1]
    assert sum(4 for each in said if cache.get((each.segments, ""), each.signature)) <= 10
    cache.put(((b"large",), ""), represent(tmp_path / "large", b"x" * 11), said[0].status.st_ctime + LATER)
    assert cache.get((said[-1].segments, ""), said[-1].signature) is said[-1]  # what never fits drives nothing out


def test_it_is_bounded_in_number(tmp_path: Path) -> None:
    cache = RepresentationCache(max_entries=3)
    said = represent(tmp_path / "a", b"")
    for number in range(100):
        cache.put(((b"%d" % number,), ""), said, said.status.st_ctime + LATER)
    assert len(cache) <= 3


def test_a_new_version_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    cache = RepresentationCache(max_bytes=10)
    for content in (b"123456", b"abcdef", b"ghijkl"):
        said = represent(tmp_path / "a", content)
        cache.put((said.segments, ""), said, said.status.st_ctime + LATER)
        assert len(cache) == 1


# Files that are kept open


def opened(path: Path) -> OpenFile:
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    return OpenFile(fd, os.fstat(fd))


def is_open(file: OpenFile) -> bool:
    try:
        os.fstat(file.fd)
    except OSError:
        return False
    return True


def test_a_file_is_open_for_this_turn_and_the_next(tmp_path: Path) -> None:
    kept = OpenFileCache()
    file = opened(tmp_path / "a")
    kept.put((b"a",), file)
    kept.end_of_turn()
    assert kept.get((b"a",), file_signature(file.status)) is file
    kept.end_of_turn()  # it was used
    assert kept.get((b"a",), file_signature(file.status)) is file
    kept.end_of_turn()
    kept.end_of_turn()
    assert not is_open(file)
    assert kept.get((b"a",), file_signature(file.status)) is None


def test_a_response_keeps_its_file_open(tmp_path: Path) -> None:
    kept = OpenFileCache()
    file = opened(tmp_path / "a")
    kept.put((b"a",), file)
    shared = file.share()
    kept.close()
    assert is_open(file)
    shared.close()
    assert not is_open(file)


def test_another_version_is_not_that_file(tmp_path: Path) -> None:
    kept = OpenFileCache()
    kept.put((b"a",), opened(tmp_path / "a"))
    other = opened(tmp_path / "b")
    assert kept.get((b"a",), file_signature(other.status)) is None
    first = opened(tmp_path / "a")
    kept.put((b"a",), first)
    kept.put((b"a",), other)  # in its place
    assert not is_open(first)
    kept.close()
    assert not is_open(other)


@pytest.mark.parametrize("turns", [0, 1])
def test_only_so_many_are_open(tmp_path: Path, turns: int) -> None:
    kept = OpenFileCache()
    files = [opened(tmp_path / str(number)) for number in range(100)]
    for number, file in enumerate(files):
        kept.put((b"%d" % number,), file)
    for _ in range(turns):
        kept.end_of_turn()
    assert sum(map(is_open, files)) <= 32
    kept.close()
    assert not any(map(is_open, files))
