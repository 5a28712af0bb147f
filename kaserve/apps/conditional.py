"""Conditional requests (RFC 9110 §13): whether what the client has is still good.

Knows entity tags and dates as they stand in fields. Does not know files, clocks, or what an answer looks like. Pure
functions, over values. Of §13.2.2 the steps 3 and 4 are here, which is all that caches need; the others are those of
writers and of ranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..http.dates import parse_date
from ..http.messages import FieldLine

__all__ = ["conditions", "entity_tags", "evaluate", "matches_weakly"]

_CONDITIONAL = frozenset(("if-none-match", "if-modified-since"))

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (§8.8.3). A comma is an etagc too, so lists cannot be split at commas.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# An element of a list, possibly empty, up to the comma or the end (§5.6.1). The possessive "*+" never gives back white
# space once taken, so that no input makes matching slow.
_ELEMENT = re.compile(rf"[ \t]*+(?P<tag>{_ENTITY_TAG})?+[ \t]*+(?:,|\Z)")


def conditions(fields: Iterable[FieldLine]) -> dict[str, str]:
    """The conditional fields of a request by name; empty, as mostly, when it is not conditional.

    Several lines of one field make one list (§5.3), which a date cannot be, so that it is then ignored.
    """
    found: dict[str, str] = {}
    for name, value in fields:
        if name in _CONDITIONAL:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def evaluate(method: str, conditions: dict[str, str], etag: str, modified: int | None, now: float) -> int:
    """The status that `conditions` demand: 200 to go on as if there were none, 304, or 412.

    conditions: of `conditions()`. etag, modified: the validators of the selected representation, the latter in whole
    seconds since the epoch, or None for what has no date. now: the time, in the same measure. The steps are numbered as
    in §13.2.2, which also says why their order matters: tags tell what dates cannot.
    """
    is_retrieval = method in ("GET", "HEAD")
    # Steps 1 and 2, If-Match and If-Unmodified-Since, protect writers.
    # Step 3: as soon as there is an If-None-Match, even a malformed one, the date is not looked at (§13.1.3).
    none_match = conditions.get("if-none-match")
    if none_match is not None:
        if not _is_listed(none_match, etag):
            return 200
        return 304 if is_retrieval else 412
    # Step 4.
    modified_since = conditions.get("if-modified-since")
    if modified_since is not None and is_retrieval and modified is not None:
        since = parse_date(modified_since, now)
        if since is not None and modified <= since:
            return 304
    # Step 5, If-Range, is about ranges. Step 6: go on.
    return 200


def _is_listed(value: str, etag: str) -> bool:
    """Whether an If-None-Match of `value` names `etag` (§13.1.2)."""
    return value.strip(" \t") == "*" or any(matches_weakly(tag, etag) for tag in entity_tags(value))


def entity_tags(value: str) -> list[str]:
    """The tags of a list, each as it was sent; none when anything in the list is not a tag."""
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
    """Weak comparison (§8.8.3.2): the same but for weakness."""
    return one.removeprefix("W/") == other.removeprefix("W/")
