"""The report: all findings on a good server, the table and the JSON of a bad one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from kaserve.probe.report import as_json, as_table, probe, remarks
from tests.tools.fake_server import bad_report, settings


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
    assert [remark[:20] for remark in remarks(report)] == ["It announces 5 s and"]


def test_the_remarks_of_a_bad_server() -> None:
    said = " ".join(remarks(bad_report()))
    for each in ("closes after 2.0 s", "is reset", "not announce", "max=99", "smuggle", "stays open", "HEAD"):
        assert each in said


def test_the_table_is_aligned_and_shows_no_control_characters() -> None:
    table = as_table(bad_report())
    assert all(char.isprintable() or char == "\n" for char in table)
    assert "\\x9b31m" in table
    rows = [line for line in table.splitlines()[1:] if not line.startswith(" *")]
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
    assert set(found) == {"url", "basics", "remarks", *report.findings}
    assert found["remarks"] == remarks(report)


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
