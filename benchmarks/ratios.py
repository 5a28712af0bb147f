"""Is kaserve as fast as required? The required ratios, from the results of one run.

    python benchmarks/ratios.py benchmarks/results/parts.json benchmarks/results/servers.json
        [--json FILE] [--svg DIR]

It takes what `make bench` (pytest-benchmark's JSON) and `make bench-servers` (that of servers.py) have measured, either
or both. Ratios of parts are those of medians; ratios of servers are medians of the ratios within each round. "Level"
means at least 0.97. With --svg there is a chart for the parts.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lib.charts import Bar, draw
from lib.tables import NOTHING, align

AHEAD, LEVEL = 1.0, 0.97

HEAD, COOKIES = "head, 703 bytes: request", "head, 703 bytes, new cookies: request"
CHUNKS = "chunked, 10 bodies of 64 KiB in 4 KiB chunks, whole"
HELLO = "round trip, hello, 703 bytes"
TIMERS = "timers: {} of 100,000"

CHARTS = {"head": HEAD, "chunked": CHUNKS, "round_trip": HELLO}
"""File names of the charts of parts, and their tables."""


@dataclass(frozen=True)
class Results:
    """What has been measured."""

    parts: Mapping[tuple[str, str], float]
    """Median seconds, by table and row."""
    workloads: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """Samples in the order of the rounds, by workload and server."""


Measure = Callable[[Results], float | None]
"""None when that was not measured."""


@dataclass(frozen=True)
class Figure:
    """One line: what, how it is found, and what is required, if anything."""

    what: str
    measure: Measure
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Finding:
    """A figure, and what it turned out to be."""

    what: str
    measured: float | None
    at_least: float | None
    at_most: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the requirement is met; None if there is none, or nothing was measured."""
        if self.measured is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least or 0) <= self.measured <= (self.at_most or float("inf"))


# --- measures ---------------------------------------------------------------------------------------------------------


def times_as_fast(table: str, other: str, ours: str = "kaserve") -> Measure:
    """How many times faster a part of ours is than another row of the same table."""

    def measure(results: Results) -> float | None:
        mine, theirs = results.parts.get((table, ours)), results.parts.get((table, other))
        return theirs / mine if mine and theirs else None

    return measure


def of_server(workload: str, other: str, key: str = "requests_per_second", ours: str = "kaserve") -> Measure:
    """What a server of ours has of something, divided by what another one has in the same round."""

    def measure(results: Results) -> float | None:
        servers = results.workloads.get(workload, {})
        # A server that failed is not measured in later rounds, so the samples of both start with the first round.
        rounds = zip(servers.get(ours, ()), servers.get(other, ()), strict=False)
        ratios = [mine[key] / theirs[key] for mine, theirs in rounds if theirs[key]]
        return median(ratios) if ratios else None

    return measure


def of_idle(key: str) -> Measure:
    """What the idle connections cost kaserve."""

    def measure(results: Results) -> float | None:
        samples = results.workloads.get("idle", {}).get("kaserve", ())
        return median(sample["idle"][key] for sample in samples) if samples else None

    return measure


# --- requirements -----------------------------------------------------------------------------------------------------

