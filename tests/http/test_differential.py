"""Both builds do the same: the pure and the compiled code give equal results for any input.

Three ways to look for a difference: the fuzzer (tests/fuzz, which can run for longer by hand), hypothesis, whose cases
are fewer and stranger, and guard pages, which show that the compiled code reads its input and nothing else.
"""

from __future__ import annotations

import enum
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.cases import BUILDS, Build, Chunks, Difference, Fields, Head, Pipeline, compare
from tests.fuzz.differential import fuzz, main
from tests.fuzz.generate import GENERATORS, TOKENS, Generator, corpus_wires
from tests.tools.wire import PURE, Implementation, converse, load_group

ROOT = Path(__file__).parent.parent.parent

needs_both = pytest.mark.skipif(len(BUILDS) < 2, reason="only the pure build is available")


# The fuzzer.

# The same cases every time: what failed once fails again.
CASES = {"heads": 200_000, "chunks": 40_000, "fields": 60_000, "pipelines": 15_000}


@needs_both
@pytest.mark.parametrize("kind", CASES)
def test_the_builds_are_alike(kind: str) -> None:
    tried = fuzz(CASES[kind], seed=1994, kinds=[kind])
    assert tried[kind] == CASES[kind]


@needs_both
def test_the_builds_are_alike_on_the_corpus() -> None:
    for wire in corpus_wires():
        compare(Pipeline(wire))
        compare(Pipeline(wire, eof=True))


def test_the_same_seed_gives_the_same_cases() -> None:
    first, second, other = (
        [repr(make(generator)) for generator in [Generator(seed)] for make in [*GENERATORS.values()] * 50]
        for seed in (1, 1, 2)
    )
    assert first == second != other


# The fuzzer notices a difference: small faults, planted in a copy of the pure build, are found.


def planted_head(build: Build) -> None:
    """Counts a no-break space as white space, as str.strip() does."""
    parse_head = build.parse_head
    build.parse_head = lambda data, start, end: parse_head(data.replace(b"\xa0", b" "), start, end)


def planted_size(build: Build) -> None:
    """Accepts a chunk size with a sign, as int() does."""

    class Decoder(PURE.module("wire").ChunkedDecoder):  # type: ignore[misc]  # known at run time only
        def _read_size(self, data: bytes, start: int, end: int) -> None:
            super()._read_size(data, start + (data[start : start + 1] == b"+"), end)

        def __init__(self, limits: Any) -> None:
            super().__init__(limits)
            self._read_line = Decoder._read_size

    build.ChunkedDecoder = Decoder


def planted_held_line(build: Build) -> None:
    """Drops the incomplete line when the next piece is a line end alone."""

    class Decoder(PURE.module("wire").ChunkedDecoder):  # type: ignore[misc]  # known at run time only
        def feed(self, data: bytes, start: int) -> int:
            if data[start:] == b"\n":
                self._held = b""
            return int(super().feed(data, start))

    build.ChunkedDecoder = Decoder


def planted_field(build: Build) -> None:
    """Counts the Kelvin sign as a k, as str.lower() does."""
    encode_head = build.encode_head
    build.encode_head = lambda lines: encode_head(
        [(line[0].replace("\u212a", "k"), line[1]) if is_pair(line) else line for line in lines]
    )


def is_pair(line: object) -> bool:
    return isinstance(line, tuple) and len(line) == 2 and isinstance(line[0], str)


def planted_crash(build: Build) -> None:
    """Raises an exception that the contract does not allow."""
    parse_head = build.parse_head
    build.parse_head = lambda data, start, end: parse_head(data, start, end) if b"X:" not in data else 1 / 0


PLANTS: list[Callable[[Build], None]] = [planted_head, planted_size, planted_held_line, planted_field, planted_crash]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant: Callable[[Build], None]) -> None:
    faulty = Build(PURE)
    plant(faulty)
    with pytest.raises(Difference, match="the builds differ, seed 7, case") as caught:
        fuzz(20_000, seed=7, kinds=("heads", "chunks", "fields"), builds=(Build(PURE), faulty))
    # The case that is shown is small, and still shows the difference.
    case = caught.value.case
    assert len(case.entry()) < 500
    with pytest.raises(Difference):
        compare(case, (Build(PURE), faulty))


def test_a_crash_of_both_builds_is_found() -> None:
    faulty = Build(PURE)
    planted_crash(faulty)
    with pytest.raises(Difference):
        fuzz(1000, seed=7, kinds=["heads"], builds=(faulty, faulty))


def test_an_entry_can_be_pasted_into_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "pasted.toml"
    for wire in corpus_wires():
        path.write_text(Pipeline(wire).entry())
        (case,) = load_group(path)
        assert case.wire == wire
        case.check(converse(PURE, [wire]))


def test_a_limit_of_time() -> None:
    ticks = iter(range(100))
    tried = fuzz(10**9, seed=1, kinds=["fields"], seconds=10, builds=[Build(PURE)], clock=lambda: next(ticks))
    assert 0 < tried["fields"] <= 10 * 256


@needs_both
def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["--cases", "200", "--seed", "3", "--kinds", "heads"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("seed 3\n200 cases in ")
    faulty = Build(PURE)
    planted_crash(faulty)
    monkeypatch.setattr(fuzz, "__kwdefaults__", {**(fuzz.__kwdefaults__ or {}), "builds": [faulty]})
    assert main(command) == 1
    assert "seed 3, case" in capsys.readouterr().out


@pytest.mark.skipif(len(BUILDS) > 1, reason="both builds are available")
def test_one_build_cannot_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "1"]) == 2
    assert "nothing to compare" in capsys.readouterr().err


