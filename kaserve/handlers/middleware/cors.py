"""CORS: which responses scripts of other origins may read (`--cors`; the Fetch standard, §3.3 and §4.8).

Knows the headers of CORS, and responds to preflights. Does not add headers to responses: `headers` and
`static.site_headers` do.
"""

from __future__ import annotations

from ...http.errors import HTTPError
from ...http.grammar import TOKEN
from ...http.handler import HandlerResult
from ...http.headers import FieldLine
from ...http.messages import Request, Response
from .base import Middleware

__all__ = ["CORS_HEADERS", "CORSPreflight"]

_ANY_ORIGIN = ("Access-Control-Allow-Origin", "*")

# Every origin may read responses. The second header lists what scripts may see beyond the few headers that they always
# may: what they need to ask for ranges, to revalidate, and to follow the redirect of an upload.
CORS_HEADERS: tuple[FieldLine, ...] = (
    _ANY_ORIGIN,
    ("Access-Control-Expose-Headers", "Accept-Ranges, Content-Encoding, Content-Range, Date, ETag, Location, Vary"),
)

_MAX_AGE = "86400"  # seconds; no browser caches a preflight for longer


class CORSPreflight(Middleware):
    """Responds to CORS preflights, in which browsers ask what a script of another origin may do.

    It must stand in front of everything else, users included: browsers send preflights without credentials. It allows
    reading only, so that pages of other origins cannot change anything here.
    """

    def __call__(self, request: Request) -> HandlerResult:
        if _is_preflight(request):
            return _preflight_response(request)
        return self.inner(request)

    def before_body(self, request: Request) -> None:
        """Responds to a preflight at once: browsers send none with a body, and nothing would read it."""
        if _is_preflight(request):
            response = _preflight_response(request)
            raise HTTPError(response.status, "a preflight has no body", tuple(response.fields))
        self.inner.before_body(request)


def _is_preflight(request: Request) -> bool:
    return request.method == "OPTIONS" and bool(request.values("access-control-request-method"))


def _preflight_response(request: Request) -> Response:
    asked = ", ".join(request.values("access-control-request-headers"))
    names = [name.strip(" \t") for name in asked.split(",")]
    if not all(TOKEN.fullmatch(name.encode("latin-1")) for name in names):
        names = ["*"]
    fields = [
        _ANY_ORIGIN,
        ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Headers", ", ".join(names)),  # "*" alone would not include Authorization
        ("Access-Control-Max-Age", _MAX_AGE),
        ("Vary", "Access-Control-Request-Headers"),
    ]
    return Response(204, b"", fields)
