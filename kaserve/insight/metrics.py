"""MetricsPage: figures for a Prometheus server, in its text format 0.0.4 or as OpenMetrics 1.0.

Knows the two formats, and how a client chooses one. Does not know the figures, which come from a function as families.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..http.messages import Request, Response
from ..http.negotiation import Accepted, media_type_weight, parse_accept
from .page import Page

__all__ = ["OPENMETRICS", "TEXT", "Family", "MetricsPage", "Sample", "counter", "encode", "gauge", "histogram"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_OPENMETRICS_RANGE = "application/openmetrics-text"


@dataclass(frozen=True)
class Sample:
    """One line of the format.

    Attributes:
        value: the figure.
        labels: its labels.
        suffix: what follows the name of the family, such as "_bucket".
    """

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """A metric with all its samples.

    Attributes:
        name: without the `_total` of counters, which both formats append to the samples.
        kind: "counter", "gauge" or "histogram".
        help: what the metric says, in a sentence.
        samples: the samples.
    """

    name: str
    kind: str
    help: str
    samples: list[Sample]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"not a name of a metric: {self.name!r}")


Values = float | Mapping[str, float]


def gauge(name: str, help: str, values: Values, label: str = "") -> Family:
    """Returns a metric that goes up and down.

    Args:
        name: of the metric.
        help: what it says.
        values: one value, or one for each value of `label`.
        label: the name of the label.
    """
    return Family(name, "gauge", help, list(_samples(values, label, "")))


def counter(name: str, help: str, values: Values, label: str = "") -> Family:
    """Returns a metric that only goes up. The arguments are those of `gauge`; `name` is without `_total`."""
    return Family(name, "counter", help, list(_samples(values, label, "_total")))


def _samples(values: Values, label: str, suffix: str) -> Iterator[Sample]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield Sample(value, {label: name}, suffix)
    else:
        yield Sample(values, {}, suffix)


def histogram(name: str, help: str, bounds: Iterable[float], counts: Iterable[int], total: float) -> Family:
    """Returns a metric of a distribution.

    Args:
        name: of the metric.
        help: what it says.
        bounds: the upper bounds of the buckets, rising.
        counts: the number of values in each bucket, and one more number for those above the last bound.
        total: the sum of all values.
    """
    samples = []
    cumulative = 0  # each bucket of Prometheus includes all lower ones
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        cumulative += count
        samples.append(Sample(cumulative, {"le": _number(bound)}, "_bucket"))
    samples += [Sample(total, {}, "_sum"), Sample(cumulative, {}, "_count")]
    return Family(name, "histogram", help, samples)


class MetricsPage(Page):
    """A page for one path: the metrics, in the format that the client prefers."""

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        """Makes the page.

        Args:
            families: returns the metrics. Called for each request, in the reactor's thread.
        """
        self._families = families

    def render(self, request: Request) -> Response:
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
    """Whether an Accept header names OpenMetrics, and nothing that the client likes better (RFC 9110 §12.5.1).

    The plain format is for all others, those included that accept neither: it is of more use to them than a 406.
    """
    known = [element for element in parse_accept(accept) if not _is_other_version(element)]
    openmetrics = max((element.weight for element in known if element.name == _OPENMETRICS_RANGE), default=0.0)
    return openmetrics > 0 and openmetrics >= media_type_weight(known, "text/plain")


def _is_other_version(element: Accepted) -> bool:
    """Whether an element asks for a version of OpenMetrics other than the one that is sent here."""
    if element.name != _OPENMETRICS_RANGE:
        return False
    return any(name == "version" and value != "1.0.0" for name, value in element.parameters)


def encode(families: Iterable[Family], *, openmetrics: bool = False) -> str:
    """Returns the families in one of the two formats.

    They differ in where a counter has its `_total` (OpenMetrics: only on the sample lines), in how help texts are
    escaped, and in the end mark of OpenMetrics.
    """
    lines: list[str] = []
    for family in families:
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
    """Escapes a help text; the text format leaves quotes as they are."""
    return _escaped(text) if openmetrics else text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    """Escapes the value of a label."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    """Formats a number as both formats have it.

    An int has no fraction and a float has one ("2.0"). OpenMetrics demands the latter for the bounds of buckets: they
    are labels, and a label must not change with the type of a number.
    """
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(float(value))
