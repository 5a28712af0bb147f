"""The probe: every experiment on fake servers that misbehave in virtual time, and the whole of it on kaserve itself.

The fake servers are their faults: `Fake` is a correct server, and each test switches one thing off. Nothing sleeps: a
wire that waits moves the clock.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kaserve.cli.main import main
from kaserve.probe import experiments
from kaserve.probe.experiments import ProbeSettings
from kaserve.probe.line import ClientConnection, NoAnswer, SocketWire, Target, read_url
from kaserve.probe.report import Report, as_json, as_table, probe, remarks
from tests.tools.net import FakeClock
from tests.tools.server import PATIENCE, Driven, hello, serving

TARGET = Target("http", "h", 80, "h", "/")
DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
END, RESET = "end", "reset"
REQUEST = re.compile(rb"(GET|HEAD|POST) (\S+) HTTP/1\.([01])\r\n(.*?)\r\n\r\n", re.DOTALL)


@dataclass
class Fake:
    """A server of virtual time. Everything but the clock is how it behaves."""

    clock: FakeClock
    lines: tuple[str, ...] = ("Server: fake", DATE)
    idle: float = 5.0
    announces: str = "timeout=5, max=99"
    limit: int = 10**9
    says_close: bool = True
    keeps_1_0: bool = True
    closes_1_0: bool = True
    keeps_1_1: bool = True
    pipelines: int = 99  # requests of one segment that it answers
    shuffles: bool = False
    body: str = "drain"  # or "misread", "close", "reset", "ignore"
    heads_have_bodies: bool = False
    lingers: bool = True
    half_close: bool = True
    resets_idle: bool = False
    raw: bytes | None = None  # what it says to everything

    def connect(self) -> FakeWire:
        return FakeWire(self)


@dataclass
class FakeWire:
    fake: Fake
    coming: list[tuple[float, bytes | str]] = field(default_factory=list)
    served: int = 0
    over: str = ""
    ended: bool = False

    def send(self, data: bytes) -> None:
        if self.ended:
            self.over = "" if self.fake.lingers else RESET
            return
        if self.over:
            raise BrokenPipeError
        self.coming = [event for event in self.coming if event[0] <= self.fake.clock.now]  # idles no more
        if self.fake.raw is not None:
            self._say(self.fake.raw)
            self._say(END)
            return
        answers = list(self._serve(data))
        if self.fake.shuffles:
            answers.reverse()
        for answer in answers:
            self._say(answer)
        over: str = self.over  # which _serve may have set
        if over:
            self._say(over)
        else:
            last = RESET if self.fake.resets_idle else END
            self.coming.append((self.fake.clock.now + self.fake.idle, last))

    def _say(self, event: bytes | str) -> None:
        self.coming.append((self.fake.clock.now, event))

    def _serve(self, data: bytes) -> Iterator[bytes]:
        fake = self.fake
        position = answered = 0
        while not self.over and answered < fake.pipelines and (match := REQUEST.match(data, position)):
            method, path, minor, head = match.groups()
            position = match.end()
            fields = head.lower()
            has_body = b"content-length" in fields or b"chunked" in fields
            if has_body:
                position = position if fake.body == "misread" else len(data)
                if fake.body == "ignore":
                    return
                if fake.body == "reset":
                    self.over = RESET
                    return
            self.served += 1
            answered += 1
            close = b"connection: close" in fields or not fake.keeps_1_1 or self.served >= fake.limit
            if minor == b"0":
                close = close or not (fake.keeps_1_0 and b"keep-alive" in fields)
            said = "close" if close and fake.says_close else "keep-alive" if minor == b"0" and not close else ""
            status = 404 if b"nothing-here" in path else 405 if has_body else 200
            lines = [f"HTTP/1.1 {status} x", *fake.lines, "Content-Length: 5"]
            lines += [f"Connection: {said}"] if said else []
            lines += [f"Keep-Alive: {fake.announces}"] if fake.announces and not close else []
            yield (
                "\r\n".join(lines).encode()
                + b"\r\n\r\n"
                + (b"" if method == b"HEAD" and not fake.heads_have_bodies else b"hello")
            )
            if (close and (minor == b"1" or fake.closes_1_0)) or (has_body and fake.body == "close"):
                self.over = END

    def receive(self, seconds: float) -> bytes:
        if self.ended:
            return b""
        if not self.coming or self.coming[0][0] > self.fake.clock.now + seconds:
            self.fake.clock.advance(seconds)
            raise TimeoutError
        at, event = self.coming.pop(0)
        self.fake.clock.now = max(self.fake.clock.now, at)
        if event == RESET:
            raise ConnectionResetError
        self.ended = event == END
        return event if isinstance(event, bytes) else b""

    def was_reset(self, seconds: float) -> bool:
        self.fake.clock.advance(seconds)
        return self.over == RESET

    def finish(self) -> None:
        if not self.fake.half_close:
            self.coming = [(self.fake.clock.now, END)]

    def close(self) -> None:
        self.coming.clear()


def lab(**behaviour: Any) -> ProbeSettings:
    fake = Fake(FakeClock(), **behaviour)
    return ProbeSettings(TARGET, fake.connect, fake.clock, most_requests=50)


# A server as it should be.


def test_a_good_server() -> None:
    report = probe("http://h/", lab())
    assert (report.basics.status, report.basics.version, report.basics.server) == (200, "HTTP/1.1", "fake")
    assert (report.basics.timeout, report.basics.max) == (5, 99)
    assert {name: str(finding) for name, finding in report.findings.items()} == {
        "persists_1_1": "yes (says nothing)",
        "persists_1_0_keep_alive": "yes (says 'keep-alive')",
        "persists_1_0": "no (says 'close')",
        "pipelining": "all 6 answered, in order",
        "unread_body": "405, goes on",
        "chunked_request": "405, goes on",
        "closing": "half-closes, and lingers",
        "half_closed_client": "gets its answer",
        "request_limit": "more than 50 (none more tried)",
        "idle": "5.0 s, no later than announced (5 s)",
    }
    assert [remark[:20] for remark in remarks(report)] == ["It announces 5 s and"]


# One fault each.


def test_no_date() -> None:
    assert experiments.first_answer(lab(lines=())).date == "missing"
    assert experiments.first_answer(lab(lines=("Date: today",))).date == "malformed"
    assert experiments.first_answer(lab(lines=("Date: Sunday, 06-Nov-94 08:49:37 GMT",))).date == "malformed"
    assert experiments.first_answer(lab()).good


def test_a_server_that_keeps_nothing() -> None:
    tried = lab(keeps_1_1=False)
    assert str(experiments.persistence(tried, "1.1")) == "no (says 'close')"
    assert str(experiments.request_limit(tried)) == "1, the last one says 'close'"
    assert str(experiments.idle(tried)) == "at once: nothing persists"
    assert str(experiments.pipelining(tried)) == "1 of 6 answered, then closed (says 'close')"


def test_a_server_that_closes_without_a_word() -> None:
    tried = lab(keeps_1_1=False, says_close=False)
    assert str(experiments.persistence(tried, "1.1")) == "no (says nothing)"
    limit = experiments.request_limit(tried)
    assert str(limit) == "1, closed without a word"
    assert limit.good is False


def test_http_1_0() -> None:
    assert not experiments.persistence(lab(keeps_1_0=False), "1.0", "Connection: keep-alive").persists
    open_for_ever = experiments.persistence(lab(closes_1_0=False), "1.0")
    assert str(open_for_ever) == "no (says 'close', yet does not close)"


def test_requests_per_connection() -> None:
    assert str(experiments.request_limit(lab(limit=7))) == "7, the last one says 'close'"
    unsaid = experiments.request_limit(lab(limit=7, says_close=False))
    assert (unsaid.requests, unsaid.announced, unsaid.good) == (7, False, False)


def test_the_limit_is_not_looked_for_for_ever() -> None:
    tried = lab()
    clock = tried.clock
    assert isinstance(clock, FakeClock)

    def slow() -> Any:
        clock.advance(0.2)
        return Fake(clock).connect()

    class Slow(FakeWire):
        def receive(self, seconds: float) -> bytes:
            self.fake.clock.advance(1.0)
            return super().receive(seconds)

    found = experiments.request_limit(replace(tried, connect=lambda: Slow(Fake(clock)), most_wait=10.0))
    assert str(found) == "more than 10 (in 10 s)"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"pipelines": 1}, "1 of 6 answered, then closed"),
        ({"pipelines": 3, "idle": 60.0}, "3 of 6 answered, then nothing for 10 s"),
        ({"limit": 2}, "2 of 6 answered, then closed (says 'close')"),
    ],
)
def test_pipelines_that_break(behaviour: dict[str, Any], words: str) -> None:
    found = experiments.pipelining(lab(**behaviour))
    assert str(found) == words
    assert not found.good


def test_pipelines_out_of_order() -> None:
    found = experiments.pipelining(lab(shuffles=True))
    assert not found.in_order
    assert not found.good


def test_heads_with_bodies() -> None:
    found = experiments.pipelining(lab(heads_have_bodies=True))
    assert (found.sent, found.answered, found.good) == (4, 4, False)


@pytest.mark.parametrize(
    ("body", "words", "good"),
    [
        ("drain", "405, goes on", True),
        ("misread", "405, takes the body for requests", False),
        ("close", "405, closes without a word", False),
        ("reset", "answer lost, resets", False),
        ("ignore", "answer lost, says nothing (closed)", False),
    ],
)
def test_bodies_that_nobody_reads(body: str, words: str, good: bool) -> None:
    found = experiments.unread_body(lab(body=body))
    assert (str(found), found.good) == (words, good)


def test_chunked_requests() -> None:
    assert str(experiments.chunked_request(lab())) == "405, goes on"
    assert not experiments.chunked_request(lab()).answers_in_chunks
    assert not experiments.chunked_request(lab(body="reset")).good


def test_closing_at_once() -> None:
    assert str(experiments.closing(lab(lingers=False))) == "closes at once (late bytes are reset)"
    assert str(experiments.closing(lab())) == "half-closes, and lingers"


def test_half_closed_clients() -> None:
    found = experiments.half_closed_client(lab(half_close=False))
    assert str(found) == "gets no answer"
    tls = replace(lab(), target=replace(TARGET, scheme="https"))
    assert experiments.half_closed_client(tls) is None


def test_idle() -> None:
    assert str(experiments.idle(lab(idle=7.25))) == "7.2 s"
    assert experiments.idle(lab(idle=7.25)).good
    early = experiments.idle(lab(idle=2.0))
    assert (str(early), early.good) == ("2.0 s, SOONER than announced (5 s)", False)
    assert str(experiments.idle(lab(idle=99.0))) == "longer than 15 s"
    assert str(experiments.idle(lab(idle=3.0, resets_idle=True, announces=""))) == "3.0 s, by a reset"


def test_a_late_request() -> None:
    assert experiments.idle(lab(lingers=False)).late_request == "reset"
    assert experiments.idle(lab()).late_request == "swallowed"
    assert experiments.idle(lab(resets_idle=True)).late_request == ""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "what came is not HTTP"),
        (b"HTTP/1.1 200\r\n\r\n", "the status line is malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "the connection ended within the body"),
        (b"\x15\x03\x01\x00\x02\x02", "what came is not HTTP"),
    ],
)
def test_garbage(raw: bytes, reason: str) -> None:
    with pytest.raises(NoAnswer, match=reason):
        experiments.first_answer(lab(raw=raw))


def test_a_server_that_closes_at_once() -> None:
    clock = FakeClock()
    wire = Fake(clock).connect()
    wire.coming.append((clock.now, END))
    wire.fake.raw = b""
    with pytest.raises(NoAnswer, match="closed"):
        experiments.first_answer(ProbeSettings(TARGET, lambda: wire, clock))


# The report.


def bad_report() -> Report:
    faults = {
        "idle": 2.0,
        "limit": 7,
        "says_close": False,
        "lingers": False,
        "body": "misread",
        "closes_1_0": False,
        "heads_have_bodies": True,
    }
    return probe("http://h/", lab(lines=("Server: \x85\x9b31m",), **faults))


def test_the_remarks_of_a_bad_server() -> None:
    said = " ".join(remarks(bad_report()))
    for each in ("closes after 2.0 s", "is reset", "not announced", "max=99", "smuggles", "stays open", "HEAD"):
        assert each in said


def test_the_table_is_aligned_and_shows_no_control_characters() -> None:
    table = as_table(bad_report())
    assert all(char.isprintable() or char == "\n" for char in table)
    assert "\\x9b31m" in table
    rows = [line for line in table.splitlines()[1:] if not line.startswith(" *")]
    column = max(row.index("  ", 3) for row in rows if "a request that comes after" in row)
    assert {row[column : column + 2] for row in rows} == {"  "}
    assert all(row[column + 2] != " " for row in rows)
    assert {line[1] for line in rows} == {"+", "!", " "}


def test_colour_is_for_terminals() -> None:
    assert "\x1b[3" in as_table(bad_report(), colour=True)


def test_json_has_all_of_it() -> None:
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
    tried = lab()
    connections = iter(range(1))

    def connect_once() -> Any:
        if next(connections, None) is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return tried.connect()

    report = probe("http://h/", replace(tried, connect=connect_once))
    assert {str(finding) for finding in report.findings.values()} == {"? (Connection refused)"}
    assert "? (Connection refused)" in as_table(report)
    assert json.dumps(as_json(report))


# URLs.


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.com", Target("http", "example.com", 80, "example.com", "/")),
        ("localhost:8000/a?b=c", Target("http", "localhost", 8000, "localhost:8000", "/a?b=c")),
        ("https://h:8443/x y#z", Target("https", "h", 8443, "h:8443", "/x%20y")),
        ("https://h/%2e", Target("https", "h", 443, "h", "/%2e")),
        ("http://[::1]:8000/", Target("http", "::1", 8000, "[::1]:8000", "/")),
        ("http://h:80/", Target("http", "h", 80, "h", "/")),
        ("http://\xfc.de/\xe9?\xe9", Target("http", "xn--tda.de", 80, "xn--tda.de", "/%C3%A9?%C3%A9")),
        ("http://h/a\r\nX: y", Target("http", "h", 80, "h", "/aX:%20y")),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert read_url(url) == target


@pytest.mark.parametrize("url", ["ftp://h/", "http://", "http://h:99999/", "http://h:x/", "http://a..b/", "http:///x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"takes a URL|not a port|not a host"):
        read_url(url)


# On sockets.


@contextmanager
def scripted(serve: Callable[[socket.socket], object]) -> Iterator[ClientConnection]:
    """A line whose other end `serve` has, in a thread."""
    theirs, ours = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    clock = FakeClock()
    try:
        with ClientConnection(SocketWire(ours, PATIENCE), clock, PATIENCE) as line:
            yield line
    finally:
        thread.join(PATIENCE)
        theirs.close()


def test_a_line_over_a_socket() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        sock.shutdown(socket.SHUT_WR)

    with scripted(serve) as line:
        assert line.ask("GET", TARGET.request("GET")).body == b"hello"
        assert line.wait_for_end(PATIENCE) is not None
        assert line.ended == "closed"
        assert not line.was_reset(0)


def test_a_line_that_nobody_answers_on() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ClientConnection(SocketWire(ours, PATIENCE), FakeClock(), 0.001) as line:
        with pytest.raises(NoAnswer, match=r"nothing for 0\.001 s"):
            line.ask("GET", TARGET.request("GET"))
        assert line.ended == ""


def test_an_answer_that_does_not_end() -> None:
    with lab().line() as line:
        line._wire = Endless(clock := FakeClock())
        line._clock = clock
        with pytest.raises(NoAnswer, match="no whole answer in 10 s"):
            line.ask("GET", TARGET.request("GET"))


class Endless(FakeWire):
    """Always one more byte, after a second."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._head = b"HTTP/1.1 200 OK\r\n\r\n"

    def send(self, data: bytes) -> None:
        pass

    def receive(self, seconds: float) -> bytes:
        self._clock.advance(1.0)
        data, self._head = self._head or b"x", b""
        return data

    def close(self) -> None:
        pass


