"""Content negotiation: what clients accept, and what they get (RFC 9110 §12.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.messages import Request
from kaserve.http.negotiation import (
    CODINGS,
    IDENTITY,
    Accepted,
    choose_coding,
    media_type_weight,
    parse_accept,
    parse_accept_encoding,
    prefers_json,
)
from tests.tools.ids import readable

ALL = tuple(CODINGS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {}),
        ("gzip", {"gzip": 1}),
        ("GZip", {"gzip": 1}),  # §8.4.1: without case
        ("x-gzip", {"gzip": 1}),  # §8.4.1.3
        ("gzip, br", {"gzip": 1, "br": 1}),
        ("gzip,br;q=0.5", {"gzip": 1, "br": 0.5}),
        ("gzip ; q=0.5", {"gzip": 0.5}),
        ("gzip;Q=0.5", {"gzip": 0.5}),
        ("gzip;q=0", {"gzip": 0}),
        ("gzip;q=0.", {"gzip": 0}),
        ("gzip;q=0.001", {"gzip": 0.001}),
        ("gzip;q=1.000", {"gzip": 1}),
        ("*;q=0.1, identity;q=0", {"*": 0.1, "identity": 0}),
        (" , gzip,, ", {"gzip": 1}),
        ("unheard-of", {"unheard-of": 1}),
        ("gzip, gzip;q=0", {"gzip": 1}),  # the first one counts
        # Weights that are none, §12.4.2: as if it had not been said.
        ("gzip;q=1.1", {}),
        ("gzip;q=0.0001", {}),
        ("gzip;q=1.001", {}),
        ("gzip;q=-1", {}),
        ("gzip;q=.5", {}),
        ("gzip;q=", {}),
        ("gzip;q=x, br", {"br": 1}),
        ("gzip;q = 1", {}),
        ("gzip;level=9", {}),
        ("gzip br", {}),
        ("gz\xefp", {}),
        ('"gzip"', {}),
    ],
    ids=readable,
)
def test_what_clients_take(value: str, expected: dict[str, float]) -> None:
    assert parse_accept_encoding(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" ,, ", []),
        ("text/html", [Accepted("text/html", 1.0)]),
        ("TEXT/Html ; Q=0.5", [Accepted("text/html", 0.5)]),
        ("*/*, text/*;q=0", [Accepted("*/*", 1.0), Accepted("text/*", 0.0)]),
        ("a/b;c=d;q=0.1;e=f", [Accepted("a/b", 0.1, (("c", "d"), ("e", "f")))]),
        ('a/b;c="d;q=0"', [Accepted("a/b", 1.0, (("c", "d;q=0"),))]),
        ('a/b;version="1.0.0"', [Accepted("a/b", 1.0, (("version", "1.0.0"),))]),
        ("a/b;;c=d; ;", [Accepted("a/b", 1.0, (("c", "d"),))]),  # §5.6.6
        ("a/b;c;q=0.2", [Accepted("a/b", 0.2, (("c", ""),))]),  # RFC 7231 had parameters without a value
        ("a/b;q=0.2;q=0.9", [Accepted("a/b", 0.2)]),
        # Malformed elements are ignored, and the others keep their meaning.
        ("a/b/c, text/html", [Accepted("text/html", 1.0)]),
        ("a b, text/html", [Accepted("text/html", 1.0)]),
        ("/html, text/, text/html", [Accepted("text/html", 1.0)]),
        ("a/b;c=d e, text/html", [Accepted("text/html", 1.0)]),
        ("a/b;q=2, a/b;q=nan, a/b;q=, a/b;q, a/b;q =1, a/b;q=0.1234, text/html", [Accepted("text/html", 1.0)]),
        ('a/b;c="d, text/html', [Accepted("text/html", 1.0)]),
        ("a/\xe9, text/html", [Accepted("text/html", 1.0)]),
    ],
    ids=ascii,
)
def test_elements(value: str, expected: list[Accepted]) -> None:
    """§12.4.2, §12.5.1."""
    assert parse_accept(value) == expected


@given(st.text(alphabet='abq/*;=01.,"\\ \t\x80'))
def test_any_text_is_read(value: str) -> None:
    for element in parse_accept(value):
        assert 0 <= element.weight <= 1
        assert element.name == element.name.lower()


@pytest.mark.parametrize(
    "value",
    [
        "a" + " " * 8000 + "x",
        "a" + "; ;" * 3000 + "(",
        "a;" + "b" * 8000 + "\x7f",
        'a;b="' + "\\" * 8000,
        "a;" * 4000 + "=",
    ],
    ids=["spaces", "empty-parameters", "long-name", "escapes", "names"],
)
def test_no_value_is_slow_to_read(value: str) -> None:
    """With backtracking this test would not end."""
    assert parse_accept(value) == []


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        ("", 0.0),
        ("text/html", 1.0),
        ("text/*;q=0.3, text/html;q=0.9, */*;q=0.1", 0.9),  # the most specific range decides, not the first
        ("text/*;q=0.3, */*;q=0.8", 0.3),
        ("*/*;q=0.8", 0.8),
        ("text/html;q=0, */*", 0.0),
        ("text/html;level=1;q=0.2, text/html;q=0.4", 0.4),
        ("application/json", 0.0),
        ("text/htmlx, xtext/html", 0.0),
    ],
)
def test_weights_of_media_types(value: str, weight: float) -> None:
    """§12.5.1."""
    assert media_type_weight(parse_accept(value), "text/html") == weight


@pytest.mark.parametrize(
    ("value", "available", "expected"),
    [
        ("gzip", ALL, "gzip"),
        ("gzip, deflate, br, zstd", ALL, "br"),  # a browser
        ("gzip, deflate, br, zstd", ("gzip",), "gzip"),
        ("gzip, deflate, br, zstd", (), IDENTITY),
        ("gzip, zstd", ALL, "zstd"),
        ("br;q=0.5, gzip", ALL, "gzip"),
        ("br;q=0.9, gzip;q=0.8, zstd;q=0.95", ALL, "zstd"),
        ("br;q=0", ALL, IDENTITY),
        ("br;q=0, gzip;q=0", ALL, IDENTITY),
        ("deflate", ALL, IDENTITY),
        # An empty field wants no coding at all.
        ("", ALL, IDENTITY),
        # Any other one.
        ("*", ALL, "br"),
        ("*", ("gzip",), "gzip"),
        ("*", (), IDENTITY),
        ("br;q=0, *", ALL, "zstd"),
        ("gzip;q=0.5, *;q=0.1", ALL, "gzip"),
        ("*;q=0", ALL, None),
        ("*;q=0, gzip", ALL, "gzip"),
        ("*;q=0, gzip", ("br",), None),
        ("*;q=0, identity", ALL, IDENTITY),
        # identity is taken without being mentioned, unless it is ruled out; mentioned, it has a weight like any other.
        ("identity", ALL, IDENTITY),
        ("identity;q=0", ALL, None),
        ("identity;q=0", (), None),
        ("identity;q=0, gzip", ALL, "gzip"),
        ("identity;q=0, gzip", ("br",), None),
        ("identity;q=0, gzip;q=0.001", ALL, "gzip"),
        ("identity;q=0, *;q=0.5", ALL, "br"),
        ("identity, gzip", ALL, "gzip"),
        ("identity;q=1, gzip;q=0.5", ALL, IDENTITY),
        ("identity;q=0.5, gzip;q=0.5", ALL, "gzip"),
        ("identity;q=0.5, gzip;q=1.0", ALL, "gzip"),
        ("identity;q=0.4, *;q=0.5", ("gzip",), "gzip"),
        ("gzip;q=0.3, *;q=0.5", ("gzip",), IDENTITY),  # which "*" stands for as well
    ],
    ids=readable,
)
def test_what_clients_get(value: str, available: tuple[str, ...], expected: str | None) -> None:
    assert choose_coding(value, available) == expected


@given(st.text(alphabet="gzipbrstdenty*;q=01.5, \t"), st.lists(st.sampled_from(ALL), unique=True).map(tuple))
def test_nobody_gets_what_was_ruled_out(value: str, available: tuple[str, ...]) -> None:
    weights = parse_accept_encoding(value)
    chosen = choose_coding(value, available)
    assert chosen in (*available, IDENTITY, None)
    if chosen is not None and chosen != IDENTITY:
        assert weights.get(chosen, weights.get("*", 0)) > 0
    elif chosen == IDENTITY:
        assert weights.get(IDENTITY, weights.get("*", 1)) > 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], False),
        (["*/*"], False),
        (["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], False),
        (["application/json"], True),
        (["Application/JSON"], True),
        (["application/json; charset=utf-8"], True),
        (["application/*"], True),
        (["application/json, */*"], False),  # both are as welcome
        (["application/json, */*;q=0.5"], True),
        (["application/json;q=0.5, text/html"], False),
        (["application/json;q=0.5, text/html;q=0.4"], True),
        (["text/html;q=0.4", "application/json;q=0.500"], True),
        (["text/html;q=0, */*"], True),
        (["application/json;q=0"], False),
        (["application/json;q=0, */*"], False),
        (["text/*;q=0.3, text/html;q=0.9, application/json;q=0.5"], False),  # the closest counts, not the first
        (["application/json ; Q=0.9 , text/html;q=0.8"], True),
        (["application/json;version=1;q=0.1, text/html;q=0.2"], False),
        (["text/plain"], False),
        (["json"], False),
        (["application/json/x"], False),
        (["", ","], False),
        ([",,application/json,"], True),
        (["application/jsonp"], False),
        (["application/json;xq=0, text/html;q=0.5"], True),
    ],
    ids=readable,
)
def test_json_is_for_clients_that_prefer_it(accept: list[str], expected: bool) -> None:
    """RFC 9110 §12.5.1."""
    assert prefers_json(",".join(accept), ()) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [("json", True), ("json=", True), ("sort=size&json", True), ("sort=json", False)],
)
def test_json_by_query(query: str, expected: bool) -> None:
    request = Request("GET", "/", 1, [])
    request.query_string = query
    assert prefers_json("text/html", request.query) is expected
