"""Cookies: the header Cookie of a request, and Set-Cookie of a response (RFC 6265).

Knows their syntax. Does not know what is in them: a client may change every cookie, so a program must sign what it has
to rely on.

`http.cookies` of the standard library writes Set-Cookie. It does not read Cookie, for three reasons:
`SimpleCookie.load` drops all cookies after one that it does not like, it rejects values that browsers send (such as
JSON), and before Python 3.11.10 the time it takes for a quoted value grows with the square of its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.cookies import CookieError, Morsel, SimpleCookie

from .grammar import TOKEN_TEXT
from .multi_mapping import MultiMapping

__all__ = ["format_deleted_cookie", "format_set_cookie", "parse_cookies"]

_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}
_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"  # Expires, for clients that do not know Max-Age
_ATTRIBUTE_VALUE = re.compile(r"[ -:<-~]*")  # av-octets, RFC 6265 §4.1.1: no controls, no semicolon
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)  # as http.cookies writes them


def parse_cookies(values: Iterable[str]) -> MultiMapping[str]:
    """Returns the cookies in the headers Cookie of a request.

    A part without a name or an equals sign is ignored, and the others are not lost with it. If a name comes twice, the
    client sends the cookie of the more specific path first (RFC 6265 §5.4).

    Args:
        values: the values of all Cookie headers, decoded as Latin-1.

    Returns:
        The values by name. Quotes and escapes that `http.cookies` writes are removed. Bytes that are valid UTF-8 are
        decoded as that; others stay Latin-1.
    """
    found = []
    for value in values:
        for pair in value.split(";"):
            name, equals, content = pair.partition("=")
            name = name.strip(" \t")
            if name and equals:
                found.append((_decode(name), _decode(_unquote(content.strip(" \t")))))
    return MultiMapping(found)


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])


def _decode(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def format_set_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None,
    path: str | None,
    domain: str | None,
    secure: bool,
    http_only: bool,
    same_site: str | None,
) -> str:
    """Returns the value of a header Set-Cookie (RFC 6265 §4.1).

    Args:
        name: a token (RFC 9110 §5.6.2).
        value: any text without control characters. What a cookie cannot contain is quoted and escaped as UTF-8.
        max_age: seconds for which the client keeps it; None until the browser is closed.
        path: the path below which the client sends it; None for that of the request.
        domain: the host whose subdomains get it as well; None for the host of the request alone.
        secure: whether the client sends it by HTTPS only.
        http_only: whether it is hidden from scripts.
        same_site: "Strict", "Lax" or "None" in any case; None leaves the attribute out.

    Raises:
        ValueError: a name, value or attribute is not possible, or they contradict each other.
    """
    if not TOKEN_TEXT.fullmatch(name):
        raise ValueError(f"the name of a cookie must be a token, without spaces and separators, not {name!r}")
    if _CONTROLS.search(value):  # the value is not shown: it may be a session
        raise ValueError(f"the value of the cookie {name!r} must not contain control characters")
    for attribute, text in (("path", path), ("domain", domain)):
        if text is not None and not _ATTRIBUTE_VALUE.fullmatch(text):
            raise ValueError(f"the {attribute} of a cookie must be visible ASCII without semicolons, not {text!r}")
    if same_site is not None and same_site.lower() not in _SAME_SITE:
        raise ValueError(f"same_site must be 'Strict', 'Lax', 'None' or None, not {same_site!r}")
    same_site = "" if same_site is None else _SAME_SITE[same_site.lower()]
    if same_site == "None" and not secure:
        raise ValueError("a cookie with same_site='None' must be secure=True, or browsers reject it")
    if name.lower().startswith(("__secure-", "__host-")) and not secure:
        raise ValueError(f"the cookie {name!r} must be secure=True, as its name promises")
    if name.lower().startswith("__host-") and (path != "/" or domain is not None):
        raise ValueError(f"the cookie {name!r} must have path='/' and no domain, as its name promises")
    morsel: Morsel[str] = Morsel()
    try:
        # UTF-8 as Latin-1, so that each byte becomes one escape of the three digits that http.cookies knows.
        morsel.set(name, value, SimpleCookie().value_encode(value.encode("utf-8").decode("latin-1"))[1])
    except CookieError:
        raise ValueError(f"{name!r} is reserved, so it cannot be the name of a cookie") from None
    if max_age is not None:
        morsel["max-age"] = int(max_age)
    morsel["path"] = path or ""
    morsel["domain"] = domain or ""
    morsel["secure"] = secure
    morsel["httponly"] = http_only
    morsel["samesite"] = same_site
    return morsel.OutputString()


def format_deleted_cookie(name: str, *, path: str | None, domain: str | None, secure: bool) -> str:
    """Returns the value of a header Set-Cookie that makes the client forget a cookie. Raises ValueError as above."""
    text = format_set_cookie(
        name, "", max_age=0, path=path, domain=domain, secure=secure, http_only=False, same_site=None
    )
    return f"{text}; Expires={_EPOCH}"