PARTS = [
    Figure("703-byte head, times as fast as httptools", times_as_fast(HEAD, "httptools"), at_least=5),
    Figure("703-byte head, times as fast as h11", times_as_fast(HEAD, "h11"), at_least=30),
    Figure("703-byte head, times as fast as pure", times_as_fast(HEAD, "kaserve-pure"), at_least=8),
    Figure("703-byte head and its fields, times httptools", times_as_fast(HEAD, "httptools", ours="kaserve + fields")),
    Figure(
        "703-byte head in HTTPProtocol, times httptools",
        times_as_fast(HEAD, "httptools", ours="kaserve in HTTPProtocol"),
    ),
    Figure("703-byte head, new cookies, times httptools", times_as_fast(COOKIES, "httptools")),
    Figure("703-byte head, new cookies, times pure", times_as_fast(COOKIES, "kaserve-pure")),
    Figure("703-byte head, syntax alone, times pure", times_as_fast("head, 703 bytes: syntax", "kaserve-pure")),
    Figure("703-byte head, syntax alone, times httptools", times_as_fast("head, 703 bytes: syntax", "httptools")),
    Figure("chunks of 4 KiB, times as fast as httptools", times_as_fast(CHUNKS, "httptools"), at_least=5),
    Figure("chunks of 4 KiB, speed of copying", times_as_fast(CHUNKS, "copy"), at_least=0.5),
    Figure("chunks of 4 KiB, times as fast as pure", times_as_fast(CHUNKS, "kaserve-pure")),
    Figure("round trip of hello, times as fast as pure", times_as_fast(HELLO, "kaserve-pure")),
    Figure("round trip of hello, times as fast as h11", times_as_fast(HELLO, "h11")),
    Figure("timers: touch one, times as fast as a heap", times_as_fast("timers: touch one", "heapq")),
    Figure("timers: touch all, times as fast as a heap", times_as_fast(TIMERS.format("touch all"), "heapq")),
    Figure("timers: expire all, times as fast as a heap", times_as_fast(TIMERS.format("expire all"), "heapq")),
    Figure("timers: nothing due, times as fast as a scan", times_as_fast(TIMERS.format("none") + " due", "scan")),
]
SERVERS = [
    Figure("hello, CPU per request, of the C epoll loop's", of_server("hello", "c-loop", "cpu_us"), at_most=1.25),
    Figure("hello, of bjoern", of_server("hello", "bjoern"), at_least=AHEAD),
    Figure("hello, of nginx", of_server("hello", "nginx"), at_least=LEVEL),
    Figure("hello, of pure", of_server("hello", "kaserve-pure"), at_least=1.5),
    Figure("hello, CPU per request, of pure", of_server("hello", "kaserve-pure", "cpu_us")),
    Figure("hello, twelve browser headers, of bjoern", of_server("browser", "bjoern"), at_least=1.2),
    Figure("hello, twelve browser headers, of nginx", of_server("browser", "nginx"), at_least=LEVEL),
    Figure("hello, 16 pipelined, of nginx", of_server("pipelined", "nginx"), at_least=4.5),
    Figure("1 KiB file, of nginx", of_server("file1k", "nginx"), at_least=1.3),
    Figure("1 KiB file, of nginx with open_file_cache", of_server("file1k", "nginx-cached"), at_least=LEVEL),
    Figure("1 KiB file, of lighttpd", of_server("file1k", "lighttpd"), at_least=LEVEL),
    Figure("64 KiB file, of nginx", of_server("file64k", "nginx"), at_least=AHEAD),
    Figure("64 KiB file, of lighttpd", of_server("file64k", "lighttpd"), at_least=LEVEL),
    Figure("10 MiB file, of nginx", of_server("file10m", "nginx"), at_least=AHEAD),
    Figure("10 MiB file, of lighttpd", of_server("file10m", "lighttpd"), at_least=LEVEL),
    *(
        Figure(f"{title}, of {peer}", of_server(workload, peer), at_least=AHEAD)
        for workload, title in (("upload", "64 KiB upload"), ("upload-chunked", "64 KiB chunked upload"))
        for peer in ("bjoern", "granian", "go")
    ),
    Figure("idle connection, bytes of memory", of_idle("bytes_each"), at_most=1024),
    Figure("throughput with 10,000 idle, of that without", of_idle("throughput_kept"), at_least=0.98),
]


# --- the report -------------------------------------------------------------------------------------------------------


def main() -> int:
    """Print the table; the exit code is 0 whatever it says, for a slow machine is not a failure."""
    options = parse_arguments()
    try:
        results = read(options.results)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"ratios.py: {error}", file=sys.stderr)
        return 2
    figures = [*(PARTS if results.parts else []), *(SERVERS if results.workloads else [])]
    findings = [Finding(f.what, f.measure(results), f.at_least, f.at_most) for f in figures]
    print("\n".join(table(findings)))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = [asdict(finding) | {"reached": finding.reached} for finding in findings]
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.svg:
        draw_parts(results, options.svg)
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare results with the requirements.")
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="JSON of pytest-benchmark or servers.py")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw charts of the parts there")
    return parser.parse_args()


def read(files: Sequence[Path]) -> Results:
    """All results; ValueError for a file that has none."""
    parts: dict[tuple[str, str], float] = {}
    workloads: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in files:
        content = json.loads(file.read_text())
        if "benchmarks" in content:
            parts |= {(b["group"], b["name"]): b["stats"]["median"] for b in content["benchmarks"]}
        elif "workloads" in content:
            for workload, servers in content["workloads"].items():
                workloads[workload] = {server: entry["samples"] for server, entry in servers.items()}
        else:
            raise ValueError(f"{file} has no results")
    return Results(parts, workloads)


def table(findings: Sequence[Finding]) -> list[str]:
    """Markdown lines."""
    rows = [["what", "measured", "required", "reached"]]
    verdicts = {True: "yes", False: "no", None: NOTHING}
    for finding in findings:
        measured = NOTHING if finding.measured is None else f"{finding.measured:,.2f}"
        rows.append([finding.what, measured, _demand(finding), verdicts[finding.reached]])
    return align(rows, words={"reached"})


def _demand(finding: Finding) -> str:
    if finding.at_least is not None:
        return f"at least {finding.at_least:g}"
    return NOTHING if finding.at_most is None else f"at most {finding.at_most:g}"


def draw_parts(results: Results, directory: Path) -> None:
    """Draw the tables of `CHARTS`: speeds as ratios to kaserve's, fastest first."""
    for file, name in CHARTS.items():
        ours = results.parts.get((name, "kaserve"))
        if ours is not None:
            rows = sorted((seconds, row) for (table, row), seconds in results.parts.items() if table == name)
            bars = [
                Bar(row, ours / seconds, f"{ours / seconds:.2f}  ({seconds * 1e6:,.2f} µs)") for seconds, row in rows
            ]
            draw(directory / f"{file}.svg", name, "speed, kaserve = 1", bars)


if __name__ == "__main__":
    sys.exit(main())
