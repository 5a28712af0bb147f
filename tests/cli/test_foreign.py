"""Options of other servers work where they mean the same, or lead to ours in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kaserve import Config
from kaserve.cli.arguments import read_config
from kaserve.cli.exit_codes import StartError
from kaserve.cli.foreign import ALIASES, INSTEAD
from kaserve.config import options


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ("--host 0.0.0.0 --port 80", Config(bind="0.0.0.0", port=80)),
        ("--host=::1 --host=127.0.0.1", Config(bind=("::1", "127.0.0.1"))),
        ("-b 127.0.0.1 --host ::1", Config(bind=("127.0.0.1", "::1"))),
        ("--bind 127.0.0.1:8000 -w 1", Config(bind="127.0.0.1:8000")),
        ("--workers 1", Config()),
        ("--uds /run/site", Config(bind="unix:/run/site")),
        ("--fd 3", Config(bind="fd:3")),
        ("--dir dist", Config(directory="dist")),
        ("--keepalive 5", Config(keep_alive=5.0)),
        ("--timeout-keep-alive 5", Config(keep_alive=5.0)),
        ("--timeout-graceful-shutdown 5", Config(graceful_timeout=5.0)),
        ("--certfile c --keyfile k", Config(tls_cert="c", tls_key="k")),
        ("--ssl-certfile c --ssl-keyfile k", Config(tls_cert="c", tls_key="k")),
        ("--access-logfile a --error-logfile e", Config(access_log_file="a", error_log="e")),
        ("--access-logfile - --error-logfile -", Config()),
        ("--worker-connections 5", Config(max_connections=5)),
        ("--single", Config(spa=True)),
        ("a:b --threads 2", Config(app="a:b", threads=2)),
    ],
)
def test_the_same_meaning(arguments: str, config: Config) -> None:
    assert read_config(arguments.split(), {}) == config


@pytest.mark.parametrize("flag", ALIASES)
def test_an_alias_is_of_a_setting_and_is_no_option_of_ours(flag: str) -> None:
    assert ALIASES[flag].setting in options()
    assert flag[2:].replace("-", "_") not in options()


def test_an_error_names_the_option_that_was_typed() -> None:
    with pytest.raises(StartError, match=r"^--timeout-keep-alive must be seconds, such as 30 or 0.5, not 'x'$"):
        read_config(["--timeout-keep-alive", "x"], {})
    with pytest.raises(StartError, match=r"^--keyfile needs --tls-cert$"):
        read_config(["--keyfile", "x"], {})


@pytest.mark.parametrize("flag", INSTEAD)
def test_another_meaning_leads_to_ours(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([flag, "3"], [flag], ["shop:app", flag], [f"{flag}=3"] if flag.startswith("--") else [flag, "3"]):
        with pytest.raises(SystemExit) as stop:
            read_config(arguments, {})
        assert stop.value.code == 2
        line = capsys.readouterr().err
        assert re.fullmatch(rf"kaserve: there is no option {flag}; [^\n]{{10,}}\n", line)
        assert "{" not in line


def test_options_that_are_named_there_exist() -> None:
    """Those of ours, after "use" or among several; gunicorn's come after its name."""
    texts = [text for text in INSTEAD.values() if "gunicorn" not in text]
    named = set(re.findall(r"--[a-z-]+", " ".join(texts)))
    assert {name[2:].removeprefix("no-").replace("-", "_") for name in named} <= set(options())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--workers 4 shop:app", "gunicorn -k kaserve.gunicorn.Worker -w 4 shop:app"),
        ("shop:app -w4", "gunicorn -k kaserve.gunicorn.Worker -w 4 shop:app"),
        ("--reload shop:app", "gunicorn --reload -k kaserve.gunicorn.Worker shop:app"),
        ("--app-dir src shop:app", "PYTHONPATH=src kaserve shop:app"),
        ("--factory shop:create_app", "kaserve 'shop:create_app()'"),
    ],
)
def test_the_command_to_use_instead(arguments: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(arguments.split(), {})
    assert capsys.readouterr().err.endswith(f" {text}\n")


def test_a_password_is_not_taken_for_an_application(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(["--upload-auth", "ann:hunter2", "--workers", "4"], {})
    assert "hunter2" not in capsys.readouterr().err


def test_arguments_between_options(tmp_path: Path) -> None:
    config = read_config(["8080", "--status", "/status", str(tmp_path), "--cors"], {})
    assert config == Config(port=8080, status="/status", directory=str(tmp_path), cors=True)


def test_an_argument_overrides_what_a_variable_serves(tmp_path: Path) -> None:
    variables = {"KASERVE_WSGI": "a:b", "KASERVE_DIRECTORY": "/x"}
    assert read_config(["c:d"], variables) == Config(app="c:d")
    assert read_config([str(tmp_path)], variables) == Config(directory=str(tmp_path))
