"""Compression on the fly: what is worth compressing, how it is done, and a body that is compressed while it is sent.

Knows compressors: zlib of the standard library, and brotli and zstandard where they are installed. Of HTTP it knows the
names of codings only, and not which one a client wants.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from functools import cache
from typing import Any, Protocol

from ...http.file_span import FileSpan
from ...http.negotiation import CODINGS
from .file_body import OpenFile, read_exactly

__all__ = ["MIN_SIZE", "CompressedBody", "available_codings", "compress", "compress_pieces", "is_compressible"]

MIN_SIZE = 860
"""Bytes below which nothing is compressed: the file fits into one segment of the network as it is."""

_SLICE = 128 * 1024

# Levels at which one core compresses tens of megabytes per second.
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
    """Whether content of this type and size gets noticeably smaller: text in the wide sense, and not the tiniest.

    Args:
        content_type: the value of Content-Type.
        size: bytes.
    """
    return size >= MIN_SIZE and _COMPRESSIBLE.fullmatch(content_type.partition(";")[0]) is not None


class Compressor(Protocol):
    """What zlib and zstandard call a compressor object."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Brotli:
    """Brotli's compressor with the method names of zlib."""

    def __init__(self, module: Any) -> None:
        self._compressor = module.Compressor(quality=_BROTLI_QUALITY)

    def compress(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data))

    def flush(self) -> bytes:
        return bytes(self._compressor.finish())


def _gzip() -> Compressor:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: with gzip's own header


@cache
def _compressors() -> dict[str, Callable[[], Compressor]]:
    """Functions that make a compressor, by coding, for those that are installed; the preferred one first."""
    makers: dict[str, Callable[[], Any]] = {"gzip": _gzip}
    brotli = _import_first("brotli", "brotlicffi")
    if brotli is not None:
        makers["br"] = lambda: _Brotli(brotli)
    standard = _import_first("compression.zstd")  # Python 3.14
    if standard is not None:
        makers["zstd"] = lambda: standard.ZstdCompressor(level=_ZSTD_LEVEL)
    elif (zstandard := _import_first("zstandard")) is not None:
        makers["zstd"] = lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    return {coding: makers[coding] for coding in CODINGS if coding in makers}


def _import_first(*names: str) -> Any:
    """The first of these modules that is installed; None without any."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def available_codings() -> tuple[str, ...]:
    """Returns the codings that can be compressed to, the preferred one first."""
    return tuple(_compressors())


def compress(data: bytes, coding: str) -> bytes:
    """Returns `data` in one of `available_codings`, all at once; for what is small."""
    compressor = _compressors()[coding]()
    return compressor.compress(data) + compressor.flush()


def compress_pieces(pieces: Generator[bytes, None, None], coding: str) -> Generator[bytes, None, None]:
    """Compresses a body that is made in pieces, of which empty ones are pauses and stay so."""
    compressor = _compressors()[coding]()
    try:
        for piece in pieces:
            yield compressor.compress(piece) if piece else b""
        yield compressor.flush()
    finally:
        pieces.close()


class CompressedBody:
    """A response body: the content of a file, compressed slice by slice on other threads.

    It owns the file: `close` ends its use.
    """

    def __init__(
        self,
        file: OpenFile,
        coding: str,
        executor: Executor,
        on_complete: Callable[[bytes], object],
        max_kept: int = 1024 * 1024,
    ) -> None:
        """Makes a body of all of `file`.

        Args:
            file: the open file.
            coding: one of `available_codings`.
            executor: has the threads.
            on_complete: called with all of the compressed content once it has been made, unless that is too large.
            max_kept: bytes of compressed content up to which `on_complete` is called.
        """
        self._file = file
        self._compressor = _compressors()[coding]()
        self._executor = executor
        self._on_complete = on_complete
        self._max_kept = max_kept
        self._closed = False

    def __iter__(self) -> Iterator[Future[bytes | FileSpan]]:
        size = self._file.status.st_size
        kept: list[bytes | FileSpan] | None = []
        left = self._max_kept
        for start in range(0, size, _SLICE):
            length = min(_SLICE, size - start)
            future = self._submit(start, length, start + length == size)
            yield future
            piece = future.result()  # already done: the connection waited for it
            left -= len(piece) if isinstance(piece, bytes) else 0
            if left < 0:
                kept = None
            elif kept is not None:
                kept.append(piece)
        if kept is not None:
            self._on_complete(b"".join(piece for piece in kept if isinstance(piece, bytes)))

    def _submit(self, start: int, length: int, is_last: bool) -> Future[bytes | FileSpan]:
        file = self._file.share()  # the client may be gone before the work is done
        future: Future[bytes | FileSpan] = self._executor.submit(self._compress, file, start, length, is_last)
        future.add_done_callback(lambda _: file.close())
        return future

    def _compress(self, file: OpenFile, start: int, length: int, is_last: bool) -> bytes:
        """Compresses one slice, on another thread. Raises OSError at the last one if the file has changed meanwhile."""
        file.remember_end(may_wait=True)
        data = self._compressor.compress(read_exactly(file.fd, length, start))
        if is_last:
            file.check()
            data += self._compressor.flush()
        return data

    def close(self) -> None:
        """Ends the use of the file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._file.close()
