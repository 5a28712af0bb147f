"""The metrics: their formats, checked with the parsers of the official client; their names; the page."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from kaserve import Request
from kaserve.http.headers import FieldLine
from kaserve.insight.metric_families import metric_families
from kaserve.insight.metrics import OPENMETRICS, TEXT, Family, MetricsPage, Sample, counter, encode, gauge, histogram
from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.endings import UNSOLICITED, Ending
from kaserve.telemetry.snapshot import Settings, Snapshot, take_snapshot
from kaserve.telemetry.upstreams import UpstreamFigures
from tests.tools.hooks import respond
from tests.tools.server import ROOT

FAMILIES = [
    gauge("a_celsius", 'Warm "or" not, \\ here\nor there.', 20.5),
    counter("b", "Things by colour.", {"red": 3, 'wei\\"r\nd': 1e21}, "colour"),
    histogram("c_seconds", "Times.", (0.1, 1.0), (2, 0, 1), 7.25),
]


def test_the_text_format() -> None:
    assert encode(FAMILIES) == (
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
    text = encode(FAMILIES, openmetrics=True)
    assert '# HELP a_celsius Warm \\"or\\" not, \\\\ here\\nor there.\n' in text
    assert "# TYPE b counter\n" in text
    assert 'b_total{colour="red"} 3\n' in text
    assert text.endswith("c_seconds_count 3\n# EOF\n")


def test_extremes() -> None:
    text = encode([gauge("x", "X.", math.inf), gauge("y", "Y.", -math.inf), gauge("z", "Z.", 2**70)])
    assert "x +Inf\n" in text
    assert "y -Inf\n" in text
    assert f"z {2**70}\n" in text


@pytest.mark.parametrize(
    "name",
    ["", "1a", "a-b", "a b", "a\n", "\xe4"],
    ids=["empty", "digit first", "hyphen", "space", "line end", "not ASCII"],
)
def test_invalid_names(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        gauge(name, "X.", 1.0)


def busy() -> Snapshot:
    stats = Stats()
    stats.accepted = 2
    for gap, status in ((NO_GAP, 200), (0.25, 404), (30.0, 200)):
        stats.request_parsed(gap)
        stats.response_started(status)
        stats.latency.add(0.0004)
    stats.refused[431] += 1
    stats.sent, stats.received = 4_000_000_000_000, 300
    stats.race_lost(Ending.DRAIN)
    stats.connection_ended(Ending.CLIENT, "192.0.2.1", 3, 60.0, by_client=True, race_lost=False)
    return take_snapshot(stats, ["IDLE"], Settings(), 12.5, UPSTREAMS)


UPSTREAMS = (
    UpstreamFigures("http://one", in_use=2, idle=1, requests=10, opened=3, reused=7, races_avoided=1, idle_limit=2.0),
    UpstreamFigures("http://two", is_left_out=True, requests=1, failed=1),
    UpstreamFigures("http://one", in_use=1, requests=4, races_lost=1, retried=1, sent=6),  # behind another path
)


def test_an_upstream_behind_several_paths_is_one_series() -> None:
    """Prometheus rejects a series that is there twice."""
    families = parsed(openmetrics=False, snapshot=busy())
    requests = {each.labels["upstream"]: each.value for each in families["kaserve_upstream_requests"].samples}
    assert requests == {"http://one": 14.0, "http://two": 1.0}
    states = {(each.labels["upstream"], each.labels["state"]): each.value
              for each in families["kaserve_upstream_connections"].samples}  # fmt: skip
    assert states[("http://one", "in use")] == 3.0
    assert states[("http://one", "idle")] == 1.0
    left_out = {each.labels["upstream"]: each.value for each in families["kaserve_upstream_left_out"].samples}
    assert left_out == {"http://one": 0.0, "http://two": 1.0}
    limits = {each.labels["upstream"]: each.value for each in families["kaserve_upstream_idle_limit_seconds"].samples}
    assert limits == {"http://one": 2.0}
    assert "kaserve_upstream_requests" not in parsed(openmetrics=False, snapshot=Snapshot())


def parsed(*, openmetrics: bool, snapshot: Snapshot) -> dict[str, Any]:
    """By the parser that Prometheus' own client has for the format; families by name."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser" if openmetrics else "prometheus_client.parser")
    text = encode(metric_families(snapshot), openmetrics=openmetrics)
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("snapshot", [Snapshot(), busy()], ids=["new", "busy"])
def test_the_official_parser_accepts_it(openmetrics: bool, snapshot: Snapshot) -> None:
    found = parsed(openmetrics=openmetrics, snapshot=snapshot)
    assert {name: family.type for name, family in found.items()} == {
        family.name: family.kind for family in metric_families(snapshot)
    }


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_the_figures_survive(openmetrics: bool) -> None:
    found = parsed(openmetrics=openmetrics, snapshot=busy())

    def value(name: str, sample: str = "", **labels: str) -> float:
        (one,) = [each for each in found[name].samples if each.labels == labels and each.name == (sample or name)]
        return float(one.value)

    assert value("kaserve_connections_open", phase="IDLE") == 1
    assert value("kaserve_connections_open", phase="LINGER") == 0  # a phase without connections is there as 0
    assert value("kaserve_connections_closed", "kaserve_connections_closed_total", reason="evicted") == 0
    assert value("kaserve_connections_closed", "kaserve_connections_closed_total", reason="client") == 1
    assert value("kaserve_races_lost", "kaserve_races_lost_total", reason="idle") == 0
    assert value("kaserve_races_lost", "kaserve_races_lost_total", reason="drain") == 1
    assert value("kaserve_responses", "kaserve_responses_total", **{"class": "2xx"}) == 2
    assert value("kaserve_requests_refused", "kaserve_requests_refused_total", status="431") == 1
    assert value("kaserve_sent_bytes", "kaserve_sent_bytes_total") == 4e12
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_bucket", le="0.5") == 1
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_count") == 2
    assert value("kaserve_idle_gap_seconds", "kaserve_idle_gap_seconds_sum") == 30.25


