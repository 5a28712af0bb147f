"""The timeline: what is recorded while the page is open, and which connections have a row."""

from __future__ import annotations

from typing import Any

from kaserve.telemetry.endings import Ending
from kaserve.telemetry.timeline import ConnectionTrace, Timeline


def recording(now: float = 0.0) -> Timeline:
    timeline = Timeline()
    assert timeline.render(now) == []
    return timeline


def trace(timeline: Timeline, number: int = 1, now: float = 0.0) -> ConnectionTrace:
    one = timeline.start_trace(number, "192.0.2.1", now, now)
    assert one is not None
    return one


def test_nothing_is_recorded_while_the_page_is_not_open() -> None:
    assert not Timeline().recording
    assert Timeline().start_trace(1, "h", 0.0, 0.0) is None
    timeline = recording()
    assert timeline.recording
    assert timeline.start_trace(1, "h", 0.0, 5.0) is not None
    assert timeline.start_trace(2, "h", 0.0, 5.1) is None
    assert not timeline.recording


def test_a_trace() -> None:
    timeline = recording(100.0)
    one = trace(timeline, now=100.0)
    one.add(100.0, 100.01, 200)
    one.add(101.0, 101.5, 404)
    one.end(103.0, Ending.IDLE)
    (shown,) = timeline.render(104.0)
    assert shown == {
        "number": 1,
        "client": "192.0.2.1",
        "requests": 2,
        "opened": 4.0,
        "ended": 1.0,
        "ending": "idle",
        "bursts": [[4.0, 3.99, 1, 200, 0], [3.0, 2.5, 1, 404, 0]],
    }


def test_requests_close_to_each_other_are_one_burst() -> None:
    timeline = recording()
    one = trace(timeline)
    for number in range(1000):
        one.add(number / 1000, number / 1000 + 1e-4, 500 if number == 7 else 200)
    one.add(1.2, 1.3, 200)
    (shown,) = timeline.render(2.0)
    assert shown["bursts"] == [[2.0, 1.001, 1000, 500, 0], [0.8, 0.7, 1, 200, 0]]
    assert shown["requests"] == 1001


def test_pipelined_requests_are_counted_apart() -> None:
    """A request that had arrived before the previous response was complete starts exactly at its end."""
    timeline = recording()
    one = trace(timeline)
    for start, end in [(0.0, 0.001), (0.001, 0.002), (0.002, 0.003), (0.004, 0.005)]:
        one.add(start, end, 200)
    (shown,) = timeline.render(1.0)
    assert shown["bursts"] == [[1.0, 0.995, 4, 200, 2]]


def test_traces_and_bursts_are_limited() -> None:
    timeline = recording()
    followed = [timeline.start_trace(number, "h", 0.0, 0.0) for number in range(100)]
    assert len([one for one in followed if one is not None]) == 24
    one = followed[0]
    assert one is not None
    for number in range(10_000):
        one.add(float(number), float(number), 200)
    assert len(one.bursts) == 240


def numbers(shown: list[dict[str, Any]]) -> list[int]:
    return [one["number"] for one in shown]


def test_an_ended_connection_is_removed_after_the_window() -> None:
    timeline = recording()
    for number in range(24):
        trace(timeline, number).end(1.0, Ending.CLIENT)
    for second in range(4, 31, 4):
        assert len(timeline.render(float(second))) == 24
    assert timeline.render(31.5) == []


def full(timeline: Timeline) -> list[ConnectionTrace]:
    """All rows, of open connections that a page has shown."""
    traces = [trace(timeline, number) for number in range(24)]
    assert numbers(timeline.render(1.0)) == list(range(24))
    return traces


def test_a_few_others_get_the_rows_of_those_that_ended_first() -> None:
    timeline = recording()
    for number, one in enumerate(full(timeline)):
        one.end(2.0 + number / 100, Ending.CLIENT)
    assert timeline.start_trace(99, "h", 0.0, 2.5) is None  # the page has not shown yet that they ended
    assert numbers(timeline.render(3.0)) == list(range(23, -1, -1))
    for number in range(100, 106):
        trace(timeline, number, 3.0)
    assert timeline.start_trace(106, "h", 0.0, 3.0) is None
    assert numbers(timeline.render(4.0)) == [*range(100, 106), *range(23, 5, -1)]


def test_a_row_stays_until_another_connection_takes_it() -> None:
    """So the page of a busy server is never half empty."""
    timeline = recording()
    for one in full(timeline):
        one.end(2.0, Ending.CLIENT)
    for second in range(3, 30, 3):
        assert len(timeline.render(float(second))) == 24


