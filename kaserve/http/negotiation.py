"""Content codings: which form of a representation a client wants most (RFC 9110 §8.4.1, §12.5.3).

Knows Accept-Encoding. Does not know how anything is compressed, nor files. Pure functions, over values.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["CODINGS", "IDENTITY", "choose", "parse_accept_encoding"]

IDENTITY = "identity"
# Those served here, with the suffixes of files that are in them; between equals, the client gets the first.
CODINGS = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}

_ALIASES = {"x-gzip": "gzip"}  # §8.4.1.3

# ( codings [ weight ] ), §12.5.3, §12.4.2
_ELEMENT = re.compile(
    r"(?P<coding>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(?P<weight>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def parse_accept_encoding(value: str) -> dict[str, float]:
    """The codings of an Accept-Encoding field and what they are worth, 0 to 1; what is malformed counts as not said."""
    weights: dict[str, float] = {}
    for element in value.split(","):
        match = _ELEMENT.fullmatch(element.strip(" \t"))
        if match is not None:
            coding = match["coding"].lower()
            weights.setdefault(_ALIASES.get(coding, coding), float(match["weight"] or 1))
    return weights


@lru_cache(maxsize=256)
def choose(value: str, available: tuple[str, ...]) -> str | None:
    """The best of `available` codings, or `IDENTITY`, for a client that sent Accept-Encoding with `value`.

    available: the best first, without `IDENTITY`. None: there is nothing that the client would take.

    The highest weight wins, and between equals a coding wins over none. A client that does not mention identity takes
    it, but only for want of something better.
    """
    weights = parse_accept_encoding(value)
    others = weights.get("*", 0.0)
    best, best_weight = None, 0.0
    for coding in available:
        weight = weights.get(coding, others)
        if weight > best_weight:
            best, best_weight = coding, weight
    identity = weights.get(IDENTITY, weights.get("*"))
    if identity is None:
        return best or IDENTITY
    return IDENTITY if identity > best_weight else best
