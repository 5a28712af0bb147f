"""HeaderMiddleware: headers that the user wants in the responses of any handler (`--header`).

Knows which headers may be added, which is checked when the server starts, so that no response can fail because of it.
The headers of a site of files are in `static.site_headers`, those for other origins in `cors`.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from ...http.errors import HTTPError
from ...http.grammar import FIELD_NAME, FIELD_VALUE
from ...http.handler import Handler, HandlerResult
from ...http.messages import (
    ACCEPT_ENCODING,
    CONDITIONAL,
    FLAGS,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    FieldLine,
    Request,
    Response,
)
from ...http.sinks import Sink
from .base import Middleware
from .later import LaterResponse

__all__ = ["HeaderMiddleware", "parse_header"]


# Headers with a flag that say what a client prefers or already has. A response may have them too (Accept-Encoding,
# RFC 9110 §12.5.3), and they frame nothing.
_PREFERENCES = ACCEPT_ENCODING | CONDITIONAL | IF_MODIFIED_SINCE | IF_NONE_MATCH

# Headers that frame a message or describe its content. Only the code that makes a response knows their values: one
# value for all responses would be wrong.
_NEVER_ADDED = {name for name, flag in FLAGS.items() if not flag & _PREFERENCES} | frozenset(
    """
    content-encoding content-range content-type etag last-modified accept-ranges allow location www-authenticate
    """.split()
)


def parse_header(text: str) -> FieldLine:
    """Returns the name and the value in `NAME:VALUE`.

    Raises:
        ValueError: the text is no header (RFC 9110 §5.1, §5.5), or one that kaserve sets itself. The message says what
            it must be instead.
    """
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


class HeaderMiddleware(Middleware):
    """Adds headers to every response of the inner handler, its errors included, unless the handler has set them."""

    def __init__(self, handler: Handler, headers: tuple[FieldLine, ...]) -> None:
        """Adds `headers` to the responses of `handler`.

        Args:
            handler: a function or handler, which is closed together with this one.
            headers: pairs of name and value, as `parse_header` returns them.
        """
        super().__init__(handler)
        self._headers = headers

    def before_body(self, request: Request) -> None:
        try:
            super().before_body(request)
        except HTTPError as error:
            raise self._with_headers(error) from None

    def body_sink(self, request: Request) -> Sink | None:
        try:
            return super().body_sink(request)
        except HTTPError as error:
            raise self._with_headers(error) from None

    def __call__(self, request: Request) -> HandlerResult:
        try:
            result = self.inner(request)
        except HTTPError as error:
            raise self._with_headers(error) from None
        return self._finish(result)

    def _with_headers(self, error: HTTPError) -> HTTPError:
        return error.with_headers(self._missing_in(error.headers))

    def _add(self, response: Response) -> Response:
        if isinstance(response, Response):  # whatever else a handler returns, the connection reports it
            response.fields.extend(self._missing_in(response.fields))
        return response

    def _missing_in(self, present: Iterable[FieldLine]) -> tuple[FieldLine, ...]:
        """The headers whose names are not among those that are present."""
        names = {name.lower() for name, _ in present}
        return tuple(line for line in self._headers if line[0].lower() not in names)

    def _add_later(self, inner: Future[HandlerResult]) -> HandlerResult:
        """Called when the Future that the inner handler returned is done."""
        try:
            result = inner.result()
        except HTTPError as error:
            raise self._with_headers(error) from None
        return self._finish(result)

    def _finish(self, result: HandlerResult) -> HandlerResult:
        """Adds the headers now, or once the response is available."""
        return LaterResponse(result, self._add_later) if isinstance(result, Future) else self._add(result)
