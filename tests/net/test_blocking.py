"""What is logged when a request blocks the reactor, and how often."""

from __future__ import annotations

import logging

import pytest

from kaserve.http.messages import Request
from kaserve.net.blocking import BlockingLog


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    request = Request("POST", "/report", 1, [])
    request.mount = "/app"
    request.query_string = "token=secret"
    BlockingLog().report(request, 0.256, 1000.0)
    assert messages(caplog) == [
        "POST /app/report blocked the server for 0.26 s, and no other client was served: call a handler that waits or"
        " computes on threads (kaserve.handlers.Threaded, --threads), or let it return a Future"
    ]


def test_there_is_one_warning_per_minute(caplog: pytest.LogCaptureFixture) -> None:
    log = BlockingLog()
    for second in range(60):
        log.report(Request("GET", f"/{second}", 1, []), 0.2, 1000.0 + second)
    assert [message.split()[:2] for message in messages(caplog)] == [["GET", "/0"]]
    log.report(Request("GET", "/60", 1, []), 0.2, 1060.0)
    (message,) = messages(caplog)
    assert message.startswith("GET /60 blocked")
    assert "(and 59 more since the last warning)" in message
    log.report(None, 0.2, 1120.0)
    (message,) = messages(caplog)
    assert message.startswith("a request blocked the server for 0.20 s, and no other client was served: ")


def test_a_log_that_raises_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("kaserve"), "warning", fail)
    BlockingLog().report(None, 0.2, 0.0)
