"""What goes in and out of a handler: `Request`, `Response`, `Headers` and `FileSpan`.

Knows the parts of a message and pleasant ways to read and make them. Does not know how they look on the wire (`wire`),
where they end (`framing`), nor that there are connections. Field lines are pairs of str, decoded as Latin-1, so that
every byte a field may hold survives; the names of received ones are in lower case.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qsl, quote, unquote

from .errors import PHRASES, HTTPError

__all__ = [
    "ACCEPT_ENCODING",
    "CLOSE",
    "CONDITIONAL",
    "CONNECTION",
    "CONTENT_LENGTH",
    "DATE",
    "DUPLICATE_HOST",
    "EXPECT",
    "FLAGS",
    "HOP_BY_HOP",
    "HOST",
    "IF_MODIFIED_SINCE",
    "IF_NONE_MATCH",
    "KEEP_ALIVE",
    "TRANSFER_ENCODING",
    "FieldLine",
    "FieldSource",
    "FileSpan",
    "Headers",
    "Piece",
    "Request",
    "Response",
    "error_response",
    "host_of",
    "new_response",
]

# The reserved characters of RFC 3986 §2.2, and the sign of what is encoded already.
_URI = ":/?#[]@!$&'()*+,;=%"

FieldLine = tuple[str, str]
Address = tuple[str, int] | str | None

# One bit for each field that decides something about framing or the connection, or makes a common answer uncommon, so
# that its absence costs one test. The parser and the encoder set them. Of Connection the options that matter have bits
# themselves.
HOST = 1
DUPLICATE_HOST = 2  # more than one
CONTENT_LENGTH = 4
TRANSFER_ENCODING = 8
CONNECTION = 16
CLOSE = 32
KEEP_ALIVE = 64
EXPECT = 128
DATE = 256
HOP_BY_HOP = 512
CONDITIONAL = 1024  # or for a range; but for the two that a browser sends again and again
IF_NONE_MATCH = 2048
IF_MODIFIED_SINCE = 4096
ACCEPT_ENCODING = 8192

# The fields behind the bits. Those of one hop (RFC 9110 §7.6.1) are the server's own in an answer.
FLAGS: dict[str, int] = {
    "host": HOST,
    "content-length": CONTENT_LENGTH,
    "transfer-encoding": TRANSFER_ENCODING,
    "connection": CONNECTION,
    "expect": EXPECT,
    "date": DATE,
    "keep-alive": HOP_BY_HOP,
    "proxy-connection": HOP_BY_HOP,
    "te": HOP_BY_HOP,
    "trailer": HOP_BY_HOP,
    "upgrade": HOP_BY_HOP,
    "if-match": CONDITIONAL,
    "if-none-match": IF_NONE_MATCH,
    "if-modified-since": IF_MODIFIED_SINCE,
    "if-unmodified-since": CONDITIONAL,
    "if-range": CONDITIONAL,
    "range": CONDITIONAL,
    "accept-encoding": ACCEPT_ENCODING,
}


class Headers:
    """Field lines as a mapping: names without case, several values under one name, order kept (RFC 9110 §5.2, §5.3).

    >>> headers = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    >>> headers["set-cookie"], headers.get_all("SET-COOKIE")
    ('a=1', ['a=1', 'b=2'])
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: list[FieldLine] | None = None) -> None:
        """A view of `lines`: what is changed here is changed there."""
        self._lines = [] if lines is None else lines

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value under `name`."""
        name = name.lower()
        for key, value in self._lines:
            if key.lower() == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """Every value under `name`, one an item, in the order received."""
        name = name.lower()
        return [value for key, value in self._lines if key.lower() == name]

    def combined(self, name: str) -> str | None:
        """All values under `name` as one list, joined as RFC 9110 §5.3 allows; None without any."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def add(self, name: str, value: str) -> None:
        """One more line, at the end."""
        self._lines.append((name, value))

    def set(self, name: str, value: str) -> None:
        """`value` alone under `name`."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        """No line under `name` any more; fine when there was none."""
        name = name.lower()
        self._lines[:] = [line for line in self._lines if line[0].lower() != name]

    def items(self) -> list[FieldLine]:
        """The field lines, repeated names included."""
        return list(self._lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The names, each once, as they were first written."""
        seen: dict[str, str] = {}
        for key, _ in self._lines:
            seen.setdefault(key.lower(), key)
        return iter(seen.values())

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._lines == other._lines

    __hash__ = None  # type: ignore[assignment]  # mutable, so unhashable, as Python's own containers say it

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"


