"""Fields that the user of a site wants in its answers, beside those that HTTP itself asks for.

Knows `--header`, `--cors`, `--cache-control`, fingerprinted names and nosniff. Does not know files or what is said of
them (`files`): it is told a name, once for each version of a file, and says which lines to add. What may be added is
checked when the server starts, so that no answer can fail because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import Future
from fnmatch import translate
from typing import NamedTuple

from ...http.errors import HTTPError
from ...http.grammar import FIELD_NAME, FIELD_VALUE, TOKEN
from ...http.handler import Handler, HandlerResult
from ...http.messages import FLAGS, FieldLine, Request, Response
from ...http.sinks import Sink
from .base import Middleware
from .later import LaterResponse

__all__ = [
    "FileHeaders",
    "HeaderMiddleware",
    "Preflight",
    "SiteHeaders",
    "is_fingerprinted",
    "parse_field",
    "parse_rule",
]

_FOR_EVER = "max-age=31536000, immutable"  # RFC 8246
NOSNIFF: FieldLine = ("X-Content-Type-Options", "nosniff")
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
        raise ValueError("takes NAME:VALUE, as in 'X-Robots-Tag: noindex'")
    if name.lower() in _NEVER_ADDED:
        raise ValueError(f"cannot set {name}, which every answer says for itself")
    return name, value


class Rule(NamedTuple):
    """Cache-Control for the names that match; pattern: None for all."""

    pattern: re.Pattern[str] | None
    whole_path: bool
    value: str


# A pattern is told from a directive by the characters that no directive has in its name: `*.html=no-cache`, but
# `max-age=60`.
_RULE = re.compile(r"(?:(?P<pattern>[^=]*[*?\[./][^=]*)=)?(?P<value>.*)", re.DOTALL)
_DIRECTIVE = r"[A-Za-z0-9-]+(?:=(?:[A-Za-z0-9-]+|\"[ !#-\[\]-~]*\"))?"  # RFC 9111 §5.2, without exotic characters
_DIRECTIVES = re.compile(rf"{_DIRECTIVE}(?:[ \t]*,[ \t]*{_DIRECTIVE})*")


def parse_rule(text: str) -> Rule:
    """The rule in `[PATTERN=]DIRECTIVES`. Raises ValueError with what it must be instead."""
    found = _RULE.fullmatch(text)
    value = found["value"].strip(" \t") if found else ""
    if found is None or _DIRECTIVES.fullmatch(value) is None:
        raise ValueError("takes DIRECTIVES or PATTERN=DIRECTIVES, as in '*.html=no-cache'")
    pattern = found["pattern"]
    if pattern is None:
        return Rule(None, False, value)
    return Rule(re.compile(translate(pattern.strip(" \t").removeprefix("/"))), "/" in pattern, value)


# Names that change with their content.

# What build tools put in front of the suffixes. A name that is taken for one by mistake is not asked for again for a
# year, so the shapes are narrow; one that is missed costs a 304. None of them is a word, a version or a date: letters
# and digits must alternate.
_HEX = r"(?=[0-9a-f]*[0-9][a-f])(?=[0-9a-f]*[a-f][0-9])[0-9a-f]"  # webpack, Parcel, Django, Sprockets, Hugo
_BASE32 = r"(?=[A-Z2-7]*[2-7][A-Z])[A-Z2-7]{8}"  # esbuild
# Vite, Rollup: with a capital in a place that capitals of words do not have.
_BASE64 = r"(?=\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z](?![a-z]))[A-Za-z0-9_]{8}"
_FINGERPRINT = re.compile(
    rf"(?:.*[^-._][-.](?:{_HEX}{{8,64}}|{_BASE32}|{_BASE64})|{_HEX}{{16,64}})"
    r"(?:\.(?:min|chunk|bundle|module))?"
    r"\.(?:m?js|css|wasm|json|map|txt|svg|png|jpe?g|gif|webp|avif|jxl|ico|woff2?|ttf|otf|eot|mp[34]|webm|ogg)"
    r"(?:\.map)?(?:\.(?:gz|br|zst))?",
    re.ASCII,
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")  # says what a thing is, not how it looks today


def is_fingerprinted(name: str) -> bool:
    """Whether a file called `name` never changes, since another content gets another name."""
    return _FINGERPRINT.fullmatch(name) is not None and _UUID.search(name) is None


# What is added.


class FileHeaders(NamedTuple):
    """The lines for one file: with its content, and to a 304, which has no content to speak of (RFC 9110 §15.4.5)."""

    whole: tuple[FieldLine, ...]
    unmodified: tuple[FieldLine, ...]


class SiteHeaders:
    """All that is added to the answers of a site.

    fields: lines for every answer, each as of `parse_field`. cache_control: rules as of `parse_rule`; the first that
    matches is the one. immutable: whether fingerprinted names may be kept for ever when no rule speaks of them.
    private: whether answers are for certain users only, so that no cache between may keep them (RFC 9111 §3.5).
    always: what every answer gets that is not of a file; of_errors: the same where it has content, that says why.
    """

    def __init__(
        self,
        fields: Iterable[FieldLine] = (),
        *,
        cors: bool = False,
        cache_control: Iterable[Rule] = (),
        immutable: bool = True,
        private: bool = False,
    ) -> None:
        given = tuple(fields)
        names = {name.lower() for name, _ in given}
        self.always = tuple(line for line in (CORS if cors else ()) if line[0].lower() not in names) + given
        self._with_content = () if NOSNIFF[0].lower() in names else (NOSNIFF,)
        self.of_errors = self._with_content + self.always
        self._rules = () if "cache-control" in names else tuple(cache_control)
        self._immutable = immutable and "cache-control" not in names
        self._kept_for_ever = ("Cache-Control", f"{'private' if private else 'public'}, {_FOR_EVER}")

    def of_file(self, path: bytes) -> FileHeaders:
        """What the file at `path` below the directory gets; a listing's path ends in a slash, or is empty."""
        unmodified = (*self.always, *self._cache_control(path.decode(errors="surrogateescape")))
        return FileHeaders(self._with_content + unmodified, unmodified)

    def _cache_control(self, path: str) -> tuple[FieldLine, ...]:
        name = path.rpartition("/")[2]
        for rule in self._rules:
            if rule.pattern is None or rule.pattern.fullmatch(path if rule.whole_path else name):
                return (("Cache-Control", rule.value),)
        return (self._kept_for_ever,) if self._immutable and is_fingerprinted(name) else ()


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
