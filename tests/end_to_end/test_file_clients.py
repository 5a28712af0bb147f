"""Clients that do more with files than fetch them: zsync, fsspec, and the cache of a browser."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kaserve import Server
from kaserve.handlers import Files
from kaserve.handlers.static.site_headers import SiteHeaders, parse_rule
from kaserve.handlers.uploads.upload import Uploads
from tests.tools.browser import Browser
from tests.tools.server import PATIENCE, program, serving


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    return site


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    with closing(Files(site)) as files, serving(files) as server:
        yield server


def test_zsync_fetches_what_has_changed(site: Path, server: Server, tmp_path: Path) -> None:
    """It asks for several ranges at once, and reads the parts of the response itself: without a line end in front of
    the first boundary (RFC 9110 §14.6 allows it, nginx and Apache send it) it loops for ever."""
    content = random.Random(1).randbytes(600_000)
    old = bytearray(content)
    for start in range(0, len(content), 100_000):
        old[start : start + 5000] = bytes(5000)
    (site / "file").write_bytes(content)
    (tmp_path / "old").write_bytes(old)
    commands = [
        (program("zsyncmake"), "-u", f"{server.url}file", "-o", str(site / "file.zsync"), str(site / "file")),
        (program("zsync"), "-i", "old", "-o", "new", f"{server.url}file.zsync"),
    ]
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "new").read_bytes() == content
    assert server.stats.sent < len(content) / 2


@pytest.mark.parametrize("settings", [{}, {"zip": True}, {"upload": True}], ids=str)
def test_fsspec_finds_all_files_and_nothing_else(site: Path, settings: dict[str, bool]) -> None:
    """It takes each link of a listing for an entry, and follows those that end in a slash."""
    pytest.importorskip("aiohttp")
    fsspec: Any = pytest.importorskip("fsspec")
    names = ["a b&c.txt", "m/n/file.txt", "m/%25.txt", "m/x:y"]
    for name in names:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(name)
    files = Files(site, zip=settings.get("zip", False))
    with (
        closing(Uploads(files, site) if settings.get("upload") else files) as handler,
        serving(handler) as server,
    ):
        filesystem = fsspec.filesystem("http", skip_instance_cache=True)
        found = filesystem.find(server.url)
        assert sorted(filesystem.cat(url).decode() for url in found) == sorted(names)
        assert len(found) == len(names)
        assert filesystem.isdir(f"{server.url}m/")


class TestBrowserCache:
    """Chromium, and files that are changed under the same name. They were last modified long ago: a browser that is
    told nothing takes a tenth of their age for their freshness (RFC 9111 §4.2.2)."""

    @staticmethod
    def deploy(site: Path, text: str) -> None:
        for name, content in (("index.html", '<script src="app-3f9a1c2b.js"></script>'), ("app-3f9a1c2b.js", "")):
            (site / name).write_text(f"{content}\n" if "html" in name else f"document.title = {text!r}")
            changed = 1_600_000_000 + len(text)
            os.utime(site / name, (changed, changed))
        with (site / "index.html").open("a") as page:
            page.write(f"<p>{text}</p>")

    def visits(self, site: Path, profile: Path, headers: SiteHeaders | None) -> list[tuple[str, str]]:
        """The text of the page and of its script: before a deploy, then after it, on navigation and on reload."""
        seen = []
        with (
            closing(Files(site, headers=headers)) as files,
            serving(files) as server,
            Browser(profile) as browser,
        ):
            self.deploy(site, "old")
            for step in ("navigate", "navigate", "deploy", "navigate", "reload"):
                if step == "deploy":
                    self.deploy(site, "new one")
                    continue
                if step == "reload":
                    browser.follow("location.reload()")
                else:
                    browser.open(server.url)
                seen.append(
                    (browser.evaluate("document.querySelector('p').innerText"), browser.evaluate("document.title"))
                )
        return seen

    def test_a_deploy_shows_at_once(self, site: Path, tmp_path: Path) -> None:
        old, new = ("old", "old"), ("new one", "new one")
        assert self.visits(site, tmp_path / "profile", None) == [old, old, new, new]

    def test_only_what_is_immutable_is_not_asked_for_again(self, site: Path, tmp_path: Path) -> None:
        """It shows that the test above would notice a stale file."""
        headers = SiteHeaders(immutable=True, cache_control=[parse_rule("*.html=no-cache")])
        seen = self.visits(site, tmp_path / "profile", headers)
        assert seen == [("old", "old"), ("old", "old"), ("new one", "old"), ("new one", "old")]
