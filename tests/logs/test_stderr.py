"""Standard error: whatever is wrong with it costs lines of the log, and never a request."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from kaserve import Request, Response, Server
from kaserve.logs.stderr import StderrHandler, write_stderr
from tests.tools.server import PATIENCE, Process, config, connect, serving, started_after, wait_for


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

    def test_no_stderr_at_all_and_no_line_gets_into_another_descriptor(self) -> None:
        """`2>&-`: the next descriptor opened gets the number 2, a connection for instance."""
        with Process("0", program=started_after("os.close(2)")) as process:
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


def fail(request: Request) -> Response:
    """A handler whose every request is a traceback in the log."""
    raise AssertionError("x" * 3000)


@pytest.mark.parametrize("stays", [True, False], ids=["is full", "has no reader"])
def test_a_pipe_that_nobody_reads_does_not_stop_the_server(stays: bool) -> None:
    """Neither its access log nor what `logging` writes, though both are more than the pipe holds."""
    program = started_after(f"reader, writer = os.pipe(); os.dup2(writer, 2); os.set_inheritable(reader, {stays})")
    with Process("0", "--handler", "tests.logs.test_stderr:fail", program=program) as process:
        with process.connect() as client:
            assert [client.ask().status for _ in range(60)] == [500] * 60
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_message_that_cannot_be_formatted_is_logged_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        monkeypatch.setattr(sys, "__stderr__", log)
        StderrHandler().handle(logging.LogRecord("kaserve", logging.ERROR, "", 0, "%d files", ("many",), None))
        log.seek(0)
        assert log.read() == "ERROR: '%d files'\n"
