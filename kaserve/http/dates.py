"""HTTP dates (RFC 9110 §5.6.7): from seconds since the epoch to text, and back.

Knows the three forms of a date. Does not read a clock. `email.utils` of the standard library would parse dates as well,
but it accepts many forms that HTTP forbids.
"""

from __future__ import annotations

import calendar
import re
import time

__all__ = ["format_date", "parse_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY_NAMES = "(?:" + "|".join(_DAYS) + ")"
_LONG_DAY_NAMES = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"

_FIRST = calendar.timegm((1, 1, 1, 0, 0, 0))
_LAST = calendar.timegm((9999, 12, 31, 23, 59, 59))

# The three forms that a recipient must accept; only the first may be sent.
_FORMS = (
    re.compile(rf"{_DAY_NAMES}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(rf"{_LONG_DAY_NAMES}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # RFC 850
    re.compile(rf"{_DAY_NAMES} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # asctime
)


def format_date(seconds: float) -> str:
    """Formats a time as IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.

    Args:
        seconds: since the epoch; a fraction is cut off.

    Raises:
        ValueError: the time is outside the years 1 to 9999.
    """
    if not _FIRST <= seconds < _LAST + 1:
        raise ValueError("an HTTP date must be in the years 1 to 9999")
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(int(seconds))
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def parse_date(text: str, now: float) -> int | None:
    """Parses an HTTP date in any of its three forms, and returns seconds since the epoch; None for any other text.

    Args:
        text: the value of a header.
        now: seconds since the epoch. The RFC 850 form has a year of two digits: a date that appears to be more than 50
            years in the future is in the most recent year in the past with the same digits (RFC 9110 §5.6.7).
    """
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    year = int(match["year"])
    if len(match["year"]) == 2:
        this_year, *rest = time.gmtime(now)[:6]
        year += this_year - this_year % 100
        if (year, month, day, hour, minute, second) > (this_year + 50, *rest):
            year -= 100
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    return calendar.timegm((year, month, day, hour, minute, second))
