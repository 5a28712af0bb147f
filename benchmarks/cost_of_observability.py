"""The cost of observability: the access log in its formats, statistics, the status page, metrics.

    python benchmarks/cost_of_observability.py
    python benchmarks/cost_of_observability.py --rounds 9 --seconds 3 --without-statistics
    python benchmarks/cost_of_observability.py --only turns --workload hello
    python benchmarks/cost_of_observability.py --only load --rounds 21 --configuration "page open"

There are two measurements, each with a browser's headers and with wrk's. Both show the median of ratios within a round.

In turns: each server is a process with 32 connections of its own. They take turns on one core, some milliseconds each,
and the processor time of the server's part counts. A longer disturbance of the machine affects all of them alike.

Under load: `wrk -c64` on another core, requests per second and processor time of the server for each. Here the page may
be open in a browser, or a scraper asks for the metrics once a second.

--without-statistics compiles a copy of the checkout whose statistics do nothing. It needs Cython and half a minute.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from lib.observability.configurations import BASELINE, CONFIGURATIONS, Configuration, Samples
from lib.observability.in_turns import in_turns, serve_in_turns
from lib.observability.under_load import under_load
from lib.observability.without_statistics import without_statistics
from lib.processes import clean_up_when_terminated
from lib.tables import align
from lib.workloads import WORKLOADS


def main() -> int:
    """Measure what the command line asks for."""
    options = parse_arguments()
    if options.serve:
        serve_in_turns(*options.serve)
        return 0
    clean_up_when_terminated()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("cost_of_observability.py: needs two cores: one for the server, one for the client", file=sys.stderr)
        return 3
    with ExitStack() as stack:
        configurations = dict(CONFIGURATIONS)
        if options.without_statistics:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-tree-")))
            configurations["no statistics"] = Configuration(tree=without_statistics(directory))
        if options.configuration:
            configurations = {
                name: configuration
                for name, configuration in configurations.items()
                if name == BASELINE or name in options.configuration
            }
        os.sched_setaffinity(0, {cores[0]})  # and so for all that is not the server
        for name in options.workload or ("hello", "browser"):
            workload = WORKLOADS[name]
            if options.only != "load":
                unwatched = {
                    name: configuration
                    for name, configuration in configurations.items()
                    if configuration.watched is None
                }
                spent = in_turns(unwatched, workload, options.rounds * 100, cores[-1])
                print_table(f"{workload.title}: in turns", {"CPU µs/request": spent})
            if options.only != "turns":
                speeds, spent = under_load(configurations, workload, options, (cores[-1], cores[0]))
                print_table(f"{workload.title}: under load", {"requests/s": speeds, "CPU µs/request": spent})
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="under load; there are 100 times as many turns")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each measurement")
    parser.add_argument("--only", choices=("turns", "load"))
    parser.add_argument("--workload", action="append", choices=("hello", "browser"), help="default: both")
    parser.add_argument("--configuration", action="append", metavar="NAME", help=f"next to {BASELINE!r}; default: all")
    parser.add_argument("--without-statistics", action="store_true", help="compile a copy without them, too")
    parser.add_argument("--serve", nargs=2, metavar=("CONFIGURATION", "WORKLOAD"), help=argparse.SUPPRESS)
    return parser.parse_args()


def print_table(title: str, figures: Mapping[str, Samples]) -> None:
    """Print each figure of each configuration, and its ratio to the first configuration."""
    rows = [["configuration", *(head for figure in figures for head in (figure, "ratio"))]]
    for configuration in next(iter(figures.values())):
        row = [configuration]
        for samples in figures.values():
            first = next(iter(samples.values()))
            ratio = median(mine / base for mine, base in zip(samples[configuration], first, strict=True))
            middle = median(samples[configuration])
            row += [f"{middle:,.0f}" if middle > 1000 else f"{middle:.2f}", f"{ratio:.3f}"]
        rows.append(row)
    print(f"\n## {title}\n", *align(rows), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
