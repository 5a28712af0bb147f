"""Conditional requests: tables of what clients send, and what it means for a representation with known validators."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.conditional import (
    conditions,
    entity_tags,
    evaluate,
    matches_strongly,
    matches_weakly,
    range_applies,
)
from tests.tools.ids import readable

NOW = 784_111_777 + 3600.0
MODIFIED = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
ETAG = '"v1"'
LATER = "Mon, 07 Nov 1994 00:00:00 GMT"
EARLIER = "Sat, 05 Nov 1994 00:00:00 GMT"


def status(*lines: tuple[str, str], method: str = "GET", etag: str = ETAG, modified: int | None = MODIFIED) -> int:
    return evaluate(method, conditions(lines), etag, modified, NOW)


# Reading entity tags, RFC 9110 §8.8.3 and §5.6.1


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"a"', ['"a"']),
        ('W/"a"', ['W/"a"']),
        ('""', ['""']),
        ('"a", "b"', ['"a"', '"b"']),
        ('"a","b"', ['"a"', '"b"']),
        ('"a"\t ,\t W/"b"  ', ['"a"', 'W/"b"']),
        ('  "a"', ['"a"']),
        ('"a,b", "c"', ['"a,b"', '"c"']),  # a comma may be part of a tag
        ('"a\\"', ['"a\\"']),  # and a backslash escapes nothing
        ('"\xe9\x80"', ['"\xe9\x80"']),  # obs-text
        (', , "a",, "b" ,', ['"a"', '"b"']),  # empty elements
        ("", []),
        (" , ", []),
        ("a", []),
        ('"a" "b"', []),
        ('"a"b', []),
        ('"a', []),
        ('a"', []),
        ('w/"a"', []),  # the W is case-sensitive
        ('W/ "a"', []),
        ('"a b"', []),
        ('"a\x7f"', []),
        ("'a'", []),
        ('*, "a"', []),
        ('"a", *', []),
        ('"a", nonsense', []),
    ],
    ids=readable,
)
def test_lists_of_entity_tags(value: str, tags: list[str]) -> None:
    assert entity_tags(value) == tags


@given(st.lists(st.from_regex(r'\A(W/)?"[!#-~\x80-\xff]*"\Z'), min_size=1))
def test_every_list_of_tags_is_read_back(tags: list[str]) -> None:
    assert entity_tags(", ".join(tags)) == tags


@given(st.text(alphabet='W/"a*, \t\x7f'))
def test_no_list_is_misread(value: str) -> None:
    for tag in entity_tags(value):
        assert tag in value
        assert entity_tags(tag) == [tag]


@pytest.mark.parametrize(
    "value", [" " * 8000 + "x", "," * 8000 + "x", '"a",' * 2000 + "x", "\t ," * 2500 + '"', '"' * 8000]
)
def test_no_list_is_slow_to_read(value: str) -> None:
    start = time.perf_counter()
    assert entity_tags(value) == []
    assert time.perf_counter() - start < 0.5  # backtracking would take minutes


# The first four are the examples of §8.8.3.2.
@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"a"', '"A"', False, False),
        ('"W/"', '""', False, False),
    ],
)
def test_comparison(one: str, other: str, strongly: bool, weakly: bool) -> None:
    for pair in ((one, other), (other, one)):
        assert matches_strongly(*pair) is strongly
        assert matches_weakly(*pair) is weakly


# Collecting the fields


def test_a_request_without_conditions_has_none() -> None:
    assert conditions([("host", "a"), ("accept", "*/*")]) == {}


def test_several_lines_make_one_list() -> None:
    """RFC 9110 §5.3."""
    lines = [("if-none-match", '"a"'), ("host", "h"), ("if-none-match", '"b"')]
    assert conditions(lines) == {"if-none-match": '"a", "b"'}


# If-None-Match, §13.1.2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', 304),
        ('W/"v1"', 304),  # weak comparison
        ("*", 304),
        (" * ", 304),
        ('"v0", "v1", "v2"', 304),
        ('"v0",W/"v1"', 304),
        (', "v1",', 304),
        ('"v2"', 200),
        ('"V1"', 200),
        ('"v1 "', 200),
        ('"*"', 200),
        ("v1", 200),
        ('"v0, v1"', 200),
        ('"v1', 200),
        ("", 200),
        ('"v1" garbage', 200),
        ("**", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match(method: str, value: str, expected: int) -> None:
    assert status(("if-none-match", value), method=method) == expected


def test_if_none_match_in_several_lines() -> None:
    assert status(("if-none-match", '"v0"'), ("if-none-match", '"v1"')) == 304


def test_a_weak_tag_of_ours_is_compared_weakly_too() -> None:
    assert status(("if-none-match", '"v1"'), etag='W/"v1"') == 304


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_if_none_match_stops_writers(method: str) -> None:
    """§13.2.2 step 3."""
    assert status(("if-none-match", "*"), method=method) == 412
    assert status(("if-none-match", '"other"'), method=method) == 200


# If-Match, §13.1.1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', 200),
        ("*", 200),
        (" * ", 200),
        ('"v0", "v1"', 200),
        (', "v0",,"v1" ,', 200),
        ('W/"v1"', 412),  # strong comparison
        ('"v0", W/"v1"', 412),
        ('W/"v1", "v1"', 200),
        ('"v2"', 412),
        ('"V1"', 412),
        ('"*"', 412),
        # What is no tag vouches for nothing.
        ("v1", 412),
        ("", 412),
        ('"v1" garbage', 412),
        ("**", 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_if_match(method: str, value: str, expected: int) -> None:
    assert status(("if-match", value), method=method) == expected


def test_if_match_in_several_lines() -> None:
    assert status(("if-match", '"v0"'), ("if-match", '"v1"')) == 200


@pytest.mark.parametrize(("value", "expected"), [('W/"v1"', 412), ('"v1"', 412), ("*", 200)])
def test_a_weak_tag_of_ours_never_matches_strongly(value: str, expected: int) -> None:
    assert status(("if-match", value), etag='W/"v1"') == expected


# If-Unmodified-Since, §13.1.4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 200),
        ("Sun Nov  6 08:49:37 1994", 200),
        ("Mon, 07 Nov 1994 00:00:00 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 412),
        ("Sunday, 06-Nov-94 08:49:36 GMT", 412),
        ("Sun Nov  6 08:49:36 1994", 412),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 412),
        # What is not a date is ignored.
        ("", 200),
        ("0", 200),
        ("yesterday", 200),
        ("Sun, 06 Nov 1994 08:49:36", 200),
        ("sun, 06 nov 1994 08:49:36 gmt", 200),
        ("Sun, 06 Nov 1994 08:49:36 GMT; length=3", 200),
        ('"v1"', 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_if_unmodified_since(method: str, value: str, expected: int) -> None:
    assert status(("if-unmodified-since", value), method=method) == expected


def test_two_dates_are_no_date_here_either() -> None:
    assert status(("if-unmodified-since", EARLIER), ("if-unmodified-since", EARLIER)) == 200


def test_without_a_date_of_its_own_nothing_is_held_against_it() -> None:
    assert status(("if-unmodified-since", EARLIER), modified=None) == 200


# If-Range, §13.1.5


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        ('"v1"', True),
        ('W/"v1"', False),
        ('"v2"', False),
        ('"v1", "v2"', False),  # only one tag is allowed
        ('"v1",', False),
        ("v1", False),
        ("*", False),
        ("", False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("Sun Nov  6 08:49:37 1994", True),
        ("Sun, 06 Nov 1994 08:49:36 GMT", False),
        ("Sun, 06 Nov 1994 08:49:38 GMT", False),  # an exact match, no comparison
        ("yesterday", False),
    ],
)
def test_if_range(value: str, applies: bool) -> None:
    assert range_applies(conditions([("if-range", value)]), ETAG, MODIFIED, NOW) is applies


def test_without_if_range_a_range_applies() -> None:
    assert range_applies({}, ETAG, MODIFIED, NOW)


def test_a_weak_tag_of_ours_never_has_ranges() -> None:
    for value in ('"v1"', 'W/"v1"'):
        assert not range_applies({"if-range": value}, 'W/"v1"', MODIFIED, NOW)


@pytest.mark.parametrize(("now", "applies"), [(MODIFIED + 0.9, False), (MODIFIED + 1.0, True), (MODIFIED, False)])
def test_a_date_is_strong_once_its_second_is_over(now: float, applies: bool) -> None:
    """§8.8.2.2: before, the file may have had two versions with this date."""
    assert range_applies({"if-range": "Sun, 06 Nov 1994 08:49:37 GMT"}, ETAG, MODIFIED, now) is applies


def test_what_has_no_date_matches_none() -> None:
    assert not range_applies({"if-range": "Sun, 06 Nov 1994 08:49:37 GMT"}, ETAG, None, NOW)


# If-Modified-Since, §13.1.3; the dates of §5.6.7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 304),  # the three forms
        ("Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("Sun Nov  6 08:49:37 1994", 304),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 304),
        ("Mon, 07 Nov 1994 00:00:00 GMT", 304),
        ("Fri, 01 Jan 2038 00:00:00 GMT", 304),  # in the future, which is no reason to ignore it any more
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("Sunday, 06-Nov-94 08:49:36 GMT", 200),
        ("Sun Nov  6 08:49:36 1994", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        # What is not a date is ignored.
        ("", 200),
        ("now", 200),
        ("0", 200),
        ("784111777", 200),
        ("Sun, 06 Nov 1994 08:49:37", 200),
        ("Sun, 06 Nov 1994 08:49:37 UTC", 200),
        ("Sun, 06 Nov 1994 08:49:37 +0000", 200),
        ("Sun, 6 Nov 1994 08:49:37 GMT", 200),
        ("sun, 06 nov 1994 08:49:37 gmt", 200),
        ("Sun, 32 Nov 1994 08:49:37 GMT", 200),
        ("Mon, 07 Nov 1994 24:00:00 GMT", 200),
        ("Mon, 07 Nov 1994 08:49:37 GMT; length=3", 200),
        ('"v1"', 200),
        ("*", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_modified_since(method: str, value: str, expected: int) -> None:
    assert status(("if-modified-since", value), method=method) == expected


def test_if_modified_since_is_for_retrieval_only() -> None:
    assert status(("if-modified-since", LATER), method="PUT") == 200


def test_two_dates_are_no_date() -> None:
    assert status(("if-modified-since", LATER), ("if-modified-since", LATER)) == 200


def test_what_has_no_date_was_always_modified() -> None:
    assert status(("if-modified-since", LATER), modified=None) == 200


# Precedence, §13.2.2


@pytest.mark.parametrize(
    ("tags", "date", "expected"),
    [
        ('"v1"', EARLIER, 304),
        ('"v1"', "nonsense", 304),
        ('"v2"', LATER, 200),
        ("nonsense", LATER, 200),  # there is an If-None-Match, if a bad one
        ("", LATER, 200),
    ],
)
def test_tags_win_over_dates(tags: str, date: str, expected: int) -> None:
    assert status(("if-none-match", tags), ("if-modified-since", date)) == expected
    assert status(("if-modified-since", date), ("if-none-match", tags)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # Step 1 before step 2: the date does not count beside a tag, not even beside a bad one.
        ((("if-match", '"v1"'), ("if-unmodified-since", EARLIER)), 200),
        ((("if-match", '"v2"'), ("if-unmodified-since", LATER)), 412),
        ((("if-match", "nonsense"), ("if-unmodified-since", LATER)), 412),
        # Steps 1 and 2 before 3 and 4.
        ((("if-match", '"v2"'), ("if-none-match", '"v1"')), 412),
        ((("if-match", '"v1"'), ("if-none-match", '"v1"')), 304),
        ((("if-match", "*"), ("if-none-match", '"v2"')), 200),
        ((("if-match", '"v1"'), ("if-modified-since", LATER)), 304),
        ((("if-match", '"v2"'), ("if-modified-since", LATER)), 412),
        ((("if-unmodified-since", EARLIER), ("if-none-match", '"v1"')), 412),
        ((("if-unmodified-since", LATER), ("if-none-match", '"v1"')), 304),
        ((("if-unmodified-since", LATER), ("if-modified-since", LATER)), 304),
        ((("if-unmodified-since", EARLIER), ("if-modified-since", LATER)), 412),
        ((("if-unmodified-since", "nonsense"), ("if-modified-since", "nonsense")), 200),
    ],
    ids=readable,
)
def test_precedence(lines: tuple[tuple[str, str], ...], expected: int) -> None:
    assert status(*lines) == expected
    assert status(*reversed(lines)) == expected


def test_without_conditions_the_request_goes_on() -> None:
    assert status() == 200


# A representation that does not exist, which a PUT may create


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((), 200, id="no conditions"),
        pytest.param((("if-match", "*"),), 412, id="If-Match: *"),
        pytest.param((("if-match", '"v1"'),), 412, id="If-Match"),
        pytest.param((("if-none-match", "*"),), 200, id="If-None-Match: *"),
        pytest.param((("if-none-match", '"v1"'),), 200, id="If-None-Match"),
        pytest.param((("if-unmodified-since", EARLIER),), 200, id="If-Unmodified-Since"),
        pytest.param((("if-modified-since", LATER),), 200, id="If-Modified-Since"),
        pytest.param((("if-match", "*"), ("if-none-match", "*")), 412, id="If-Match before If-None-Match"),
    ],
)
def test_what_does_not_exist(lines: tuple[tuple[str, str], ...], expected: int) -> None:
    """§13.1.1, §13.1.2: `*` is false of it, as is every tag; §13.1.4: a date cannot be compared."""
    assert evaluate("PUT", conditions(lines), "", None, NOW, exists=False) == expected
