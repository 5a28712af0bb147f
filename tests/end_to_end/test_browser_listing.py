"""A listing in a browser: the filter, the keys, the orders, names that contain markup, and no errors on the console.

An empty console shows that the page obeys its own Content-Security-Policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kaserve.handlers import Files
from kaserve.handlers.uploads.upload import FORM, Uploads
from tests.tools.browser import Browser
from tests.tools.server import serving, wait_for

VISIBLE = "[...document.querySelectorAll('tbody tr:not([hidden]):not(.parent) bdi')].map(each => each.textContent)"
FOCUSED = "document.activeElement.textContent"
FILTER = "document.querySelector('input').value"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = tmp_path_factory.mktemp("site")
    for name, size in (("alpha.txt", 30), ("beta 2.txt", 10), ("beta 10.txt", 20), ("Ünï.txt", 1)):
        (site / name).write_bytes(b"x" * size)
    (site / "deep" / "below").mkdir(parents=True)
    (site / "deep" / "one.txt").write_bytes(b"1")
    for bad in (b"<img src=x onerror=fail()>", b'"><script>fail()<script>', b"javascript:fail()", b"\xff%41#?\n"):
        (site / "bad" / os.fsdecode(bad)).mkdir(parents=True)
    (site / "old").mkdir()
    (site / "old" / "a.txt").write_bytes(b"")
    os.utime(site / "old" / "a.txt", (784111777, 784111777))
    (site / "old" / "b.txt").write_bytes(b"")
    with closing(Files(site, zip=True)) as files, serving(files, access_log=False) as server:
        yield server.url


@pytest.fixture(autouse=True)
def _no_errors(browser: Browser) -> Iterator[None]:
    browser.errors.clear()
    yield
    browser.evaluate("0")  # errors before this command have arrived when it returns
    assert browser.errors == []


def test_the_filter(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.evaluate(VISIBLE) == ["bad", "deep", "old", "alpha.txt", "beta 2.txt", "beta 10.txt", "Ünï.txt"]
    browser.press("/", *"TXT b")  # all the words, in any order and in any case
    assert browser.evaluate(VISIBLE) == ["beta 2.txt", "beta 10.txt"]
    assert browser.evaluate("document.getElementById('count').textContent") == "2 of 7"
    browser.press("x")
    assert browser.evaluate(VISIBLE) == []
    assert browser.evaluate("document.getElementById('none').hidden") is False
    browser.press("Escape")
    assert len(browser.evaluate(VISIBLE)) == 7


def test_the_filter_survives_another_order(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.press("/", *"beta")
    browser.evaluate("document.querySelectorAll('th button')[1].focus()")
    browser.press_and_follow("Enter")
    assert browser.evaluate("location.search + location.hash") == "?sort=size&order=desc#beta"
    assert browser.evaluate(FILTER) == "beta"
    assert browser.evaluate(VISIBLE) == ["beta 10.txt", "beta 2.txt"]


def test_the_keys(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.press("ArrowDown", "ArrowDown")
    assert browser.evaluate(FOCUSED) == "deep/"
    browser.press("ArrowUp", "ArrowUp")
    assert browser.evaluate("document.activeElement.tagName") == "INPUT"
    browser.press("ArrowDown", "ArrowDown")
    browser.press_and_follow("Enter")
    assert browser.evaluate("location.pathname") == "/deep/"
    assert browser.evaluate(VISIBLE) == ["below", "one.txt"]
    browser.press_and_follow("Backspace")
    assert browser.evaluate("location.pathname") == "/"


def test_enter_opens_the_first_entry_that_is_left(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.press("/", *"dee")
    browser.press_and_follow("Enter")
    assert browser.evaluate("location.pathname") == "/deep/"


def test_links_to_directories_keep_the_order(browser: Browser, url: str) -> None:
    browser.open(url + "?sort=date&order=desc")
    hrefs = browser.evaluate("[...document.querySelectorAll('.directory a')].map(each => each.getAttribute('href'))")
    assert sorted(hrefs) == ["bad/?sort=date&order=desc", "deep/?sort=date&order=desc", "old/?sort=date&order=desc"]


def test_names_with_markup_stay_text(browser: Browser, url: str) -> None:
    """They add no elements, and each link leads to its own directory."""
    browser.open(url + "bad/")
    assert browser.evaluate("document.querySelectorAll('img, main script').length") == 0
    hrefs = browser.evaluate("[...document.querySelectorAll('.directory a')].map(each => each.href)")
    assert len(hrefs) == 4
    for href in hrefs:
        assert href.startswith(url + "bad/")
        browser.open(href)
        assert browser.evaluate("document.querySelectorAll('tbody tr').length") == 1
        assert browser.evaluate("document.getElementById('filter').hidden") is True  # nothing to filter


def test_scripts_that_are_not_part_of_the_page_do_not_run(browser: Browser, url: str) -> None:
    """The Content-Security-Policy forbids them, so that a name that became markup by a bug could not run anything."""
    browser.open(url)
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert browser.evaluate("window.ran") is None
    assert len(browser.errors) == 1
    assert "Content Security Policy" in browser.errors.pop()


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that files are uploaded to."""
    site = tmp_path_factory.mktemp("uploads")
    (site / "alpha.txt").write_bytes(b"x")
    return site


