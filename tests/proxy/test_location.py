"""How the URL of an upstream is read."""

from __future__ import annotations

import pytest

from kaserve.proxy.location import UpstreamURL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:9000", UpstreamURL("http", "127.0.0.1", 9000, None, "")),
        ("http://app", UpstreamURL("http", "app", 80, None, "")),
        ("https://app.example/base/", UpstreamURL("https", "app.example", 443, None, "/base/")),
        ("http://[::1]:9000/", UpstreamURL("http", "::1", 9000, None, "/")),
        ("unix:/run/app.sock", UpstreamURL("http", "", 0, "/run/app.sock", "")),
    ],
)
def test_urls(text: str, expected: UpstreamURL) -> None:
    url = UpstreamURL.parse(text)
    assert url == expected
    assert UpstreamURL.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "127.0.0.1:9000", "ftp://app", "http://", "http://app:port", "http://app:70000", "unix:", "http://me@app",
        "http://app?x", "http://app#x", "http://a b", "http://app/\r\nX: y", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_url_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|socket"):
        UpstreamURL.parse(text)


def test_the_value_of_host_has_the_port_unless_it_is_the_usual_one() -> None:
    """RFC 9110 §7.2."""
    assert UpstreamURL.parse("http://app:80").authority == "app"
    assert UpstreamURL.parse("https://app:80").authority == "app:80"
    assert UpstreamURL.parse("http://[::1]:81").authority == "[::1]:81"
    assert UpstreamURL.parse("unix:/run/app.sock").authority == "localhost"
