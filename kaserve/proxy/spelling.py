"""How field names are usually written: `Content-Type`, `ETag`, `WWW-Authenticate`.

Case means nothing in a field name (RFC 9110 §5.1), and the parser makes all names lower case. But old programs look for
the usual spelling only, and people read it more easily. Knows spellings, and nothing of what the fields mean.
"""

from __future__ import annotations

from ..http.memo import remember

__all__ = ["spelling"]

# Words within names that are not written with one capital.
_WORDS = {
    word.lower(): word
    for word in """
        API CH CSP CSRF CT DAV DNS DNT DPR ECT ETag GPC HTTP HTTP2 ID IM IP MD5 NEL P3P RTT SOAPAction SourceMap SSL TE
        UA URI URL UUID WebSocket WWW XSRF XSS
    """.split()
}

_spellings: dict[str, str] = {}
_MAX_SPELLINGS = 512
_MAX_SIZE = 64


def spelling(name: str) -> str:
    """Returns the usual spelling of `name`, which is in lower case."""
    known = _spellings.get(name)
    if known is None:
        known = "-".join([_WORDS.get(word) or word.capitalize() for word in name.split("-")])
        if len(name) <= _MAX_SIZE:
            remember(_spellings, name, known, _MAX_SPELLINGS)
    return known
