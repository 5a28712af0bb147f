"""Compression on the fly: what, how, and without anybody waiting for it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kaserve.handlers.static import compress as module
from kaserve.handlers.static.compress import MIN_SIZE, CompressedBody, available_codings, compress, is_compressible
from kaserve.handlers.static.file_body import OpenFile

TEXT = b"".join(b"line %d\n" % number for number in range(100_000))


def expand(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return zlib.decompress(data, 31)
    name = {"br": "brotli", "zstd": "zstandard"}[coding]
    library: Any = pytest.importorskip(name)
    return bytes(
        library.decompress(data) if coding == "br" else library.ZstdDecompressor().decompressobj().decompress(data)
    )


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/html; charset=utf-8", True),
        ("text/css; charset=utf-8", True),
        ("text/javascript; charset=utf-8", True),
        ("application/json", True),
        ("application/ld+json", True),
        ("application/manifest+json", True),
        ("image/svg+xml", True),
        ("application/xml", True),
        ("application/wasm", True),
        ("font/ttf", True),
        ("font/woff2", False),
        ("image/png", False),
        ("video/mp4", False),
        ("application/gzip", False),
        ("application/zip", False),
        ("application/pdf", False),
        ("application/octet-stream", False),
    ],
)
def test_what_is_worth_it(content_type: str, expected: bool) -> None:
    assert is_compressible(content_type, MIN_SIZE) is expected
    assert not is_compressible(content_type, MIN_SIZE - 1)


def test_gzip_is_always_there() -> None:
    assert available_codings()[-1] == "gzip"
    assert set(available_codings()) <= {"br", "zstd", "gzip"}


def test_without_the_extras_there_is_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    module._compressors.cache_clear()
    monkeypatch.setattr(module, "_import_first", lambda *names: None)
    try:
        assert available_codings() == ("gzip",)
    finally:
        module._compressors.cache_clear()


@pytest.mark.parametrize("coding", available_codings())
@pytest.mark.parametrize("data", [b"", b"x", TEXT])
def test_all_at_once(coding: str, data: bytes) -> None:
    compressed = compress(data, coding)
    assert expand(coding, compressed) == data
    assert compress(data, coding) == compressed  # alike each time


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def opened(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY)
    return OpenFile(fd, os.fstat(fd))


@pytest.mark.parametrize("coding", available_codings())
def test_slice_by_slice(tmp_path: Path, threads: ThreadPoolExecutor, coding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT)
    kept: list[bytes] = []
    body = CompressedBody(opened(path), coding, threads, kept.append)
    pieces = [piece for future in body if isinstance(piece := future.result(timeout=20), bytes)]
    body.close()
    assert expand(coding, b"".join(pieces)) == TEXT
    assert kept == [b"".join(pieces)]


def test_what_is_too_large_is_not_kept(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT)
    kept: list[bytes] = []
    body = CompressedBody(opened(path), "gzip", threads, kept.append, max_kept=10)
    for future in body:
        future.result(timeout=20)
    body.close()
    assert kept == []


def test_a_file_that_changes_meanwhile_is_not_compressed_to_its_end(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT)
    os.utime(path, (1, 1))
    kept: list[bytes] = []
    body = CompressedBody(opened(path), "gzip", threads, kept.append)
    pieces = iter(body)
    next(pieces).result(timeout=20)
    path.write_bytes(TEXT[::-1])
    with pytest.raises(OSError, match="written to"):
        all(future.result(timeout=20) is not None for future in pieces)
    body.close()
    assert kept == []
