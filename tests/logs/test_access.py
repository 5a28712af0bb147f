"""The access log: lines that every log reader knows, and that no client can forge."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import HTTPError, Request, Response, Server
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.passwords import hash_password
from kaserve.logs.access import AccessLog
from kaserve.logs.file import LogFile
from kaserve.logs.formats import escape, parse_atoms
from kaserve.logs.stderr import StderrHandler, write_stderr
from kaserve.net.service import Deadlines
from tests.tools.net import EPOCH, GET, Net, get, post
from tests.tools.server import (
    PATIENCE,
    Driven,
    Process,
    config,
    connect,
    environment,
    serving,
    wait_for,
)

# https://httpd.apache.org/docs/current/logs.html#common, to the letter.
TIME = r"\[(\d{2})/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-]\d{4})\]"
COMMON = re.compile(rf'([0-9a-f.:]+|unix) - - {TIME} "((?:[^"\\]|\\x[0-9a-f]{{2}})*)" ([2-5]\d{{2}}) (\d+|-)')
COMBINED = re.compile(COMMON.pattern + r' "((?:[^"\\]|\\x[0-9a-f]{2})*)" "((?:[^"\\]|\\x[0-9a-f]{2})*)"')


class Written:
    """Where an access log writes to: the lines, and how many it got at a time."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []

    def __call__(self, data: bytes) -> None:
        text = data.decode("ascii")
        assert text.endswith("\n")
        self.writes.append(text.splitlines())

    @property
    def lines(self) -> list[str]:
        return [line for write in self.writes for line in write]


class Logged(Net):
    """A reactor whose connections are logged."""

    def __init__(
        self,
        log_format: str = "common",
        *,
        handler: Callable[[Request], Response] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.written = Written()
        self.log = AccessLog(self.written, log_format=log_format, wall=lambda: self.wall())
        super().__init__(handler or answer, access_log=self.log, deadlines=deadlines)
        self.reactor.after_turn.append(self.log.flush)


def answer(request: Request) -> Response:
    if request.path == "/refused":
        raise HTTPError(403, "no")
    if request.path == "/empty":
        return Response(204)
    if request.path == "/pieces":
        return Response(200, iter([b"123", b"45678"]))
    if request.path == "/breaks":
        return Response(200, iter([b"123"]), [("Content-Length", "9")])
    return Response.text("hello")


@pytest.fixture
def net() -> Iterator[Logged]:
    net = Logged()
    yield net
    net.close()


def request_line(line: str) -> tuple[str, str, str]:
    """The quoted request, the status and the size of a line that must be in Common Log Format."""
    match = COMMON.fullmatch(line)
    assert match is not None, line
    return match[9], match[10], match[11]


class TestCommonLogFormat:
    def test_exactly(self, net: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "XYZ-05:30")
        time.tzset()
        try:
            client, _ = net.connect()
            net.ask(client, get("/path?query"))
        finally:
            monkeypatch.undo()
            time.tzset()
        assert net.written.lines == ['192.0.2.1 - - [06/Nov/1994:14:19:37 +0530] "GET /path?query HTTP/1.1" 200 5']

    def test_the_second_is_that_of_the_answer(self, net: Logged) -> None:
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
    def test_each_kind_of_answer(self, net: Logged, request_: bytes, line: str, status: str, size: str) -> None:
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
    def test_refused_requests(self, net: Logged, request_: bytes, line: str, status: str) -> None:
        client, _ = net.connect()
        client.send(request_)
        net.settle()
        ((logged, found, size),) = [request_line(each) for each in net.written.lines]
        assert (logged, found) == (line, status)
        assert int(size) > 0

    def test_a_request_that_did_not_arrive_in_time(self, net: Logged) -> None:
        client, _ = net.connect()
        client.send(GET[:-2])
        net.sleep(60.0)
        ((_, status, _),) = [request_line(each) for each in net.written.lines]
        assert status == "408"

    def test_an_answer_that_broke_off_is_logged_with_what_was_sent(self, net: Logged) -> None:
        client, _ = net.connect()
        client.send(get("/breaks"))
        net.settle()
        assert [request_line(each) for each in net.written.lines] == [("GET /breaks HTTP/1.1", "200", "3")]

    def test_an_idle_connection_that_closes_is_no_answer(self, net: Logged) -> None:
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
        net = Logged("combined")
        client, _ = net.connect()
        net.ask(client, f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))
        (line,) = net.written.lines
        net.close()
        match = COMBINED.fullmatch(line)
        assert match is not None, line
        assert (match[12], match[13]) == (referer, "Browser/1.0 (X11; Linux)" if agent is None else agent)

    def test_a_request_that_could_not_be_read(self) -> None:
        net = Logged("combined")
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

    def test_a_quote_in_a_target(self, net: Logged) -> None:
        client, _ = net.connect()
        target = '/"'
        client.send(get(target))
        net.settle()
        for line in net.written.lines:  # refused or served, but never a line that reads as another one
            request_line(line)


