"""Inputs for the fuzzers: from a grammar that now and then errs, mutated from the corpus, and at random.

The grammar makes what is nearly right, since junk is refused at its first byte and shows nothing of what stands behind.
Each case decides first how often it errs, and many never do.
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

__all__ = ["GENERATORS", "TOKENS", "Chance", "Generator", "corpus_wires", "heads_of", "named", "streams_of"]

T = TypeVar("T")


class Chance:
    """Random choices: plainer ones than those of `random.Random`, and several times as fast."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.next = self._random.random

    def below(self, most: int) -> int:
        """A number from 0 on; 0 when `most` is 0."""
        return int(self.next() * most)

    def one_in(self, number: float) -> bool:
        return self.next() * number < 1

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.next() * len(options))]

    def some(self, options: Sequence[T], most: int) -> list[T]:
        """As many as `most` of them, any of them also more than once."""
        return [self.pick(options) for _ in range(self.below(most + 1))]

    def bytes(self, most: int) -> bytes:
        return self._random.randbytes(self.below(most + 1))


def named(*functions: Callable[[Chance], bytes]) -> list[tuple[str, Callable[[Chance], bytes]]]:
    """Kinds of what may be sent, by the names of the functions that make them."""
    return [(function.__name__.replace("_", " "), function) for function in functions]


@dataclass(slots=True)
class Part:
    """A part of the grammar: what may stand there, and what does when it errs."""

    good: list[bytes]  # the usual ones so often that they are about half of it
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

# What mutations put in.
TOKENS = sorted({text for part in _PARTS.values() for text in part.good + part.bad} - {b""})

# Characters for fields of an answer: ASCII, the rest of Latin-1, what is beyond it, and what no field may hold.
CHARACTERS = "abcXYZ019-_~!:;,= \t\xa0\xe9\xff\x85" * 2 + "\u0100\u212a\u20ac\U0001f600\ud800" + "\r\n\0\x7f\x1f()"
ANSWERED = ["Content-Type", "Set-Cookie", "ETag", "X", "Server", "Date", "date"]
ODD_NAMES = ["\u212aeep-Alive", "\u0130", "X\u0100", "X\udc80", *(name.decode("latin-1") for name in NAME.bad)]
ODD_VALUES = ["\u20ac", "close\u212a", "\U0001f600", "\ud800", "a" * 15 + "\u0100"]
ODD_VALUES += [value.decode("latin-1") for value in VALUE.bad]
NAMES = ANSWERED * 16 + [name.decode("latin-1") for name in NAME.good] + ODD_NAMES
VALUES = [value.decode("latin-1") for value in VALUE.good] * 6 + ODD_VALUES

# Limits with the figures they are changed to: such as short input exceeds at times.
LIMITS = [
    *(("request_line", 10, 40), ("fields", 0, 6), ("field_size", 4, 60), ("head", 20, 120), ("body", 0, 30)),
    ("chunk_line", 0, 20),
]


class DerivedText(str):
    """As the members of a StrEnum and the texts of template engines are."""


NO_TEXTS: list[object] = [None, b"bytes", 5, 1.5, ("a", "b"), ["a"], DerivedText("derived"), DerivedText("\r")]


