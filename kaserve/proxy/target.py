"""The target of a request at the upstream.

Knows how the path is made of the prefix, the rest of the path and the URL of the upstream (`location` has the rule).
Does not know header fields.

The target is made of what the server parsed, so it has one form (RFC 9112 §3.2.1), whatever the client sent, and
neither a fragment nor a control byte. Path and query are not changed otherwise (RFC 9110 §7.7), not even characters
that RFC 3986 leaves out: a repaired target would not be the one that was checked on the way (RFC 9112 §3).

A path with dot segments is rejected. `Mount` compares prefixes as they are written, and an upstream resolves `..`: so
`/api/../admin`, under the prefix `/api`, would lead out of what is offered below that prefix. Browsers resolve dot
segments before they send a request, encoded ones included. Forms that only some servers take for dot segments are
rejected, too: `%2e%2e`, `..%2f`, `..\\` and, with a parameter, `..;x`.
"""

from __future__ import annotations

import re

from ..http.errors import HTTPError
from ..http.messages import Request

__all__ = ["check_path", "has_dot_segments", "upstream_target"]

_SEPARATOR = r"[/\\]|%2[fF]|%5[cC]"
_DOT_SEGMENT = re.compile(rf"(?:^|{_SEPARATOR})(?:\.|%2[eE]){{1,2}}(?:{_SEPARATOR}|;|%3[bB]|$)")


def has_dot_segments(path: str) -> bool:
    """Returns whether any server might find a dot segment in `path`, which begins with a slash (RFC 3986 §5.2.4)."""
    if "/." not in path and "%" not in path and "\\" not in path:
        return False
    return _DOT_SEGMENT.search(path) is not None


def check_path(path: str) -> None:
    """Raises HTTPError 400 for a path with dot segments."""
    if has_dot_segments(path):
        raise HTTPError(400, "the path has dot segments")


def upstream_target(request: Request, base: str) -> str:
    """Returns the target for an upstream.

    Args:
        request: its `mount` is the prefix, its `raw_path` the rest.
        base: the path in the upstream's URL, which replaces the prefix; "" to keep that.

    Raises:
        HTTPError: 400 for a path with dot segments.
    """
    path = request.raw_path
    if path == "*":  # RFC 9112 §3.2.4: OPTIONS of the server as a whole
        return path
    check_path(path)
    if base:
        path = (base.rstrip("/") if path else base) + path
    elif request.mount:
        path = request.mount + path
    if request.query_string or "?" in request.target:
        return f"{path or '/'}?{request.query_string}"
    return path or "/"
