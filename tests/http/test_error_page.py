"""Error pages: which clients get one, the ways back, and that nothing in them is markup of others."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from kaserve import HTTPError, Request, Response
from kaserve.http.error_page import respond_with_error

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def respond(accept: str | None, path: str = "/a/b", error: HTTPError | None = None) -> Response:
    request = Request("GET", path, 1, [] if accept is None else [("accept", accept)])
    return respond_with_error(request, error or HTTPError(404, "there is nothing here", (("X-Site", "1"),)))


def page(response: Response) -> str:
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert isinstance(response.body, bytes)
    return response.body.decode()


@pytest.mark.parametrize(
    ("accept", "gets_page"),
    [
        pytest.param(BROWSER, True, id="browser"),
        pytest.param("text/html", True, id="HTML only"),
        pytest.param(None, False, id="none"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("application/json", False, id="JSON"),
        pytest.param("text/plain, text/html", False, id="text as much as HTML"),
        pytest.param("image/avif,image/*,*/*;q=0.8", False, id="image"),
    ],
)
def test_who_gets_a_page(accept: str | None, gets_page: bool) -> None:
    response = respond(accept)
    assert response.status == 404
    assert response.headers["X-Site"] == "1"
    assert (response.body == b"404 Not Found: there is nothing here\n") != gets_page
    assert ("Vary" in response.headers) == gets_page
    if gets_page:
        assert "<h1>There is nothing here</h1>" in page(response)


def test_a_page_says_whether_the_connection_closes() -> None:
    assert respond(BROWSER, error=HTTPError(400, "no", close=True)).headers["Connection"] == "close"
    assert "Connection" not in respond(BROWSER).headers


def test_a_request_that_could_not_be_read_gets_text() -> None:
    assert respond_with_error(None, HTTPError(400, "no")).body == b"400 Bad Request: no\n"


@pytest.mark.parametrize(
    ("path", "links"),
    [
        pytest.param("/", [""], id="top"),
        pytest.param("*", [""], id="no path"),
        pytest.param("/a", ["./"], id="in the top directory"),
        pytest.param("/a/", ["../"], id="directory"),
        pytest.param("/a/b", ["./", "../"], id="in a directory"),
        pytest.param("/a/b/", ["../", "../../"], id="directory in a directory"),
        pytest.param("/a/b/c/d.txt", ["./", "../../../"], id="deep"),
    ],
)
def test_the_ways_back_are_relative(path: str, links: list[str]) -> None:
    assert re.findall(r'<a href="(.*?)">', page(respond(BROWSER, path))) == links


def test_the_policy_allows_the_style_and_nothing_else() -> None:
    response = respond(BROWSER)
    (style,) = re.findall("<style>(.*?)</style>", page(response), re.DOTALL)
    policy = response.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "prefers-color-scheme: dark" in style


def test_a_reason_is_text() -> None:
    assert "<h1>&lt;b&gt;</h1>" in page(respond(BROWSER, error=HTTPError(418, "<b>")))


def test_a_title_of_its_own() -> None:
    request = Request("POST", "/a/", 1, [("accept", BROWSER)])
    response = respond_with_error(request, HTTPError(409, "no"), title="Not stored", back=("", "Back"))
    assert '<h1>Not stored</h1>\n<p>No.</p>\n<nav><a href="">Back</a></nav>' in page(response)
