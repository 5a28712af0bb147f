"""The differential fuzzer: what the pure and the compiled build make of the same input must be the same.

    python -m tests.fuzz.differential --cases 1000000 --seed 7 --seconds 600

Stops at the first difference with exit status 1, and prints the case, made small, as an entry for the corpus. With
only one build there is nothing to compare: exit status 2.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.fuzz.cases import BUILDS, Build, Chunks, Difference, compare
from tests.fuzz.generate import GENERATORS, Generator

__all__ = ["fuzz"]

# Of 64 cases; the slowest kind is the rarest, since what it adds to the others is how they follow each other.
SHARES = {"heads": 36, "chunks": 12, "fields": 12, "pipelines": 4}


def fuzz(
    cases: int,
    seed: int,
    *,
    kinds: Sequence[str] = tuple(GENERATORS),
    seconds: float = float("inf"),
    builds: Sequence[Build] = BUILDS,
    clock: Callable[[], float] = time.monotonic,
) -> Counter[str]:
    """Tries `cases` cases, or as many as `seconds` allow; how many of each kind there were. Raises Difference.

    "cuts" counts the chunked streams again, once for each way in which one was cut into pieces.
    """
    generator = Generator(seed)
    turns = [(kind, GENERATORS[kind]) for kind in kinds for _ in range(SHARES[kind])]
    tried: Counter[str] = Counter()
    end = clock() + seconds
    for number in range(cases):
        if number % 256 == 0 and clock() > end:
            break
        kind, generate = generator.chance.pick(turns)
        case = generate(generator)
        compare(case, builds, f", seed {seed}, case {number}")
        tried[kind] += 1
        if isinstance(case, Chunks):
            tried["cuts"] += len(case.cuts)
    return tried


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.differential")
    parser.add_argument("--cases", type=int, default=1_000_000, help="at most so many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most so long (default: no limit)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of another run (default: new)")
    parser.add_argument("--kinds", nargs="+", choices=GENERATORS, default=[*GENERATORS], help="(default: all)")
    options = parser.parse_args(arguments)
    if len(BUILDS) < 2:
        print("there is only one build, the pure one: nothing to compare", file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    start = time.monotonic()
    try:
        tried = fuzz(options.cases, options.seed, kinds=options.kinds, seconds=options.seconds)
    except Difference as difference:
        print(difference)
        return 1
    took = time.monotonic() - start
    counts = ", ".join(f"{count:,} {kind}" for kind, count in tried.items() if kind != "cuts")
    print(f"{tried.total() - tried['cuts']:,} cases in {took:.0f} s, no difference: {counts}")
    print(f"(the chunked streams were cut in {tried['cuts']:,} ways)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
