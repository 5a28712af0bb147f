"""Servers compared: the same work for each, on one core, with the client on another.

    python benchmarks/servers.py
    python benchmarks/servers.py --servers kaserve,nginx,uvicorn --workloads hello,file1k --rounds 5 --seconds 3

The rounds are interleaved (all servers, then all servers again), so that a machine which is slow for a while is slow
for all.  Every measurement starts its server afresh, checks its responses first, and warms it up.  A server
that cannot do a workload is listed with the reason.  --svg makes a chart of each table.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib import wrk
from lib.charts import Bar, draw
from lib.measure import WARM_UP_SECONDS, Bench, measure
from lib.peers import PEERS, Peer
from lib.processes import clean_up_when_terminated, raise_descriptor_limit
from lib.serving import CannotServe
from lib.tables import Outcome, cpu, fastest_first, middle, overview, ratio, table, throughput
from lib.workloads import FILE_SIZES, WORKLOADS, Workload, write_files

LEGEND = """\
requests/s: median of the rounds. ratio: to {baseline}, median of the ratios within each round.
CPU: user and system time of the server's processes. busy: that time divided by the time passed; well below 100 %
the client was the limit, or the server paused, and CPU per request is the figure to compare.
resident: of all its processes, under load. p99: latency, as wrk saw it."""
IDLE_LEGEND = """\
bytes/idle: resident memory for each idle connection. kept: throughput next to them divided by throughput alone."""


def main() -> int:
    """Measure what the command line asks for, and print a table for each workload."""
    options = parse_arguments()
    clean_up_when_terminated()
    try:
        server_core, client_core = prepare(options)
    except RuntimeError as error:
        print(f"servers.py: {error}", file=sys.stderr)
        return 3
    peers = [PEERS[name] for name in options.servers]
    workloads = [WORKLOADS[name] for name in options.workloads]
    baseline = options.baseline or peers[0].name
    facts = describe(peers, options.rounds, options.seconds)
    print(introduction(facts), LEGEND.format(baseline=baseline), sep="\n\n", flush=True)

    results: dict[str, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-files-") as directory:
        write_files(Path(directory), FILE_SIZES)
        bench = Bench(Path(directory), options.seconds, server_core, client_core)
        try:
            for workload in workloads:
                results[workload.name] = run_rounds(peers, workload, bench, options.rounds)
                print_table(workload, results[workload.name], baseline)
                if options.svg:
                    draw_chart(workload, results[workload.name], baseline, options.svg)
            print(f"\n## All workloads: requests/s as a ratio to {baseline}\n\n{overview(results, baseline)}")
        except KeyboardInterrupt:
            print("\ninterrupted; what is above is complete", file=sys.stderr)
            return 130
        finally:
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(report(facts, results, baseline), indent=2) + "\n")
    return 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; unknown servers and workloads are refused here."""
    parser = argparse.ArgumentParser(description="Compare HTTP servers.")
    parser.add_argument("--servers", type=_names(PEERS), default=list(PEERS), metavar="A,B", help=", ".join(PEERS))
    parser.add_argument(
        "--workloads", type=_names(WORKLOADS), default=list(WORKLOADS), metavar="A,B", help=", ".join(WORKLOADS)
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--seconds", type=int, default=3, help="how long each time (3)")
    parser.add_argument("--baseline", metavar="NAME", choices=list(PEERS), help="what ratios refer to (the first)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw a chart for each workload there")
    parser.add_argument("--server-core", type=int, metavar="N", help="default: the last")
    parser.add_argument("--client-core", type=int, metavar="N", help="default: the first")
    return parser.parse_args(argv)


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser of names between commas, each of which must be known."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
        return names

    return parse


def prepare(options: argparse.Namespace) -> tuple[int, int]:
    """Choose the cores of server and client, and settle on the latter; RuntimeError says what the machine lacks."""
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeError("needs Linux")
    if shutil.which("wrk") is None:
        raise RuntimeError("needs wrk")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("needs two cores: one for the server, one for the client")
    client = cores[0] if options.client_core is None else options.client_core
    server = cores[-1] if options.server_core is None else options.server_core
    if client == server or not {client, server} <= set(cores):
        raise RuntimeError(f"needs two different cores out of {cores}")
    raise_descriptor_limit()
    # The holder of the idle connections inherits this, and so does everything else that is not a server.
    os.sched_setaffinity(0, {client})
    return server, client


def run_rounds(peers: list[Peer], workload: Workload, bench: Bench, rounds: int) -> dict[str, Outcome]:
    """Measure one workload: every peer in turn, `rounds` times. A peer that fails is not measured again."""
    outcomes = {peer.name: Outcome() for peer in peers}
    for number in range(rounds):
        for peer in peers:
            outcome = outcomes[peer.name]
            if outcome.reason:
                continue
            progress(f"{workload.name}: round {number + 1} of {rounds}: {peer.name}")
            try:
                outcome.samples[number] = measure(peer, workload, bench)
            except (CannotServe, OSError) as error:
                outcome.reason = str(error)
    progress("")
    return outcomes


def progress(text: str) -> None:
    """Show what is being done, on a terminal only, on one line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def print_table(workload: Workload, outcomes: dict[str, Outcome], baseline: str) -> None:
    """Print the table of one workload under its title."""
    print(f"\n## {workload.title}\n\n{table(outcomes, baseline, idle=workload.idle > 0)}", flush=True)
    if workload.idle:
        print("\n" + IDLE_LEGEND, flush=True)


def draw_chart(workload: Workload, outcomes: dict[str, Outcome], baseline: str, directory: Path) -> None:
    """Draw the ratios of one workload, fastest first, or the rates if the baseline cannot do it; below them the servers
    that cannot do it, with the reason."""
    bars = []
    for name, outcome in fastest_first(outcomes).items():
        rate, times = middle(outcome, throughput), ratio(outcome, outcomes.get(baseline), throughput)
        figures = f"{rate:,.0f}/s, {middle(outcome, cpu):,.1f} µs CPU"
        bars.append(Bar(name, times or rate, f"{times:.2f} ({figures})" if times else figures))
    bars += [Bar(name, None, outcome.reason) for name, outcome in outcomes.items() if not outcome.samples]
    has_baseline = bool(baseline in outcomes and outcomes[baseline].samples)
    axis = f"requests/s, {baseline} = 1" if has_baseline else "requests/s"
    draw(directory / f"{workload.name}.svg", workload.title, axis, bars)


def describe(peers: list[Peer], rounds: int, seconds: int) -> dict[str, Any]:
    """The machine, the versions, and how it was measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rounds": rounds,
        "seconds": seconds,
        "warm_up_seconds": WARM_UP_SECONDS,
        "connections": wrk.CONNECTIONS,
        "versions": {peer.name: peer.missing() or peer.version() for peer in peers},
    }


