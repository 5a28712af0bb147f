"""Content codings: what clients say they take, and what they get (RFC 9110 §12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.negotiation import CODINGS, IDENTITY, choose, parse_accept_encoding

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
)
def test_what_clients_take(value: str, expected: dict[str, float]) -> None:
    assert parse_accept_encoding(value) == expected


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
)
def test_what_clients_get(value: str, available: tuple[str, ...], expected: str | None) -> None:
    assert choose(value, available) == expected


@given(st.text(alphabet="gzipbrstdenty*;q=01.5, \t"), st.lists(st.sampled_from(ALL), unique=True).map(tuple))
def test_nobody_gets_what_was_ruled_out(value: str, available: tuple[str, ...]) -> None:
    weights = parse_accept_encoding(value)
    chosen = choose(value, available)
    assert chosen in (*available, IDENTITY, None)
    if chosen is not None and chosen != IDENTITY:
        assert weights.get(chosen, weights.get("*", 0)) > 0
    elif chosen == IDENTITY:
        assert weights.get(IDENTITY, weights.get("*", 1)) > 0
