"""Bodies made of open files: every byte of one version, or an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kaserve.handlers.static import file_body
from kaserve.handlers.static.file_body import FileBody, OpenFile, read_exactly
from kaserve.http.messages import FileSpan
from kaserve.http.ranges import Range
from tests.tools.ids import readable

SIZE = 3 * 1024 * 1024 + 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(os.urandom(SIZE))
    return tmp_path / "a"


def opened(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY)
    return OpenFile(fd, os.fstat(fd))


class NoPool(Executor):
    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        raise AssertionError("nothing has to be waited for")


no_pool = NoPool()


def consume(body: FileBody, act: Callable[[int], object] = lambda count: None) -> bytes:
    """As the server does. act(count) is called before each piece is taken."""
    content = b""
    try:
        for count, item in enumerate(body):
            act(count)
            piece = item.result(timeout=20) if isinstance(item, Future) else item
            content += os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSpan) else piece
    finally:
        body.close()
    return content


@pytest.mark.parametrize(
    "part",
    [Range(0, SIZE), Range(0, 1), Range(SIZE - 1, SIZE), Range(1000, 2_000_000), Range(0, 64 * 1024)],
    ids=readable,
)
def test_a_part_of_a_file(path: Path, part: Range) -> None:
    assert consume(FileBody(opened(path), [part], no_pool)) == path.read_bytes()[part.start : part.stop]


def test_parts_and_text(path: Path) -> None:
    content = path.read_bytes()
    body = FileBody(opened(path), [b"<", Range(5, 10), b"|", Range(1_000_000, SIZE), b">"], no_pool)
    assert consume(body) == b"<" + content[5:10] + b"|" + content[1_000_000:] + b">"


def test_nothing_large_is_sent_in_one_go(path: Path) -> None:
    body = FileBody(opened(path), [Range(0, SIZE)], no_pool)
    assert max(piece.length for piece in body if isinstance(piece, FileSpan)) <= 512 * 1024
    body.close()


def test_beyond_4_gib(tmp_path: Path) -> None:
    """A sparse file; only the requested part of it is read."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(5 * 1024**3)
        file.seek(2**32 - 2)
        file.write(b"1234")
    pieces: list[bytes | Range] = [b"<", Range(2**32 - 2, 2**32 + 2), b"|", Range(5 * 1024**3 - 1, 5 * 1024**3), b">"]
    with ThreadPoolExecutor(1) as threads:
        assert consume(FileBody(opened(path), pieces, threads)) == b"<1234|\0>"


def rewrite(path: Path) -> None:
    path.write_bytes(os.urandom(SIZE))


def truncate(path: Path) -> None:
    os.truncate(path, SIZE - 1)


def touch_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"x")


def rewrite_longer(path: Path) -> None:
    """Which looks like an appendix, going by the size."""
    with path.open("r+b") as file:
        file.write(os.urandom(SIZE + 1000))


@pytest.mark.parametrize("change", [rewrite, rewrite_longer, truncate, touch_inside])
@pytest.mark.parametrize("when", [0, 1, 5])
def test_a_mixture_never_gets_to_its_end(path: Path, change: Callable[[Path], object], when: int) -> None:
    """Whatever was sent already, the last piece is not."""
    os.utime(path, (1, 1))
    with pytest.raises(OSError, match="written to"):
        consume(
            FileBody(opened(path), [Range(0, SIZE)], no_pool), lambda count: change(path) if count == when else None
        )


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"new")
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [append, replace, os.unlink])
def test_what_leaves_the_old_version_alone_does_no_harm(path: Path, change: Callable[[Path], object]) -> None:
    content = path.read_bytes()
    body = FileBody(opened(path), [Range(0, SIZE)], no_pool)
    assert consume(body, lambda count: change(path) if count == 1 else None) == content


def test_what_is_not_in_memory_is_read_by_another_thread_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece it gives is empty: all that is wanted is that the next one can be sent without waiting."""
    monkeypatch.setattr(file_body, "_read_cached", lambda fd, length, offset: None)
    content = path.read_bytes()
    with ThreadPoolExecutor(1) as threads:
        body = FileBody(opened(path), [Range(0, SIZE)], threads)
        kinds = []
        for item in body:
            kinds.append(type(item))
            assert not isinstance(item, Future) or item.result(timeout=20) == b""
        body.close()
        assert kinds == [Future, FileSpan] * (len(kinds) // 2)
        assert consume(FileBody(opened(path), [Range(0, SIZE)], threads)) == content


def test_what_was_read_is_in_memory(path: Path) -> None:
    file = opened(path)
    read_exactly(file.fd, SIZE, 0)
    for offset in (0, SIZE - 1):
        assert file_body._read_cached(file.fd, 1, offset) == path.read_bytes()[offset : offset + 1]
    file.close()


def test_a_client_that_leaves_does_not_take_the_file_from_the_thread_that_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_body, "_read_cached", lambda fd, length, offset: None)

    class Later(Executor):
        """A pool whose threads are busy."""

        def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            waiting.append(lambda: future.set_result(function(*arguments)))
            return future

    waiting: list[Callable[[], None]] = []
    file = opened(path)
    body = FileBody(file, [Range(0, SIZE)], Later())
    next(iter(body))
    body.close()
    os.fstat(file.fd)
    waiting.pop()()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file.fd)


def test_reading_exactly(path: Path) -> None:
    file = opened(path)
    assert read_exactly(file.fd, 10, SIZE - 10) == path.read_bytes()[-10:]
    with pytest.raises(OSError, match="shorter"):
        read_exactly(file.fd, 11, SIZE - 10)
    file.close()


def test_each_slice_costs_one_look_at_the_page_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the file one more, for its end, however many responses share it."""
    looks: list[tuple[int, int]] = []
    really = file_body._read_cached

    def read_cached(fd: int, length: int, offset: int) -> bytes | None:
        looks.append((length, offset))
        return really(fd, length, offset)

    monkeypatch.setattr(file_body, "_read_cached", read_cached)
    file = opened(path)
    for number in range(3):
        body = FileBody(file.share(), [Range(0, SIZE)], no_pool)
        spans = [piece for piece in body if isinstance(piece, FileSpan)]
        body.close()
        assert len(looks) == len(spans) + (number == 0)
        assert [offset for length, offset in looks if length == 1] == [span.offset + span.length - 1 for span in spans]
        looks.clear()
    file.close()


def test_a_file_that_grows_without_its_end_being_known_is_broken_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end was not in the page cache, so an append cannot be told from a file that is longer and another one."""
    os.utime(path, (1, 1))
    monkeypatch.setattr(file_body, "_read_cached", lambda fd, length, offset: b"x" if length == 1 else None)
    with pytest.raises(OSError, match="written to"):
        consume(FileBody(opened(path), [Range(0, SIZE)], no_pool), lambda count: append(path) if count == 1 else None)


def test_closing_a_body_twice_is_fine(path: Path) -> None:
    file = opened(path)
    kept = file.share()
    body = FileBody(file, [Range(0, 1)], no_pool)
    body.close()
    body.close()
    os.fstat(file.fd)
    kept.close()
