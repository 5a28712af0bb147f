"""The report: all findings on a good server, the table and the JSON of a bad one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kaserve.probe.report import as_json, as_table, is_good, probe, problems
from tests.tools.fake_server import DATE, bad_report, settings


def test_a_good_server() -> None:
    report = probe("http://h/", settings())
    assert (report.basics.status, report.basics.version, report.basics.server) == (200, "HTTP/1.1", "fake")
    assert (report.basics.timeout, report.basics.max) == (5, 99)
    assert {name: str(finding) for name, finding in report.findings.items()} == {
        "persists_1_1": "yes (no Connection header)",
        "persists_1_0_keep_alive": "yes (Connection: keep-alive)",
        "persists_1_0": "no (Connection: close)",
        "pipelining": "all 6 responses, in order",
        "unread_body": "405, keeps the connection",
        "chunked_request": "405, keeps the connection",
        "closing": "half-closes, and lingers",
        "half_closed_client": "gets its response",
        "request_limit": "more than 50 (the probe stopped there)",
        "idle": "5.0 s, no later than announced (5 s)",
    }
    assert [problem.what[:20] for problem in problems(report)] == ["It announces 5 s and"]


def test_a_server_without_problems() -> None:
    report = probe("http://h/", settings(idle=6.5, lines=("Server: x", DATE)))
    assert is_good(report)
    assert as_table(report).splitlines()[1].startswith("verdict: good: ")
    assert "Remedy" not in as_table(report)


@pytest.mark.parametrize(
    ("behaviour", "verdict"),
    [
        pytest.param({"lingers": False}, "connections are kept, with 1 problem", id="one problem"),
        pytest.param(
            {"lingers": False, "half_close": False}, "connections are kept, with 2 problems", id="two problems"
        ),
        pytest.param(
            {"keeps_1_1": False}, "no keep-alive: each request needs a new connection (2 problems)", id="none"
        ),
        pytest.param({"body": "misread"}, "insecure: a sender can smuggle requests in (1 problem)", id="insecure"),
    ],
)
def test_the_verdict(behaviour: dict[str, Any], verdict: str) -> None:
    report = probe("http://h/", settings(**{"idle": 6.5, **behaviour}))
    assert as_table(report).splitlines()[1] == f"verdict: {verdict}"
    assert not is_good(report)


FAULTS: list[dict[str, Any]] = [
    {"idle": 2.0},
    {"limit": 7, "says_close": False},
    {"lingers": False},
    {"body": "misread"},
    {"body": "reset"},
    {"body": "close"},
    {"body": "ignore"},
    {"closes_1_0": False},
    {"heads_have_bodies": True},
    {"half_close": False},
    {"keeps_1_1": False},
    {"keeps_1_1": False, "says_close": False},
    {"pipelines": 1},
    {"shuffles": True},
    {"lines": ("Date: x",)},
    {"raw": b"HTTP/1.0 200 OK\r\n\r\nhello"},
    {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_whatever_is_marked_has_a_remedy(fault: dict[str, Any]) -> None:
    report = probe("http://h/", settings(**{"idle": 6.5, **fault}))
    sound = replace(report, basics=probe("http://h/", settings()).basics, findings={})
    marked = {name: finding for name, finding in report.findings.items() if finding and finding.good is False}
    alone = [replace(sound, findings={name: finding}) for name, finding in marked.items()]
    if not report.basics.good:
        alone.append(replace(sound, basics=report.basics))
    assert alone
    for each in alone:
        assert [problem for problem in problems(each) if problem.remedy and not problem.is_note], each
    assert not is_good(report)


def test_the_problems_of_a_bad_server() -> None:
    said = " ".join(problem.what for problem in problems(bad_report()))
    for each in ("closes after 2.0 s", "is reset", "not announce", "max=99", "smuggle", "stays open", "HEAD"):
        assert each in said


def test_the_table_is_aligned_and_shows_no_control_characters() -> None:
    table = as_table(bad_report())
    assert all(char.isprintable() or char == "\n" for char in table)
    assert "\\x9b31m" in table
    rows = table.split("\n\n")[1].splitlines()
    column = max(row.index("  ", 3) for row in rows if "HTTP/1.0 with keep-alive persists" in row)
    assert {row[column : column + 2] for row in rows} == {"  "}
    assert all(row[column + 2] != " " for row in rows)
    assert {line[1] for line in rows} == {"+", "!", " "}


def test_colour_is_for_terminals() -> None:
    assert "\x1b[3" in as_table(bad_report(), colour=True)


def test_json_has_all_findings() -> None:
    report = bad_report()
    found = json.loads(json.dumps(as_json(report)))
    assert found["url"] == "http://h/"
    assert found["basics"]["max"] == 99
    assert found["idle"] == {
        "seconds": 2.0,
        "waited": 2.0,
        "announced": 5,
        "ended": "closed",
        "late_request": "reset",
    }
    assert set(found) == {"url", "basics", "verdict", "problems", *report.findings}
    assert [set(problem) for problem in found["problems"]] == [{"what", "remedy", "is_note"}] * len(problems(report))
    assert found["verdict"].startswith("insecure")


def test_an_experiment_that_fails_is_a_row() -> None:
    probed = settings()
    connections = iter(range(1))

    def connect_once() -> Any:
        if next(connections, None) is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return probed.connect()

    report = probe("http://h/", replace(probed, connect=connect_once))
    assert {str(finding) for finding in report.findings.values()} == {"? (Connection refused)"}
    assert "? (Connection refused)" in as_table(report)
    assert json.dumps(as_json(report))
