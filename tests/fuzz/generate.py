"""Inputs for the fuzzers: from a grammar that makes a mistake now and then, mutated from the corpus, and at random.

The grammar makes input that is nearly valid: junk is rejected at its first byte, so it never reaches the code after
that. Each case first decides how often it makes a mistake; many never do.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.fuzz.cases import Case, Chunks, Fields, Head, Pipeline
from tests.tools.wire import load_corpus

__all__ = ["GENERATORS", "TOKENS", "Generator", "Rng", "corpus_wires", "heads_of", "named", "streams_of"]

T = TypeVar("T")


class Rng:
    """Random choices: simpler ones than those of `random.Random`, and several times as fast."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.next = self._random.random

    def below(self, most: int) -> int:
        """Returns a number from 0 to `most` exclusive; 0 if `most` is 0."""
        return int(self.next() * most)

    def one_in(self, number: float) -> bool:
        return self.next() * number < 1

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.next() * len(options))]

    def some(self, options: Sequence[T], most: int) -> list[T]:
        """Returns up to `most` of the options, some of them perhaps more than once."""
        return [self.pick(options) for _ in range(self.below(most + 1))]

    def bytes(self, most: int) -> bytes:
        return self._random.randbytes(self.below(most + 1))


def named(*functions: Callable[[Rng], bytes]) -> list[tuple[str, Callable[[Rng], bytes]]]:
    """Returns pairs of a kind of input, named after its function, and the function."""
    return [(function.__name__.replace("_", " "), function) for function in functions]


@dataclass(slots=True)
class Part:
    """A part of the grammar: valid texts, and texts for a mistake."""

    good: list[bytes]  # the usual ones so often that they are about half of the list
    bad: list[bytes]


