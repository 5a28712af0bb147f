"""Targets and hosts; more cases are in the corpus."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.errors import HTTPError
from kaserve.http.headers import DUPLICATE_HOST, HOST
from kaserve.http.messages import Request
from kaserve.http.target import is_host, resolve_target


def resolved(method: str, target: str, host: str | None = "h", minor: int = 1) -> tuple[str, str, str]:
    """Returns authority, path and query."""
    fields = [] if host is None else [("host", host)]
    request = Request(method, target, minor, fields, 0 if host is None else HOST, host or "")
    resolve_target(request)
    return request.authority, request.raw_path, request.query_string


def rejected_with(method: str, target: str, host: str | None = "h", minor: int = 1) -> int:
    with pytest.raises(HTTPError) as caught:
        resolved(method, target, host, minor)
    return caught.value.status


def test_origin_form() -> None:  # RFC 9112 §3.2.1
    assert resolved("GET", "/a/b?c=d?e") == ("h", "/a/b", "c=d?e")
    assert resolved("GET", "/") == ("h", "/", "")
    assert resolved("GET", "//a/b") == ("h", "//a/b", "")
    assert resolved("GET", "/", None, minor=0) == ("", "/", "")


def test_absolute_form() -> None:  # RFC 9112 §3.2.2
    assert resolved("GET", "http://a:1/b?c") == ("a:1", "/b", "c")
    assert resolved("GET", "http://a") == ("a", "/", "")
    assert resolved("GET", "http://a", None, minor=0) == ("a", "/", "")
    assert rejected_with("GET", "http://a/", None) == 400
    assert rejected_with("GET", "http://a/", "not a host") == 400


def test_asterisk_form() -> None:  # RFC 9112 §3.2.4
    assert resolved("OPTIONS", "*") == ("h", "*", "")
    assert resolved("OPTIONS", "http://a:8001") == ("a:8001", "*", "")
    assert rejected_with("GET", "*") == 400


def test_authority_form() -> None:  # RFC 9112 §3.2.3
    assert rejected_with("CONNECT", "a:443") == 501
    assert rejected_with("CONNECT", "a") == 400
    assert rejected_with("GET", "a:443") == 400


def test_more_than_one_host() -> None:  # RFC 9112 §3.2
    request = Request("GET", "/", 1, [("host", "h"), ("host", "h")], HOST | DUPLICATE_HOST, "h")
    with pytest.raises(HTTPError) as caught:
        resolve_target(request)
    assert caught.value.status == 400


@given(st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map("[{}]".format), st.integers(0, 65535) | st.none())
def test_every_address_is_a_host(address: str, port: int | None) -> None:
    assert is_host(address if port is None else f"{address}:{port}")


@given(st.text("0123456789abcdef:.%/", min_size=1, max_size=40))
def test_only_an_ipv6_address_may_be_in_brackets(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
        valid = "%" not in text
    except ValueError:
        valid = False
    assert is_host(f"[{text}]") == valid


@given(st.integers(min_value=-10, max_value=1_000_000))
def test_ports(port: int) -> None:
    assert is_host(f"a:{port}") == (0 <= port <= 65535)


@pytest.mark.parametrize("character", [chr(byte) for byte in range(256)])
def test_the_characters_of_a_name(character: str) -> None:  # RFC 3986 §3.2.2
    allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;="
    assert is_host(f"a{character}b") == (character in allowed)


@pytest.mark.parametrize("value", ["٣", "a:٣", "Ａ", "\u212a", "\u017f", "[::٣]", "[v٣.a]", "a%٣٣", "a\n", "a:1\n"])
def test_only_ascii(value: str) -> None:
    assert not is_host(value)


def test_a_host_is_not_endless() -> None:
    assert is_host("a" * 1000)
    assert not is_host("a" * 5000)


@given(st.text())
def test_any_text_at_all(text: str) -> None:
    assert is_host(text) in (True, False)
    for method in ("GET", "OPTIONS", "CONNECT"):
        try:
            authority, path, _ = resolved(method, text or "/", text)
        except HTTPError:
            pass
        else:
            assert is_host(authority)
            assert path == "*" or path.startswith("/")