# On kaserve itself, whose time is the test's.


class DrivenWire:
    """A connection to a server in this thread: who waits for it turns it, and moves its clock to what is due."""

    def __init__(self, driven: Driven) -> None:
        self._driven = driven
        self._sock = driven.connect().sock

    def send(self, data: bytes) -> None:
        self._sock.settimeout(0)
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                pass
            self._driven.turn()

    def receive(self, seconds: float) -> bytes:
        self._sock.settimeout(0)
        clock = self._driven.clock
        end = clock.now + seconds
        while True:
            self._driven.settle()
            try:
                return self._sock.recv(65536)
            except BlockingIOError:
                wait = self._driven.server.timeout()
            if wait is None or clock.now + wait > end:
                clock.now = end
                raise TimeoutError
            clock.advance(max(wait, 1e-6))

    def was_reset(self, seconds: float) -> bool:
        self._driven.settle()
        return SocketWire(self._sock, 0).was_reset(0)

    def finish(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


@contextmanager
def kaserve(**settings: Any) -> Iterator[ProbeSettings]:
    with Driven(hello, **settings) as driven:
        yield ProbeSettings(TARGET, lambda: DrivenWire(driven), driven.clock, most_wait=200.0, most_requests=20)


def test_kaserve() -> None:
    with kaserve(keep_alive=7.0, keep_alive_requests=12) as tried:
        report = probe("http://h/", tried)
    assert (report.basics.timeout, report.basics.max) == (7, 11)
    assert {name: str(finding) for name, finding in report.findings.items()} == {
        "persists_1_1": "yes (says 'keep-alive')",
        "persists_1_0_keep_alive": "yes (says 'keep-alive')",
        "persists_1_0": "no (says 'close')",
        "pipelining": "all 6 answered, in order",
        "unread_body": "200, goes on",
        "chunked_request": "200, goes on",
        "closing": "half-closes, and lingers",
        "half_closed_client": "gets its answer",
        "request_limit": "12, the last one says 'close'",
        "idle": "8.0 s",
    }
    assert remarks(report) == []


def test_kaserve_without_keep_alive() -> None:
    with kaserve(keep_alive=0.0) as tried:
        assert str(experiments.persistence(tried, "1.1")) == "no (says 'close')"
        assert experiments.first_answer(tried).announced == "nothing"


# The command.

QUICK = ("--max-wait", "0.01", "--max-requests", "5", "--patience", "4")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert main(["probe", server.url, *QUICK]) == 0
        table = capsys.readouterr().out
        assert main(["probe", server.url, "--json", *QUICK]) == 0
        found = json.loads(capsys.readouterr().out)
    assert table.startswith(server.url)
    assert re.search(r"pipelined requests +all 6 answered, in order\n", table)
    assert found["persists_1_1"]["persists"] is True
    assert found["idle"]["seconds"] is None


def test_the_command_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        url = server.url
    assert main(["probe", url]) == 3
    assert capsys.readouterr().err == f"kaserve probe: {url}: Connection refused\n"


def test_the_command_without_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "ftp://h/"]) == 2
    assert capsys.readouterr().err == "kaserve probe: takes a URL with http or https, not 'ftp://h/'\n"
    for arguments in (
        ["probe"],
        ["probe", "http://h/", "--max-wait", "nan"],
        ["probe", "http://h/", "--patience", "0"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert re.fullmatch("kaserve probe: .+\n", capsys.readouterr().err)


def test_the_command_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its time, so people press Ctrl-C; that is no reason for a traceback."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kaserve.probe.command.probe", interrupted)
    assert main(["probe", "http://h/"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_certificate_that_nobody_trusts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr("kaserve.probe.command.probe", refused)
    assert main(["probe", "https://h/"]) == 3
    assert "not trusted (self-signed certificate); --insecure takes any\n" in capsys.readouterr().err


def test_the_command_shows_colour_where_it_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaserve.probe.command.probe", lambda *_: bad_report())
    for wanted in (True, False):
        monkeypatch.setattr("kaserve.probe.command.takes_color", lambda stream, wanted=wanted: wanted)
        assert main(["probe", "http://h/"]) == 0
        out, err = capsys.readouterr()
        assert ("\x1b" in out, "\x1b" in err) == (wanted, wanted)
