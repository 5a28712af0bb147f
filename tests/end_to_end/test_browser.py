"""A browser loads the demonstration page: every resource arrives, over the few connections that a browser opens."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from kaserve import Server
from kaserve.handlers import Files
from kaserve.handlers.static.site_headers import SiteHeaders, parse_rule
from tests.tools.browser import Browser
from tests.tools.logs import COMMON
from tests.tools.server import DEMO, Process, program, serving, wait_for

MAX_CONNECTIONS = 6  # that a browser opens to one server, speculative ones included
RESOURCES = 42  # a style sheet, a script and 40 images; the page itself is one more
BROWSER_TIMEOUT = 60  # seconds


def load(url: str, profile: Path) -> str:
    """Returns the HTML of the page after its scripts have run, in headless Chromium."""
    browser = program("chromium", "chromium-browser", "google-chrome")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync disable-dev-shm-usage virtual-time-budget=10000 dump-dom"
    done = subprocess.run(
        [browser, *("--" + flag for flag in flags.split()), f"--user-data-dir={profile}", url],
        capture_output=True,
        text=True,
        timeout=BROWSER_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figure(page: str, name: str) -> int:
    """Returns the number that the page shows in the element with the id `name`."""
    match = re.search(rf'id="{name}"[^>]*>(\d+)<', page)
    assert match is not None, page
    return int(match[1])


def check_log(log: str) -> list[str]:
    """Checks that every response in an access log is a 200, and that all resources of the page are there; returns their
    targets."""
    targets = []
    for line in log.splitlines():
        match = COMMON.fullmatch(line)
        assert match is not None, line
        method, target, version = match[9].split()
        assert (method, version, match[10]) == ("GET", "HTTP/1.1", "200"), line
        targets.append(target)
    assert {"/", "/style.css", "/app.js", *(f"/tiles/tile-{n:02}.svg" for n in range(1, 41))} <= set(targets)
    assert len(targets) == len(set(targets))  # none was requested twice
    return targets


def check_page(page: str) -> None:
    assert figure(page, "requests") == 1 + RESOURCES
    assert figure(page, "fresh") + figure(page, "reused") == 1 + RESOURCES
    assert 1 <= figure(page, "fresh") <= MAX_CONNECTIONS


def test_the_page_needs_at_most_six_connections(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
    """What the demonstration page shows with make serve ARGS="--keep-alive 0"."""
    with closing(Files(DEMO)) as files, serving(files, keep_alive=0) as server:
        page = load(server.url, tmp_path)
        assert server.stats.accepted >= server.stats.requests >= 1 + RESOURCES
    assert figure(page, "requests") == 1 + RESOURCES
    assert figure(page, "fresh") > MAX_CONNECTIONS


def figures(browser: Browser) -> tuple[int, int, int]:
    """What the page shows when it has counted: requests, those with a new connection, and those with an open one."""
    wait_for(lambda: browser.evaluate("document.getElementById('again').disabled") is False)
    text = "document.getElementById('{}').textContent"
    requests, fresh, reused = (int(browser.evaluate(text.format(name))) for name in ("requests", "fresh", "reused"))
    return requests, fresh, reused


@pytest.mark.parametrize(
    ("rule", "again", "summary"),
    [
        pytest.param("no-cache", 1 + RESOURCES, "43 responses had no content, since", id="304"),
        pytest.param("max-age=3600", 0, "No request was necessary. 43 resources came from", id="cached"),
    ],
)
def test_the_second_load_is_counted_as_it_was(tmp_path: Path, rule: str, again: int, summary: str) -> None:
    """What is in the cache is not counted as a request, nor is an open connection counted as a new one."""
    headers = SiteHeaders(cache_control=[parse_rule(rule)])
    with closing(Files(DEMO, headers=headers)) as files, serving(files) as server, Browser(tmp_path) as browser:
        browser.open(server.url)
        requests, fresh, reused = figures(browser)
        assert requests == fresh + reused == 1 + RESOURCES
        accepted = server.stats.accepted
        browser.open(server.url)
        requests, fresh, reused = figures(browser)
        assert (requests, fresh + reused) == (again, again)
        assert fresh <= server.stats.accepted - accepted
        assert summary in browser.evaluate("document.getElementById('summary').textContent")
