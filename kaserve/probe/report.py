"""The report of a probe: all experiments in turn, as a table for people and as JSON for programs.

Knows the order of the rows and their words. An experiment that fails leaves a row that says why; the others continue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .client_connection import NoResponse
from .experiments.closing import closing, half_closed_client
from .experiments.first_response import Basics, first_response
from .experiments.persistence import IdleTimeout, idle_timeout, persistence, request_limit
from .experiments.pipelining import pipelining
from .experiments.request_bodies import chunked_request, unread_body
from .finding import Finding
from .problems import Problem, find_problems, verdict
from .settings import ProbeSettings

__all__ = ["Report", "as_json", "as_rows", "as_table", "is_good", "probe", "problems"]


@dataclass(frozen=True)
class Failed(Finding):
    """An experiment that could not be completed.

    Attributes:
        failed: why.
    """

    failed: str

    @property
    def good(self) -> bool | None:
        return False

    def __str__(self) -> str:
        return f"? ({self.failed})"


@dataclass(frozen=True)
class Report:
    """What a probe has found.

    Attributes:
        url: as it was given.
        basics: what the first response says.
        findings: by their names in JSON, in the order of the table; None for an experiment that does not apply.
    """

    url: str
    basics: Basics
    findings: dict[str, Finding | None]


_LEGEND = " + good for clients   ! costs clients requests or time   * a hint   (no mark: neither good nor bad)"

_Experiment = Callable[[ProbeSettings], Finding | None]

_EXPERIMENTS: dict[str, tuple[str, _Experiment]] = {
    "persists_1_1": ("HTTP/1.1 persists", lambda settings: persistence(settings, "1.1")),
    "persists_1_0_keep_alive": (
        "HTTP/1.0 with keep-alive persists",
        lambda settings: persistence(settings, "1.0", "Connection: keep-alive"),
    ),
    "persists_1_0": ("HTTP/1.0 without it persists", lambda settings: persistence(settings, "1.0")),
    "pipelining": ("pipelined requests", pipelining),
    "unread_body": ("POST with a body of 128 KiB", unread_body),
    "chunked_request": ("chunked POST with a trailer", chunked_request),
    "closing": ("after Connection: close", closing),
    "half_closed_client": ("a client that half-closes", half_closed_client),
    "request_limit": ("requests per connection", request_limit),
    "idle": ("idle connections end after", idle_timeout),
}
"""The experiments by their names in JSON, with the labels of their rows."""


def probe(url: str, settings: ProbeSettings, progress: Callable[[str], object] = lambda label: None) -> Report:
    """Makes all experiments.

    Args:
        url: for the report.
        settings: the target and the limits.
        progress: called with the label of each experiment before it begins.

    Raises:
        OSError, NoResponse: not even the first request gets a response.
    """
    progress("first request")
    basics = first_response(settings)
    findings: dict[str, Finding | None] = {}
    for name, (label, experiment) in _EXPERIMENTS.items():
        progress(label)
        try:
            findings[name] = experiment(settings)
        except NoResponse as error:
            findings[name] = Failed(str(error))
        except OSError as error:
            findings[name] = Failed(error.strerror or str(error))
    return Report(url, basics, findings)


def _rows(report: Report) -> Iterator[tuple[str, Finding | None, str]]:
    """Yields the label, the finding and the words of each row."""
    basics = report.basics
    yield "first response", None, str(basics)
    yield "Date", basics, basics.date
    yield "Keep-Alive header", None, basics.announced
    for name, finding in report.findings.items():
        if finding is not None:
            yield _EXPERIMENTS[name][0], finding, str(finding)
        if isinstance(finding, IdleTimeout) and finding.late_request:
            yield "a request after that is", None, finding.late_request


def as_rows(report: Report) -> list[tuple[str, str]]:
    """Returns the label and the words of each row of the table."""
    return [(label, _printable(words)) for label, _, words in _rows(report)]


def as_table(report: Report, colour: bool = False) -> str:
    """Returns the report for people: the verdict, a row a line, the legend, and each problem with its remedy.

    Args:
        report: what was found.
        colour: whether to colour the rows, for a terminal that obeys ANSI escape sequences. Such sequences in what the
            server sent are made visible instead.
    """
    rows = list(_rows(report))
    found = problems(report)
    width = max(len(label) for label, _, _ in rows)

    def painted(line: str, mark: str) -> str:
        escape = {"+": "\x1b[32m", "!": "\x1b[33m"}.get(mark) if colour else None
        return f"{escape}{line}\x1b[0m" if escape else line

    summary = f"verdict: {verdict(report.basics, report.findings)}"
    lines = [_printable(report.url), painted(summary, "+" if is_good(report) else "!"), ""]
    for label, finding, words in rows:
        mark = {True: "+", False: "!", None: " "}[None if finding is None else finding.good]
        lines.append(painted(f" {mark} {label:{width}}  {_printable(words)}", mark))
    lines += ["", _LEGEND]
    for problem in found:
        mark = "*" if problem.is_note else "!"
        lines += ["", painted(f" {mark} {_printable(problem.what)}", mark), f"   Remedy: {problem.remedy}"]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Returns `text` with its control characters as \\x escapes."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def as_json(report: Report) -> dict[str, object]:
    """Returns the report as data for `json.dumps`: names and figures, and sentences in `verdict` and `problems`."""
    findings = {
        name: None if finding is None else dataclasses.asdict(finding) for name, finding in report.findings.items()
    }
    return {
        "url": report.url,
        "basics": dataclasses.asdict(report.basics),
        **findings,
        "verdict": verdict(report.basics, report.findings),
        "problems": [dataclasses.asdict(problem) for problem in problems(report)],
    }


def problems(report: Report) -> list[Problem]:
    """Returns what costs a client a request, or worse; each with a remedy."""
    return find_problems(report.basics, report.findings)


def is_good(report: Report) -> bool:
    """Returns whether nothing is wrong; a note is not a fault."""
    return all(problem.is_note for problem in problems(report))
