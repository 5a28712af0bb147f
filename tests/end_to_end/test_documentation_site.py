"""The site that `make docs` has built, in a browser and from the file system: skipped unless it is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.browser import Browser
from tests.tools.server import ROOT, wait_for

SITE = ROOT / "build" / "site"

pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` has not built the site")

PAGES = sorted(page.relative_to(SITE).as_posix() for page in SITE.rglob("*.html") if page.name != "404.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def open_page(browser: Browser, page: str, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.open((SITE / page).as_uri())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_on_a_phone_and_loads_nothing_from_elsewhere(browser: Browser, page: str) -> None:
    open_page(browser, page, 360)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert (SITE / page).as_uri() in browser.requests
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert browser.errors == []


def test_the_search_works_without_a_server(browser: Browser) -> None:
    open_page(browser, "index.html", 1280)
    browser.evaluate(
        "const field = document.querySelector('[data-md-component=search-query]');"
        "field.focus(); field.value = 'sendfile'; field.dispatchEvent(new Event('keyup'))"
    )
    wait_for(lambda: browser.evaluate("document.querySelectorAll('.md-search-result__link').length") > 2)
    assert "wsgi.html" in browser.evaluate(
        "[...document.querySelectorAll('.md-search-result__link')].map(link => link.pathname).join()"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_those_of_the_system(browser: Browser, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    open_page(browser, "index.html", 1280)
    expected = {"light": "default", "dark": "slate"}[scheme]
    wait_for(lambda: browser.evaluate("document.body.getAttribute('data-md-color-scheme')") == expected)


def test_a_copied_command_has_no_prompt_and_no_output(browser: Browser) -> None:
    open_page(browser, "tutorials/flask.html", 1280)
    copied = browser.evaluate(
        "const code = [...document.querySelectorAll('code')].find(each => each.innerText.includes('whoami\\n{'));"
        "code.setAttribute('data-md-copying', ''); code.innerText.split(/\\n+/).join()"
    )
    assert copied == "curl http://127.0.0.1:8000/,curl http://127.0.0.1:8000/whoami,"