def test_open_connections_get_rows_that_many_short_ones_came_first_for() -> None:
    timeline = recording()
    for one in full(timeline):
        one.end(1.5, Ending.CLIENT)
    timeline.render(2.0)
    for number in range(100, 150):
        trace(timeline, number, 2.0).end(2.0 + number / 1000, Ending.CLIENT)
    for number in range(150, 156):
        trace(timeline, number, 2.5)
    assert numbers(timeline.render(3.0))[:6] == list(range(150, 156))


def test_attempts_to_get_a_row_are_limited() -> None:
    timeline = recording()
    full(timeline)
    for number in range(100, 300):
        assert timeline.start_trace(number, "h", 1.0, 1.0) is None
        assert bool(timeline.recording)  # bool(): a type checker assumes that the attribute has not changed
    assert timeline.start_trace(300, "h", 1.0, 1.0) is None
    assert not bool(timeline.recording)
    timeline.render(2.0)
    assert bool(timeline.recording)


def test_a_connection_that_was_idle_keeps_its_row_when_it_is_used_again() -> None:
    timeline = recording()
    traces = full(timeline)
    for second in range(4, 32, 4):
        timeline.render(float(second))
    timeline.render(32.0)  # all have been idle for the whole window
    traces[0].add(32.1, 32.2, 200)
    for number in range(100, 105):
        trace(timeline, number, 33.0)
    assert timeline.start_trace(105, "h", 33.0, 33.0) is None
    assert numbers(timeline.render(34.0)) == [0, *range(6, 24), *range(100, 105)]


def test_a_busy_connection_keeps_its_row() -> None:
    timeline = recording()
    traces = [trace(timeline, number) for number in range(24)]
    for second in range(0, 60, 2):
        for one in traces:
            one.add(float(second), second + 0.5, 200)
        assert timeline.start_trace(99, "h", 0.0, float(second)) is None
        assert numbers(timeline.render(second + 1.0)) == list(range(24))


def test_a_connection_that_lost_its_row_gets_another_with_its_next_request() -> None:
    timeline = recording()
    traces = [trace(timeline, number) for number in range(24)]
    traces[0].add(0.0, 0.1, 200)
    for second in range(4, 33, 4):
        for one in traces[1:]:
            one.add(float(second), second + 0.5, 200)
        timeline.render(second + 1.0)
    trace(timeline, 99, 33.1).end(33.2, Ending.CLIENT)
    assert numbers(timeline.render(33.3)) == [*range(1, 24), 99]
    traces[0].add(33.5, 33.6, 200)
    shown = timeline.render(34.0)
    assert numbers(shown) == list(range(24))
    assert (shown[0]["requests"], shown[0]["bursts"]) == (2, [[0.5, 0.4, 1, 200, 0]])


def test_open_connections_come_first_and_then_those_that_ended_last() -> None:
    timeline = recording()
    traces = [trace(timeline, number) for number in range(5)]
    traces[0].end(1.0, Ending.CLIENT)
    traces[2].end(3.0, Ending.CLIENT)
    traces[4].end(2.0, Ending.CLIENT)
    assert numbers(timeline.render(4.0)) == [1, 3, 2, 4, 0]


def test_a_forgotten_trace_has_no_row() -> None:
    timeline = recording()
    traces = [trace(timeline, number) for number in range(2)]
    timeline.forget(traces[0])
    assert numbers(timeline.render(1.0)) == [1]
    assert not traces[0].is_shown


def test_a_trace_starts_again_after_a_pause_of_the_recording() -> None:
    """Nothing was recorded in between, and a trace with a hole would look like an idle connection."""
    timeline = recording()
    one = trace(timeline)
    one.add(0.0, 0.1, 200)
    one.add(50.0, 50.1, 200)  # the page is not open
    assert timeline.render(60.0) == []
    one.add(61.0, 61.5, 200)
    (shown,) = timeline.render(62.0)
    assert (shown["requests"], shown["bursts"]) == (3, [[1.0, 0.5, 1, 200, 0]])


def test_bursts_before_the_window_are_not_shown() -> None:
    timeline = recording()
    one = trace(timeline)
    one.add(0.0, 0.5, 200)
    shown: list[dict[str, Any]] = []
    for second in range(0, 33, 4):
        shown = timeline.render(float(second))
    assert shown[0]["bursts"] == []
    assert shown[0]["ended"] is None
