"""The live page: who may see it, what it shows, and that each event is made once for all its readers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from kaserve import Request, Response, Server
from kaserve.http.address import Address, AnyAddress, UnixAddress
from kaserve.http.headers import FieldLine
from kaserve.insight.event_feed import EventFeed
from kaserve.insight.overview import overview
from kaserve.insight.status_page import StatusPage
from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.endings import Ending
from kaserve.telemetry.histogram import TIMES
from kaserve.telemetry.history import History, Sample
from kaserve.telemetry.snapshot import Settings, take_snapshot
from kaserve.telemetry.timeline import Timeline
from tests.end_to_end.test_browser import load
from tests.tools.hooks import respond
from tests.tools.server import Driven, connect, serving


class ManualTimer:
    """`call_later` of a test: the functions are called when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, seconds: float, function: Callable[[], None]) -> None:
        self.due.append(function)

    def fire(self) -> None:
        due, self.due = self.due, []
        for function in due:
            function()


class CountingReport:
    """A report that says how many reports have been made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, most: int) -> dict[str, object]:
        self.made += 1
        return {"made": self.made}


class Noted:
    """What the page says about its own traffic."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sizes: list[int] = []

    def set_aside(self, request: Request) -> None:
        self.requests.append(request)

    def add_sent(self, size: int) -> None:
        self.sizes.append(size)


LOCAL = Address("127.0.0.1", 5000)


def ask(
    query: str = "",
    *fields: FieldLine,
    method: str = "GET",
    client: AnyAddress = LOCAL,
    host: str = "localhost:8000",
) -> Request:
    request = Request(method, "/s", 1, list(fields), 0, host)
    request.query_string = query
    request.client = client
    return request


def status(*, public: bool = False) -> tuple[StatusPage, CountingReport, ManualTimer]:
    report, timer = CountingReport(), ManualTimer()
    return StatusPage(report, timer, public=public, own=Noted()), report, timer


# Who may see it.


@pytest.mark.parametrize(
    ("client", "host", "fields", "allowed"),
    [
        pytest.param(LOCAL, "localhost:8000", [], True, id="localhost"),
        pytest.param(Address("127.9.9.9", 1), "127.0.0.1", [], True, id="another loopback address"),
        pytest.param(Address("::1", 1), "[::1]:8000", [], True, id="IPv6"),
        pytest.param(Address("::ffff:127.0.0.1", 1), "LOCALHOST", [], True, id="IPv4 in IPv6"),
        pytest.param(UnixAddress("/run/s"), "localhost", [], True, id="Unix socket"),
        pytest.param(LOCAL, "", [], True, id="HTTP/1.0 without Host"),
        pytest.param(Address("192.0.2.1", 1), "localhost", [], False, id="other machine"),
        pytest.param(Address("::ffff:192.0.2.1", 1), "localhost", [], False, id="other machine, IPv4 in IPv6"),
        pytest.param(Address("fe80::1%eth0", 1), "localhost", [], False, id="link-local address"),
        pytest.param(Address("nonsense", 1), "localhost", [], False, id="no address"),
        pytest.param(LOCAL, "evil.example", [], False, id="DNS rebinding"),
        pytest.param(LOCAL, "localhost.evil.example", [], False, id="localhost as a prefix"),
        pytest.param(LOCAL, "127.0.0.1.evil.example", [], False, id="address as a prefix"),
        pytest.param(LOCAL, "localhost", [("x-forwarded-for", "192.0.2.1")], False, id="X-Forwarded-For"),
        pytest.param(LOCAL, "localhost", [("forwarded", "for=192.0.2.1")], False, id="Forwarded"),
        pytest.param(LOCAL, "localhost", [("via", "1.1 proxy")], False, id="Via"),
        pytest.param(UnixAddress("/run/s"), "localhost", [("x-real-ip", "192.0.2.1")], False, id="X-Real-IP"),
    ],
)
@pytest.mark.parametrize("query", ["", "json", "events"], ids=["page", "json", "events"])
def test_who_may_look(client: AnyAddress, host: str, fields: list[FieldLine], allowed: bool, query: str) -> None:
    private, _, _ = status()
    public, _, _ = status(public=True)
    request = ask(query, *fields, client=client, host=host)
    assert private(request).status == (200 if allowed else 403)
    assert public(request).status == 200


