"""The access log: lines that every log reader knows, and that no client can forge."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import HTTPError, Request, Response, Server
from kaserve.accesslog import AccessLog, escape
from kaserve.net.connection import Deadlines
from kaserve.stderr import StderrHandler, write_stderr
from tests.nettools import EPOCH, GET, Net, get, post
from tests.servertools import (
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

    def __init__(self, *, combined: bool = False, deadlines: Deadlines | None = None) -> None:
        self.written = Written()
        log = AccessLog(self.written, combined=combined, wall=lambda: self.wall())
        super().__init__(answer, access_log=log, deadlines=deadlines)
        self.reactor.after_turn.append(log.flush)


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
        net = Logged(combined=True)
        client, _ = net.connect()
        net.ask(client, f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))
        (line,) = net.written.lines
        net.close()
        match = COMBINED.fullmatch(line)
        assert match is not None, line
        assert (match[12], match[13]) == (referer, "Browser/1.0 (X11; Linux)" if agent is None else agent)

    def test_a_request_that_could_not_be_read(self) -> None:
        net = Logged(combined=True)
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

        monkeypatch.setattr("kaserve.stderr.os.write", write)
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


def fail(request: Request) -> Response:
    """A handler whose every request is a traceback in the log."""
    raise AssertionError("x" * 3000)


@pytest.mark.parametrize("reader", ["stays", "goes"])
def test_a_log_that_nobody_reads_does_not_stop_the_server(reader: str) -> None:
    """Neither its access log nor what `logging` writes, though both are more than the pipe holds."""
    with subprocess.Popen(
        [sys.executable, "-m", "kaserve", "0", "--handler", "tests.test_accesslog:fail"],
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
