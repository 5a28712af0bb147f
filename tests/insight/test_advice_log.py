"""AdviceLog: when it looks at the figures, and that it logs each piece of advice once."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from kaserve.insight.advice_log import AdviceLog
from kaserve.telemetry.endings import Ending
from kaserve.telemetry.snapshot import Snapshot


def test_it_looks_once_a_minute_and_logs_advice_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kaserve")
    looks: list[None] = []

    def snapshot() -> Snapshot:
        looks.append(None)
        return Snapshot(closed=Counter({Ending.EVICTED: len(looks)}))

    advice_log = AdviceLog(snapshot, 1000.0)
    for now, expected in ((1000.0, 0), (1059.0, 0), (1060.0, 1), (1119.0, 1), (1121.0, 2)):
        advice_log.connection_closed(now)
        assert len(looks) == expected
    lines = [record.message.partition(" had")[0] for record in caplog.records]
    assert lines == ["advice: 1 idle connection"]
