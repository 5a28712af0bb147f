"""The coverage-guided fuzzer: input that reaches new code of the pure build is kept and mutated further.

    python -m tests.fuzz.atheris_wire --seconds 180 --findings build/atheris

It needs atheris, which is not one of the project's tools, since it has no wheels for every Python; `make atheris` makes
an environment for it. As with tests/fuzz/differential.py, the compiled build must give the same result for every input.
Coverage does not see inside the regular expressions of the pure syntax, so the corpus and the parts of the grammar are
its seeds and its dictionary.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tests.fuzz.cases import BUILDS, Case, Chunks, Fields, Head, Pipeline, compare
from tests.fuzz.generate import TOKENS, corpus_wires, heads_of, streams_of
from tests.tools.wire import PURE

__all__ = ["case_of", "main"]

MODULES = ("wire_pure", "headers", "messages", "target", "framing", "sinks", "protocol", "errors", "limits", "memo")

# The first byte of an input selects the kind of case.
HEAD, CHUNKS, FIELDS, PIPELINE = range(4)


def case_of(data: bytes) -> Case:
    """Returns the case for `data`; there is one for any bytes. The second byte is a place to cut at."""
    kind, place, rest = data[0] % 4, data[1], data[2:]
    if kind == HEAD:
        return Head(rest + b"\r\n")
    if kind == CHUNKS:
        return Chunks(rest, 0, [(), (place,), range(len(rest))], {})
    if kind == PIPELINE:
        return Pipeline(rest, (place,), eof=place % 2 == 1)
    names_and_values = rest.decode("utf-8", "surrogateescape").split("|")
    return Fields([*zip(names_and_values[::2], names_and_values[1::2], strict=False)])


def seeds() -> Iterator[bytes]:
    """Yields the corpus, in the format of `case_of`."""
    wires = corpus_wires()
    for kind, texts in ((HEAD, heads_of(wires)), (CHUNKS, streams_of(wires)), (PIPELINE, wires)):
        for text in texts:
            yield bytes((kind, 20)) + text
    yield bytes((FIELDS, 0)) + b"Content-Type|text/plain|Connection|close, keep-alive|X|\xe9|Date|now"


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """Yields the functions that are defined in `module`, those of its classes as well."""
    for value in vars(module).values():
        members = vars(value).values() if isinstance(value, type) else [value]
        for member in members:
            function = getattr(member, "fget", None) or getattr(member, "__wrapped__", None) or member
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function


def one_input(data: bytes) -> None:
    if len(data) >= 2:
        compare(case_of(data))


def write_seeds(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        directory.joinpath(f"seed-{number:04}").write_bytes(seed)


def write_dictionary(path: Path) -> None:
    """Writes the tokens in the format of libFuzzer: everything is escaped."""
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in TOKENS))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.atheris_wire")
    parser.add_argument("--seconds", type=int, default=180, help="running time (default: %(default)s)")
    parser.add_argument(
        "--findings", type=Path, default=Path("build/atheris"), help="folder for findings (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if len(BUILDS) < 2:
        print("only the pure build is available: nothing to compare", file=sys.stderr)
        return 2
    atheris: Any = import_module("atheris")  # not for the type checker, which cannot find it
    for name in MODULES:
        for function in functions(PURE.module(name)):
            atheris.instrument_func(function)
    findings: Path = options.findings
    write_seeds(findings / "corpus")
    write_dictionary(findings / "dictionary")
    command = [
        *(sys.argv[0], str(findings / "corpus"), f"-dict={findings / 'dictionary'}", f"-artifact_prefix={findings}/"),
        *(f"-max_total_time={options.seconds}", "-max_len=2048", "-print_final_stats=1"),
    ]
    atheris.Setup(command, one_input)
    atheris.Fuzz()  # exits: with code 0 when the time is over, with another one at the first difference
    return 0


if __name__ == "__main__":
    sys.exit(main())
