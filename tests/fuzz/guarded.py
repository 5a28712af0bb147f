"""The compiled syntax on input that ends where its page ends, with a page behind it that nobody may touch.

Behind the last byte of every bytes object stands a NUL, and behind that whatever there is, so a parser that reads a
byte too far goes unnoticed; AddressSanitizer, too, only sees what lies beyond the NUL. The objects made here are images
of ordinary ones, without the NUL, that end at the end of a page: one byte too far and the process dies of SIGSEGV.

    python -m tests.fuzz.guarded --cases 50000     the corpus, cut off after every byte; then cases of the fuzzer
    python -m tests.fuzz.guarded --overread        reads a byte too far, and must die of it

It tells of its progress, so that it is known where it died; the exit status is that of a process killed by a signal.
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
    """Some pages, and behind them one that cannot be read."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE + mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.end = start + _SIZE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self.end), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, original: B) -> B:
        """An image of `original`, whose last byte is the last before the guard. It is overwritten by the next one.

        Its reference count is a copy, too, so it counts references that nobody will ever give back, and the image is
        never freed. It must be out of use before the next one is placed.
        """
        size = sys.getsizeof(original) - 1  # the header and the content, without the NUL
        ctypes.memmove(self.end - size, id(original), size)
        image: B = ctypes.cast(self.end - size, ctypes.py_object).value
        return image


class Fleeting(tuple[object, ...]):
    """A pair that is not plainly one, so that the encoder does not remember it: its texts are images."""


class GuardedDecoder:
    """A decoder that is fed images."""

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
    """A build that gets all its input in guarded images."""

    def __init__(self, build: Build) -> None:
        super().__init__(build.implementation)
        self.name = f"{build.name}, guarded"
        guard = Guard()
        self._guards = itertools.cycle([Guard() for _ in range(32)])  # the parts of a list of fields stand side by side
        self.find_head_end = lambda data, start: build.find_head_end(guard.place(data), start)
        self.parse_head = lambda data, start, end: build.parse_head(guard.place(data[:end]), start, end)
        self.encode_head = lambda lines: build.encode_head([self._place_field(line) for line in lines])
        self.ChunkedDecoder = lambda limits: GuardedDecoder(build.ChunkedDecoder(limits), guard)

    def _place_field(self, line: object) -> object:
        return Fleeting(map(self._place_text, line)) if type(line) is tuple else line

    def _place_text(self, text: object) -> object:
        """An image of a str of one byte a character: the others are refused before anybody looks into them."""
        if type(text) is not str or max(text, default="\0") > "\xff":
            return text
        return next(self._guards).place(text)


def run_corpus(builds: Sequence[Build]) -> int:
    """What the corpus sends, cut off after every byte; how many cases that were.

    No head ends in the middle of a line, but nothing may be read beyond its end for that.
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
    parser.add_argument("--cases", type=int, default=50_000, help="of the fuzzer (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--overread", action="store_true", help="show that the guard holds, by dying")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    if options.overread:
        ctypes.string_at(Guard().end, 1)
        return 0
    compiled = BUILDS[-1]
    if compiled.name != "compiled":
        print("the compiled build is not here", file=sys.stderr)
        return 2
    builds = (compiled, Guarded(compiled))
    print("the corpus, cut off after every byte", flush=True)
    print(f"{run_corpus(builds):,} cases", flush=True)
    print(f"{options.cases:,} cases of the fuzzer, seed {options.seed}", flush=True)
    fuzz(options.cases, options.seed, kinds=("heads", "chunks", "fields"), builds=builds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