@pytest.fixture(scope="module")
def url_with_uploads(uploaded: Path) -> Iterator[str]:
    site = uploaded
    uploads = Uploads(Files(site, zip=True, form=FORM), site)
    with closing(uploads), serving(uploads, access_log=False) as server:
        yield server.url


def drop(*files: tuple[str, int]) -> str:
    """A script that drops files of these names and sizes on the page."""
    added = "".join(f"data.items.add(new File([new Uint8Array({size})], {name!r}));" for name, size in files)
    return (
        f"{{ const data = new DataTransfer(); {added} dispatchEvent(new DragEvent('drop', {{dataTransfer: data}})); }}"
    )


def states(browser: Browser) -> list[str]:
    found: list[str] = browser.evaluate(
        "[...document.querySelectorAll('.uploads li span')].map(each => each.textContent)"
    )
    return found


def test_files_that_are_dropped_are_stored(browser: Browser, url_with_uploads: str, uploaded: Path) -> None:
    """One after the other; then the page shows them."""
    browser.open(url_with_uploads)
    browser.follow(drop(("große Datei #1?.bin", 3_000_000), ("b%41.txt", 0)))
    assert {"b%41.txt", "große Datei #1?.bin"} <= set(browser.evaluate(VISIBLE))
    assert (uploaded / "große Datei #1?.bin").stat().st_size == 3_000_000
    assert (uploaded / "b%41.txt").read_bytes() == b""


def test_a_file_that_is_not_stored_says_why(browser: Browser, url_with_uploads: str, uploaded: Path) -> None:
    browser.open(url_with_uploads)
    browser.evaluate(drop(("alpha.txt", 5), ("c.txt", 5)))
    wait_for(lambda: states(browser)[1:] == ["stored"])
    assert states(browser)[0] == "there is something of this name already"
    assert (uploaded / "alpha.txt").read_bytes() == b"x"
    assert browser.evaluate("document.querySelector('.uploads button').textContent") == "Show the directory"
    assert browser.evaluate("document.querySelectorAll('.uploads ~ main').length") == 1  # above the rows
    assert "409" in browser.errors.pop()  # Chromium reports each response of this kind


def test_nothing_can_be_sent_until_a_file_is_chosen(browser: Browser, url_with_uploads: str) -> None:
    """Without the script the browser itself asks for a file."""
    disabled = "document.querySelector('.upload button').disabled"
    browser.open(url_with_uploads)
    assert browser.evaluate(disabled) is True
    browser.evaluate(
        "{ const data = new DataTransfer(); data.items.add(new File(['x'], 'x.txt'));"
        "const field = document.querySelector('.upload input'); field.files = data.files;"
        "field.dispatchEvent(new Event('change')); }"
    )
    assert browser.evaluate(disabled) is False
    browser.evaluate("document.querySelector('.upload').reset()")
    assert browser.evaluate(disabled) is True
    assert "disabled" not in FORM


def test_the_form_shows_progress_as_well(browser: Browser, url_with_uploads: str, uploaded: Path) -> None:
    browser.open(url_with_uploads)
    chosen = "{ const data = new DataTransfer(); data.items.add(new File(['hello'], 'chosen.txt'));"
    chosen += "document.querySelector('.upload input').files = data.files; }"
    browser.evaluate(chosen)
    browser.follow("document.querySelector('.upload').requestSubmit()")
    assert "chosen.txt" in browser.evaluate(VISIBLE)
    assert (uploaded / "chosen.txt").read_bytes() == b"hello"


def test_times_are_relative_or_local(browser: Browser, url: str) -> None:
    """The files are a few seconds old; one is from long ago. The exact time is in a title."""
    browser.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    try:
        browser.open(url + "old/")
        text = "[...document.querySelectorAll('time')].map(each => each.textContent)"
        assert browser.evaluate(text) == ["1994-11-06 17:49", "just now"]
        assert browser.evaluate("document.querySelector('thead').textContent") == "NameSizeModified "
        point = "document.querySelector('time').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
        browser.evaluate(point)
        title = browser.evaluate("document.querySelector('time').title")
        assert "5:49:37" in title
        assert title.endswith("\n1994-11-06T08:49:37Z")
    finally:
        browser.call("Emulation.setTimezoneOverride", timezoneId="")


@pytest.mark.parametrize("width", [320, 1280])
def test_the_form_for_uploads_fits(browser: Browser, url_with_uploads: str, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=width < 800)
    try:
        browser.open(url_with_uploads)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.querySelector('.upload').getBoundingClientRect().bottom") < 640
        browser.evaluate(drop((f"{'long' * 30}.txt", 5), ("alpha.txt", 5)))
        wait_for(lambda: len(states(browser)) == 2)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        wait_for(lambda: "already" in states(browser)[1])
        browser.evaluate("0")
        browser.errors.clear()  # one for each name that was there
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_the_archive_has_a_button(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.evaluate("new URLSearchParams(new FormData(document.querySelector('.tools form'))).toString()") == ""
    assert browser.evaluate("document.querySelector('.tools button').name") == "zip"


@pytest.mark.parametrize("width", [320, 360, 800])
@pytest.mark.parametrize("path", ["", "bad/"], ids=["top", "bad names"])
def test_no_width_needs_scrolling_sideways(browser: Browser, url: str, path: str, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=width < 800)
    try:
        browser.open(url + path)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
