"""HTTP dates (RFC 9110 §5.6.7). The clock is an argument."""

from __future__ import annotations

import calendar
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.dates import format_date, parse_date

SAMPLE = 784111777  # the moment of the examples in the RFC
NOW = calendar.timegm((2024, 6, 15, 12, 0, 0))
LAST = calendar.timegm((9999, 12, 31, 23, 59, 59))


def at(*date: int) -> int:
    return calendar.timegm((*date, *(0,) * (6 - len(date))))


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms(text: str) -> None:
    assert parse_date(text, NOW) == SAMPLE


def test_the_form_that_is_sent() -> None:
    assert format_date(SAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(LAST) == "Fri, 31 Dec 9999 23:59:59 GMT"
    assert format_date(at(999, 1, 2)) == "Wed, 02 Jan 0999 00:00:00 GMT"


def test_fractions_are_cut_off() -> None:
    assert format_date(SAMPLE + 0.999) == format_date(SAMPLE)


@pytest.mark.parametrize("seconds", [LAST + 1, at(1, 1, 1) - 1, 1e18, -1e18, 2**63, float("inf"), float("nan")])
def test_no_date_outside_the_years_1_to_9999(seconds: float) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        format_date(seconds)


@given(st.integers(min_value=at(1, 1, 1), max_value=LAST))
def test_there_and_back(seconds: int) -> None:
    assert parse_date(format_date(seconds), NOW) == seconds


@given(st.integers(min_value=at(1900, 1, 1), max_value=at(2400, 1, 1)))
def test_the_standard_library_agrees(seconds: int) -> None:
    assert format_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sunday, 06-Nov-94 08:49:37 GMT", at(1994, 11, 6, 8, 49, 37)),
        ("Friday, 01-Jan-24 00:00:00 GMT", at(2024, 1, 1)),
        ("Friday, 01-Jan-00 00:00:00 GMT", at(2000, 1, 1)),
        ("Friday, 01-Jan-73 00:00:00 GMT", at(2073, 1, 1)),
        # Exactly 50 years are not more than 50 years; a second later they are.
        ("Friday, 15-Jun-74 12:00:00 GMT", at(2074, 6, 15, 12)),
        ("Friday, 15-Jun-74 12:00:01 GMT", at(1974, 6, 15, 12, 0, 1)),
        ("Friday, 31-Dec-74 00:00:00 GMT", at(1974, 12, 31)),
        ("Friday, 01-Jan-75 00:00:00 GMT", at(1975, 1, 1)),
        ("Friday, 01-Jan-99 00:00:00 GMT", at(1999, 1, 1)),
    ],
)
def test_two_digits_of_a_year_are_at_most_50_years_ahead(text: str, expected: int) -> None:
    assert parse_date(text, NOW) == expected


def test_two_digits_of_a_year_on_a_leap_day() -> None:
    """Fifty years after a 29th of February there is none: the comparison must not fail."""
    assert parse_date("Friday, 28-Feb-74 00:00:00 GMT", at(2024, 2, 29)) == at(2074, 2, 28)
    assert parse_date("Friday, 01-Mar-74 00:00:00 GMT", at(2024, 2, 29)) == at(1974, 3, 1)


@pytest.mark.parametrize("text", ["Sun, 29 Feb 2024 00:00:00 GMT", "Sun Feb 29 00:00:00 2000"])
def test_leap_days(text: str) -> None:
    assert parse_date(text, NOW) is not None


def test_a_leap_second() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == at(2017, 1, 1)


def test_the_name_of_the_day_is_not_checked() -> None:
    """No recipient needs it, and a wrong one does no harm."""
    assert parse_date("Mon, 06 Nov 1994 08:49:37 GMT", NOW) == SAMPLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 01994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Xyz, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37.5 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov ¹⁹⁹⁴ 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  0 08:49:37 1994",
        "Sun Nov    08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
    ],
)
def test_other_text_is_not_a_date(text: str) -> None:
    assert parse_date(text, NOW) is None


@given(st.text())
def test_any_text_at_all(text: str) -> None:
    assert parse_date(text, NOW) is None or text[:1].isalpha()
