"""Metrics: figures for a Prometheus server, in its text format 0.0.4 or as OpenMetrics 1.0, as the client asks.

Knows the two formats and how to choose. What the figures are is the business of whoever has them: `Metrics` is a
handler around a function that returns families.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..http.handler import BaseHandler
from ..http.messages import Request, Response

__all__ = ["Family", "Metrics", "Sample", "counter", "encode", "gauge", "histogram"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_OPENMETRICS_RANGE = "application/openmetrics-text"
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 §12.4.2


@dataclass(frozen=True)
class Sample:
    """One line. suffix: behind the name of the family, such as "_bucket"."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """All the samples of one metric. name: without the `_total` of counters, which both formats put behind it. kind:
    "counter", "gauge" or "histogram"."""

    name: str
    kind: str
    help: str
    samples: list[Sample]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"not a name of a metric: {self.name!r}")


Values = float | Mapping[str, float]


def gauge(name: str, help: str, values: Values, label: str = "") -> Family:
    """What goes up and down. values: one, or one for each value of `label`."""
    return Family(name, "gauge", help, list(_samples(values, label, "")))


def counter(name: str, help: str, values: Values, label: str = "") -> Family:
    """What only goes up."""
    return Family(name, "counter", help, list(_samples(values, label, "_total")))


def _samples(values: Values, label: str, suffix: str) -> Iterator[Sample]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield Sample(value, {label: name}, suffix)
    else:
        yield Sample(values, {}, suffix)


def histogram(name: str, help: str, bounds: Iterable[float], counts: Iterable[int], total: float) -> Family:
    """counts: for each bound, and one more for what exceeds them all."""
    samples = []
    below = 0
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        below += count
        samples.append(Sample(below, {"le": _number(bound)}, "_bucket"))
    samples += [Sample(total, {}, "_sum"), Sample(below, {}, "_count")]
    return Family(name, "histogram", help, samples)


class Metrics(BaseHandler):
    """A handler. families: called for each request, in the server's thread."""

    def __init__(self, metric_families: Callable[[], Iterable[Family]]) -> None:
        self._families = metric_families

    def __call__(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            response = Response.text("405 Method Not Allowed\n", 405)
            response.headers.add("Allow", "GET, HEAD")
            return response
        openmetrics = prefers_openmetrics(",".join(request.values("accept")))
        text = encode(self._families(), openmetrics=openmetrics)
        return Response(
            200,
            text.encode(),
            (
                ("Content-Type", OPENMETRICS if openmetrics else TEXT),
                ("Cache-Control", "no-store"),
                ("Vary", "Accept"),
            ),
        )


def prefers_openmetrics(accept: str) -> bool:
    """Whether the field Accept puts OpenMetrics first, or names nothing it likes better (RFC 9110 §12.5.1). The plain
    format is for all others, those included that accept neither: better that than a 406 for whoever looks."""
    best: dict[str, float] = {}
    for member in accept.split(","):
        name, *parameters = [part.strip(" \t").lower() for part in member.split(";")]
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "q":
                quality = float(value) if _QUALITY.fullmatch(value) else 0.0
            elif name == _OPENMETRICS_RANGE and key == "version" and value.strip('"') != "1.0.0":
                quality = 0.0  # a version that is not spoken here
        best[name] = max(quality, best.get(name, 0.0))
    openmetrics = best.get(_OPENMETRICS_RANGE, 0.0)
    text = best.get("text/plain", best.get("text/*", best.get("*/*", 0.0)))
    return openmetrics > 0 and openmetrics >= text


def encode(metric_families: Iterable[Family], *, openmetrics: bool = False) -> str:
    """The families in one of the two formats, which differ in the names of counters and in the end mark."""
    lines: list[str] = []
    for family in metric_families:
        name = family.name + ("_total" if family.kind == "counter" and not openmetrics else "")
        lines.append(f"# HELP {name} {_escaped_help(family.help, openmetrics)}")
        lines.append(f"# TYPE {name} {family.kind}")
        for sample in family.samples:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
            braces = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{sample.suffix}{braces} {_number(sample.value)}")
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def _escaped_help(text: str, openmetrics: bool) -> str:
    """The older format leaves quotes in a help text as they are."""
    return _escaped(text) if openmetrics else text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    """As both formats write it: whole numbers without a fraction, but bounds of buckets like any float."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(float(value))
