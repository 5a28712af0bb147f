"""The timeline of a few connections."""

from __future__ import annotations

from typing import Any

from kaserve.telemetry.timeline import ConnectionTrace, Timeline


def watched(now: float = 0.0) -> Timeline:
    timeline = Timeline()
    assert timeline.look(now) == []
    return timeline


def follow(timeline: Timeline, number: int = 1, now: float = 0.0) -> ConnectionTrace:
    track = timeline.follow(number, "192.0.2.1", now, now)
    assert track is not None
    return track


def test_nothing_is_recorded_while_nobody_looks() -> None:
    assert not Timeline().recording
    assert Timeline().follow(1, "h", 0.0, 0.0) is None
    timeline = watched()
    assert timeline.recording
    assert timeline.follow(1, "h", 0.0, 5.0) is not None
    assert timeline.follow(2, "h", 0.0, 5.1) is None
    assert not timeline.recording


def test_a_track() -> None:
    timeline = watched(100.0)
    track = follow(timeline, now=100.0)
    track.add(100.0, 100.01, 200)
    track.add(101.0, 101.5, 404)
    track.end(103.0, "idle")
    (shown,) = timeline.look(104.0)
    assert shown == {
        "number": 1,
        "client": "192.0.2.1",
        "requests": 2,
        "opened": 4.0,
        "ended": 1.0,
        "why": "idle",
        "spans": [[4.0, 3.99, 1, 200, 0], [3.0, 2.5, 1, 404, 0]],
    }


def test_requests_that_follow_at_once_are_one_block() -> None:
    timeline = watched()
    track = follow(timeline)
    for number in range(1000):
        track.add(number / 1000, number / 1000 + 1e-4, 500 if number == 7 else 200)
    track.add(1.2, 1.3, 200)
    (shown,) = timeline.look(2.0)
    assert shown["spans"] == [[2.0, 1.001, 1000, 500, 0], [0.8, 0.7, 1, 200, 0]]
    assert shown["requests"] == 1001


def test_pipelined_requests_are_told_from_those_that_follow() -> None:
    """The protocol lets a request that was there already begin where the answer in front of it ended."""
    timeline = watched()
    track = follow(timeline)
    for start, end in [(0.0, 0.001), (0.001, 0.002), (0.002, 0.003), (0.004, 0.005)]:
        track.add(start, end, 200)
    (shown,) = timeline.look(1.0)
    assert shown["spans"] == [[1.0, 0.995, 4, 200, 2]]


def test_what_is_kept_is_bounded() -> None:
    timeline = watched()
    followed = [timeline.follow(number, "h", 0.0, 0.0) for number in range(100)]
    assert len([track for track in followed if track is not None]) == 24
    track = followed[0]
    assert track is not None
    for number in range(10_000):
        track.add(float(number), float(number), 200)
    assert len(track.spans) == 240


def numbers(shown: list[dict[str, Any]]) -> list[int]:
    return [track["number"] for track in shown]


def test_what_has_ended_goes_when_it_is_out_of_sight() -> None:
    timeline = watched()
    for number in range(24):
        follow(timeline, number).end(1.0, "client")
    for second in range(4, 31, 4):
        assert len(timeline.look(float(second))) == 24
    assert timeline.look(31.5) == []


def test_a_few_others_get_the_places_of_those_that_ended_first() -> None:
    timeline = watched()
    for number in range(24):
        follow(timeline, number).end(1.0 + number / 100, "client")
    assert timeline.follow(99, "h", 0.0, 2.0) is None
    assert not bool(timeline.recording)  # the cast, here and below: a type checker takes an attribute for what it was
    assert numbers(timeline.look(3.0)) == list(range(6, 24))
    assert bool(timeline.recording)
    for number in range(100, 106):
        follow(timeline, number, 3.0)
    assert timeline.follow(106, "h", 0.0, 3.0) is None
    assert numbers(timeline.look(4.0)) == [*range(12, 24), *range(100, 106)]
    assert len(timeline.look(5.0)) == 18  # nobody was turned away


def test_who_is_busy_keeps_its_place() -> None:
    timeline = watched()
    tracks = [follow(timeline, number) for number in range(24)]
    for second in range(0, 60, 2):
        for track in tracks:
            track.add(float(second), second + 0.5, 200)
        assert timeline.follow(99, "h", 0.0, float(second)) is None
        assert numbers(timeline.look(second + 1.0)) == list(range(24))


def test_who_lost_its_place_gets_another_one_with_its_next_request() -> None:
    timeline = watched()
    tracks = [follow(timeline, number) for number in range(24)]
    tracks[0].add(0.0, 0.1, 200)
    for second in range(4, 33, 4):
        for track in tracks[1:]:
            track.add(float(second), second + 0.5, 200)
        timeline.follow(99, "h", 0.0, float(second))
        shown = timeline.look(second + 1.0)
    assert numbers(shown) == list(range(1, 24))
    tracks[0].add(33.5, 33.6, 200)
    shown = timeline.look(34.0)
    assert numbers(shown) == [*range(1, 24), 0]
    assert (shown[-1]["requests"], shown[-1]["spans"]) == (2, [[0.5, 0.4, 1, 200, 0]])


def test_who_comes_back_starts_anew() -> None:
    """Nothing was recorded in between, and a track with a hole would look like an idle connection."""
    timeline = watched()
    track = follow(timeline)
    track.add(0.0, 0.1, 200)
    track.add(50.0, 50.1, 200)  # nobody looks
    assert timeline.look(60.0) == []
    track.add(61.0, 61.5, 200)
    (shown,) = timeline.look(62.0)
    assert (shown["requests"], shown["spans"]) == (3, [[1.0, 0.5, 1, 200, 0]])


def test_spans_out_of_sight_are_not_shown() -> None:
    timeline = watched()
    track = follow(timeline)
    track.add(0.0, 0.5, 200)
    shown: list[dict[str, Any]] = []
    for second in range(0, 33, 4):
        shown = timeline.look(float(second))
    assert shown[0]["spans"] == []
    assert shown[0]["ended"] is None
