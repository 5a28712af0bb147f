"""Tables of samples: medians and ratios, and why a server has none."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from lib.measure import Idle, Sample

NOTHING = "-"


@dataclass
class Outcome:
    """The results of one server and one workload; `samples` has an entry for each round that succeeded."""

    samples: dict[int, Sample] = field(default_factory=dict)
    """By number of the round."""
    reason: str = ""
    """Why there are no (further) samples."""


def throughput(sample: Sample) -> float:
    """Requests per second."""
    return sample.requests_per_second


def cpu(sample: Sample) -> float:
    """Microseconds of the server's processes for each request."""
    return sample.cpu_us


def middle(outcome: Outcome, value: Callable[[Sample], float]) -> float:
    """The median over the rounds."""
    return median(map(value, outcome.samples.values()))


def ratio(outcome: Outcome, baseline: Outcome | None, value: Callable[[Sample], float]) -> float | None:
    """The median of the ratios to the baseline, each taken within a round; None when no round has both.

    Within a round, because what disturbs a machine for a while disturbs the neighbours of that round alike.
    """
    if baseline is None:
        return None
    rounds = outcome.samples.keys() & baseline.samples.keys()
    ratios = [value(outcome.samples[i]) / value(baseline.samples[i]) for i in rounds if value(baseline.samples[i])]
    return median(ratios) if ratios else None


def errors(outcome: Outcome) -> str:
    """What went wrong in the rounds that succeeded, each kind of trouble once."""
    return "; ".join(dict.fromkeys(sample.errors for sample in outcome.samples.values() if sample.errors))


def fastest_first(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Those that have been measured."""
    measured = [name for name, outcome in outcomes.items() if outcome.samples]
    measured.sort(key=lambda name: -middle(outcomes[name], throughput))
    return {name: outcomes[name] for name in measured}


def table(outcomes: Mapping[str, Outcome], baseline: str, *, idle: bool) -> str:
    """The table of one workload, in Markdown: a row for each server, fastest first, then those without a figure."""
    header = ["server", "requests/s", "min..max", "ratio", "CPU µs/request", "ratio", "busy", "resident", "p99"]
    header += ["bytes/idle", "kept"] if idle else []
    header += ["errors"]
    measured = fastest_first(outcomes)
    rows = [_row(name, outcome, measured.get(baseline), idle=idle) for name, outcome in measured.items()]
    reasons = [f"- {name}: {outcome.reason}" for name, outcome in outcomes.items() if outcome.reason]
    return "\n".join([*align([header, *rows], words={"errors"}), *([""] if reasons else []), *reasons])


def overview(results: Mapping[str, Mapping[str, Outcome]], baseline: str) -> str:
    """Throughput of every server in every workload as a ratio to the baseline, in Markdown."""
    servers = list(dict.fromkeys(name for outcomes in results.values() for name in outcomes))
    rows = []
    for server in servers:
        pairs = [(outcomes[server], outcomes.get(baseline)) for outcomes in results.values()]
        rows.append([server, *(_times(ratio(outcome, other, throughput)) for outcome, other in pairs)])
    return "\n".join(align([["server", *results], *rows]))


def align(rows: Sequence[Sequence[str]], words: Collection[str] = ()) -> list[str]:
    """Markdown lines of a header and rows: the first column and those named in `words` left, figures right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {i for i, title in enumerate(rows[0]) if i == 0 or title in words}

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) if i in left else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return [line(rows[0]), rule + "|", *map(line, rows[1:])]


def _row(name: str, outcome: Outcome, baseline: Outcome | None, *, idle: bool) -> list[str]:
    speeds = [sample.requests_per_second for sample in outcome.samples.values()]
    row = [
        name,
        f"{median(speeds):,.0f}",
        f"{min(speeds):,.0f}..{max(speeds):,.0f}",
        _times(ratio(outcome, baseline, throughput)),
        f"{middle(outcome, cpu):,.1f}",
        _times(ratio(outcome, baseline, cpu)),
        f"{middle(outcome, lambda sample: sample.busy):.0%}",
        f"{middle(outcome, lambda sample: sample.resident_bytes) / 2**20:,.1f} MiB",
        _milliseconds(middle(outcome, lambda sample: sample.p99_us)),
    ]
    if idle:
        row.append(f"{middle(outcome, lambda sample: _idle(sample).bytes_each):,.0f}")
        row.append(f"{middle(outcome, lambda sample: _idle(sample).throughput_kept):.2f}")
    return [*row, errors(outcome) or NOTHING]


def _idle(sample: Sample) -> Idle:
    assert sample.idle is not None, "only for the workload that has idle connections"
    return sample.idle


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _milliseconds(microseconds: float) -> str:
    return f"{microseconds / 1000:,.2f} ms" if microseconds else NOTHING
