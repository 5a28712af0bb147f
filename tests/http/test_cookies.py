"""Cookies: what is set comes back, one bad cookie does not lose the others, and nothing can be injected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kaserve.http.cookies import format_deleted_cookie, format_set_cookie, parse_cookies

DEFAULTS: dict[str, Any] = {
    "max_age": None,
    "path": None,
    "domain": None,
    "secure": False,
    "http_only": False,
    "same_site": None,
}


def set_cookie(name: str, value: str = "", **attributes: Any) -> str:
    return format_set_cookie(name, value, **DEFAULTS | attributes)


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", []),
        ("a=1", [("a", "1")]),
        ("a=1; b=2;c=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("a=1; a=2", [("a", "1"), ("a", "2")]),  # RFC 6265 §5.4: the more specific path comes first
        ("a=b=c", [("a", "b=c")]),
        ("a=", [("a", "")]),
        ("a = 1 ", [("a", "1")]),
        # `SimpleCookie.load` loses all cookies after each of these.
        ("bad; a=1", [("a", "1")]),
        ("=bad; a=1", [("a", "1")]),
        ("; ;; a=1;", [("a", "1")]),
        ('x={"json": [1, 2]}; a=1', [("x", '{"json": [1, 2]}'), ("a", "1")]),
        ("x[y]=1; (z)=2; a b=3", [("x[y]", "1"), ("(z)", "2"), ("a b", "3")]),
        ('x="open; a=1', [("x", '"open'), ("a", "1")]),
        ("path=/; a=1", [("path", "/"), ("a", "1")]),
        # Quotes and escapes.
        ('a="b c"', [("a", "b c")]),
        (r'a="b\"c\\d\073"', [("a", 'b"c\\d;')]),
        ('a="', [("a", '"')]),
        # Bytes beyond ASCII: UTF-8 if they are, otherwise Latin-1.
        ("a=\xc3\xa9", [("a", "é")]),
        ("a=\xe9", [("a", "é")]),
    ],
)
def test_cookies_are_read(header: str, cookies: list[tuple[str, str]]) -> None:
    assert parse_cookies([header]).multi_items() == cookies


def test_several_lines() -> None:
    assert parse_cookies(["a=1; b=2", "c=3"]).multi_items() == [("a", "1"), ("b", "2"), ("c", "3")]


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]))


@given(TOKENS, VALUES)
@example("a", '"quoted"')
@example("a", r"\073")
@example("a", " b ")
@example("a", "é\xff☃")
@example("a", "a,b;c=d")
def test_what_is_set_comes_back(name: str, value: str) -> None:
    assume(not name.lower().startswith(("__secure-", "__host-")))
    try:
        header = set_cookie(name, value, path="/", max_age=1)
    except ValueError:
        assert name.lower() in {"path", "domain", "expires", "max-age", "secure", "httponly", "samesite", "version"}
        return
    header.encode("ascii")
    pair, *attributes = header.split(";")
    assert attributes == [" Max-Age=1", " Path=/"]
    assert parse_cookies([f"first=1; {pair}; last=2"]).multi_items() == [
        ("first", "1"), (name, value), ("last", "2"),
    ]  # fmt: skip


@given(st.text(), st.text(), st.text(), st.text())
def test_nothing_can_be_injected(name: str, value: str, path: str, domain: str) -> None:
    try:
        header = set_cookie(name, value, path=path, domain=domain)
    except ValueError:
        return
    assert header.isascii()
    assert header.isprintable()
    assert len(header.split(";")) == 1 + bool(path) + bool(domain)


@pytest.mark.parametrize(
    ("name", "attributes", "message"),
    [
        ("", {}, "the name of a cookie must be a token"),
        ("a b", {}, "the name of a cookie must be a token"),
        ("a=b", {}, "the name of a cookie must be a token"),
        ("a;b", {}, "the name of a cookie must be a token"),
        ("é", {}, "the name of a cookie must be a token"),
        ("path", {}, "'path' is reserved"),
        ("a", {"value": "b\nc"}, "the value of the cookie 'a' must not contain control characters"),
        ("a", {"value": "\x7f"}, "the value of the cookie 'a' must not contain control characters"),
        ("a", {"path": "/; domain=b"}, "the path of a cookie must be visible ASCII without semicolons"),
        ("a", {"path": "/\r\nX: y"}, "the path of a cookie must be"),
        ("a", {"domain": "b; secure"}, "the domain of a cookie must be"),
        ("a", {"same_site": "lax; secure"}, "same_site must be 'Strict', 'Lax', 'None' or None, not"),
        ("a", {"same_site": "None"}, "must be secure=True"),
        ("__Secure-a", {}, "must be secure=True"),
        ("__Host-a", {"secure": True, "path": "/x"}, "must have path='/' and no domain"),
        ("__Host-a", {"secure": True, "path": "/", "domain": "b"}, "must have path='/' and no domain"),
    ],
)
def test_cookies_that_are_rejected(name: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_cookie(name, **attributes)


def test_the_value_is_not_repeated_in_an_error() -> None:
    with pytest.raises(ValueError, match="control") as caught:
        set_cookie("a", "secret\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "header"),
    [
        ({}, "a=1"),
        ({"path": "/", "domain": "example.org"}, "a=1; Domain=example.org; Path=/"),
        ({"max_age": 0}, "a=1; Max-Age=0"),
        ({"secure": True, "http_only": True}, "a=1; HttpOnly; Secure"),
        ({"same_site": "strict"}, "a=1; SameSite=Strict"),
        ({"same_site": "None", "secure": True}, "a=1; SameSite=None; Secure"),
    ],
)
def test_attributes(attributes: dict[str, Any], header: str) -> None:
    assert set_cookie("a", "1", **attributes) == header


def test_the_prefixes_of_names() -> None:
    assert set_cookie("__Host-a", "1", secure=True, path="/") == "__Host-a=1; Path=/; Secure"
    assert set_cookie("__Secure-a", "1", secure=True) == "__Secure-a=1; Secure"


def test_a_deleted_cookie() -> None:
    header = format_deleted_cookie("__Host-a", path="/", domain=None, secure=True)
    assert header == '__Host-a=""; Max-Age=0; Path=/; Secure; Expires=Thu, 01 Jan 1970 00:00:00 GMT'
