"""Content negotiation: what a client accepts, and which of several representations it gets (RFC 9110 §12.5).

Knows the grammar of Accept and Accept-Encoding, which is one: a list of names, each with parameters and a weight. Does
not know how anything is compressed, nor files. Pure functions, over values.

Clients are written by many hands, so a malformed element is ignored rather than an error (§12.5.1 lets a server
disregard the header): it counts as if the client had not sent it, and the other elements keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

from .grammar import QUOTED_STRING_TEXT, TCHAR

__all__ = [
    "CODINGS",
    "IDENTITY",
    "Accepted",
    "choose_coding",
    "media_type_weight",
    "parse_accept",
    "parse_accept_encoding",
    "prefers",
    "prefers_json",
]

IDENTITY = "identity"
"""The name of no coding at all."""

CODINGS = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}
"""The codings that kaserve sends, the preferred one first, with the suffixes of files that are in them."""

_ALIASES = {"x-gzip": "gzip"}  # §8.4.1.3

# "*" is a token, so `*/*` and `text/*` need no alternative of their own. The parameters are those of §5.6.6: they may
# be empty, and RFC 7231 allowed some without a value (its accept-ext). The possessive "*+" never gives white space back
# once it has matched, so that no input makes matching slow.
_TOKEN = TCHAR + "+"
_PARAMETER = rf"{_TOKEN}(?:=(?:{_TOKEN}|{QUOTED_STRING_TEXT}))?"
_ELEMENT = re.compile(rf"({_TOKEN}(?:/{_TOKEN})?)((?:[ \t]*+;[ \t]*+(?:{_PARAMETER})?)*+)")
_PARAMETERS = re.compile(rf";[ \t]*({_TOKEN})=?({_TOKEN}|{QUOTED_STRING_TEXT})?")
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # qvalue, §12.4.2; never float() alone, which takes "nan"


class Accepted(NamedTuple):
    """One element of an Accept or Accept-Encoding header.

    Attributes:
        name: a media range such as `text/*`, or a content coding; in lower case.
        weight: from 0, which means "not acceptable", to 1 (§12.4.2).
        parameters: the others, (name, value) pairs in lower case, without quotes around the value.
    """

    name: str
    weight: float
    parameters: tuple[tuple[str, str], ...] = ()


def parse_accept(value: str) -> list[Accepted]:
    """Returns the elements of an Accept or Accept-Encoding header in the order received, without the malformed ones.

    Args:
        value: the value of the header, several lines joined by commas (§5.3).
    """
    # A comma within a quoted string splits it as well, and both halves are malformed. No client sends one, and this way
    # no input makes parsing slow.
    parsed = (_parse_element(element.strip(" \t")) for element in value.split(","))
    return [element for element in parsed if element is not None]


def _parse_element(text: str) -> Accepted | None:
    """Reads one element; None for one that is empty or malformed, which includes its weight."""
    match = _ELEMENT.fullmatch(text)
    if match is None:
        return None
    name = match[1].lower()
    if not match[2]:
        return Accepted(name, 1.0)
    weight: float | None = None
    parameters: list[tuple[str, str]] = []
    for key, parameter in _PARAMETERS.findall(match[2].lower()):
        if key != "q":
            parameters.append((key, parameter.strip('"')))
        elif weight is None:
            if _WEIGHT.fullmatch(parameter) is None:
                return None
            weight = float(parameter)
    return Accepted(name, 1.0 if weight is None else weight, tuple(parameters))


def media_type_weight(accepted: list[Accepted], media_type: str) -> float:
    """Returns the weight that a client gives to a media type, 0 if it does not accept it (§12.5.1).

    The most specific range that matches decides: `text/html` before `text/*` before `*/*`. Parameters of a range make
    no difference; of several elements with the same range, the highest weight counts.

    Args:
        accepted: as of `parse_accept`.
        media_type: such as `text/html`, in lower case and without parameters.
    """
    for media_range in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        weights = [element.weight for element in accepted if element.name == media_range]
        if weights:
            return max(weights)
    return 0.0


def prefers(accept: str, media_type: str, to: str) -> bool:
    """Returns whether a client with this Accept prefers `media_type` to the media type `to` (RFC 9110 §12.5.1)."""
    accepted = parse_accept(accept)
    return media_type_weight(accepted, media_type) > media_type_weight(accepted, to)


def prefers_json(accept: str, query: Container[str]) -> bool:
    """Returns whether a request is for the data that a page shows: by `?json`, or because the client prefers it.

    A client that likes both as much gets the page.
    """
    return "json" in query or prefers(accept, "application/json", "text/html")


def parse_accept_encoding(value: str) -> dict[str, float]:
    """Returns the weights of the codings in an Accept-Encoding header, by name (§12.5.3).

    Codings have no parameters but the weight, so an element with another one is malformed. Of a coding that is there
    twice, the first element counts.
    """
    weights: dict[str, float] = {}
    for element in parse_accept(value):
        if not element.parameters:
            weights.setdefault(_ALIASES.get(element.name, element.name), element.weight)
    return weights


@lru_cache(maxsize=256)
def choose_coding(value: str, available: tuple[str, ...]) -> str | None:
    """Returns the coding that a client likes best of those that are available (§12.5.3).

    The highest weight wins, and between equals a coding wins over none. A client that does not mention identity accepts
    it, but only if there is nothing else that it accepts.

    Args:
        value: of the Accept-Encoding header.
        available: the codings in which the content is there, the preferred one first, without `IDENTITY`, which always
            is.

    Returns:
        One of `available`, or `IDENTITY`, or None if the client accepts none of them (a 406).
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