# Differences that were found once.


class MediaType(enum.StrEnum):
    TEXT = "text/plain"


class Line(NamedTuple):
    name: str
    value: str


def test_a_field_may_be_of_subclasses_of_str_and_tuple(implementation: Implementation) -> None:
    """The compiled encoder accepted plain str and tuple only."""
    line = Line("Content-Type", MediaType.TEXT)
    encode_head = implementation.module("wire").encode_head
    for _ in range(2):  # the second time it may come from the cache
        assert encode_head([line]) == (b"Content-Type: text/plain\r\n", 0)


@pytest.mark.parametrize(
    "line",
    [
        ("X", None),
        (None, "a"),
        ("X", 5),
        (b"X", b"a"),
        ("X", b"a"),
        ["X", "a"],
        ("X",),
        ("X", "a", "b"),
        (),
        None,
        "Xa",
    ],
)
def test_only_pairs_of_str_are_sent(implementation: Implementation, line: Any) -> None:
    """The compiled encoder accepted lists, and read None as if it were text; the pure one accepted `"Xa"`."""
    for _ in range(2):
        with pytest.raises(TypeError):
            implementation.module("wire").encode_head([("A", "1"), line])


# Hypothesis.

more_examples = settings(max_examples=5 * settings().max_examples)  # than those of the profile, see conftest.py

PARTS = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=20), max_size=16).map(b"".join)
NAME = st.sampled_from(["Host", "Connection", "CONTENT-LENGTH", "transfer-encoding", "X", "Date", "Keep-Alive"])
ANY_NAME = NAME | st.text(st.characters(max_codepoint=0x17F), max_size=20) | st.text(max_size=5)
LATIN_1 = st.text(st.characters(max_codepoint=0xFF), max_size=40)
ANY_VALUE = st.sampled_from(["close", "Keep-Alive, x", "5", ""]) | LATIN_1 | st.text(max_size=20)
LIMIT = st.sampled_from(["chunk_line", "field_size", "fields", "body"])
LIMITS = st.dictionaries(LIMIT, st.integers(0, 60), max_size=2)
PLACES = st.lists(st.integers(0, 200), max_size=8).map(sorted)


@st.composite
def nearly_valid_heads(draw: st.DrawFn) -> bytes:
    """A valid request line, and field lines that may be valid."""
    target = "/" + draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40))
    lines = draw(st.lists(st.tuples(ANY_NAME, st.sampled_from([":", ": ", ":\t"]), LATIN_1).map("".join), max_size=6))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.0"]))
    return "\r\n".join([f"GET {target} {version}", *lines]).encode("latin-1", "replace")


@needs_both
@given(head=nearly_valid_heads(), parts=PARTS)
@more_examples
def test_heads(head: bytes, parts: bytes) -> None:
    for wire in (head, parts, head + parts, b"GET / HTTP/1.1\r\nX: " + parts):
        compare(Head(wire + b"\r\n"))


@needs_both
@given(stream=PARTS, places=PLACES, limits=LIMITS)
@more_examples
def test_chunks(stream: bytes, places: list[int], limits: dict[str, int]) -> None:
    compare(Chunks(stream, 0, [(), places, range(len(stream))], limits))


@needs_both
@given(
    chunks=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(0, 20), PARTS), max_size=4),
    trailers=st.lists(st.tuples(NAME, LATIN_1), max_size=3),
    places=PLACES,
    limits=LIMITS,
)
@more_examples
def test_nearly_valid_chunks(
    chunks: list[tuple[bytes, int, bytes]], trailers: list[tuple[str, str]], places: list[int], limits: dict[str, int]
) -> None:
    """Any content, any number of zeros, and anything after a semicolon."""
    stream = b"".join(
        b"0" * zeros + b"%X" % len(content) + (b";" + extension if extension else b"") + b"\r\n" + content + b"\r\n"
        for content, zeros, extension in chunks
    )
    stream += b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1") + b"\r\n"
    compare(Chunks(stream, 0, [(), places, range(len(stream))], limits))


@needs_both
@given(fields=st.lists(st.tuples(ANY_NAME, ANY_VALUE), max_size=6))
@more_examples
def test_fields(fields: list[object]) -> None:
    compare(Fields(fields))


@needs_both
@given(head=nearly_valid_heads(), body=PARTS, places=PLACES, eof=st.booleans(), limits=LIMITS)
@more_examples
def test_conversations(head: bytes, body: bytes, places: list[int], eof: bool, limits: dict[str, int]) -> None:
    for framing in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
        compare(Pipeline(head + b"\r\n" + framing + b"\r\n" + body, places, eof, limits))


# The compiled code reads its input and nothing else.


@needs_both
def test_nothing_is_read_after_the_end() -> None:
    """The corpus cut off after every byte, and cases of the fuzzer, each at the end of a page (see
    tests/fuzz/guarded.py)."""
    done = subprocess.run([sys.executable, "-m", "tests.fuzz.guarded"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_both
def test_the_guard_page_kills_an_overread() -> None:
    command = [sys.executable, "-m", "tests.fuzz.guarded", "--overread"]
    assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode in (-signal.SIGSEGV, -signal.SIGBUS)


@needs_both
@pytest.mark.parametrize("option", ["-DPLAIN", "-U__SSE2__"])
def test_the_scans_stop_at_the_end(tmp_path: Path, option: str) -> None:
    """Also without SSE2, where they scan byte by byte (see tests/fuzz/guard_page.c)."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path / "guard_page"
    source = ROOT / "tests" / "fuzz" / "guard_page.c"
    subprocess.run([compiler, "-O2", option, "-I", ROOT / "ext", "-o", program, source], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
