"""Headers that the user wants in the responses of any handler, and CORS preflights.

Knows `--header` and `--cors`. What a site of files adds is in `static.site_headers`. What may be added is checked when
the server starts, so that no response can fail because of it.
"""

from __future__ import annotations

from concurrent.futures import Future

from ...http.errors import HTTPError
from ...http.grammar import FIELD_NAME, FIELD_VALUE, TOKEN
from ...http.handler import Handler, HandlerResult
from ...http.messages import FLAGS, FieldLine, Request, Response
from ...http.sinks import Sink
from .base import Middleware
from .later import LaterResponse

__all__ = ["CORS", "HeaderMiddleware", "Preflight", "parse_field"]


# What a script of another origin may see of an answer, beyond the few fields that it always may.
CORS: tuple[FieldLine, ...] = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "Accept-Ranges, Content-Encoding, Content-Range, Date, ETag, Location, Vary"),
)


# What is given, and whether it can be.

# What frames a message or describes its content: said by whoever makes the message, or it would not be true.
_NEVER_ADDED = FLAGS.keys() | frozenset(
    """
    content-encoding content-range content-type etag last-modified accept-ranges allow location www-authenticate
    """.split()
)


def parse_field(text: str) -> FieldLine:
    """The field in `NAME:VALUE`. Raises ValueError with what it must be instead (RFC 9110 §5.1, §5.5)."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    try:
        is_field = FIELD_NAME.fullmatch(name.encode("ascii")) and FIELD_VALUE.fullmatch(value.encode("latin-1"))
    except UnicodeEncodeError:
        is_field = None
    if not colon or not is_field:
        raise ValueError("must be NAME:VALUE, as in 'X-Robots-Tag: noindex'")
    if name.lower() in _NEVER_ADDED:
        raise ValueError(f"must not set {name}, which kaserve sets itself")
    return name, value


# Middleware.


class HeaderMiddleware(Middleware):
    """Adds headers to every response of the inner handler, its errors included, unless the handler has set them."""

    def __init__(self, handler: Handler, fields: tuple[FieldLine, ...]) -> None:
        """Adds `fields` to the responses of `handler`."""
        super().__init__(handler)
        self._fields = fields

    def before_body(self, request: Request) -> None:
        try:
            super().before_body(request)
        except HTTPError as error:
            raise self._with_fields(error) from None

    def body_sink(self, request: Request) -> Sink | None:
        try:
            return super().body_sink(request)
        except HTTPError as error:
            raise self._with_fields(error) from None

    def __call__(self, request: Request) -> HandlerResult:
        try:
            result = self.inner(request)
        except HTTPError as error:
            raise self._with_fields(error) from None
        return self._finish(result)

    def _with_fields(self, error: HTTPError) -> HTTPError:
        return HTTPError(error.status, error.reason, (*error.fields, *self._fields), close=error.close)

    def _add(self, response: Response) -> Response:
        if isinstance(response, Response):  # whatever else a handler returns, the connection reports it
            names = {name.lower() for name, _ in response.fields}
            response.fields.extend(line for line in self._fields if line[0].lower() not in names)
        return response

    def _add_later(self, inner: Future[HandlerResult]) -> HandlerResult:
        try:
            result = inner.result()
        except HTTPError as error:
            raise self._with_fields(error) from None
        return self._finish(result)

    def _finish(self, result: HandlerResult) -> HandlerResult:
        """Adds the headers now or, to a response that is not there yet, later."""
        return LaterResponse(result, self._add_later) if isinstance(result, Future) else self._add(result)


_MAX_AGE = "86400"  # seconds; no browser caches a preflight for longer


class Preflight(Middleware):
    """Responds to CORS preflights: tells scripts of other origins beforehand what they may ask for (Fetch §4.8).

    It stands in front of everything else, since browsers send preflights without credentials. Only reading is offered:
    nothing may be changed here by pages of other origins.
    """

    def __call__(self, request: Request) -> HandlerResult:
        if request.method == "OPTIONS" and request.values("access-control-request-method"):
            return _allowance(request)
        return self.inner(request)


def _allowance(request: Request) -> Response:
    asked = ", ".join(request.values("access-control-request-headers"))
    names = [name.strip(" \t") for name in asked.split(",")]
    if not all(TOKEN.fullmatch(name.encode("latin-1")) for name in names):
        names = ["*"]
    fields = [
        CORS[0],
        ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Headers", ", ".join(names)),  # "*" alone would leave Authorization out
        ("Access-Control-Max-Age", _MAX_AGE),
        ("Vary", "Access-Control-Request-Headers"),
    ]
    return Response(204, b"", fields)
