"""The report of a probe: all the experiments in turn, as a table for people and as JSON for programs.

Knows the words and their order. An experiment that fails leaves a row that says why, and the others go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..probe import experiments
from .experiments import Basics, Finding, Idle, Limit, Persistence, ProbeSettings
from .line import NoAnswer

__all__ = ["Report", "as_json", "as_rows", "as_table", "probe", "remarks"]


@dataclass(frozen=True)
class Failed(Finding):
    """An experiment that came to no end."""

    failed: str

    @property
    def good(self) -> bool | None:
        return False

    def __str__(self) -> str:
        return f"? ({self.failed})"


@dataclass(frozen=True)
class Report:
    """url: as given. basics: of the first answer. findings: by the names of JSON, in the order of the table."""

    url: str
    basics: Basics
    findings: dict[str, Finding | None]


_EXPERIMENTS: dict[str, Callable[[ProbeSettings], Finding | None]] = {
    "persists_1_1": lambda lab: experiments.persistence(lab, "1.1"),
    "persists_1_0_keep_alive": lambda lab: experiments.persistence(lab, "1.0", "Connection: keep-alive"),
    "persists_1_0": lambda lab: experiments.persistence(lab, "1.0"),
    "pipelining": experiments.pipelining,
    "unread_body": experiments.unread_body,
    "chunked_request": experiments.chunked_request,
    "closing": experiments.closing,
    "half_closed_client": experiments.half_closed_client,
    "request_limit": experiments.request_limit,
    "idle": experiments.idle,
}

_LABELS = {
    "persists_1_1": "HTTP/1.1 persists",
    "persists_1_0_keep_alive": "HTTP/1.0 with keep-alive persists",
    "persists_1_0": "HTTP/1.0 alone persists",
    "pipelining": "pipelined requests",
    "unread_body": "POST with a body of 128 KiB",
    "chunked_request": "chunked POST with a trailer",
    "closing": "when asked to close",
    "half_closed_client": "a client that half-closes",
    "request_limit": "requests per connection",
    "idle": "idle connections end after",
}


def probe(url: str, lab: ProbeSettings, progress: Callable[[str], object] = lambda label: None) -> Report:
    """Makes all the experiments. progress: told what is tried. Raises OSError and NoAnswer when not even one request is
    answered."""
    progress("one request")
    basics = experiments.first_answer(lab)
    findings: dict[str, Finding | None] = {}
    for name, experiment in _EXPERIMENTS.items():
        progress(_LABELS[name])
        try:
            findings[name] = experiment(lab)
        except NoAnswer as error:
            findings[name] = Failed(str(error))
        except OSError as error:
            findings[name] = Failed(error.strerror or str(error))
    return Report(url, basics, findings)


def _rows(report: Report) -> Iterator[tuple[str, Finding | None, str]]:
    """Label, finding and words of each row."""
    basics = report.basics
    yield "answers", None, str(basics)
    yield "Date", basics, basics.date
    yield "Keep-Alive announces", None, basics.announced
    for name, finding in report.findings.items():
        if finding is not None:
            yield _LABELS[name], finding, str(finding)
        if isinstance(finding, Idle) and finding.late_request:
            yield "a request that comes after that is", None, finding.late_request


def as_rows(report: Report) -> list[tuple[str, str]]:
    """Label and words of each row of the table."""
    return [(label, _shown(words)) for label, _, words in _rows(report)]


def as_table(report: Report, colour: bool = False) -> str:
    """Aligned, a row a line; behind it what a client has to fear. Bytes of the server that a terminal could obey are
    not shown."""
    rows = list(_rows(report))
    width = max(len(label) for label, _, _ in rows)
    lines = [f"{_shown(report.url)}"]
    for label, finding, words in rows:
        mark = {True: "+", False: "!", None: " "}[None if finding is None else finding.good]
        line = f" {mark} {label:{width}}  {_shown(words)}"
        paint = {"+": "\x1b[32m", "!": "\x1b[33m"}.get(mark) if colour else None
        lines.append(f"{paint}{line}\x1b[0m" if paint else line)
    return "\n".join(lines + [f" * {remark}" for remark in remarks(report)])


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def as_json(report: Report) -> dict[str, object]:
    """What `json.dumps` takes: names and figures, and in `remarks` the words."""
    findings = {
        name: None if finding is None else dataclasses.asdict(finding) for name, finding in report.findings.items()
    }
    return {
        "url": report.url,
        "basics": dataclasses.asdict(report.basics),
        **findings,
        "remarks": remarks(report),
    }


def remarks(report: Report) -> list[str]:
    """What follows from several findings, or deserves a sentence."""
    basics, findings = report.basics, report.findings
    said = []
    idle, limit = findings.get("idle"), findings.get("request_limit")
    if isinstance(idle, Idle) and idle.seconds and idle.good is False:
        said.append(
            f"It announces {idle.announced} s and closes after {idle.seconds:.1f} s: who trusts it may lose a request."
        )
    if isinstance(idle, Idle) and idle.late_request == "reset":
        said.append("A request that crosses the idle close is reset: a client may repeat a GET then, but not a POST.")
    if isinstance(limit, Limit) and limit.ended and not limit.announced:
        said.append("The last request of a connection is not announced: the one behind it is lost.")
    if isinstance(limit, Limit) and limit.ended and basics.max is not None and limit.requests <= basics.max:
        said.append(f"It announces max={basics.max} after one request and took {limit.requests} in all.")
    unread = findings.get("unread_body")
    if isinstance(unread, experiments.Body) and unread.then == "takes the body for requests":
        said.append("A body that nobody reads is taken for requests: whoever sends the body smuggles requests in.")
    pipeline = findings.get("pipelining")
    if isinstance(pipeline, experiments.Pipeline) and pipeline.heads_have_bodies:
        said.append("HEAD is answered with a body (against RFC 9110 §9.3.2), which is read as the next answer.")
    plain = findings.get("persists_1_0")
    if isinstance(plain, Persistence) and not plain.ended:
        said.append(
            "An HTTP/1.0 connection without keep-alive stays open: such a client may wait for its end for ever."
        )
    return said
