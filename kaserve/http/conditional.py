"""Conditional requests (RFC 9110 §13): whether the client's copy is still good, or the version it is about to change is
still there.

Knows entity tags and dates as headers have them. Does not know files, clocks, or what a response looks like. Pure
functions, over values. Ranges themselves are in `ranges`; here is only whether they still apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .dates import parse_date
from .messages import CONDITIONAL, IF_MODIFIED_SINCE, IF_NONE_MATCH, FieldLine

__all__ = ["CONDITIONS", "conditions", "entity_tags", "evaluate", "matches_strongly", "matches_weakly", "range_applies"]

CONDITIONS = CONDITIONAL | IF_NONE_MATCH | IF_MODIFIED_SINCE
"""The bits of `messages.FLAGS` of all conditional headers, and of Range."""

_CONDITIONAL = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"))

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (§8.8.3). A comma may be part of a tag, so lists cannot be split at commas.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# An element of a list, possibly empty, up to the comma or the end (§5.6.1). The possessive "*+" never returns white
# space once it has matched, so that no input makes matching slow.
_ELEMENT = re.compile(rf"[ \t]*+(?P<tag>{_ENTITY_TAG})?+[ \t]*+(?:,|\Z)")


def conditions(headers: Iterable[FieldLine]) -> dict[str, str]:
    """Returns the conditional headers of a request by name; none, as mostly, if it is not conditional.

    Several lines of one name make one list (§5.3). Two dates are no date, so they are then ignored.

    Args:
        headers: with names in lower case.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name in _CONDITIONAL:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def evaluate(
    method: str, conditions: dict[str, str], etag: str, modified: int | None, now: float, *, exists: bool = True
) -> int:
    """Returns the status that the conditions of a request demand.

    The steps are those of §13.2.2, which also says why their order matters: tags are more exact than dates.

    Args:
        method: of the request. For other methods than GET and HEAD there is no 304.
        conditions: as of `conditions`.
        etag: the entity tag of the selected representation, "" for one without.
        modified: its last modification, in whole seconds since the epoch; None for one without a date.
        now: the time, in seconds since the epoch.
        exists: whether there is a representation at all. A PUT may be about to create one; then `etag` and `modified`
            do not matter.

    Returns:
        200 to go on as if there were no conditions, 304 or 412.
    """
    if not exists:
        # Nothing matches any tag, nor `*`, so If-Match is false, If-None-Match true, and dates are not looked at.
        return 412 if "if-match" in conditions else 200
    is_retrieval = method in ("GET", "HEAD")
    # Step 1: a weak tag, on either side, does not vouch for every byte, nor does anything that is not a tag.
    match = conditions.get("if-match")
    if match is not None:
        if not _is_any(match) and not any(matches_strongly(tag, etag) for tag in entity_tags(match)):
            return 412
    # Step 2: beside an If-Match the date is not looked at (§13.1.4); nor is one that is not a date.
    elif modified is not None:
        unmodified_since = _date(conditions, "if-unmodified-since", now)
        if unmodified_since is not None and modified > unmodified_since:
            return 412
    # Step 3.
    none_match = conditions.get("if-none-match")
    if none_match is not None:
        if not _is_any(none_match) and not any(matches_weakly(tag, etag) for tag in entity_tags(none_match)):
            return 200
        return 304 if is_retrieval else 412
    # Step 4, likewise (§13.1.3).
    if modified is not None and is_retrieval:
        modified_since = _date(conditions, "if-modified-since", now)
        if modified_since is not None and modified <= modified_since:
            return 304
    # Step 5 is `range_applies`. Step 6: go on.
    return 200


def range_applies(conditions: dict[str, str], etag: str, modified: int | None, now: float) -> bool:
    """Whether the Range header of a request counts: step 5, If-Range (§13.1.5). The arguments are those of `evaluate`.

    A client can put parts together only if they are of the same bytes. So a weak tag never matches, and a date only if
    it is exactly the same and its second is over: within that second there may have been another version (§8.8.2.2).
    """
    value = conditions.get("if-range")
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return entity_tags(value) == [value] and matches_strongly(value, etag)
    return modified is not None and modified < int(now) and parse_date(value, now) == modified


def _date(conditions: dict[str, str], name: str, now: float) -> int | None:
    """The date in a header; None if there is none, or it is not a date."""
    value = conditions.get(name)
    return None if value is None else parse_date(value, now)


def _is_any(value: str) -> bool:
    """Whether a list of tags is `*`, which matches any representation."""
    return value.strip(" \t") == "*"


def entity_tags(value: str) -> list[str]:
    """Returns the tags of a list, each as it was sent; none if anything in the list is not a tag."""
    tags: list[str] = []
    position = 0
    while position < len(value):
        element = _ELEMENT.match(value, position)
        if element is None:
            return []
        if element["tag"] is not None:
            tags.append(element["tag"])
        position = element.end()
    return tags


def matches_weakly(one: str, other: str) -> bool:
    """Weak comparison (§8.8.3.2): whether two tags are the same, weak or not."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def matches_strongly(one: str, other: str) -> bool:
    """Strong comparison (§8.8.3.2): whether two tags are the same, and neither is weak."""
    return one == other and not one.startswith("W/")
