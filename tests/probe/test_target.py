"""Which server and which resource a URL names."""

from __future__ import annotations

import pytest

from kaserve.probe.target import Target, read_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        pytest.param("http://example.com", Target("http", "example.com", 80, "example.com", "/"), id="default port"),
        pytest.param(
            "localhost:8000/a?b=c", Target("http", "localhost", 8000, "localhost:8000", "/a?b=c"), id="port and query"
        ),
        pytest.param("https://h:8443/x y#z", Target("https", "h", 8443, "h:8443", "/x%20y"), id="fragment and space"),
        pytest.param("https://h/%2e", Target("https", "h", 443, "h", "/%2e"), id="encoded already"),
        pytest.param("http://[::1]:8000/", Target("http", "::1", 8000, "[::1]:8000", "/"), id="IPv6"),
        pytest.param(
            "http://[fe80::1%25eth0]:8000/", Target("http", "fe80::1%eth0", 8000, "[fe80::1]:8000", "/"), id="zone"
        ),
        pytest.param("[fe80::1%eth0]:80", Target("http", "fe80::1%eth0", 80, "[fe80::1]", "/"), id="bare zone"),
        pytest.param("http://h/@", Target("http", "h", 80, "h", "/@"), id="no user"),
        pytest.param("http://h:80/", Target("http", "h", 80, "h", "/"), id="explicit default port"),
        pytest.param(
            "http://\xfc.de/\xe9?\xe9",
            Target("http", "xn--tda.de", 80, "xn--tda.de", "/%C3%A9?%C3%A9"),
            id="international",
        ),
        pytest.param("http://h/a\r\nX: y", Target("http", "h", 80, "h", "/aX:%20y"), id="line ends"),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert read_url(url) == target


@pytest.mark.parametrize("url", ["ftp://h/", "http://", "http://h:99999/", "http://h:x/", "http://a..b/", "http:///x"])
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the (URL|port|host) must be .+, not .+"):
        read_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://alice:hunter2@127.0.0.1:1/",
        "alice:hunter2@h",
        "https://hunter2@h/",
        "http://alice:hunter2@h:99999/",
        "ftp://alice:hunter2@h/",
        "//alice:hunter2@h",
        "http://alice:hunter2@[h/",
        "http://alice:hunter2@h\u2100/",
    ],
)
def test_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL must not contain a user or a password") as caught:
        read_url(url)
    assert "hunter2" not in str(caught.value)