@pytest.mark.parametrize(
    ("name", "reasons"),
    [("kaserve_connections_closed", set(Ending)), ("kaserve_races_lost", set(UNSOLICITED))],
    ids=["closed", "races lost"],
)
def test_every_reason_is_there_from_the_beginning(name: str, reasons: set[Ending]) -> None:
    (family,) = (family for family in metric_families(Snapshot()) if family.name == name)
    assert {sample.labels["reason"]: sample.value for sample in family.samples} == dict.fromkeys(reasons, 0)


def test_no_addresses_are_shown() -> None:
    assert "192.0.2.1" not in encode(metric_families(busy()))


# The documentation.

PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_documentation_names_all_metrics() -> None:
    named = re.findall(r"`(kaserve_\w+)`", PAGE.partition("## Metrics")[2])
    assert {family.name + ("_total" if family.kind == "counter" else "") for family in metric_families(busy())} == set(
        named
    )


def test_the_documentation_has_the_labels_of_all_metrics() -> None:
    """Those that say more than the bounds of a histogram."""
    documented = {
        (name.removesuffix("_total"), kind): set(re.findall(r"`(\w+)`", labels))
        for names, kind, labels in re.findall(r"^\| (`kaserve_.+?) \| (\w+) \| ?(.*?) ?\|$", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented == {
        (family.name, family.kind): {label for sample in family.samples for label in sample.labels} - {"le"}
        for family in metric_families(busy())
    }


def test_the_documentation_explains_every_reason() -> None:
    """In the order in which `Ending` has them, with the mark of those that may lose a request."""
    table = PAGE.partition("| reason | ")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z -]+) \| (.+) \|$", table, re.MULTILINE)
    assert [reason for reason, _ in rows] == list(Ending)
    assert {reason for reason, meaning in rows if "kaserve closed" in meaning} == UNSOLICITED


# The page.


def ask(method: str = "GET", *accept: str) -> Any:
    fields: list[FieldLine] = [("accept", value) for value in accept]
    return respond(MetricsPage(lambda: FAMILIES), Request(method, "/metrics", 1, fields))


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        pytest.param((), False, id="no Accept"),
        pytest.param(("*/*",), False, id="anything"),
        pytest.param(("text/html",), False, id="neither"),
        pytest.param((PROMETHEUS,), True, id="Prometheus"),
        pytest.param(("application/openmetrics-text",), True, id="OpenMetrics"),
        pytest.param(("text/plain", "Application/OpenMetrics-Text ; Version=1.0.0"), True, id="equal, in two fields"),
        pytest.param(("application/openmetrics-text;q=0.2, text/plain;q=0.3",), False, id="text preferred"),
        pytest.param(("application/openmetrics-text;q=0",), False, id="OpenMetrics excluded"),
        pytest.param(("application/openmetrics-text;q=0.5, */*",), False, id="anything preferred"),
        pytest.param(("application/openmetrics-text;q=0.5, text/*;q=0.4, */*",), True, id="the closest range counts"),
        pytest.param(('application/openmetrics-text;version="1.0.0"',), True, id="version quoted"),
        pytest.param(("application/openmetrics-text;q=1.5",), False, id="q above 1"),
        pytest.param(("application/openmetrics-text;q=nan, text/plain",), False, id="q not a number"),
        pytest.param(("application/openmetrics-text;version=2.0.0",), False, id="another version"),
        pytest.param((", ,;;q=",), False, id="garbage"),
    ],
)
def test_the_format_is_negotiated(accept: tuple[str, ...], openmetrics: bool) -> None:
    response = ask("GET", *accept)
    assert response.headers["Content-Type"] == (OPENMETRICS if openmetrics else TEXT)
    assert response.body.decode() == encode(FAMILIES, openmetrics=openmetrics)
    assert response.headers["Vary"] == "Accept"


def test_figures_are_of_the_moment() -> None:
    counts = iter(range(1, 9))
    page = MetricsPage(lambda: [Family("n", "gauge", "N.", [Sample(next(counts))])])
    bodies = [page(Request("GET", "/", 1, [])).body for _ in range(2)]
    assert [str(body).count("n 1") for body in bodies] == [1, 0]


def test_other_methods() -> None:
    response = ask("POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert ask("HEAD").status == 200