class TestBatches:
    def test_one_write_for_all_the_answers_of_a_turn(self, net: Logged) -> None:
        clients = [net.connect()[0] for _ in range(10)]
        for client in clients:
            client.send(get("/a") + get("/b"))
        net.step()
        assert [len(write) for write in net.written.writes] == [20]

    def test_nothing_to_write_writes_nothing(self, net: Logged) -> None:
        net.connect()
        for _ in range(3):
            net.step()
        assert net.written.writes == []

    def test_what_was_noted_last_is_written_when_the_server_closes(self, capfd: pytest.CaptureFixture[str]) -> None:
        with Driven(lambda _: Response(200, bytes(1 << 24)), access_log=True) as driven:
            client = driven.connect()
            client.send(get("/large"))
            driven.settle()
            driven.server.close()
        (line,) = capfd.readouterr().err.splitlines()
        request, status, size = request_line(line)
        assert (request, status) == ("GET /large HTTP/1.1", "200")
        assert int(size) > 0


class TestWhenItCannotBeWritten:
    def test_switched_off(self, capfd: pytest.CaptureFixture[str]) -> None:
        with serving(access_log=False) as server, connect(server) as client:
            client.ask()
        assert capfd.readouterr().err == ""

    def test_a_closed_stream_does_not_stop_the_server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as closed:
            pass
        for stream in (closed, None):
            monkeypatch.setattr(sys, "__stderr__", stream)
            with serving(access_log=True) as server, connect(server) as client:
                assert [client.ask().status for _ in range(3)] == [200] * 3

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_does_not_stop_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            monkeypatch.setattr(sys, "__stderr__", full)
            with serving(access_log=True) as server, connect(server) as client:
                assert [client.ask().status for _ in range(3)] == [200] * 3

    def test_a_pipe_without_a_reader_does_not_stop_it(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "kaserve", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment(),
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stderr.close()
                url = b""
                while not url.startswith(b"  at http://127.0.0.1:"):
                    url = process.stdout.readline()
                    assert url
                with connect(("127.0.0.1", int(url.strip(b" /\n").rpartition(b":")[2]))) as client:
                    assert [client.ask(method="OPTIONS").status for _ in range(3)] == [204] * 3
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()

    def test_no_stderr_at_all_and_no_line_gets_into_another_descriptor(self) -> None:
        """`2>&-`: the next descriptor opened gets the number 2, a connection for instance."""
        program = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-m', 'kaserve', '0'])"
        with Process(program=("-c", program)) as process:
            clients = [process.connect() for _ in range(10)]
            for client in clients:
                with client:
                    assert [client.ask(method="OPTIONS").status for _ in range(3)] == [204] * 3
                    assert client.is_quiet

    def test_a_write_that_fails_does_not_lose_the_next_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each turn writes what was noted in it, whatever became of the one before."""
        written: list[bytes] = []

        def write(fd: int, data: bytes) -> int:
            written.append(data)
            if len(written) == 1:
                raise BrokenPipeError
            return len(data)

        monkeypatch.setattr("kaserve.logs.stderr.os.write", write)
        with Server(lambda _: Response(204), config(access_log=True)) as server, connect(server) as client:
            client.ask("/1")
            client.ask("/2")
            wait_for(lambda: len(written) == 2)
            server.shutdown(0.0)
        assert [b"/1" in written[0], b"/2" in written[1]] == [True, True]


def test_a_pipe_that_nobody_reads_costs_lines_and_not_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kaserve 2>&1 | less`, and less waits for a key: what does not fit into the pipe is lost, and nobody waits."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "__stderr__", stderr)
        thread = threading.Thread(target=write_stderr, args=(b"a line\n" * 100_000,), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    os.close(reader)


class TestTheUser:
    """Who came in with a password, and nobody who only says so."""

    def test_known_to_basic_auth(self, capfd: pytest.CaptureFixture[str]) -> None:
        auth = BasicAuth(lambda request: Response(204), {"ann": hash_password(b"secret")})
        fields = [f"Authorization: Basic {b64encode(each).decode()}" for each in (b"ann:secret", b"ann:wrong")]
        with Server(auth, config(access_log=True)) as server, connect(server) as client:
            statuses = [client.ask("/", field).status for field in (*fields, fields[0], "X-None: 1")]
        auth.close()
        assert statuses == [204, 401, 204, 401]
        assert [line.split()[2] for line in capfd.readouterr().err.splitlines()] == ["ann", "-", "ann", "-"]


class TestJSON:
    def test_exactly(self) -> None:
        net = Logged("json")
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

        net = logged = Logged("json", handler=slow)
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
        net = Logged("json")
        client, _ = net.connect()
        client.send(b"rubbish\r\n\r\n")
        net.settle()
        (line,) = map(json.loads, net.written.lines)
        net.close()
        assert [line[name] for name in ("method", "target", "version", "referer", "status")] == [None] * 4 + [400]
        assert line["handler"] == 0.0

    @given(st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0")))
    def test_nothing_breaks_out_and_nothing_is_lost(self, text: str) -> None:
        request = Request("GET", "/" + text, 1, [("user-agent", text)])
        net = Logged("json")
        _, connection = net.connect()
        net.log.log(connection, request, Response(200), 0)
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

        net = logged = Logged(atoms, handler=slow)
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
            net = Logged(log_format)
            client, _ = net.connect()
            client.send(GET + get("/empty") + b"rubbish\r\n\r\n")
            net.settle()
            written.append(net.written.lines)
            net.close()
        assert written[0] == written[1]

    @pytest.mark.parametrize(
        "text",
        ["", "apache", "%(x)s", "%(h)d", "%h", "%(h)s %", "%(h)s\n", "%(h)s\xe9", "%({X}e)s", "%({a b}i)s", "%%"],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^(must be|has) "):
            parse_atoms(text)


class TestFile:
    def test_lines_go_there(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "log"
        path.write_bytes(b"what was there\n")
        with serving(access_log=True, access_log_file=str(path)) as server, connect(server) as client:
            client.ask("/1")
            client.ask("/2")
        before, one, two = path.read_text().splitlines()
        assert (before, request_line(one)[0], request_line(two)[0]) == (
            "what was there",
            "GET /1 HTTP/1.1",
            "GET /2 HTTP/1.1",
        )
        assert capfd.readouterr().err == ""

    def test_it_is_opened_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        with serving(access_log=True, access_log_file=str(path)) as server, connect(server) as client:
            client.ask("/old")
            wait_for(lambda: path.stat().st_size > 0)
            path.rename(tmp_path / "log.1")
            server.reload()
            wait_for(path.exists)
            client.ask("/new")
        assert "GET /old" in (tmp_path / "log.1").read_text()
        assert request_line(path.read_text().strip())[0] == "GET /new HTTP/1.1"

    def test_where_it_cannot_be_opened_anew_the_old_one_goes_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "logs").mkdir()
        file = LogFile(str(tmp_path / "logs" / "log"))
        (tmp_path / "logs").rename(tmp_path / "moved")
        file.reopen()
        file.write(b"a line\n")
        file.close()
        assert (tmp_path / "moved" / "log").read_bytes() == b"a line\n"
        assert "goes on in the old file" in caplog.text

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="cannot write the access log"):
            Server(lambda _: Response(204), config(access_log=True, access_log_file=str(tmp_path / "no" / "log")))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_costs_lines_which_are_counted_and_said(self, caplog: pytest.LogCaptureFixture) -> None:
        file = LogFile("/dev/full")
        file.write(b"one\ntwo\n")
        file.close()
        assert file.lost == 2
        assert "2 lines of the access log were lost: /dev/full: No space left" in caplog.text

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_the_reason_is_remembered_until_it_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        file = LogFile("/dev/full")
        file.write(b"one\n")
        wait_for(lambda: caplog.records)
        file.write(b"two\n")  # about which it keeps silent, for a minute
        wait_for(lambda: file.lost == 2)
        file.close()
        said = [record.getMessage() for record in caplog.records]
        assert said == ["1 line of the access log was lost: /dev/full: No space left on device"] * 2

    def test_a_reader_that_does_not_read_costs_lines_and_not_requests(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The queue takes some megabytes, and nobody waits for the rest."""
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        file = LogFile(str(tmp_path / "fifo"))
        lines = (b"x" * 1023 + b"\n") * 1024
        for _ in range(20):
            file.write(lines)
        assert 0 < file.lost < 20 * 1024
        os.close(reader)  # which ends the write that waits
        file.close()
        assert file.lost >= 20 * 1024 - 128
        assert "lines of the access log were lost" in caplog.text

    def test_a_line_that_was_cut_off_does_not_swallow_the_next_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = LogFile(str(tmp_path / "log"))
        real, calls = os.write, []

        def write(fd: int, data: bytes) -> int:
            calls.append(bytes(data))
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            return real(fd, data[:9] if len(calls) == 1 else data)

        with monkeypatch.context() as patch:
            patch.setattr("kaserve.logs.file.os.write", write)
            file.write(b"line 1\nline 2\n")
            wait_for(lambda: file.lost)
            file.write(b"line 3\n")
            file.close()
        assert (tmp_path / "log").read_bytes() == b"line 1\nli\nline 3\n"
        assert file.lost == 1


def fail(request: Request) -> Response:
    """A handler whose every request is a traceback in the log."""
    raise AssertionError("x" * 3000)


@pytest.mark.parametrize("reader", ["stays", "goes"])
def test_a_log_that_nobody_reads_does_not_stop_the_server(reader: str) -> None:
    """Neither its access log nor what `logging` writes, though both are more than the pipe holds."""
    with subprocess.Popen(
        [sys.executable, "-m", "kaserve", "0", "--handler", "tests.logs.test_access:fail"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            if reader == "goes":
                process.stderr.close()
            url = b""
            while not url.startswith(b"  at http://127.0.0.1:"):
                url = process.stdout.readline()
                assert url
            with connect(("127.0.0.1", int(url.strip(b" /\n").rpartition(b":")[2]))) as client:
                assert [client.ask().status for _ in range(60)] == [500] * 60
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_message_that_cannot_be_formatted_is_logged_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        monkeypatch.setattr(sys, "__stderr__", log)
        StderrHandler().handle(logging.LogRecord("kaserve", logging.ERROR, "", 0, "%d files", ("many",), None))
        log.seek(0)
        assert log.read() == "ERROR: '%d files'\n"
