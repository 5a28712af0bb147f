"""A browser loads the demonstration page: every resource arrives, over the few connections that a browser opens."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from kaserve import Server
from kaserve.handlers import Files
from tests.tools.logs import COMMON
from tests.tools.server import DEMO, Process, program, serving

MAX_CONNECTIONS = 6  # to one server, those included that a browser opens on a guess
RESOURCES = 42  # a style sheet, a script and 40 images, beside the page itself
BROWSER_SECONDS = 60


def load(url: str, profile: Path) -> str:
    """The page as it is when its scripts have run, in headless Chromium."""
    browser = program("chromium", "chromium-browser", "google-chrome")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync disable-dev-shm-usage virtual-time-budget=10000 dump-dom"
    done = subprocess.run(
        [browser, *("--" + flag for flag in flags.split()), f"--user-data-dir={profile}", url],
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figure(page: str, name: str) -> int:
    """What the page says of itself under this id."""
    match = re.search(rf'id="{name}"[^>]*>(\d+)<', page)
    assert match is not None, page
    return int(match[1])


def check_log(log: str) -> list[str]:
    """The targets in an access log in which every answer must be a 200, each resource of the page among them."""
    targets = []
    for line in log.splitlines():
        match = COMMON.fullmatch(line)
        assert match is not None, line
        method, target, version = match[9].split()
        assert (method, version, match[10]) == ("GET", "HTTP/1.1", "200"), line
        targets.append(target)
    assert {"/", "/style.css", "/app.js", *(f"/tiles/tile-{n:02}.svg" for n in range(1, 41))} <= set(targets)
    assert len(targets) == len(set(targets))  # and none is asked for twice
    return targets


def check_page(page: str) -> None:
    assert figure(page, "requests") == 1 + RESOURCES
    assert figure(page, "fresh") + figure(page, "reused") == 1 + RESOURCES
    assert 1 <= figure(page, "fresh") <= MAX_CONNECTIONS


def test_the_page_needs_six_connections_at_most(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server: Server
    with closing(Files(DEMO)) as files, serving(files, access_log=True) as server:
        page = load(server.url, tmp_path)
        assert 1 <= server.stats.accepted <= MAX_CONNECTIONS
        assert server.stats.requests >= 1 + RESOURCES
        assert not server.stats.refused
        assert server.stats.failed == 0
    assert len(check_log(capfd.readouterr().err)) == server.stats.requests
    check_page(page)


def test_the_command_line_serves_it_as_well(tmp_path: Path) -> None:
    with Process("0", "--directory", str(DEMO)) as process:
        page = load(process.url, tmp_path)
        check_log(process.stderr)
    check_page(page)


def test_without_keep_alive_every_request_needs_a_connection(tmp_path: Path) -> None:
    """What the page is there to show: make serve ARGS="--keep-alive 0"."""
    with closing(Files(DEMO)) as files, serving(files, keep_alive=0) as server:
        page = load(server.url, tmp_path)
        assert server.stats.accepted >= server.stats.requests >= 1 + RESOURCES
    assert figure(page, "requests") == 1 + RESOURCES
    assert figure(page, "fresh") > MAX_CONNECTIONS