# What it shows.


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
        re.findall(r"(?:src|href)=\"(?!\?json|data:)|https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML", text)
        == []
    )
    assert 'style="' not in text  # the policy would not allow it
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("query", "accept", "is_json"),
    [
        pytest.param("json", "", True, id="query"),
        pytest.param("json", "text/html", True, id="query of a browser"),
        pytest.param("", "application/json", True, id="Accept"),
        pytest.param("", "text/html;q=0.5, application/json", True, id="preferred"),
        pytest.param("", "text/html, application/json;q=0.9", False, id="not preferred"),
        pytest.param("", "*/*", False, id="as much as HTML"),
        pytest.param("", "", False, id="no Accept"),
    ],
)
def test_json(query: str, accept: str, is_json: bool) -> None:
    page, _, _ = status()
    response = page(ask(query, *([("accept", accept)] if accept else [])))
    assert response.headers["Vary"] == "Accept"
    assert (response.headers["Content-Type"] == "application/json") == is_json
    assert (response.body == b'{"made":1}') == is_json


def test_the_page_says_what_its_own_requests_and_events_are() -> None:
    own, timer = Noted(), ManualTimer()
    page = StatusPage(CountingReport(), timer, own=own)
    requests = [ask(), ask("json"), ask("events"), ask(client=Address("192.0.2.1", 1))]
    events = pieces([page(request) for request in requests][2])
    assert own.requests == requests
    first = next(events)
    second = next(events)
    timer.fire()
    next(events)
    assert own.sizes == [len(first), len(second.result(0))]


def test_only_the_first_event_of_a_stream_has_the_whole_history() -> None:
    asked: list[int] = []

    def report(most: int) -> dict[str, object]:
        asked.append(most)
        return {}

    timer = ManualTimer()
    page = StatusPage(report, timer, own=Noted())
    events = pieces(page(ask("events")))
    next(events)
    next(events)
    timer.fire()
    assert asked[0] > 150
    assert asked[1:] == [3]


def test_other_methods() -> None:
    page, _, _ = status()
    response = respond(page, ask(method="POST"))
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


# Events.


def pieces(response: Response) -> Generator[Any, None, None]:
    assert response.headers["Content-Type"] == "text/event-stream"
    assert isinstance(response.body, Generator)
    return response.body


def test_events() -> None:
    page, _, timer = status()
    events = pieces(page(ask("events")))
    assert next(events) == b'data: {"made":1}\n\n'
    event = next(events)
    assert not event.done()
    timer.fire()
    assert event.result(0) == b'data: {"made":2}\n\n'


def test_an_event_is_made_once_for_all_readers() -> None:
    page, report, timer = status()
    readers = [pieces(page(ask("events"))) for _ in range(3)]
    for reader in readers:
        next(reader)
    made = report.made
    waiting = [next(reader) for reader in readers]
    assert len(timer.due) == 1
    timer.fire()
    assert len({future.result(0) for future in waiting}) == 1
    assert report.made == made + 1


def test_no_event_is_made_without_readers() -> None:
    page, report, timer = status()
    events = pieces(page(ask("events")))
    next(events)
    next(events).cancel()  # as a connection does when its client has gone
    events.close()
    timer.fire()
    assert report.made == 1
    assert timer.due == []


def test_the_number_of_open_pages_is_limited() -> None:
    page, _, _ = status()
    readers = [pieces(page(ask("events"))) for _ in range(16)]
    for reader in readers:
        next(reader)
    assert page(ask("events")).status == 503
    readers[0].close()
    assert page(ask("events")).status == 200


def test_closing_ends_all_streams() -> None:
    page, _, timer = status()
    waiting, late = pieces(page(ask("events"))), pieces(page(ask("events")))
    next(waiting)
    event = next(waiting)
    next(late)
    page.close()
    assert event.result(0) == b""
    assert list(waiting) == list(late) == []
    timer.fire()