def _load_parts() -> dict[str, Part]:
    parts = {}
    for name, written in tomllib.loads(Path(__file__).with_name("parts.toml").read_text()).items():
        usual, good, bad = ([text.encode("latin-1") for text in written[key]] for key in ("usual", "good", "bad"))
        parts[name] = Part(usual * max(1, len(good) // max(1, len(usual))) + good, bad)
    return parts


_PARTS = _load_parts()
METHOD, TARGET, VERSION = _PARTS["method"], _PARTS["target"], _PARTS["version"]
NAME, COLON, VALUE, SPACE, LINE_END = (_PARTS[name] for name in ("name", "colon", "value", "space", "line-end"))
SIZE, EXTENSION = _PARTS["size"], _PARTS["extension"]

# What mutations insert.
TOKENS = sorted({text for part in _PARTS.values() for text in part.good + part.bad} - {b""})

# Characters for fields of a response: ASCII, the rest of Latin-1, others, and those that no field may have.
CHARACTERS = "abcXYZ019-_~!:;,= \t\xa0\xe9\xff\x85" * 2 + "\u0100\u212a\u20ac\U0001f600\ud800" + "\r\n\0\x7f\x1f()"
ANSWERED = ["Content-Type", "Set-Cookie", "ETag", "X", "Server", "Date", "date"]
ODD_NAMES = ["\u212aeep-Alive", "\u0130", "X\u0100", "X\udc80", *(name.decode("latin-1") for name in NAME.bad)]
ODD_VALUES = ["\u20ac", "close\u212a", "\U0001f600", "\ud800", "a" * 15 + "\u0100"]
ODD_VALUES += [value.decode("latin-1") for value in VALUE.bad]
NAMES = ANSWERED * 16 + [name.decode("latin-1") for name in NAME.good] + ODD_NAMES
VALUES = [value.decode("latin-1") for value in VALUE.good] * 6 + ODD_VALUES

# Limits, and the range of low values for each that short input exceeds at times.
LIMITS = [
    *(("request_line", 10, 40), ("fields", 0, 6), ("field_size", 4, 60), ("head", 20, 120), ("body", 0, 30)),
    ("chunk_line", 0, 20),
]


class DerivedText(str):
    """A subclass of str, as the members of a StrEnum and the texts of template engines are."""


NO_TEXTS: list[object] = [None, b"bytes", 5, 1.5, ("a", "b"), ["a"], DerivedText("derived"), DerivedText("\r")]


class Generator:
    """Endless cases, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Rng(seed)
        self._errs = 0.0  # how often a part of this case is a mistake
        self._wires = corpus_wires()
        self._heads = heads_of(self._wires)
        self._streams = streams_of(self._wires)

    # Cases.

    def head(self) -> Head:
        self._choose_errors()
        way = self.rng.next()
        if way < 0.6:
            wire = self._head()
        elif way < 0.95:
            wire = self._mutated(self._heads)
        else:
            wire = self._junk()
        return Head(wire if wire.endswith(b"\r\n") else wire + b"\r\n")

    def chunks(self) -> Chunks:
        self._choose_errors()
        rng = self.rng
        way = rng.next()
        if way < 0.6:
            stream = self._stream() + rng.pick((b"", b"", b"GET / HTTP/1.1\r\n", b"\r\n"))
        elif way < 0.95:
            stream = self._mutated(self._streams)
        else:
            stream = self._junk()
        start = rng.below(4) if rng.one_in(4) else 0
        return Chunks(b"5\r\n\x00"[:start] + stream, start, self._cuts(len(stream)), self._limits())

    def fields(self) -> Fields:
        rng = self.rng
        lines: list[object] = []
        for _ in range(rng.below(6)):
            name = self._text() if rng.one_in(32) else rng.pick(NAMES)
            value = self._text() if rng.one_in(8) else rng.pick(VALUES)
            lines.append((name, value))
        if lines and rng.one_in(20):
            lines[rng.below(len(lines))] = self._no_field()
        return Fields(lines)

    def pipeline(self) -> Pipeline:
        self._choose_errors()
        rng = self.rng
        way = rng.next()
        if way < 0.5:
            wire = b"".join([self._request() for _ in range(1 + rng.below(4))])
        elif way < 0.9:
            wire = b"".join([self._valid_request() for _ in range(rng.below(3))]) + self._mutated(self._wires)
        else:
            wire = b"".join(rng.some(TOKENS, 12))
        (places,) = self._cuts(len(wire), ways=1)
        requests = 1 + rng.below(3) if rng.one_in(4) else 1000
        return Pipeline(wire, places, rng.one_in(4), self._limits(), requests)

    # Heads.

    def _choose_errors(self) -> None:
        self._errs = self.rng.pick((0.0, 0.0, 0.02, 0.1))

    def _part(self, part: Part) -> bytes:
        rng = self.rng
        return rng.pick(part.bad if rng.next() < self._errs else part.good)

    def _head(self) -> bytes:
        """Returns a request line and field lines."""
        parts = [self._part(METHOD), b" ", self._part(TARGET), b" "]
        parts += [self._part(VERSION), self._part(LINE_END)]
        parts += [self._field_line() for _ in range(self.rng.below(7))]
        return b"".join(parts)

    def _field_line(self) -> bytes:
        rng = self.rng
        name = self._part(NAME)
        if rng.one_in(4):
            name = name.swapcase()
        value = self._part(VALUE)
        if rng.one_in(8):  # runs of any length, since sixteen bytes are scanned at once
            value = rng.pick((b"a", b"\xe9", b" ")) * rng.below(700 if rng.one_in(20) else 70) + value
        line_end = self._part(LINE_END)
        return b"".join((name, self._part(COLON), value, self._part(SPACE), line_end))

    # Chunks.

    def _stream(self) -> bytes:
        """Returns a chunked body."""
        rng = self.rng
        chunks = [self._chunk() for _ in range(rng.below(4))]
        last = [rng.pick((b"0", b"0", b"000")), self._part(EXTENSION)]
        trailers = [self._part(LINE_END)]
        trailers += [self._field_line() for _ in range(rng.below(3) if rng.one_in(2) else 0)]
        return b"".join([*chunks, *last, *trailers, self._part(LINE_END)])

    def _chunk(self) -> bytes:
        rng = self.rng
        size = self._part(SIZE)
        length = min(int(size, 16), 40) if size in SIZE.good else 3
        content = bytes(length) if rng.one_in(4) else (b"\r\n0\r\n\r\nhello\r" * 4)[:length]
        if rng.next() < self._errs:
            content += b"x"
        line_ends = self._part(LINE_END), self._part(LINE_END)
        return b"".join((size, self._part(EXTENSION), line_ends[0], content, line_ends[1]))

    def _limits(self) -> dict[str, int]:
        """Returns low limits now and then, so that short input exceeds them."""
        if not self.rng.one_in(5):
            return {}
        name, least, most = self.rng.pick(LIMITS)
        return {name: least + self.rng.below(most - least)}

    def _cuts(self, size: int, ways: int = 3) -> list[Sequence[int]]:
        """Returns ways to cut `size` bytes: at once, byte by byte and at each place if they are few, otherwise at
        random."""
        if ways > 1 and 0 < size <= 24:
            return [(), range(size), *((place,) for place in range(1, size))]
        rng = self.rng
        cuts: list[Sequence[int]] = [()] if ways > 1 or rng.one_in(2) else []
        while len(cuts) < ways:
            if size <= 200 and rng.one_in(8):
                cuts.append(range(size))
            else:
                cuts.append(sorted([rng.below(size + 1) for _ in range(1 + rng.below(4))]))
        return cuts

    # Pipelines.

    def _request(self) -> bytes:
        """Returns a request; a valid one, unless it makes a mistake."""
        if self.rng.next() < self._errs:
            return self._mutated([self._valid_request()])
        return self._head() + b"\r\n" if self.rng.one_in(8) else self._valid_request()

    def _valid_request(self) -> bytes:
        """Returns a request with the body that its head announces; only its chunks may have mistakes."""
        rng = self.rng
        method, target = rng.pick((b"GET", b"HEAD", b"POST", b"PUT")), rng.pick((b"/", b"//h/%20", b"http://h:1"))
        query = b"?query="[: rng.below(8)]  # of any length, since the handler chooses by the length of the target
        lines = [b"%b %b%b HTTP/1.%d" % (method, target, query, rng.below(8) > 0), b"Host: h"]
        lines += [b"Connection: " + rng.pick((b"close", b"keep-alive", b"x, Keep-Alive"))] * rng.one_in(6)
        lines += [b"Expect: " + rng.pick((b"100-continue", b"100-CONTINUE", b"x"))] * rng.one_in(12)
        body = b""
        if rng.one_in(3):
            body = rng.bytes(40)
            lines.append(b"Content-Length: %d" % len(body))
        elif rng.one_in(2):
            body = self._stream()
            lines += [b"Transfer-Encoding: chunked"] + [b"Content-Length: 5"] * rng.one_in(12)
        return b"\r\n".join([*lines, b"", body])

    # Mutations and junk.

    def _mutated(self, seeds: Sequence[bytes]) -> bytes:
        """Returns one of `seeds` with a few changes, or sometimes none."""
        rng = self.rng
        data = rng.pick(seeds)
        for _ in range(rng.below(4)):
            data = rng.pick(_MUTATIONS)(self, data, seeds)
        return data

    def _replace_byte(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        place = self.rng.below(len(data))
        return data[:place] + bytes((self.rng.below(256),)) + data[place + 1 :]

    def _insert_token(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        place = self.rng.below(len(data) + 1)
        return data[:place] + self.rng.pick(TOKENS) + data[place:]

    def _replace_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + self.rng.pick(TOKENS) + data[stop:]

    def _delete_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + data[stop:]

    def _repeat_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:stop] + data[start:stop] * (1 + self.rng.below(3)) + data[stop:]

    def _swap_case(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + data[start:stop].swapcase() + data[stop:]

    def _splice(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        other = self.rng.pick(seeds)
        return data[: self.rng.below(len(data) + 1)] + other[self.rng.below(len(other) + 1) :]

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self.rng.below(len(data))
        return start, start + 1 + self.rng.below(16)

    def _junk(self) -> bytes:
        return self.rng.bytes(60) if self.rng.one_in(2) else b"".join(self.rng.some(TOKENS, 12))

    # Fields of a response.

    def _text(self) -> str:
        text = "".join(self.rng.some(CHARACTERS, 6))
        return "a" * self.rng.below(40) + text if self.rng.one_in(8) else text

    def _no_field(self) -> object:
        """Returns an object that is not a pair of str, or an unusual one that is."""
        rng = self.rng
        odd = rng.pick(NO_TEXTS)
        return rng.pick([(odd, "a"), ("X", odd), ["X", "a"], ("X",), ("X", "a", "b"), (), None, 5, "Xa"])


_MUTATIONS: list[Callable[[Generator, bytes, Sequence[bytes]], bytes]] = [
    Generator._replace_byte,
    Generator._insert_token,
    Generator._replace_span,
    Generator._delete_span,
    Generator._repeat_span,
    Generator._swap_case,
    Generator._splice,
]

# The kinds of cases.
GENERATORS: dict[str, Callable[[Generator], Case]] = {
    "heads": Generator.head,
    "chunks": Generator.chunks,
    "fields": Generator.fields,
    "pipelines": Generator.pipeline,
}


# Seeds.


def corpus_wires() -> list[bytes]:
    """Returns the input of each case of the corpus, except the long ones, which are mostly repetition."""
    return [case.wire for case in load_corpus() if 0 < len(case.wire) <= 2000]


def heads_of(wires: Sequence[bytes]) -> list[bytes]:
    """Returns the first head of each, as `parse_head` gets it."""
    return sorted({wire.partition(b"\r\n\r\n")[0] + b"\r\n" for wire in wires})


def streams_of(wires: Sequence[bytes]) -> list[bytes]:
    """Returns the bytes after the first head of those that have a chunked body."""
    parts = [wire.partition(b"\r\n\r\n") for wire in wires]
    return sorted({body for head, _, body in parts if b"\r\ntransfer-encoding: chunked" in head.lower()} - {b""})
