"""The access log: what is logged when, and in how many writes."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator

import pytest

from kaserve import Response, Server
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.passwords import hash_password
from kaserve.server.parts import new_access_log
from tests.tools.logs import LoggedNet, request_line
from tests.tools.net import get
from tests.tools.server import Driven, config, connect, hello


@pytest.fixture
def net() -> Iterator[LoggedNet]:
    net = LoggedNet()
    yield net
    net.close()


class TestBatches:
    def test_one_write_for_all_the_answers_of_a_turn(self, net: LoggedNet) -> None:
        clients = [net.connect()[0] for _ in range(10)]
        for client in clients:
            client.send(get("/a") + get("/b"))
        net.step()
        assert [len(write) for write in net.written.writes] == [20]

    def test_nothing_to_write_writes_nothing(self, net: LoggedNet) -> None:
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


class TestAuto:
    """The format of `auto` depends on where the lines go."""

    def stderr(self, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
        monkeypatch.setattr("sys.__stderr__", Stderr(terminal))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def line(self, monkeypatch: pytest.MonkeyPatch, log_format: str = "auto", *, write: bool = False) -> bytes:
        written: list[bytes] = []
        monkeypatch.setattr("kaserve.server.parts.write_stderr", written.append)
        lines = written.append if write else None
        settings = config(access_log=True, log_format=log_format)
        with Server(hello, settings, log_lines=lines) as server, connect(server) as client:
            client.ask("/path")
        return b"".join(written)

    def test_pretty_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stderr(monkeypatch, terminal=True)
        assert b"\x1b[32m200\x1b[0m  GET     /path" in self.line(monkeypatch)
        monkeypatch.setenv("NO_COLOR", "1")
        assert b"  200  GET     /path" in self.line(monkeypatch)

    def test_common_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stderr(monkeypatch, terminal=False)
        assert b'"GET /path HTTP/1.1" 200 5' in self.line(monkeypatch)
        assert b"  200  GET     /path" in self.line(monkeypatch, "pretty")
        self.stderr(monkeypatch, terminal=True)
        assert b'"GET /path HTTP/1.1" 200 5' in self.line(monkeypatch, write=True)
        assert b"\x1b" not in self.line(monkeypatch, "pretty", write=True)

    def test_the_cost_elsewhere_does_not_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` is the very same format as `common`, without a look at the clock."""
        self.stderr(monkeypatch, terminal=False)
        log = new_access_log(config(access_log=True), None, lambda: 0.0)
        assert log is not None
        assert not log.timed


class Stderr(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal
