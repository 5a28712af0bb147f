"""The formats of the access log: lines that every log reader knows, and that no client can forge."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import HTTPError, Request, Response
from kaserve.http.address import UNNAMED
from kaserve.logs.formats import _ordinal, _show_client, _show_duration, _show_size, escape, parse_atoms
from kaserve.net.exchange import begin_exchange
from tests.tools.connections import logged_errors
from tests.tools.logs import COMBINED, COMMON, LoggedNet, request_line
from tests.tools.net import EPOCH, GET, get, post
from tests.tools.server import connect, serving


@pytest.fixture
def net() -> Iterator[LoggedNet]:
    net = LoggedNet()
    yield net
    net.close()


class TestPretty:
    """Columns for a person at a terminal."""

    def lines(self, *requests: bytes, color: bool = False, zone: str = "UTC0") -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            net = LoggedNet("pretty", color=color)
            try:
                client, _ = net.connect()
                for each in requests:
                    net.ask(client, each)
                return net.written.lines
            finally:
                net.close()
                patch.undo()
                time.tzset()

    def test_exactly(self) -> None:
        assert self.lines(get("/path?query"), get("/refused"), get("/empty")) == [
            "08:49:37  200  GET     /path?query                       0.00 ms      5 B  1st on #1, from 192.0.2.1",
            "08:49:37  403  GET     /refused                          0.00 ms     18 B  2nd on #1, from 192.0.2.1  no",
            "08:49:37  204  GET     /empty                            0.00 ms        -  3rd on #1, from 192.0.2.1",
        ]

    @pytest.mark.parametrize(("target", "color"), [("/", "\x1b[32m200\x1b[0m"), ("/refused", "\x1b[33m403\x1b[0m")])
    def test_the_status_has_a_colour(self, target: str, color: str) -> None:
        (colored,) = self.lines(get(target), color=True)
        assert color in colored
        assert [re.sub(r"\x1b\[[0-9;]*m", "", colored)] == self.lines(get(target))

    def test_a_request_that_cannot_be_read(self) -> None:
        net = LoggedNet("pretty")
        client, _ = net.connect()
        client.send(b"rubbish\r\n\r\n")
        net.settle()
        (line,) = net.written.lines
        net.close()
        assert line.split()[1:4] == ["400", "-", "-"]
        assert line.endswith("1st on #1, from 192.0.2.1  the request line is malformed")

    @pytest.mark.parametrize(
        ("sends", "reason"),
        [
            pytest.param(b"GET / HT", "the request did not arrive in time", id="408"),
            pytest.param(post(b"x", path="/refused"), "no", id="before_body"),
            pytest.param(get("/quotes"), r"a \xfcser said \x22\x0a\x22", id="escaped"),
        ],
    )
    def test_why_a_request_was_rejected(self, sends: bytes, reason: str) -> None:
        def handler(request: Request) -> Response:
            raise HTTPError(403, "no" if request.path == "/refused" else 'a üser said "\n"')

        net = LoggedNet("pretty", handler=handler)
        client, _ = net.connect()
        client.send(sends)
        net.settle()
        net.sleep(40)
        (line,) = net.written.lines
        net.close()
        assert line.endswith(f"from 192.0.2.1  {reason}")

    def test_a_rejection_whose_response_cannot_be_sent_is_no_reason(self, caplog: pytest.LogCaptureFixture) -> None:
        def handler(request: Request) -> Response:
            raise HTTPError(403, "no", {"X-Bad": "a\r\nb"})

        net = LoggedNet("pretty", handler=handler)
        client, _ = net.connect()
        with logged_errors(caplog, "ValueError"):
            net.ask(client, GET)
        (line,) = net.written.lines
        net.close()
        assert line.split()[1] == "500"
        assert line.endswith(", from 192.0.2.1")

    @pytest.mark.parametrize(
        ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")]
    )
    def test_ordinals(self, number: int, text: str) -> None:
        assert _ordinal(number) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.0, "0.00 ms"),
            (0.000214, "0.21 ms"),
            (0.0099, "9.90 ms"),
            (0.00999, "10 ms"),
            (0.9994, "999 ms"),
            (0.9999, "1.0 s"),
            (75.0, "75.0 s"),
        ],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert _show_duration(seconds) == text

    @pytest.mark.parametrize(
        ("size", "text"),
        [(0, "-"), (999, "999 B"), (1000, "1.0 kB"), (5120, "5.1 kB"), (999_600, "1.0 MB"), (12_300_000_000, "12 GB")],
    )
    def test_sizes(self, size: int, text: str) -> None:
        assert _show_size(size) == text

    def test_who_asked(self) -> None:
        assert _show_client("127.0.0.1", "") == _show_client("::1", "") == _show_client("unix", "") == ""
        assert _show_client("192.0.2.1", "ann") == ", from 192.0.2.1, as ann"
        assert _show_client("127.0.0.1", "ann") == ", as ann"


class TestCommonLogFormat:
    def test_exactly(self, net: LoggedNet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "XYZ-05:30")
        time.tzset()
        try:
            client, _ = net.connect()
            net.ask(client, get("/path?query"))
        finally:
            monkeypatch.undo()
            time.tzset()
        assert net.written.lines == ['192.0.2.1 - - [06/Nov/1994:14:19:37 +0530] "GET /path?query HTTP/1.1" 200 5']

    def test_the_second_is_that_of_the_answer(self, net: LoggedNet) -> None:
        client, _ = net.connect()
        seconds = []
        for _ in range(3):
            net.ask(client, GET)
            net.wall.advance(0.6)
        for line in net.written.lines:
            match = COMMON.fullmatch(line)
            assert match is not None
            seconds.append(int(match[7]))
        assert seconds == [37, 37, 38]
        assert int(EPOCH) % 60 == 37

    @pytest.mark.parametrize(
        ("request_", "line", "status", "size"),
        [
            (get("/"), "GET / HTTP/1.1", "200", "5"),
            (b"GET /old HTTP/1.0\r\n\r\n", "GET /old HTTP/1.0", "200", "5"),
            (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1", "200", "-"),
            (get("/empty"), "GET /empty HTTP/1.1", "204", "-"),
            (get("/pieces"), "GET /pieces HTTP/1.1", "200", "8"),  # content, not chunks
            (post(b"12345", path="/form"), "POST /form HTTP/1.1", "200", "5"),
            (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1", "200", "5"),
            (b"GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://h/x HTTP/1.1", "200", "5"),
        ],
        ids=str,
    )
    def test_each_kind_of_answer(self, net: LoggedNet, request_: bytes, line: str, status: str, size: str) -> None:
        client, _ = net.connect()
        client.send(request_)
        net.settle()
        assert [request_line(each) for each in net.written.lines] == [(line, status, size)]

    @pytest.mark.parametrize(
        ("request_", "line", "status"),
        [
            (get("/refused"), "GET /refused HTTP/1.1", "403"),
            (b"rubbish\r\n\r\n", "-", "400"),
            (b'GET "quoted" HTTP/1.1\r\nBad Field\r\n\r\n', "-", "400"),
            (b"GET / HTTP/3.0\r\n\r\n", "-", "505"),
            (b"\x16\x03\x01\x02\x00", "-", "400"),
        ],
        ids=str,
    )
    def test_refused_requests(self, net: LoggedNet, request_: bytes, line: str, status: str) -> None:
        client, _ = net.connect()
        client.send(request_)
        net.settle()
        ((logged, found, size),) = [request_line(each) for each in net.written.lines]
        assert (logged, found) == (line, status)
        assert int(size) > 0

    def test_a_request_that_did_not_arrive_in_time(self, net: LoggedNet) -> None:
        client, _ = net.connect()
        client.send(GET[:-2])
        net.sleep(60.0)
        ((_, status, _),) = [request_line(each) for each in net.written.lines]
        assert status == "408"

    def test_an_answer_that_broke_off_is_logged_with_what_was_sent(self, net: LoggedNet) -> None:
        client, _ = net.connect()
        client.send(get("/breaks"))
        net.settle()
        assert [request_line(each) for each in net.written.lines] == [("GET /breaks HTTP/1.1", "200", "3")]

    def test_an_idle_connection_that_closes_is_no_answer(self, net: LoggedNet) -> None:
        net.connect()
        net.sleep(200.0)
        assert net.written.writes == []

    def test_a_client_of_a_unix_socket(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with serving(bind=f"unix:{tmp_path}/socket", access_log=True) as server, connect(server) as client:
            client.ask()
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("unix - - [")
        assert request_line(line) == ("GET / HTTP/1.1", "200", "5")


class TestCombined:
    @pytest.mark.parametrize(
        ("fields", "referer", "agent"),
        [
            ("", "-", "-"),
            ("Referer: http://h/page\r\nUser-Agent: Browser/1.0 (X11; Linux)\r\n", "http://h/page", None),
            ("user-agent:\r\n", "-", ""),
            ('User-Agent: a"b\\c\td\xe9\r\n', "-", r"a\x22b\x5cc\x09d\xe9"),
        ],
    )
    def test_exactly(self, fields: str, referer: str, agent: str | None) -> None:
        net = LoggedNet("combined")
        client, _ = net.connect()
        net.ask(client, f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))
        (line,) = net.written.lines
        net.close()
        match = COMBINED.fullmatch(line)
        assert match is not None, line
        assert (match[12], match[13]) == (referer, "Browser/1.0 (X11; Linux)" if agent is None else agent)

    def test_a_request_that_could_not_be_read(self) -> None:
        net = LoggedNet("combined")
        client, _ = net.connect()
        client.send(b"rubbish\r\n\r\n")
        net.settle()
        (line,) = net.written.lines
        net.close()
        assert COMBINED.fullmatch(line) is not None
        assert line.endswith(' "-" "-"')

    def test_by_the_setting(self, capfd: pytest.CaptureFixture[str]) -> None:
        with serving(access_log=True, log_format="combined") as server, connect(server) as client:
            client.ask("/", "User-Agent: me")
        assert capfd.readouterr().err.endswith('"GET / HTTP/1.1" 200 5 "-" "me"\n')


class TestEscaping:
    @pytest.mark.parametrize(
        ("text", "escaped"),
        [
            ("/plain?a=b&c=%20;~'()*|{}[]<>", "/plain?a=b&c=%20;~'()*|{}[]<>"),
            ('"', r"\x22"),
            ("\\", r"\x5c"),
            ("\0\t\n\r\x1b\x7f", r"\x00\x09\x0a\x0d\x1b\x7f"),
            ("\x80\xa0\xe9\xff", r"\x80\xa0\xe9\xff"),
            ("", ""),
        ],
    )
    def test_exactly(self, text: str, escaped: str) -> None:
        assert escape(text) == escaped

    @given(st.text(st.characters(max_codepoint=255)))
    def test_nothing_breaks_out_and_nothing_is_lost(self, text: str) -> None:
        escaped = escape(text)
        assert re.fullmatch(r"(?:[ !#-\[\]-~]|\\x[0-9a-f]{2})*", escaped)
        assert re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), escaped) == text

    def test_more_texts_than_are_remembered(self) -> None:
        texts = [f"/{number}\t" for number in range(2500)] + ["/" + "x" * 300 + "\t"]
        for _ in range(2):
            assert [escape(text) for text in texts] == [text[:-1] + r"\x09" for text in texts]

    def test_a_quote_in_a_target(self, net: LoggedNet) -> None:
        client, _ = net.connect()
        target = '/"'
        client.send(get(target))
        net.settle()
        for line in net.written.lines:  # refused or served, but never a line that reads as another one
            request_line(line)


class TestUser:
    """`request.remote_user`, which a middleware such as BasicAuth sets; never what a client only claims to be."""

    @pytest.mark.parametrize(
        ("log_format", "user", "expected"),
        [
            pytest.param("common", "ann", "192.0.2.1 - ann [", id="common"),
            pytest.param("common", 'a" b\\\xe9', r"192.0.2.1 - a\x22 b\x5c\xe9 [", id="common-escaped"),
            pytest.param("common", "", "192.0.2.1 - - [", id="common-none"),
            pytest.param("combined", "ann", "192.0.2.1 - ann [", id="combined"),
            pytest.param("%(u)s", "ann", "ann", id="atom"),
            pytest.param("%(u)s", 'a"', r"a\x22", id="atom-escaped"),
            pytest.param("%(u)s", "", "-", id="atom-none"),
        ],
    )
    def test_in_text(self, log_format: str, user: str, expected: str) -> None:
        assert self.line(log_format, user).startswith(expected)

    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            pytest.param("ann", "ann", id="known"),
            pytest.param('a"\xe9', 'a"\xe9', id="escaped"),
            pytest.param("", None, id="none"),
        ],
    )
    def test_in_json(self, user: str, expected: str | None) -> None:
        assert json.loads(self.line("json", user))["user"] == expected

    @pytest.mark.parametrize("log_format", ["common", "combined", "json", "%(u)s"])
    def test_authorization_alone_is_no_user(self, log_format: str) -> None:
        assert "ann" not in self.line(log_format, "", "Authorization: Basic YW5uOnNlY3JldA==\r\n")

    def line(self, log_format: str, user: str, fields: str = "") -> str:
        """The line of a request whose handler says that it is from `user`."""

        def handler(request: Request) -> Response:
            request.remote_user = user
            return Response(204)

        net = LoggedNet(log_format, handler=handler)
        client, _ = net.connect()
        net.ask(client, f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))
        (line,) = net.written.lines
        net.close()
        return line


class TestJSON:
    def test_exactly(self) -> None:
        net = LoggedNet("json")
        client, connection = net.connect()
        fields = 'Referer: http://h/"\r\nUser-Agent: \\ \xe9\r\n'
        net.ask(client, GET, f"GET /x?y HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))
        first, second = map(json.loads, net.written.lines)
        net.close()
        assert datetime.fromisoformat(second.pop("time")).timestamp() == EPOCH
        assert second == {
            "connection": connection.number,
            "request": 2,
            "client": "192.0.2.1",
            "user": None,
            "method": "GET",
            "target": "/x?y",
            "version": "1.1",
            "status": 200,
            "bytes": 5,
            "arrival": 0.0,
            "handler": 0.0,
            "send": 0.0,
            "referer": 'http://h/"',
            "user_agent": "\\ \xe9",
            "error": None,
        }
        assert (first["request"], first["referer"], first["user_agent"]) == (1, None, None)

    def test_how_long_each_phase_took(self) -> None:
        def slow(request: Request) -> Response:
            logged.clock.advance(0.25)
            return Response(200, pieces())

        def pieces() -> Iterator[bytes]:
            yield b"a"
            logged.clock.advance(2.0)
            yield b"b"

        net = logged = LoggedNet("json", handler=slow)
        client, _ = net.connect()
        client.send(GET[:10])
        net.settle()
        net.clock.advance(4.0)
        client.send(GET[10:])
        net.settle()
        (line,) = map(json.loads, net.written.lines)
        net.close()
        assert (line["arrival"], line["handler"], line["send"]) == (4.0, 0.25, 2.0)

    def test_a_request_that_could_not_be_read(self) -> None:
        net = LoggedNet("json")
        client, _ = net.connect()
        client.send(b"rubbish\r\n\r\n")
        net.settle()
        (line,) = map(json.loads, net.written.lines)
        net.close()
        assert [line[name] for name in ("method", "target", "version", "referer", "status")] == [None] * 4 + [400]
        assert line["handler"] == 0.0
        assert line["error"] == "the request line is malformed"

    @given(st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0")))
    def test_nothing_breaks_out_and_nothing_is_lost(self, text: str) -> None:
        request = Request("GET", "/" + text, 1, [("user-agent", text)])
        net = LoggedNet("json")
        _, connection = net.connect()
        exchange = begin_exchange(net.service, connection.protocol, connection._writer, connection, 1, UNNAMED, 0.0)
        exchange.request, exchange.response = request, Response(200)
        net.log.log(exchange)
        net.log.flush()
        net.close()
        (line,) = net.written.lines
        assert re.fullmatch("[ -~]+", line)
        found = json.loads(line)
        assert (found["target"], found["user_agent"]) == ("/" + text, text)


class TestAtoms:
    """Those of https://docs.gunicorn.org/en/stable/settings.html#access-log-format."""

    @pytest.mark.parametrize(
        ("atoms", "line"),
        [
            ("%(h)s", "192.0.2.1"),
            ("%(l)s %(u)s", "- -"),
            ("%(r)s", "POST /a%20b?c=d HTTP/1.1"),
            ("%(m)s %(U)s %(q)s %(H)s", "POST /a%20b c=d HTTP/1.1"),
            ("%(s)s %(B)s %(b)s", "200 5 5"),
            ('"%(f)s" "%(a)s"', r'"-" "me \x22 \xe9"'),
            ("%(T)s %(M)s %(D)s %(L)s", "1 1500 1500000 1.500000"),
            ("%(p)s", f"<{os.getpid()}>"),
            ("%({X-One}i)s %({x-none}i)s", "a, b -"),
            ("%({content-type}o)s %({X-None}o)s", "text/plain; charset=utf-8 -"),
            ("100%% \\ %(s)s", "100% \\ 200"),
        ],
    )
    def test_each(self, atoms: str, line: str) -> None:
        def slow(request: Request) -> Response:
            logged.clock.advance(1.5)
            return Response.text("hello")

        net = logged = LoggedNet(atoms, handler=slow)
        client, _ = net.connect()
        fields = 'User-Agent: me " \xe9\r\nX-One: a\r\nX-One: b\r\n'
        client.send(f"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 0\r\n\r\n".encode("latin-1"))
        net.settle()
        written = net.written.lines
        net.close()
        assert written == [line]

    def test_gunicorns_own_format_is_combined(self) -> None:
        written = []
        for log_format in ('%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"', "combined"):
            net = LoggedNet(log_format)
            client, _ = net.connect()
            client.send(GET + get("/empty") + b"rubbish\r\n\r\n")
            net.settle()
            written.append(net.written.lines)
            net.close()
        assert written[0] == written[1]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            pytest.param("", "must be auto, pretty, common, combined, json, or made of atoms", id="nothing"),
            pytest.param("apache", "must be auto, pretty, common, combined, json, or made of atoms", id="no-atom"),
            pytest.param("%%", "must be auto, pretty, common, combined, json, or made of atoms", id="percent"),
            pytest.param("%(x)s", r"has %\(x\)s, which kaserve does not support; the atoms are h l ", id="unknown"),
            pytest.param("%({X}e)s", r"has %\({X}e\)s, which kaserve does not", id="environ"),
            pytest.param("%({a b}i)s", r"has %\({a b}i\)s, which kaserve does not", id="no-field-name"),
            pytest.param("%({}i)s", r"has %\({}i\)s, which kaserve does not", id="empty-field-name"),
            pytest.param("%({\xe9}i)s", r"has %\({\xe9}i\)s, which kaserve does not", id="field-name-not-ascii"),
            pytest.param("%({\udce9}i)s", r"has %\({\udce9}i\)s, which kaserve does not", id="field-name-not-unicode"),
            pytest.param("%(h)d", "has a % that does not begin an atom", id="not-a-string"),
            pytest.param("%h", "has a % that does not begin an atom", id="no-parentheses"),
            pytest.param("%(h)s %", "has a % that does not begin an atom", id="percent-sign"),
            pytest.param("%(h)s\n", "must be printable ASCII", id="line-feed"),
            pytest.param("%(h)s\xe9", "must be printable ASCII", id="not-ascii"),
        ],
    )
    def test_rejected(self, text: str, reason: str) -> None:
        with pytest.raises(ValueError, match=f"^{reason}"):
            parse_atoms(text)
