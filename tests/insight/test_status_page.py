"""The live page: who may see it, what it says, and that its events come in turn, for all readers at once."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from kaserve import FileSpan, Request, Response, Server
from kaserve.http.messages import Address, FieldLine
from kaserve.insight.overview import overview
from kaserve.insight.status_page import Feed, Status
from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.snapshot import Settings, take_snapshot
from kaserve.telemetry.timeline import Timeline
from tests.end_to_end.test_browser import load
from tests.tools.server import Driven, connect, serving


class Clockwork:
    """`later` of a test: what is due is done when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append(call)

    def tick(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Counting:
    """A report that is different every time."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, object]:
        self.made += 1
        return {"made": self.made}


def ask(
    query: str = "",
    *fields: FieldLine,
    method: str = "GET",
    client: Address = ("127.0.0.1", 5000),
    host: str = "localhost:8000",
) -> Request:
    request = Request(method, "/s", 1, list(fields), 0, host)
    request.query = query
    request.client = client
    return request


def status(*, public: bool = False) -> tuple[Status, Counting, Clockwork]:
    report, later = Counting(), Clockwork()
    return Status(report, later, public=public), report, later


# Who may see it.


@pytest.mark.parametrize(
    ("client", "host", "fields", "allowed"),
    [
        (("127.0.0.1", 1), "localhost:8000", [], True),
        (("127.9.9.9", 1), "127.0.0.1", [], True),
        (("::1", 1), "[::1]:8000", [], True),
        (("::ffff:127.0.0.1", 1), "LOCALHOST", [], True),
        ("/run/kaserve.sock", "localhost", [], True),
        (("127.0.0.1", 1), "", [], True),
        (("192.0.2.1", 1), "localhost", [], False),
        (("::ffff:192.0.2.1", 1), "localhost", [], False),
        (("fe80::1%eth0", 1), "localhost", [], False),
        (("nonsense", 1), "localhost", [], False),
        (("127.0.0.1", 1), "evil.example", [], False),  # DNS rebinding
        (("127.0.0.1", 1), "localhost.evil.example", [], False),
        (("127.0.0.1", 1), "127.0.0.1.evil.example", [], False),
        (("127.0.0.1", 1), "localhost", [("x-forwarded-for", "192.0.2.1")], False),
        (("127.0.0.1", 1), "localhost", [("forwarded", "for=192.0.2.1")], False),
        (("127.0.0.1", 1), "localhost", [("via", "1.1 proxy")], False),
        ("/run/kaserve.sock", "localhost", [("x-real-ip", "192.0.2.1")], False),
    ],
)
@pytest.mark.parametrize("query", ["", "json", "events"])
def test_who_may_look(client: Address, host: str, fields: list[FieldLine], allowed: bool, query: str) -> None:
    private, _, _ = status()
    public, _, _ = status(public=True)
    request = ask(query, *fields, client=client, host=host)
    assert private(request).status == (200 if allowed else 403)
    assert public(request).status == 200


# What it says.


def test_the_page() -> None:
    page, _, _ = status()
    response = page(ask())
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    body = response.body
    assert isinstance(body, bytes)
    policy = response.headers["Content-Security-Policy"]
    for element, rule in ((b"script", "script-src"), (b"style", "style-src")):
        (content,) = re.findall(b"<%b>(.*?)</%b>" % (element, element), body, re.DOTALL)
        assert f"{rule} 'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    text = body.decode()
    assert (
        re.findall(r"(?:src|href)=\"(?!\?json)|https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML", text) == []
    )
    assert 'style="' not in text  # which the policy would not allow
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_json() -> None:
    page, _, _ = status()
    response = page(ask("json"))
    assert response.headers["Content-Type"] == "application/json"
    assert response.body == b'{"made":1}'


def test_other_methods() -> None:
    page, _, _ = status()
    response = page(ask(method="POST"))
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


# Events.


def pieces(response: Response) -> Iterator[Any]:
    assert response.headers["Content-Type"] == "text/event-stream"
    body = response.body
    assert not isinstance(body, (bytes, FileSpan))
    return iter(body)


def test_events() -> None:
    page, _, later = status()
    events = pieces(page(ask("events")))
    assert next(events) == b'data: {"made":1}\n\n'
    event = next(events)
    assert not event.done()
    later.tick()
    assert event.result(0) == b'data: {"made":2}\n\n'


def test_an_event_is_made_once_for_all() -> None:
    page, report, later = status()
    readers = [pieces(page(ask("events"))) for _ in range(3)]
    for reader in readers:
        next(reader)
    made = report.made
    waiting = [next(reader) for reader in readers]
    assert len(later.due) == 1
    later.tick()
    assert len({future.result(0) for future in waiting}) == 1
    assert report.made == made + 1


def test_nothing_is_made_for_nobody() -> None:
    page, report, later = status()
    events = pieces(page(ask("events")))
    next(events)
    next(events).cancel()  # as a connection does whose client has gone
    events.close()  # type: ignore[attr-defined]
    later.tick()
    assert report.made == 1
    assert later.due == []


def test_so_many_pages_and_no_more() -> None:
    page, _, _ = status()
    readers = [pieces(page(ask("events"))) for _ in range(16)]
    for reader in readers:
        next(reader)
    assert page(ask("events")).status == 503
    readers[0].close()  # type: ignore[attr-defined]
    assert page(ask("events")).status == 200


def test_the_end() -> None:
    page, _, later = status()
    waiting, late = pieces(page(ask("events"))), pieces(page(ask("events")))
    next(waiting)
    event = next(waiting)
    next(late)
    page.end()
    assert event.result(0) == b""
    assert list(waiting) == list(late) == []
    later.tick()


def test_a_report_that_fails_ends_the_page_alone() -> None:
    later = Clockwork()
    made = iter([b"one"])
    feed = Feed(lambda: next(made), later)
    events = feed.read()
    assert next(events) == b"one"
    event = next(events)
    later.tick()
    assert isinstance(event, Future)
    assert isinstance(event.exception(0), StopIteration)


def test_events_on_a_server() -> None:
    """In chunks, each when its time has come, while the server answers others."""
    page, _, later = status()
    with Driven(page) as driven:
        reader, other = driven.connect(), driven.connect()
        reader.send(b"GET /s?events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = reader._until(b"\r\n\r\n") + reader._until(b"\n\n\r\n")
        assert b"Transfer-Encoding: chunked" in first
        assert first.endswith(b'data: {"made":1}\n\n\r\n')
        assert reader.is_quiet
        assert other.exchange(b"GET /s?json HTTP/1.1\r\nHost: localhost\r\n\r\n")[0].body == b'{"made":2}'
        later.tick()
        assert reader._until(b"\n\n\r\n").endswith(b'data: {"made":3}\n\n\r\n')
        page.end()
        assert reader._until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_a_reader_that_goes_is_forgotten() -> None:
    page, report, later = status()
    with Driven(page) as driven:
        reader = driven.connect()
        reader.send(b"GET /s?events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader._until(b"\n\n\r\n")
        reader.close()
        driven.settle()
        for _ in range(3):  # it shows when something is sent to it
            later.tick()
            driven.settle()
        made = report.made
        assert later.due == []
        later.tick()
        assert report.made == made


# In a browser.


def lively(seconds: float = 100.0) -> dict[str, object]:
    """An overview with something in each of its parts, and a name that would be markup if it were let."""
    stats = Stats()
    stats.accepted = 40
    for number in range(200):
        stats.request_came(NO_GAP if number % 5 == 0 else 0.2)
        stats.answer_begun(404 if number % 50 == 0 else 200)
        stats.latency.add(0.0004)
    for _ in range(40):
        stats.connection_ended("client", "<b>10.0.0.5</b>", 5, 60.0, by_client=True)
    stats.refused[431] += 1
    timeline = Timeline()
    timeline.look(seconds)
    track = timeline.follow(7, "<i>192.0.2.1</i>", seconds - 20, seconds)
    assert track is not None
    for second in (-15.0, -10.0, -1.0):
        track.add(seconds + second, seconds + second + 0.5, 200)
    snapshot = take_snapshot(stats, ["IDLE"] * 3 + ["SEND"], Settings(keep_alive=30.0), seconds)
    return overview(snapshot, timeline.look(seconds))


def test_the_overview_is_json() -> None:
    found = json.loads(json.dumps(lively()))
    assert found["advice"] == [
        "the proxy at <b>10.0.0.5</b> closes idle connections after 60 s, yours after 30 s: raise --keep-alive above 60"
    ]
    assert found["timeline"][0]["number"] == 7
    assert found["handshakes_saved"] == 160


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """It shows what the events say, under its own policy, and takes no text for markup."""
    timers: list[threading.Timer] = []
    servers: list[Server] = []

    def later(seconds: float, call: Callable[[], None]) -> None:
        timers.append(threading.Timer(seconds, servers[0].call, (call,)))
        timers[-1].start()

    looks = iter(range(4))

    def report() -> dict[str, object]:
        """After some events there are no more: the browser's clock stands still while a stream is open."""
        if next(looks, None) is None:
            servers[0].call(page.end)
        return lively()

    page = Status(report, later, seconds=0.1)
    refusals = iter([Response.text("503 Service Unavailable\n", 503)])

    def first_refused(request: Request) -> Response:
        """Events come only when the page asks for them again, as behind a proxy whose server was started anew."""
        return (request.query == "events" and next(refusals, None)) or page(request)

    try:
        with serving(first_refused) as server:
            servers.append(server)
            with connect(server) as client:  # the figures are there without a browser, too
                (answer,) = client.exchange(b"GET /?json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert json.loads(answer.body)["requests"] == 200
            shown = load(server.url, tmp_path)
    finally:
        for timer in timers:
            timer.join()
    assert re.search(r"<b>80 %</b><span>of requests reused a connection</span>", shown)
    assert "&lt;b&gt;10.0.0.5&lt;/b&gt;" in shown
    assert "<b>10.0.0.5" not in shown
    assert re.search(r'<div id="phases"[^>]* aria-label="3 IDLE, 1 SEND">', shown)
    timeline = shown.partition('id="timeline"')[2].partition("</svg>")[0]
    assert timeline.count("1 request, ") == 3
    assert re.search(r'id="gaps"[^>]*aria-label="160 up to 200 ms"', shown)