class FieldSource:
    """The field lines of a head that has been checked, made into objects only when somebody asks for them."""

    __slots__ = ()

    def __len__(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def lines(self) -> list[FieldLine]:
        """All of them."""
        raise NotImplementedError

    def values(self, name: str) -> list[str]:
        """Those of the field `name`, which is in lower case."""
        raise NotImplementedError


class Request:
    """A request, complete: its head checked and its body received.

    method: the token as sent. target: the request-target as sent (RFC 9112 §3.2). minor: 0 or 1, of HTTP/1.x.
    fields: the field lines as pairs, names in lower case. field_count: how many came. flags: the bits above `FLAGS`.
    raw_path: the path still percent-encoded ("*" for OPTIONS of the server). query: what follows "?", "" without one.
    authority: host and port the request is for, "" when it names none. scheme: "http" or "https".
    client, server: (host, port) of the two ends, or the path of a Unix socket.
    mount: what `handlers.Mount` has taken off the front of raw_path, "" for nothing. remote_user: the user that a
    handler such as `BasicAuth` has let in, "" for none. received: what the sink of `BaseHandler.body_sink` returned.
    """

    __slots__ = (
        "_body",
        "_fields",
        "_trailers",
        "authority",
        "client",
        "field_count",
        "flags",
        "method",
        "minor",
        "mount",
        "query",
        "raw_path",
        "received",
        "remote_user",
        "scheme",
        "server",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: str,
        minor: int,
        fields: list[FieldLine] | FieldSource,
        flags: int = 0,
        host: str = "",
    ) -> None:
        """host: the value of the Host field, unchecked; it becomes `authority`."""
        self._fill(method, target, minor, fields, flags, host)

    def _fill(
        self, method: str, target: str, minor: int, fields: list[FieldLine] | FieldSource, flags: int, host: str
    ) -> None:
        """What __init__ does, without what a call from C costs."""
        self.method = method
        self.target = target
        self.minor = minor
        self._fields = fields
        self.field_count = len(fields)
        self.flags = flags
        self.raw_path = target
        self.query = ""
        self.authority = host
        self.scheme = "http"
        self.mount = ""
        self.client: Address = None
        self.server: Address = None
        self.remote_user = ""
        self.received: Any = None
        self._trailers: list[FieldLine] | None = None
        self._body: BinaryIO | None = None

    @property
    def http_version(self) -> str:
        """ "HTTP/1.1" or "HTTP/1.0", as sent."""
        return "HTTP/1.1" if self.minor else "HTTP/1.0"

    @property
    def fields(self) -> list[FieldLine]:
        """The field lines as pairs, names in lower case."""
        if not isinstance(self._fields, list):
            self._fields = self._fields.lines()
        return self._fields

    def values(self, name: str) -> list[str]:
        """Every value of the field `name`, which is in lower case; cheaper than `headers`."""
        if not isinstance(self._fields, list):
            return self._fields.values(name)
        return [value for key, value in self._fields if key == name]

    @property
    def trailers(self) -> list[FieldLine]:
        """The field lines behind a chunked body, as in `fields`."""
        if self._trailers is None:
            self._trailers = []
        return self._trailers

    @trailers.setter
    def trailers(self, trailers: list[FieldLine]) -> None:
        self._trailers = trailers

    @property
    def headers(self) -> Headers:
        """`fields` as a mapping without case; what is changed there is changed here."""
        return Headers(self.fields)

    @property
    def path(self) -> str:
        """The path, percent-decoded once as UTF-8; bytes that are not UTF-8 become surrogates (PEP 383)."""
        return unquote(self.raw_path, errors="surrogateescape")

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """The query as decoded (name, value) pairs, in order, empty values kept."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def body(self) -> BinaryIO:
        """The content, a binary file at its start: in memory, or a temporary file when it is large."""
        if self._body is None:
            self._body = io.BytesIO()
        return self._body

    @body.setter
    def body(self, body: BinaryIO) -> None:
        self._body = body

    @property
    def content_length(self) -> int | None:
        """What Content-Length announced; None without one or when Transfer-Encoding framed the body."""
        if not self.flags & CONTENT_LENGTH or self.flags & TRANSFER_ENCODING:
            return None
        return int(self.values("content-length")[0].lstrip("0") or "0")

    def require_length(self) -> int:
        """`content_length`, for a handler that insists on one: raises HTTPError 411 (RFC 9110 §15.5.12)."""
        length = self.content_length
        if length is None:
            raise HTTPError(411, "this resource takes a body with Content-Length only")
        return length

    def close(self) -> None:
        """Releases the body, and what a sink made of it."""
        if self._body is not None:
            self._body.close()
            self._body = None
        if self.received is not None:
            self.received.close()
            self.received = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} {self.http_version}>"


class Owner(Protocol):
    """What a descriptor belongs to that several answers share."""

    def close(self) -> None:
        """One of them needs it no longer."""


class FileSpan:
    """`length` bytes of an open file from `offset` on, as a body or a piece of one.

    The server sends it without reading it into memory. As the body of a response it owns the descriptor, unless there
    is an `owner`, whose close() is then called instead; once, however often close() is.

    fd: a descriptor of a regular file, -1 when closed. offset, length: bytes, which the file must have.
    """

    __slots__ = ("_owner", "fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int, owner: Owner | None = None) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self._owner = owner

    def close(self) -> None:
        """Lets go of the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self._owner is not None:
                self._owner.close()
            else:
                os.close(fd)

    def __repr__(self) -> str:
        return f"<FileSpan fd {self.fd}, {self.length} bytes from {self.offset}>"


Piece = bytes | FileSpan
Body = bytes | FileSpan | Iterable[Piece | Future[Piece]]
Fields = Iterable[FieldLine] | dict[str, str]
Trailers = Fields | Callable[[], Fields] | None


class Response:
    """What a handler answers.

    status: 200 to 599. body: bytes; or a `FileSpan`; or an iterable of both, pulled only as fast as the client reads,
    its close() called in every case. Spans among its pieces remain its own; a piece that is not there yet may be a
    `Future` of one, for which the connection waits while the others are served.
    fields: pairs of str, such as `("Content-Type", "text/plain")`, or a mapping.

    The length is known for bytes and spans. An iterable is sent in chunks (delimited by closing to HTTP/1.0), unless
    `fields` has a Content-Length: then it must yield exactly that much. Date, Connection, Keep-Alive and
    Transfer-Encoding are the server's own; `("Connection", "close")` is understood as the wish to close afterwards.

    trailers: fields behind the content, as `fields`; or a function that returns them, called once when the last piece
    has been made. They go to whoever gets chunks, and to nobody else: a client may drop them (RFC 9110 §6.5), so they
    are for what it can do without, such as a checksum. One that says `TE: trailers` promises not to. A field `Trailer`
    announces them, if the handler has set it.

    reason: the reason phrase of the status line (RFC 9112 §4), up to one line of Latin-1. None for the standard one of
    the status. Clients may ignore it, so it must not say anything that the content does not say.
    """

    __slots__ = ("body", "fields", "reason", "status", "trailers")

    def __init__(
        self,
        status: int = 200,
        body: Body = b"",
        fields: Fields = (),
        trailers: Trailers = None,
        *,
        reason: str | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.body = body
        self.fields: list[FieldLine] = list(fields.items() if isinstance(fields, dict) else fields)
        self.trailers = trailers

    @property
    def headers(self) -> Headers:
        """`fields` as a mapping without case; what is changed there is changed here."""
        return Headers(self.fields)

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """Plain text, sent as UTF-8."""
        return _typed_response(cls, status, text, _PLAIN_TEXT)

    @classmethod
    def html(cls, text: str, status: int = 200) -> Response:
        """A page, sent as UTF-8."""
        return _typed_response(cls, status, text, _HTML)

    @classmethod
    def json(cls, value: object, status: int = 200) -> Response:
        """`value` as JSON (RFC 8259); raises TypeError or ValueError for what JSON cannot say."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _typed_response(cls, status, text, _JSON)

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> Response:
        """Sends the client to `location`, a URI reference (RFC 9110 §10.2.2, §15.4). What a URI cannot contain, such as
        spaces and characters beyond ASCII, is percent-encoded (RFC 3987 §3.1)."""
        return cls(status, b"", (("Location", quote(location, safe=_URI)),))

    def close(self) -> None:
        """Lets go of the body, whether it was sent or not (PEP 3333's close() for iterables)."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_HTML = ("Content-Type", "text/html; charset=utf-8")
_JSON = ("Content-Type", "application/json")


def _typed_response(cls: type[Response], status: int, text: str, content_type: FieldLine) -> Response:
    """Returns a response with `text` as UTF-8. A subclass may want other arguments, so it is called; `Response` itself
    is made without a call, at half the cost."""
    if cls is Response:
        return new_response(status, text.encode(), [content_type])
    return cls(status, text.encode(), [content_type])


def new_response(status: int, body: Body, fields: list[FieldLine]) -> Response:
    """Returns a `Response` that takes over `fields`, without what a call of the class and a copy of the list cost."""
    response = Response.__new__(Response)
    response.status = status
    response.body = body
    response.fields = fields
    response.trailers = None
    response.reason = None
    return response


def error_response(error: HTTPError) -> Response:
    """The answer that shows `error`: one line of text, since whoever reads it may not be a browser."""
    phrase = PHRASES.get(error.status, "Error")
    response = Response.text(f"{error.status} {phrase}: {error.reason}\n", error.status)
    response.fields.extend(error.fields)
    return response


def host_of(address: Address) -> str:
    """The host of a client; "unix" for one that came through a Unix socket."""
    return address[0] if isinstance(address, tuple) else "unix"