class Generator:
    """Cases without end, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = Chance(seed)
        self._errs = 0.0  # how often a part of this case is not what it should be
        self._wires = corpus_wires()
        self._heads = heads_of(self._wires)
        self._streams = streams_of(self._wires)

    # Cases.

    def head(self) -> Head:
        self._choose_errors()
        way = self.chance.next()
        if way < 0.6:
            wire = self._head()
        elif way < 0.95:
            wire = self._mutated(self._heads)
        else:
            wire = self._junk()
        return Head(wire if wire.endswith(b"\r\n") else wire + b"\r\n")

    def chunks(self) -> Chunks:
        self._choose_errors()
        chance = self.chance
        way = chance.next()
        if way < 0.6:
            stream = self._stream() + chance.pick((b"", b"", b"GET / HTTP/1.1\r\n", b"\r\n"))
        elif way < 0.95:
            stream = self._mutated(self._streams)
        else:
            stream = self._junk()
        start = chance.below(4) if chance.one_in(4) else 0
        return Chunks(b"5\r\n\x00"[:start] + stream, start, self._cuts(len(stream)), self._limits())

    def fields(self) -> Fields:
        chance = self.chance
        lines: list[object] = []
        for _ in range(chance.below(6)):
            name = self._text() if chance.one_in(32) else chance.pick(NAMES)
            value = self._text() if chance.one_in(8) else chance.pick(VALUES)
            lines.append((name, value))
        if lines and chance.one_in(20):
            lines[chance.below(len(lines))] = self._no_field()
        return Fields(lines)

    def pipeline(self) -> Pipeline:
        self._choose_errors()
        chance = self.chance
        way = chance.next()
        if way < 0.5:
            wire = b"".join([self._request() for _ in range(1 + chance.below(4))])
        elif way < 0.9:
            wire = b"".join([self._good_request() for _ in range(chance.below(3))]) + self._mutated(self._wires)
        else:
            wire = b"".join(chance.some(TOKENS, 12))
        (places,) = self._cuts(len(wire), ways=1)
        requests = 1 + chance.below(3) if chance.one_in(4) else 1000
        return Pipeline(wire, places, chance.one_in(4), self._limits(), requests)

    # Heads.

    def _choose_errors(self) -> None:
        self._errs = self.chance.pick((0.0, 0.0, 0.02, 0.1))

    def _part(self, part: Part) -> bytes:
        chance = self.chance
        return chance.pick(part.bad if chance.next() < self._errs else part.good)

    def _head(self) -> bytes:
        """A request line and field lines."""
        parts = [self._part(METHOD), b" ", self._part(TARGET), b" "]
        parts += [self._part(VERSION), self._part(LINE_END)]
        parts += [self._field_line() for _ in range(self.chance.below(7))]
        return b"".join(parts)

    def _field_line(self) -> bytes:
        chance = self.chance
        name = self._part(NAME)
        if chance.one_in(4):
            name = name.swapcase()
        value = self._part(VALUE)
        if chance.one_in(8):  # runs of any length, since sixteen bytes are looked at together
            value = chance.pick((b"a", b"\xe9", b" ")) * chance.below(700 if chance.one_in(20) else 70) + value
        line_end = self._part(LINE_END)
        return b"".join((name, self._part(COLON), value, self._part(SPACE), line_end))

    # Chunks.

    def _stream(self) -> bytes:
        """A chunked body."""
        chance = self.chance
        chunks = [self._chunk() for _ in range(chance.below(4))]
        last = [chance.pick((b"0", b"0", b"000")), self._part(EXTENSION)]
        trailers = [self._part(LINE_END)]
        trailers += [self._field_line() for _ in range(chance.below(3) if chance.one_in(2) else 0)]
        return b"".join([*chunks, *last, *trailers, self._part(LINE_END)])

    def _chunk(self) -> bytes:
        chance = self.chance
        size = self._part(SIZE)
        length = min(int(size, 16), 40) if size in SIZE.good else 3
        content = bytes(length) if chance.one_in(4) else (b"\r\n0\r\n\r\nhello\r" * 4)[:length]
        if chance.next() < self._errs:
            content += b"x"
        line_ends = self._part(LINE_END), self._part(LINE_END)
        return b"".join((size, self._part(EXTENSION), line_ends[0], content, line_ends[1]))

    def _limits(self) -> dict[str, int]:
        """Low ones now and then, so that short input exceeds them."""
        if not self.chance.one_in(5):
            return {}
        name, least, most = self.chance.pick(LIMITS)
        return {name: least + self.chance.below(most - least)}

    def _cuts(self, size: int, ways: int = 3) -> list[Sequence[int]]:
        """Ways to cut `size` bytes: whole, bytewise and at every single place when they are few, else at random."""
        if ways > 1 and 0 < size <= 24:
            return [(), range(size), *((place,) for place in range(1, size))]
        chance = self.chance
        cuts: list[Sequence[int]] = [()] if ways > 1 or chance.one_in(2) else []
        while len(cuts) < ways:
            if size <= 200 and chance.one_in(8):
                cuts.append(range(size))
            else:
                cuts.append(sorted([chance.below(size + 1) for _ in range(1 + chance.below(4))]))
        return cuts

    # Pipelines.

    def _request(self) -> bytes:
        """A request, good unless it errs."""
        if self.chance.next() < self._errs:
            return self._mutated([self._good_request()])
        return self._head() + b"\r\n" if self.chance.one_in(8) else self._good_request()

    def _good_request(self) -> bytes:
        """A request with a body that its head announces; only the chunks may err."""
        chance = self.chance
        method, target = chance.pick((b"GET", b"HEAD", b"POST", b"PUT")), chance.pick((b"/", b"//h/%20", b"http://h:1"))
        query = b"?query="[: chance.below(8)]  # of any length, since the handler chooses by the length of the target
        lines = [b"%b %b%b HTTP/1.%d" % (method, target, query, chance.below(8) > 0), b"Host: h"]
        lines += [b"Connection: " + chance.pick((b"close", b"keep-alive", b"x, Keep-Alive"))] * chance.one_in(6)
        lines += [b"Expect: " + chance.pick((b"100-continue", b"100-CONTINUE", b"x"))] * chance.one_in(12)
        body = b""
        if chance.one_in(3):
            body = chance.bytes(40)
            lines.append(b"Content-Length: %d" % len(body))
        elif chance.one_in(2):
            body = self._stream()
            lines += [b"Transfer-Encoding: chunked"] + [b"Content-Length: 5"] * chance.one_in(12)
        return b"\r\n".join([*lines, b"", body])

    # Mutations, and no grammar at all.

    def _mutated(self, seeds: Sequence[bytes]) -> bytes:
        """One of `seeds` with a few changes; now and then with none."""
        chance = self.chance
        data = chance.pick(seeds)
        for _ in range(chance.below(4)):
            data = chance.pick(_MUTATIONS)(self, data, seeds)
        return data

    def _replace_byte(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        place = self.chance.below(len(data))
        return data[:place] + bytes((self.chance.below(256),)) + data[place + 1 :]

    def _insert_token(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        place = self.chance.below(len(data) + 1)
        return data[:place] + self.chance.pick(TOKENS) + data[place:]

    def _replace_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + self.chance.pick(TOKENS) + data[stop:]

    def _delete_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + data[stop:]

    def _repeat_span(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:stop] + data[start:stop] * (1 + self.chance.below(3)) + data[stop:]

    def _swap_case(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        start, stop = self._span(data)
        return data[:start] + data[start:stop].swapcase() + data[stop:]

    def _splice(self, data: bytes, seeds: Sequence[bytes]) -> bytes:
        other = self.chance.pick(seeds)
        return data[: self.chance.below(len(data) + 1)] + other[self.chance.below(len(other) + 1) :]

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self.chance.below(len(data))
        return start, start + 1 + self.chance.below(16)

    def _junk(self) -> bytes:
        return self.chance.bytes(60) if self.chance.one_in(2) else b"".join(self.chance.some(TOKENS, 12))

    # Fields of an answer.

    def _text(self) -> str:
        text = "".join(self.chance.some(CHARACTERS, 6))
        return "a" * self.chance.below(40) + text if self.chance.one_in(8) else text

    def _no_field(self) -> object:
        """What is not a pair of str, or is one in a way of its own."""
        chance = self.chance
        odd = chance.pick(NO_TEXTS)
        return chance.pick([(odd, "a"), ("X", odd), ["X", "a"], ("X",), ("X", "a", "b"), (), None, 5, "Xa"])


_MUTATIONS: list[Callable[[Generator, bytes, Sequence[bytes]], bytes]] = [
    Generator._replace_byte,
    Generator._insert_token,
    Generator._replace_span,
    Generator._delete_span,
    Generator._repeat_span,
    Generator._swap_case,
    Generator._splice,
]

# The kinds of cases there are.
GENERATORS: dict[str, Callable[[Generator], Case]] = {
    "heads": Generator.head,
    "chunks": Generator.chunks,
    "fields": Generator.fields,
    "pipelines": Generator.pipeline,
}


# Seeds.


def corpus_wires() -> list[bytes]:
    """What the cases of the corpus send, but for the long ones: from 2000 bytes on there is little but repetition."""
    return [case.wire for case in load_corpus() if 0 < len(case.wire) <= 2000]


def heads_of(wires: Sequence[bytes]) -> list[bytes]:
    """The first head of each, as `parse_head` gets it."""
    return sorted({wire.partition(b"\r\n\r\n")[0] + b"\r\n" for wire in wires})


def streams_of(wires: Sequence[bytes]) -> list[bytes]:
    """What follows the first head, of those where it is chunked."""
    parts = [wire.partition(b"\r\n\r\n") for wire in wires]
    return sorted({body for head, _, body in parts if b"\r\ntransfer-encoding: chunked" in head.lower()} - {b""})
