"""References in responses, as the client must see them."""

from __future__ import annotations

import pytest

from kaserve.proxy.location import UpstreamURL
from kaserve.proxy.references import ClientView, client_view
from tests.proxy.messages import get


def view(url: str, mount: str, host: str = "site.example") -> ClientView:
    request = get()
    request.mount = mount
    return client_view(UpstreamURL.parse(url), request, host)


@pytest.mark.parametrize(
    ("url", "mount", "location", "expected"),
    [
        # The upstream's own URL (RFC 3986 §6.2.3: with or without the usual port).
        ("http://u:9000", "", "http://u:9000/x?y#z", "/x?y#z"),
        ("http://u:9000", "/api", "http://u:9000/api/x", "/api/x"),
        ("http://u:9000", "", "http://u:9000", "/"),
        ("http://u:9000", "", "http://u:9000?y", "/?y"),
        ("http://u:9000", "", "HTTP://U:9000/X", "/X"),
        ("http://u", "", "http://u:80/x", "/x"),
        ("https://u", "", "https://u:443/x", "/x"),
        ("http://u", "", "//u/x", "/x"),
        ("unix:/run/x.sock", "", "http://localhost/x", "/x"),
        ("http://[::1]:9000", "", "http://[::1]:9000/x", "/x"),
        ("http://u/v1", "/api", "http://u/v1/x", "/api/x"),
        ("http://u/v1/", "/api", "http://u/v1/x", "/api/x"),
        ("http://u/v1", "/api", "http://u/v1", "/api"),
        ("http://u/v1", "/api", "http://u/v1?y", "/api?y"),
        ("http://u/v1", "", "http://u/v1", "/"),
        ("http://u/v1", "", "http://u/v1?y", "/?y"),
        ("http://u/", "/api", "http://u/x", "/api/x"),
        ("http://u/", "/api", "http://u", "/api/"),
        # Its path.
        ("http://u/v1", "/api", "/v1/x", "/api/x"),
        ("http://u/", "/api", "/x", "/api/x"),
        ("http://u/", "/api", "/", "/api/"),
        ("http://u", "/api", "/x", "/x"),
        # The client's host, if the upstream gets it.
        ("http://u/v1", "/api", "http://site.example/v1/x", "http://site.example/api/x"),
        ("http://u/v1", "/api", "https://site.example:443/v1/x", "https://site.example:443/api/x"),
        ("http://u/v1", "/api", "//site.example/v1/x", "//site.example/api/x"),
        ("http://u", "/api", "http://site.example/x", "http://site.example/x"),
        # What stays as it is.
        ("http://u:9000", "", "http://u:90001/x", "http://u:90001/x"),
        ("http://u:9000", "", "http://u:9000.evil.example/x", "http://u:9000.evil.example/x"),
        ("http://u:9000", "", "http://u:9000@evil.example/x", "http://u:9000@evil.example/x"),
        ("http://u:9000", "", "https://u:9000/x", "https://u:9000/x"),  # another scheme is another URL
        ("http://u", "", "https://site.example/x", "https://site.example/x"),
        ("http://u", "", "https://other.example/x", "https://other.example/x"),
        ("http://u/v1", "/api", "http://u/v2/x", "http://u/v2/x"),
        ("http://u/v1", "/api", "http://u/v10/x", "http://u/v10/x"),
        ("http://u/v1", "/api", "/v2/x", "/v2/x"),
        ("http://u/v1", "/api", "http://site.example/v2/x", "http://site.example/v2/x"),
        ("http://u/v1", "/api", "x", "x"),
        ("http://u/v1", "/api", "../x", "../x"),
        ("http://u/v1", "/api", "?x", "?x"),
        ("http://u/v1", "/api", "", ""),
        ("http://u/v1", "/api", "mailto:me@u", "mailto:me@u"),
        ("http://u/v1", "/api", "//other.example/v1", "//other.example/v1"),
    ],
)
def test_locations(url: str, mount: str, location: str, expected: str) -> None:
    assert view(url, mount).reference(location) == expected


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://u", "http://u//evil.example"),
        ("http://u", "http://u/\\evil.example"),
        ("http://u", "http://u/\t/evil.example"),
        ("http://u/v1", "/v1//evil.example"),
        ("http://u/v1", "http://u/v1/\\evil.example"),
        ("http://u/", "//evil.example"),
        ("http://u", "http://u\\@evil.example/x"),
    ],
)
def test_no_reference_becomes_one_to_another_host(url: str, location: str) -> None:
    """RFC 3986 §4.2: what begins with two slashes is a host, and browsers take backslashes for slashes."""
    assert view(url, "").reference(location) == location


def test_the_host_of_the_upstream_itself() -> None:
    """An upstream that gets its own Host, and refers to itself by that."""
    assert view("http://u:9000/v1", "/api", "u:9000").reference("http://u:9000/v1/x") == "/api/x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5; url=http://u/v1/x", "5; url=/api/x"),
        ("0;URL='http://u/v1/x'", "0;URL='/api/x'"),
        ('0, url = "/v1/x" ', '0, url = "/api/x" '),
        ("5", "5"),
        ("5; url=http://other.example/", "5; url=http://other.example/"),
    ],
)
def test_refresh(value: str, expected: str) -> None:
    assert view("http://u/v1", "/api").refresh(value) == expected


@pytest.mark.parametrize(
    ("url", "mount", "cookie", "expected"),
    [
        ("http://u/v1", "/api", "a=b; Path=/v1", "a=b; Path=/api"),
        ("http://u/v1", "/api", "a=b; Path=/v1/", "a=b; Path=/api"),
        ("http://u/v1", "/api", "a=b; path=/v1/x; Secure", "a=b; path=/api/x; Secure"),
        ("http://u/v1", "", "a=b; path=/v1", "a=b; path=/"),
        ("http://u/", "/api", "a=b; Secure; Path=/; HttpOnly", "a=b; Secure; Path=/api; HttpOnly"),
        ("http://u/", "/api", "a=b;Path=/x", "a=b;Path=/api/x"),
        ("http://u/v1", "/api", "a=b; Path=/", "a=b; Path=/"),  # it reaches further than the mount
        ("http://u/v1", "/api", "a=b; Path=/v2", "a=b; Path=/v2"),
        ("http://u/v1", "/api", "a=b; Path=", "a=b; Path="),
        ("http://u/v1", "/api", "a=b; Path", "a=b; Path"),
        ("http://u/v1", "/api", "Path=/v1", "Path=/v1"),  # a cookie of that name
        ("http://u/v1", "/api", "a=b; X=/v1", "a=b; X=/v1"),
        ("http://u/", "/api", "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
        ("http://u", "/api", "a=b; Path=/v1", "a=b; Path=/v1"),
    ],
)
def test_paths_of_cookies(url: str, mount: str, cookie: str, expected: str) -> None:
    """RFC 6265 §5.1.4, §5.2.4."""
    assert view(url, mount).cookie(cookie) == expected
