"""Metrics, checked with the parsers of the official client."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from kaserve import Request
from kaserve.http.messages import FieldLine
from kaserve.insight.metric_families import metric_families
from kaserve.insight.metrics import OPENMETRICS, TEXT, Family, Metrics, Sample, counter, encode, gauge, histogram
from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.snapshot import Settings, Snapshot, take_snapshot
from tests.tools.server import ROOT

FEW = [
    gauge("a_celsius", 'Warm "or" not, \\ here\nor there.', 20.5),
    counter("b", "Things by colour.", {"red": 3, 'wei\\"r\nd': 1e21}, "colour"),
    histogram("c_seconds", "Times.", (0.1, 1.0), (2, 0, 1), 7.25),
]


def test_the_text_format() -> None:
    assert encode(FEW) == (
        '# HELP a_celsius Warm "or" not, \\\\ here\\nor there.\n'
        "# TYPE a_celsius gauge\n"
        "a_celsius 20.5\n"
        "# HELP b_total Things by colour.\n"
        "# TYPE b_total counter\n"
        'b_total{colour="red"} 3\n'
        'b_total{colour="wei\\\\\\"r\\nd"} 1e+21\n'
        "# HELP c_seconds Times.\n"
        "# TYPE c_seconds histogram\n"
        'c_seconds_bucket{le="0.1"} 2\n'
        'c_seconds_bucket{le="1.0"} 2\n'
        'c_seconds_bucket{le="+Inf"} 3\n'
        "c_seconds_sum 7.25\n"
        "c_seconds_count 3\n"
    )


def test_openmetrics() -> None:
    text = encode(FEW, openmetrics=True)
    assert '# HELP a_celsius Warm \\"or\\" not, \\\\ here\\nor there.\n' in text
    assert "# TYPE b counter\n" in text
    assert 'b_total{colour="red"} 3\n' in text
    assert text.endswith("c_seconds_count 3\n# EOF\n")


def test_extremes() -> None:
    text = encode([gauge("x", "X.", math.inf), gauge("y", "Y.", -math.inf), gauge("z", "Z.", 2**70)])
    assert "x +Inf\n" in text
    assert "y -Inf\n" in text
    assert f"z {2**70}\n" in text


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a\n", "\xe4"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        gauge(name, "X.", 1.0)


def busy() -> Snapshot:
    stats = Stats()
    stats.accepted = 2
    for gap, status in ((NO_GAP, 200), (0.25, 404), (30.0, 200)):
        stats.request_came(gap)
        stats.answer_begun(status)
        stats.latency.add(0.0004)
    stats.refused[431] += 1
    stats.sent, stats.received = 4_000_000_000_000, 300
    stats.connection_ended("client", "192.0.2.1", 3, 60.0, by_client=True)
    return take_snapshot(stats, ["IDLE"], Settings(), 12.5)


def parsed(*, openmetrics: bool, snapshot: Snapshot) -> dict[str, Any]:
    """By the parser that Prometheus' own client has for the format; families by name."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser" if openmetrics else "prometheus_client.parser")
    text = encode(metric_families(snapshot), openmetrics=openmetrics)
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("snapshot", [Snapshot(), busy()], ids=["new", "busy"])
def test_the_official_parser_takes_it(openmetrics: bool, snapshot: Snapshot) -> None:
    found = parsed(openmetrics=openmetrics, snapshot=snapshot)
    assert {name: family.type for name, family in found.items()} == {
        family.name: family.kind for family in metric_families(snapshot)
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_figures_survive(openmetrics: bool) -> None:
    found = parsed(openmetrics=openmetrics, snapshot=busy())

    def value(name: str, sample: str = "", **labels: str) -> float:
        (one,) = [each for each in found[name].samples if each.labels == labels and each.name == (sample or name)]
        return float(one.value)

    assert value("kaserve_connections_open", phase="IDLE") == 1
    assert value("kaserve_connections_open", phase="LINGER") == 0  # what was not there yet is there as 0
    assert value("kaserve_connections_closed", "kaserve_connections_closed_total", reason="evicted") == 0
    assert value("kaserve_connections_closed", "kaserve_connections_closed_total", reason="client") == 1
    assert value("kaserve_responses", "kaserve_responses_total", **{"class": "2xx"}) == 2
    assert value("kaserve_requests_refused", "kaserve_requests_refused_total", status="431") == 1
    assert value("kaserve_sent_bytes", "kaserve_sent_bytes_total") == 4e12
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_bucket", le="0.5") == 1
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_count") == 2
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_sum") == 30.25


def test_no_addresses_are_shown() -> None:
    assert "192.0.2.1" not in encode(metric_families(busy()))


def test_the_documentation_names_them_all() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text()
    named = re.findall(r"`(kaserve_\w+)`", page.partition("## Metrics")[2])
    assert {family.name + ("_total" if family.kind == "counter" else "") for family in metric_families(busy())} == set(
        named
    )


# The handler.


def ask(method: str = "GET", *accept: str) -> Any:
    fields: list[FieldLine] = [("accept", value) for value in accept]
    return Metrics(lambda: FEW)(Request(method, "/metrics", 1, fields))


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ((), False),
        (("*/*",), False),
        (("text/html",), False),
        ((PROMETHEUS,), True),
        (("application/openmetrics-text",), True),
        (("text/plain", "Application/OpenMetrics-Text ; Version=1.0.0"), True),
        (("application/openmetrics-text;q=0.2, text/plain;q=0.3",), False),
        (("application/openmetrics-text;q=0",), False),
        (("application/openmetrics-text;q=0.5, */*",), False),
        (("application/openmetrics-text;q=0.5, text/*;q=0.4, */*",), True),
        (('application/openmetrics-text;version="1.0.0"',), True),
        (("application/openmetrics-text;q=1.5",), False),
        (("application/openmetrics-text;q=nan, text/plain",), False),
        (("application/openmetrics-text;version=2.0.0",), False),
        ((", ,;;q=",), False),
    ],
)
def test_the_format_is_negotiated(accept: tuple[str, ...], openmetrics: bool) -> None:
    response = ask("GET", *accept)
    assert response.headers["Content-Type"] == (OPENMETRICS if openmetrics else TEXT)
    assert response.body.decode() == encode(FEW, openmetrics=openmetrics)
    assert response.headers["Vary"] == "Accept"


def test_figures_are_of_the_moment() -> None:
    counts = iter(range(1, 9))
    handler = Metrics(lambda: [Family("n", "gauge", "N.", [Sample(next(counts))])])
    bodies = [handler(Request("GET", "/", 1, [])).body for _ in range(2)]
    assert [str(body).count("n 1") for body in bodies] == [1, 0]


def test_other_methods() -> None:
    response = ask("POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert ask("HEAD").status == 200
