"""The differential fuzzer: the pure and the compiled build must give the same result for the same input.

    python -m tests.fuzz.differential --cases 1000000 --seed 7 --seconds 600

Stops at the first difference with exit code 1, and prints the case, made small, as an entry for the corpus. With only
one
build there is nothing to compare: exit code 2.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.fuzz.cases import BUILDS, Build, Chunks, Difference, compare
from tests.fuzz.generate import GENERATORS, Generator

__all__ = ["fuzz"]

# Of 64 cases. The slowest kind is the rarest: all that it adds to the others is how requests follow each other.
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
    """Tries cases until one shows a difference.

    Args:
        cases: how many at most.
        seed: the same one gives the same cases.
        kinds: keys of `GENERATORS`.
        seconds: how long at most.
        builds: the ones to compare.
        clock: returns seconds.

    Returns:
        The number of cases of each kind. "cuts" counts each chunked stream once for each way to cut it.

    Raises:
        Difference: two builds disagree.
    """
    generator = Generator(seed)
    turns = [(kind, GENERATORS[kind]) for kind in kinds for _ in range(SHARES[kind])]
    tried: Counter[str] = Counter()
    end = clock() + seconds
    for number in range(cases):
        if number % 256 == 0 and clock() > end:
            break
        kind, generate = generator.rng.pick(turns)
        case = generate(generator)
        compare(case, builds, f", seed {seed}, case {number}")
        tried[kind] += 1
        if isinstance(case, Chunks):
            tried["cuts"] += len(case.cuts)
    return tried


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.differential")
    parser.add_argument("--cases", type=int, default=1_000_000, help="maximum number of cases (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="maximum time (default: no limit)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 32), help="seed of an earlier run (default: a new one)"
    )
    parser.add_argument("--kinds", nargs="+", choices=GENERATORS, default=[*GENERATORS], help="(default: all)")
    options = parser.parse_args(arguments)
    if len(BUILDS) < 2:
        print("only the pure build is available: nothing to compare", file=sys.stderr)
        return 2
    # The handlers of the cases make mistakes on purpose, of which the server logs thousands.
    logging.getLogger("kaserve").addHandler(logging.NullHandler())
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
