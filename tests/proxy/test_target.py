"""The target of a request at the upstream."""

from __future__ import annotations

import pytest

from kaserve.http.errors import HTTPError
from kaserve.proxy.location import UpstreamURL
from kaserve.proxy.target import check_path, has_dot_segments, upstream_target
from tests.proxy.messages import get, mounted, parse


@pytest.mark.parametrize(
    ("url", "mount", "raw_path", "target"),
    [
        ("http://u", "", "/x/y", "/x/y"),
        ("http://u", "/api", "/x", "/api/x"),
        ("http://u", "/api", "", "/api"),
        ("http://u", "/api", "/", "/api/"),
        ("http://u", "/%61pi", "/x", "/%61pi/x"),  # as the client wrote it (RFC 9110 §7.7)
        ("http://u/", "/api", "/x", "/x"),
        ("http://u/", "/api", "", "/"),
        ("http://u/", "/api", "/", "/"),
        ("http://u/", "", "/api/x", "/api/x"),
        ("http://u/v1", "/api", "/x", "/v1/x"),
        ("http://u/v1", "/api", "", "/v1"),
        ("http://u/v1", "/api", "/", "/v1/"),
        ("http://u/v1/", "/api", "/x", "/v1/x"),
        ("http://u/v1/", "/api", "", "/v1/"),
        ("http://u/v1", "", "/x", "/v1/x"),
        ("http://u", "", "", "/"),
        ("http://u", "/api", "//x", "/api//x"),
        ("http://u", "", "/a|b{c}\"d", "/a|b{c}\"d"),  # not repaired (RFC 9112 §3)
    ],
)  # fmt: skip
def test_a_path_in_the_url_replaces_the_prefix(url: str, mount: str, raw_path: str, target: str) -> None:
    assert upstream_target(mounted(mount, raw_path), UpstreamURL.parse(url).base) == target


@pytest.mark.parametrize("query", ["?", "?q", "?a=b?c", "?/../x"])
def test_the_query_stays(query: str) -> None:
    """RFC 9110 §7.7: also an empty one."""
    request = get(target=f"/x{query}")
    assert upstream_target(request, "") == f"/x{query}"
    assert upstream_target(request, "/v1") == f"/v1/x{query}"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://other.example/p?q", "/p?q"),
        ("http://other.example", "/"),
        ("http://other.example?q", "/?q"),
        ("HTTPS://other.example:8/p", "/p"),
    ],
)
def test_the_absolute_form_becomes_the_origin_form(target: str, expected: str) -> None:
    """RFC 9112 §3.2.1, §3.2.2."""
    assert upstream_target(get(target=target), "") == expected


@pytest.mark.parametrize("target", ["*", "http://other.example"])
@pytest.mark.parametrize("base", ["", "/", "/v1"])
def test_options_of_the_server_as_a_whole(target: str, base: str) -> None:
    """RFC 9112 §3.2.4: the last proxy sends an asterisk."""
    assert upstream_target(get(method="OPTIONS", target=target), base) == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/..", "/.", "/../x", "/a/..", "/a/../b", "/a/./b", "/a/.", "/%2e%2e/x", "/.%2E/x", "/%2E", "/a/%2e%2e",
        "/a%2f..%2fb", "/a%2F../b", "/a\\..\\b", "/..\\b", "/a%5c..%5Cb", "/..;/x", "/..;x=y/z", "/.;/x", "/..%3b/x",
    ],
)  # fmt: skip
def test_dot_segments_are_rejected(path: str) -> None:
    """RFC 3986 §5.2.4: an upstream resolves them, and would find a path outside of the mount."""
    with pytest.raises(HTTPError):
        check_path(path)
    for base in ("", "/v1"):
        with pytest.raises(HTTPError) as caught:
            upstream_target(mounted("/api", path), base)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a.b/..c/d..",
        "/...",
        "/.well-known/x",
        "/a/.hidden",
        "/%2e%2e%2e",
        "/a%2fb",
        "/a;..",
        "/..a",
        "/a;b/c",
    ],
)
def test_other_dots_are_not(path: str) -> None:
    assert not has_dot_segments(path)
    assert upstream_target(mounted("/api", path), "") == f"/api{path}"


def test_nothing_else_can_be_in_a_target() -> None:
    for target in (b"/a#b", b"/a\x00", b"/a\tb", b"/a\x7fb", b"/a\xe4", b"a"):
        with pytest.raises(HTTPError):
            parse(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