def introduction(facts: dict[str, Any]) -> str:
    """The facts as text."""
    return "\n".join(
        [
            f"{facts['processor']}, {facts['cores']} cores; Linux {facts['kernel']}; Python {facts['python']}",
            f"server on one core, wrk -t1 -c{facts['connections']} on another; "
            f"{facts['rounds']} interleaved rounds of {facts['seconds']} s",
            *(f"- {name}: {version}" for name, version in facts["versions"].items()),
        ]
    )


def report(facts: dict[str, Any], results: dict[str, dict[str, Outcome]], baseline: str) -> dict[str, Any]:
    """Everything, for JSON: the facts, every sample, and the medians and ratios of the tables."""
    return {
        **facts,
        "baseline": baseline,
        "workloads": {
            workload: {name: _entry(outcome, outcomes.get(baseline)) for name, outcome in outcomes.items()}
            for workload, outcomes in results.items()
        },
    }


def _entry(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"reason": outcome.reason, "samples": [asdict(s) for s in outcome.samples.values()]}
    if outcome.samples:
        for key in ("requests_per_second", "cpu_us", "resident_bytes", "p99_us"):

            def value(sample: Any, key: str = key) -> float:
                return float(getattr(sample, key))

            entry[key] = {"median": middle(outcome, value), "ratio": ratio(outcome, baseline, value)}
    return entry


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
