"""How upstreams and the option --proxy are written."""

from __future__ import annotations

import pytest

from kaserve.proxy.location import Route, UpstreamURL, parse_proxy_option


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:9000", UpstreamURL("http", "127.0.0.1", 9000, None, "")),
        ("http://app", UpstreamURL("http", "app", 80, None, "")),
        ("HTTP://app:8000/", UpstreamURL("http", "app", 8000, None, "/")),
        ("https://app.example/base/", UpstreamURL("https", "app.example", 443, None, "/base/")),
        ("https://app.example:8443/b%20c/d", UpstreamURL("https", "app.example", 8443, None, "/b%20c/d")),
        ("http://[::1]", UpstreamURL("http", "::1", 80, None, "")),
        ("http://[::1]:9000/", UpstreamURL("http", "::1", 9000, None, "/")),
        ("http://[fe80::1%eth0]:9000", UpstreamURL("http", "fe80::1%eth0", 9000, None, "")),
        ("http://app:", UpstreamURL("http", "app", 80, None, "")),  # RFC 3986 §3.2.3
        ("unix:/run/app.sock", UpstreamURL("http", "", 0, "/run/app.sock", "")),
        ("unix:///run/app.sock", UpstreamURL("http", "", 0, "/run/app.sock", "")),
        ("unix:/run/app.sock:/v1", UpstreamURL("http", "", 0, "/run/app.sock", "/v1")),
        ("unix:/run/app.sock:", UpstreamURL("http", "", 0, "/run/app.sock", "")),
        ("http+unix://%2Frun%2Fapp.sock", UpstreamURL("http", "", 0, "/run/app.sock", "")),
        ("http+unix://%2frun%2fapp.sock/v1/", UpstreamURL("http", "", 0, "/run/app.sock", "/v1/")),
    ],
)
def test_urls(text: str, expected: UpstreamURL) -> None:
    url = UpstreamURL.parse(text)
    assert url == expected
    assert UpstreamURL.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a URL"),
        ("9000", "must be a URL"),
        ("127.0.0.1:9000", "must be a URL"),
        ("localhost", "must be a URL"),
        ("ftp://app", "must be a URL"),
        ("ws://app", "must be a URL"),
        ("//app", "must be a URL"),
        ("http:/app", "must be a URL"),
        ("http://", "must have a host"),
        ("http:///x", "must have a host"),
        ("http://:9000", "must have a host"),
        ("http://app:port", "must have a host"),
        ("http://app:70000", "must have a host"),
        ("http://app:-1", "must have a host"),
        ("http://app:0", "must not be 0"),
        ("http://a b", "must have a host"),
        ("http://[::1", "must have a host"),
        ("http://::1", "must have a host"),
        ("http://me@app", "no user name"),
        ("http://me:secret@app/", "no user name"),
        ("http://app/?x", "neither a query"),
        ("http://app?x", "must have a host|neither a query"),
        ("http://app/#x", "nor a fragment"),
        ("http://app/a b", "path"),
        ("http://app/\r\nX: y", "path"),
        ("http://app/\x7f", "path"),
        ("http://app/ä", "path"),
        ("http://app/%zz", "path"),
        ("http://app//x", "path"),
        ("http://app/a/../b", "path"),
        ("http://app/%2e%2e", "path"),
        ("unix:", "must name a socket"),
        ("unix:app.sock", "must name a socket"),
        ("unix:/run/", "must name a socket"),
        ("unix:/run/\0", "must name a socket"),
        ("unix:/run/app.sock:v1", "path"),
        ("http+unix://app.sock", "must name a socket"),
        ("http+unix:///run/app.sock", "must name a socket"),
    ],
)
def test_what_is_no_url_is_an_error_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        UpstreamURL.parse(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_value_of_host_has_the_port_unless_it_is_the_usual_one() -> None:
    """RFC 9110 §7.2, §4.2."""
    assert UpstreamURL.parse("http://app:80").authority == "app"
    assert UpstreamURL.parse("https://app:80").authority == "app:80"
    assert UpstreamURL.parse("https://app:443").authority == "app"
    assert UpstreamURL.parse("http://[::1]:81").authority == "[::1]:81"
    assert UpstreamURL.parse("unix:/run/app.sock").authority == "localhost"


def test_the_value_of_host_has_no_zone() -> None:
    """RFC 6874 §4: it means something on this machine only."""
    assert UpstreamURL.parse("http://[fe80::1%eth0]:81").authority == "[fe80::1]:81"


@pytest.mark.parametrize(
    ("text", "prefix", "urls"),
    [
        ("http://127.0.0.1:9000", "/", ["http://127.0.0.1:9000"]),
        ("/=http://app", "/", ["http://app"]),
        ("/api=http://127.0.0.1:9000", "/api", ["http://127.0.0.1:9000"]),
        ("/api/=http://127.0.0.1:9000/v1/", "/api/", ["http://127.0.0.1:9000/v1/"]),
        ("/api=http://a,http://b:81, unix:/run/app.sock", "/api", ["http://a", "http://b:81", "unix:/run/app.sock"]),
        ("/a=http://app/x=y", "/a", ["http://app/x=y"]),
        ("http://app/x=y", "/", ["http://app/x=y"]),
        ("unix:/run/a=b.sock", "/", ["unix:/run/a=b.sock"]),
    ],
)
def test_the_option(text: str, prefix: str, urls: list[str]) -> None:
    assert parse_proxy_option(text) == Route(prefix, tuple(map(UpstreamURL.parse, urls)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/api",
        "/api=",
        "api=http://app",
        "/api=http://app,",
        "//api=http://app",
        "/a/../b=http://app",
        "/a b=http://app",
        "/a?b=http://app",
        "/a\n=http://app",
        "/api=http://a/v1,http://b/v2",
        "/api=http://a,http://b/",
    ],
)
def test_what_is_no_value_of_the_option(text: str) -> None:
    with pytest.raises(ValueError, match=r"upstream|path") as caught:
        parse_proxy_option(text)
    assert "\n" not in str(caught.value)
