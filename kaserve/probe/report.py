"""The report of a probe: all experiments in turn, as a table for people and as JSON for programs.

Knows the order of the rows and their words. An experiment that fails leaves a row that says why; the others continue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .client_connection import RESET, NoResponse
from .experiments.closing import closing, half_closed_client
from .experiments.first_response import Basics, first_response
from .experiments.persistence import IdleTimeout, Persistence, RequestLimit, idle_timeout, persistence, request_limit
from .experiments.pipelining import Pipeline, pipelining
from .experiments.request_bodies import PARSES_BODY, RequestBody, chunked_request, unread_body
from .finding import Finding
from .settings import ProbeSettings

__all__ = ["Report", "as_json", "as_rows", "as_table", "probe", "remarks"]


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
    """Returns the report for people: a row a line, then the remarks.

    Args:
        report: what was found.
        colour: whether to colour the rows, for a terminal that obeys ANSI escape sequences. Such sequences in what the
            server sent are made visible instead.
    """
    rows = list(_rows(report))
    width = max(len(label) for label, _, _ in rows)
    lines = [_printable(report.url)]
    for label, finding, words in rows:
        mark = {True: "+", False: "!", None: " "}[None if finding is None else finding.good]
        line = f" {mark} {label:{width}}  {_printable(words)}"
        escape = {"+": "\x1b[32m", "!": "\x1b[33m"}.get(mark) if colour else None
        lines.append(f"{escape}{line}\x1b[0m" if escape else line)
    return "\n".join(lines + [f" * {remark}" for remark in remarks(report)])


def _printable(text: str) -> str:
    """Returns `text` with its control characters as \\x escapes."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def as_json(report: Report) -> dict[str, object]:
    """Returns the report as data for `json.dumps`: names and figures, and sentences in `remarks`."""
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
    """Returns sentences on what will cost a client a request, or worse."""
    findings = report.findings
    return [
        *_idle_remarks(findings.get("idle")),
        *_limit_remarks(findings.get("request_limit"), report.basics),
        *_other_remarks(findings),
    ]


def _idle_remarks(idle: Finding | None) -> Iterator[str]:
    if not isinstance(idle, IdleTimeout):
        return
    if idle.seconds and idle.good is False:
        yield (
            f"It announces {idle.announced} s and closes after {idle.seconds:.1f} s: a client that relies on the "
            "announcement may lose a request."
        )
    if idle.late_request == RESET:
        yield "A request that crosses the idle close is reset: a client may repeat a GET then, but not a POST."


def _limit_remarks(limit: Finding | None, basics: Basics) -> Iterator[str]:
    if not isinstance(limit, RequestLimit) or not limit.ended:
        return
    if not limit.announced:
        yield "The last response on a connection does not announce its end: the client's next request is lost."
    if basics.max is not None and limit.requests <= basics.max:
        yield f"It announces max={basics.max} after one request and accepts {limit.requests} in all."


def _other_remarks(findings: dict[str, Finding | None]) -> Iterator[str]:
    body = findings.get("unread_body")
    if isinstance(body, RequestBody) and body.outcome == PARSES_BODY:
        yield "A body that the server does not read is parsed as requests: its sender can smuggle requests in."
    pipeline = findings.get("pipelining")
    if isinstance(pipeline, Pipeline) and pipeline.head_has_body:
        yield "The response to HEAD has a body (against RFC 9110 §9.3.2), which a client reads as the next response."
    plain = findings.get("persists_1_0")
    if isinstance(plain, Persistence) and not plain.ended:
        yield "An HTTP/1.0 connection without keep-alive stays open: a client that waits for its end waits for ever."
