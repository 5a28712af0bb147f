"""A real site, by the clients that people have: clicked through in a browser, mirrored, and downloaded in parts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kaserve import Server
from kaserve.handlers import Files
from tests.tools.browser import Browser
from tests.tools.server import Process, program, serving, wait_for
from tests.tools.sites import CHAPTERS, PAGES, make_site

GIB = 1024**3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("book")
    make_site(site)
    return site


@pytest.fixture(scope="module", params=["plain", "compressed"])
def server(site: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    compress = request.param == "compressed"
    with closing(Files(site, compress=compress)) as files, serving(files, access_log=False) as server:
        yield server


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def run(*command: str, directory: Path) -> None:
    subprocess.run(command, cwd=directory, check=True, timeout=120, stdin=subprocess.DEVNULL, capture_output=True)


def test_clicked_through_in_a_browser(server: Server, tmp_path: Path) -> None:
    """Style, font, pictures, scripts, modules, JSON and WebAssembly arrive as what they are, and nothing is missing."""
    click = "document.querySelector('{}').click()"
    with Browser(tmp_path) as browser:
        browser.open(server.url)
        for number in range(3):
            path = ["li:nth-child(2) a", "li:nth-child(1) a", "li:first-child a", "li:nth-child(2) a"][: 2 + number]
            for selector in path:
                browser.follow(click.format(selector))
                wait_for(lambda: browser.evaluate("window.loaded") == 500 + 42 + 42)
                assert browser.evaluate("document.documentElement.className") == "scripted"
                assert browser.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
                assert browser.evaluate("document.styleSheets[0].cssRules.length") == 3
            browser.open(server.url)
        assert browser.errors == []


def test_mirrored_by_wget(server: Server, site: Path, tmp_path: Path) -> None:
    """It follows links in pages and style sheets; what nothing links to it cannot find."""
    run(program("wget"), "-q", "-r", "-l", "inf", "-nH", "-e", "robots=on", server.url, directory=tmp_path)
    unlinked = {"404.html", "search.json", "sitemap.xml", "static/answer.mjs", "static/they.wasm"}
    unlinked |= {"static/book.js.map", "static/style.css.map"}
    expected = {name: data for name, data in content(site).items() if name not in unlinked}
    assert len(expected) > 2 * CHAPTERS * PAGES
    assert content(tmp_path) == expected


def test_downloaded_by_aria2_in_eight_parts(server: Server, site: Path, tmp_path: Path) -> None:
    url = f"{server.url}download/book.pdf"
    before = server.stats.requests
    run(program("aria2c"), "-q", "-x8", "-s8", "-k1M", "--no-conf", "--async-dns=false", url, directory=tmp_path)
    assert content(tmp_path) == {"book.pdf": (site / "download/book.pdf").read_bytes()}
    assert server.stats.requests - before > 1


def test_downloaded_by_curl_in_parallel_parts(server: Server, site: Path) -> None:
    expected = (site / "download/book.pdf").read_bytes()
    starts = range(0, len(expected), 400_000)

    def part(start: int) -> bytes:
        command = [program("curl"), "-sS", "--fail", "--noproxy", "*", "-r", f"{start}-{start + 399_999}"]
        return subprocess.run([*command, f"{server.url}download/book.pdf"], capture_output=True, check=True).stdout

    with ThreadPoolExecutor(4) as threads:
        assert b"".join(threads.map(part, starts)) == expected


def resident(pid: int) -> int:
    """Bytes, the most there ever were."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell how much memory is used")
def test_ranges_of_a_huge_file_in_bounded_memory(tmp_path: Path) -> None:
    """Half a gigabyte in three parts, on both sides of 4 GiB."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(5 * GIB)
        file.seek(4 * GIB)
        file.write(b"here")
    parts = [(0, GIB // 4), (4 * GIB - 8, 4 * GIB + GIB // 4), (5 * GIB - 1, 5 * GIB)]
    asked = ",".join(f"{start}-{stop - 1}" for start, stop in parts)
    with Process("0", "-d", str(tmp_path), "--no-access-log") as server, server.connect() as client:
        client.ask("/huge", "Range: bytes=0-99")
        before = resident(server.pid)
        sock = client.sock
        sock.sendall(f"GET /huge HTTP/1.1\r\nHost: h\r\nRange: bytes={asked}\r\n\r\n".encode())
        received = sock.recv(1 << 16)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 ")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        count, marks, tail = len(rest), rest.count(b"here"), rest[-3:]
        while count < length:
            data = sock.recv(min(1 << 20, length - count))
            assert data
            count += len(data)
            marks += (tail + data).count(b"here")
            tail = data[-3:]
        assert marks == 1
        assert length > GIB // 2
        assert resident(server.pid) - before < 8 * 1024 * 1024
        assert client.ask("/huge", method="HEAD").status == 200