def test_a_report_that_fails_ends_only_its_streams() -> None:
    timer = ManualTimer()
    made = iter([b"one"])
    feed = EventFeed(lambda: next(made), timer)
    events = feed.read(next(made))
    assert next(events) == b"one"
    event = next(events)
    timer.fire()
    assert isinstance(event, Future)
    assert isinstance(event.exception(0), StopIteration)


def test_events_on_a_server() -> None:
    """In chunks, each when the timer fires, while the server responds to others."""
    page, _, timer = status()
    with Driven(page) as driven:
        reader, other = driven.connect(), driven.connect()
        reader.send(b"GET /s?events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = reader._until(b"\r\n\r\n") + reader._until(b"\n\n\r\n")
        assert b"Transfer-Encoding: chunked" in first
        assert first.endswith(b'data: {"made":1}\n\n\r\n')
        assert reader.is_quiet
        assert other.exchange(b"GET /s?json HTTP/1.1\r\nHost: localhost\r\n\r\n")[0].body == b'{"made":2}'
        timer.fire()
        assert reader._until(b"\n\n\r\n").endswith(b'data: {"made":3}\n\n\r\n')
        page.close()
        assert reader._until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_a_reader_that_disconnects_is_forgotten() -> None:
    page, report, timer = status()
    with Driven(page) as driven:
        reader = driven.connect()
        reader.send(b"GET /s?events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader._until(b"\n\n\r\n")
        reader.close()
        driven.settle()
        for _ in range(3):  # the server notices when it sends something
            timer.fire()
            driven.settle()
        made = report.made
        assert timer.due == []
        timer.fire()
        assert report.made == made


# In a browser.


def busy_overview(seconds: float = 100.0) -> dict[str, object]:
    """An overview with something in each of its parts, and names that are markup."""
    stats = Stats()
    stats.accepted = 40
    for number in range(200):
        stats.request_parsed(NO_GAP if number % 5 == 0 else 0.2)
        stats.response_started(404 if number % 50 == 0 else 200)
        stats.latency.add(0.0004)
    for _ in range(40):
        stats.connection_ended(Ending.CLIENT, "<b>10.0.0.5</b>", 5, 60.0, by_client=True, race_lost=False)
    stats.refused[431] += 1
    timeline = Timeline()
    timeline.render(seconds)
    trace = timeline.start_trace(7, "<i>192.0.2.1</i>", seconds - 20, seconds)
    assert trace is not None
    for second in (-15.0, -10.0, -1.0):
        trace.add(seconds + second, seconds + second + 0.5, 200)
    history = History()
    for second in range(10):
        history.add(Sample.take(stats, second, 1, Stats(), 0))
        stats.requests += second * 10
        stats.latency.add(0.001)
    snapshot = take_snapshot(stats, ["IDLE"] * 3 + ["SEND"], Settings(keep_alive=30.0), seconds)
    return overview(snapshot, timeline.render(seconds), history.render())


def test_the_overview_is_json() -> None:
    found = json.loads(json.dumps(busy_overview()))
    assert found["advice"] == [
        "the proxy at <b>10.0.0.5</b> closes idle connections after 60 s, this server after 30 s: raise --keep-alive "
        "above 60"
    ]
    assert found["timeline"][0]["number"] == 7
    assert found["handshakes_saved"] == 160
    assert len(found["history"]["intervals"]) == 9
    assert found["history"]["fields"][:2] == ["time", "requests"]


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """It shows what the events say, under its own Content-Security-Policy, and names stay text."""
    timers: list[threading.Timer] = []
    servers: list[Server] = []

    def call_later(seconds: float, function: Callable[[], None]) -> None:
        timers.append(threading.Timer(seconds, servers[0].call, (function,)))
        timers[-1].start()

    reports = iter(range(4))

    def report(most: int) -> dict[str, object]:
        """Ends the stream after some events: the browser's clock stands still while a stream is open."""
        if next(reports, None) is None:
            servers[0].call(page.close)
        return busy_overview()

    page = StatusPage(report, call_later, own=Noted(), seconds=0.1)
    refusals = iter([Response.text("503 Service Unavailable\n", 503)])

    def first_refused(request: Request) -> Response:
        """Events come only when the page asks for them again, as from a proxy whose server is restarting."""
        return (request.query_string == "events" and next(refusals, None)) or page(request)

    try:
        with serving(first_refused) as server:
            servers.append(server)
            with connect(server) as client:  # the figures are there without a browser as well
                (response,) = client.exchange(b"GET /?json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert json.loads(response.body)["requests"] == 650
            shown = load(server.url, tmp_path)
    finally:
        for timer in timers:
            timer.join()
    assert re.search(r"<b>80 %</b><span>of requests reused a connection</span>", shown)
    assert "&lt;b&gt;10.0.0.5&lt;/b&gt;" in shown
    assert "<b>10.0.0.5" not in shown
    assert re.search(r'<div id="phases"[^>]* aria-label="3 idle, 1 sending a response">', shown)
    timeline = shown.partition('id="timeline"')[2].partition("</svg>")[0]
    assert timeline.count("1 request, ") == 3
    assert re.search(r'id="gaps"[^>]*aria-label="160 up to 200 ms"', shown)
    gaps = shown.partition('id="gaps"')[2].partition("</svg>")[0]
    assert gaps.count("<title>") == len(TIMES) + 1  # each bucket is there, also if it is empty
    assert re.search(r'id="requests"[^>]*aria-label="80"', shown)
    assert re.search(r'id="times"[^>]*aria-label="p50 750 µs, p95 975 µs, p99 995 µs"', shown)
    assert shown.index('id="requests"') < shown.index('id="tiles"')
    assert "40 ended" not in shown  # the connections that ended did so before the page was opened
    assert "3 open connections have no row" in shown
    assert re.search(r"<td>client<small>the client closed it while it was idle</small></td><td>40</td>", shown)
    assert "may be idle for 30 s (--keep-alive, and one second of grace)" in shown
    assert re.search(
        r">4xx</td><td>4</td></tr><tr><td class=\"part\">of these 431, rejected by kaserve</td><td>1<", shown
    )
    assert "<b>4</b> open" in shown  # as many as the tile says


def test_the_page_explains_each_reason() -> None:
    page, _, _ = status()
    body = page(ask()).body
    assert isinstance(body, bytes)
    reasons = body.decode().partition("const REASONS = {")[2].partition("};")[0]
    assert set(re.findall(r'^  "([^"]+)": ', reasons, re.MULTILINE)) == {ending.value for ending in Ending}


def test_each_row_says_how_its_connection_ended(tmp_path: Path) -> None:
    timeline = Timeline()
    timeline.render(100.0)
    for number, ending in ((7, Ending.REQUEST_LIMIT), (8, None)):
        trace = timeline.start_trace(number, "192.0.2.1", 90.0, 100.0)
        assert trace is not None
        trace.add(95.0, 95.1, 200)
        if ending is not None:
            trace.end(99.0, ending)
    report = overview(take_snapshot(Stats(), ["IDLE"], Settings(), 100.0), timeline.render(100.0), [])
    servers: list[Server] = []
    timers: list[threading.Timer] = []

    def call_later(seconds: float, function: Callable[[], None]) -> None:
        timers.append(threading.Timer(seconds, servers[0].call, (page.close,)))
        timers[-1].start()

    page = StatusPage(lambda most: report, call_later, own=Noted(), seconds=0.1)
    try:
        with serving(page) as server:
            servers.append(server)
            shown = load(server.url, tmp_path)
    finally:
        for timer in timers:
            timer.join()
    rows = re.findall(r"<text [^>]*>([^<]+)</text>", shown.partition('id="timeline"')[2].partition("</svg>")[0])
    assert rows[:4] == ["#8 192.0.2.1", "#7 192.0.2.1", "open", "request limit"]
