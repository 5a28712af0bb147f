"""Compression on the fly: what is worth compressing, how it is done, and as a body that no one has to wait for.

Knows compressors: zlib of the standard library, and brotli and zstandard where they are installed. Does not know HTTP
but for the names of codings, nor which one a client wants.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import cache
from typing import Any, Protocol

from ...http.messages import FileSpan
from ...http.negotiation import CODINGS
from .file_body import OpenFile, read_exactly

__all__ = ["CompressedBody", "available", "compress", "is_compressible"]

SMALLEST = 860  # bytes; below, one segment of the network carries it as it is
_SLICE = 128 * 1024

# Levels at which a core compresses tens of megabytes a second.
_GZIP_LEVEL = 6
_BROTLI_QUALITY = 5
_ZSTD_LEVEL = 5

_COMPRESSIBLE = re.compile(
    r"text/.*|.*\+(?:json|xml|text|yaml)|font/(?:otf|ttf|collection)|image/(?:bmp|vnd\.microsoft\.icon)"
    r"|model/(?:obj|mtl|stl)"
    r"|application/(?:json5?|javascript|ecmascript|x-javascript|xml|xml-dtd|wasm|x-ndjson|yaml|toml|sql|rtf"
    r"|postscript|x-sh|x-tex|vnd\.apple\.mpegurl|vnd\.ms-fontobject)"
)


def is_compressible(content_type: str, size: int) -> bool:
    """Whether content of that type and size gets smaller by it: text in the wide sense, and not the tiniest."""
    return size >= SMALLEST and _COMPRESSIBLE.fullmatch(content_type.partition(";")[0]) is not None


class Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Brotli:
    """brotli's own names for the same."""

    def __init__(self, module: Any) -> None:
        self._compressor = module.Compressor(quality=_BROTLI_QUALITY)

    def compress(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data))

    def flush(self) -> bytes:
        return bytes(self._compressor.finish())


def _gzip() -> Compressor:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: with the head of gzip


@cache
def _compressors() -> dict[str, Callable[[], Compressor]]:
    """Those that there are here, by coding, the best first."""
    makers: dict[str, Callable[[], Any]] = {"gzip": _gzip}
    brotli = _find("brotli", "brotlicffi")
    if brotli is not None:
        makers["br"] = lambda: _Brotli(brotli)
    standard = _find("compression.zstd")  # Python 3.14
    if standard is not None:
        makers["zstd"] = lambda: standard.ZstdCompressor(level=_ZSTD_LEVEL)
    elif (zstandard := _find("zstandard")) is not None:
        makers["zstd"] = lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    return {coding: makers[coding] for coding in CODINGS if coding in makers}


def _find(*names: str) -> Any:
    """The first of these modules that is installed; None without any."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def available() -> tuple[str, ...]:
    """The codings that can be made here, the best first."""
    return tuple(_compressors())


def compress(data: bytes, coding: str) -> bytes:
    """All at once, for what is small."""
    compressor = _compressors()[coding]()
    return compressor.compress(data) + compressor.flush()


class CompressedBody:
    """The content of `file`, compressed slice by slice in other threads. It owns the file.

    keep: is given the whole, once it has been made; unless it is more than `most` bytes.
    """

    def __init__(
        self,
        file: OpenFile,
        coding: str,
        pool: Executor,
        keep: Callable[[bytes], object],
        most: int = 1024 * 1024,
    ) -> None:
        self._file = file
        self._compressor = _compressors()[coding]()
        self._pool = pool
        self._keep = keep
        self._most = most
        self._closed = False

    def __iter__(self) -> Iterator[Future[bytes | FileSpan]]:
        size = self._file.status.st_size
        made: list[bytes | FileSpan] | None = []
        left = self._most
        for start in range(0, size, _SLICE):
            length = min(_SLICE, size - start)
            future = self._submit(start, length, start + length == size)
            yield future
            piece = future.result()  # which it was waited for
            left -= len(piece) if isinstance(piece, bytes) else 0
            if left < 0:
                made = None
            elif made is not None:
                made.append(piece)
        if made is not None:
            self._keep(b"".join(piece for piece in made if isinstance(piece, bytes)))

    def _submit(self, start: int, length: int, is_last: bool) -> Future[bytes | FileSpan]:
        file = self._file.share()  # the client may be gone before the work is done
        future: Future[bytes | FileSpan] = self._pool.submit(self._compress, file, start, length, is_last)
        future.add_done_callback(lambda _: file.close())
        return future

    def _compress(self, file: OpenFile, start: int, length: int, is_last: bool) -> bytes:
        """In another thread. The last piece is not given away if the file has changed meanwhile."""
        file.sample()
        data = self._compressor.compress(read_exactly(file.fd, length, start))
        if is_last:
            file.check()
            data += self._compressor.flush()
        return data

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._file.close()
