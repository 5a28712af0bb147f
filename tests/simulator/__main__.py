"""The command line of the simulator; see the package."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from tests.simulator.world import run

_EVERY = 10.0  # seconds between two lines of progress


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Clients, a proxy and servers.")
    parser.add_argument("--runs", type=int, default=10_000, metavar="N", help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    options = parser.parse_args()
    log = logging.getLogger("kaserve")
    log.propagate = options.trace
    log.addHandler(logging.NullHandler())
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.runs)
    began = shown = time.monotonic()
    failed = 0
    for count, seed in enumerate(seeds, 1):
        try:
            run(seed, print if options.trace else lambda text: None)
        except AssertionError as error:
            failed += 1
            print(f"seed {seed}: {error}")
            if options.seed is not None:
                traceback.print_exc()
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            print(f"{count} runs, {failed} failed", file=sys.stderr)
    print(f"{len(seeds)} runs in {time.monotonic() - began:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
