"""The file of the access log: nothing that a disk does costs a request, and lost lines are counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaserve import Response, Server
from kaserve.logs.file import LogFile
from tests.tools.logs import request_line
from tests.tools.server import config, connect, serving, wait_for


class TestFile:
    def test_lines_go_there(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "log"
        path.write_bytes(b"an old line\n")
        with serving(access_log=True, access_log_file=str(path)) as server, connect(server) as client:
            client.ask("/1")
            client.ask("/2")
        before, one, two = path.read_text().splitlines()
        assert (before, request_line(one)[0], request_line(two)[0]) == (
            "an old line",
            "GET /1 HTTP/1.1",
            "GET /2 HTTP/1.1",
        )
        assert capfd.readouterr().err == ""

    def test_it_is_opened_again(self, tmp_path: Path) -> None:
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

    def test_if_it_cannot_be_opened_again_the_old_one_stays(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "logs").mkdir()
        file = LogFile(str(tmp_path / "logs" / "log"))
        (tmp_path / "logs").rename(tmp_path / "moved")
        file.reopen()
        file.write(b"a line\n")
        file.close()
        assert (tmp_path / "moved" / "log").read_bytes() == b"a line\n"
        assert "still writing to the old file" in caplog.text

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"cannot write the access log .*: there is no directory .*/no'; make it"):
            Server(lambda _: Response(204), config(access_log=True, access_log_file=str(tmp_path / "no" / "log")))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_costs_lines_which_are_counted_and_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        file = LogFile("/dev/full")
        file.write(b"one\ntwo\n")
        file.close()
        assert file.lost == 2
        assert "2 lines of the access log were lost: /dev/full: No space left" in caplog.text

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_the_reason_is_kept_until_it_is_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        file = LogFile("/dev/full")
        file.write(b"one\n")
        wait_for(lambda: caplog.records)
        file.write(b"two\n")  # not reported before a minute has passed
        wait_for(lambda: file.lost == 2)
        file.close()
        said = [record.getMessage() for record in caplog.records]
        assert said == ["1 line of the access log was lost: /dev/full: No space left on device"] * 2

    def test_a_reader_that_does_not_read_costs_lines_and_not_requests(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The queue holds some megabytes; the rest is dropped."""
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
