"""The compiled syntax on input that ends where its page ends, followed by a page that cannot be read.

A NUL follows the last byte of every bytes object, and arbitrary memory follows the NUL, so a parser that reads a byte
too far goes unnoticed. AddressSanitizer does not see it either, since the NUL belongs to the object. The objects made
here are
copies of ordinary ones, without the NUL, that end at the end of a page: one byte too far kills the process by SIGSEGV.

    python -m tests.fuzz.guarded --cases 50000     the corpus, cut off after every byte; then cases of the fuzzer
    python -m tests.fuzz.guarded --overread        reads a byte too far, and must be killed

It prints its progress, so that one knows where it was killed. The exit code is that of a process killed by a signal.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import itertools
import mmap
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from tests.fuzz.cases import BUILDS, Build, Case, Chunks, Head, compare
from tests.fuzz.differential import fuzz
from tests.fuzz.generate import corpus_wires, streams_of

__all__ = ["Guarded"]

_SIZE = 16 * mmap.PAGESIZE  # the longest object, header included
_PROT_NONE = 0

B = TypeVar("B", bytes, str)


class Guard:
    """Some pages, followed by one that cannot be read."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE + mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.end = start + _SIZE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self.end), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, original: B) -> B:
        """Returns an image of `original`, whose last byte is the last one before the guard page.

        Its reference count is a copy as well, so it counts references that are never released, and the image is never
        freed. The next image overwrites it, so it must be out of use by then.
        """
        size = sys.getsizeof(original) - 1  # the header and the content, without the NUL
        ctypes.memmove(self.end - size, id(original), size)
        image: B = ctypes.cast(self.end - size, ctypes.py_object).value
        return image


class Fleeting(tuple[object, ...]):
    """A pair of images. It is a subclass of tuple, so that the encoder does not cache it."""


class GuardedDecoder:
    """A decoder that gets its input in images."""

    def __init__(self, decoder: Any, guard: Guard) -> None:
        self._decoder = decoder
        self._guard = guard

    def feed(self, data: bytes, start: int) -> int:
        stop: int = self._decoder.feed(self._guard.place(data), start)
        content = self._decoder.content
        content[:] = [bytes(memoryview(piece)) for piece in content]  # the image itself may be among the pieces
        return stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


class Guarded(Build):
    """A build that gets all its input in images."""

    def __init__(self, build: Build) -> None:
        super().__init__(build.implementation)
        self.name = f"{build.name}, guarded"
        guard = Guard()
        self._guards = itertools.cycle([Guard() for _ in range(32)])  # all texts of a list of fields are in use at once
        self.find_head_end = lambda data, start: build.find_head_end(guard.place(data), start)
        self.parse_head = lambda data, start, end: build.parse_head(guard.place(data[:end]), start, end)
        self.encode_head = lambda lines: build.encode_head([self._place_field(line) for line in lines])
        self.ChunkedDecoder = lambda limits: GuardedDecoder(build.ChunkedDecoder(limits), guard)

    def _place_field(self, line: object) -> object:
        return Fleeting(map(self._place_text, line)) if type(line) is tuple else line

    def _place_text(self, text: object) -> object:
        """Returns an image of a Latin-1 str. The others are rejected before their characters are read."""
        if type(text) is not str or max(text, default="\0") > "\xff":
            return text
        return next(self._guards).place(text)


def run_corpus(builds: Sequence[Build]) -> int:
    """Tries the inputs of the corpus, cut off after every byte, and returns how many cases that were.

    A head that ends in the middle of a line breaks the contract, but nothing may be read beyond its end even then.
    """
    wires = corpus_wires()
    heads = [Head(wire[:end]) for wire in wires for end in range(len(wire) + 1)]
    streams = [Chunks(wire[:end], 0, [()], {}) for wire in streams_of(wires) for end in range(len(wire) + 1)]
    cases: list[Case] = [*heads, *streams]
    for case in cases:
        compare(case, builds)
    return len(cases)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guarded")
    parser.add_argument(
        "--cases", type=int, default=50_000, help="number of cases of the fuzzer (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--overread", action="store_true", help="read the guard page, which must kill the process")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    if options.overread:
        ctypes.string_at(Guard().end, 1)
        return 0
    compiled = BUILDS[-1]
    if compiled.name != "compiled":
        print("the compiled build is not available", file=sys.stderr)
        return 2
    builds = (compiled, Guarded(compiled))
    print("the corpus, cut off after every byte", flush=True)
    print(f"{run_corpus(builds):,} cases", flush=True)
    print(f"{options.cases:,} cases of the fuzzer, seed {options.seed}", flush=True)
    fuzz(options.cases, options.seed, kinds=("heads", "chunks", "fields"), builds=builds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
