"""The command: its options, its exit codes, its output."""

from __future__ import annotations

import json
import re
import ssl

import pytest

from kaserve.cli.main import main
from tests.tools.fake_server import bad_report
from tests.tools.server import serving

QUICK = ("--max-wait", "0.01", "--max-requests", "5", "--timeout", "4")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert main(["probe", server.url, *QUICK]) == 0
        table = capsys.readouterr().out
        assert main(["probe", server.url, "--json", *QUICK]) == 0
        found = json.loads(capsys.readouterr().out)
    assert table.startswith(server.url)
    assert re.search(r"pipelined requests +all 6 responses, in order\n", table)
    assert found["persists_1_1"]["persists"] is True
    assert found["idle"]["seconds"] is None


def test_the_command_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        url = server.url
    assert main(["probe", url]) == 3
    assert capsys.readouterr().err == f"kaserve probe: {url}: Connection refused\n"


def test_the_command_without_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "ftp://h/"]) == 2
    assert (
        capsys.readouterr().err == "kaserve probe: the URL must be one of http or https with a host, not 'ftp://h/'\n"
    )
    for arguments in (
        ["probe"],
        ["probe", "http://h/", "--max-wait", "nan"],
        ["probe", "http://h/", "--timeout", "0"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert re.fullmatch("kaserve probe: .+\n", capsys.readouterr().err)


def test_the_command_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe takes a while, so people press Ctrl-C; no traceback is shown then."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kaserve.probe.command.probe", interrupted)
    assert main(["probe", "http://h/"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_certificate_that_is_not_trusted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr("kaserve.probe.command.probe", refused)
    assert main(["probe", "https://h/"]) == 3
    assert "not trusted (self-signed certificate); --insecure accepts any certificate\n" in capsys.readouterr().err


def test_the_command_shows_colour_where_it_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaserve.probe.command.probe", lambda *_: bad_report())
    for wanted in (True, False):
        monkeypatch.setattr("kaserve.probe.command.takes_color", lambda stream, wanted=wanted: wanted)
        assert main(["probe", "http://h/"]) == 1  # the report is a bad one
        out, err = capsys.readouterr()
        assert ("\x1b" in out, "\x1b" in err) == (wanted, wanted)
