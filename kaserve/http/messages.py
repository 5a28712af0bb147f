"""What goes in and out of a handler: `Request`, `Response`, `Headers` and `FileSpan`.

Knows the parts of a message, and convenient ways to read and make them. Does not know how they look on the wire
(`wire`), where they end (`framing`), nor that there are connections.

Field lines (RFC 9112 §5) are pairs of str, decoded as Latin-1: a field may contain any byte from 0x80 on (RFC 9110
§5.5), and this decoding loses none. The names of received field lines are in lower case.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qsl, quote, unquote

from .address import UNNAMED, AnyAddress
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
    "new_response",
]

# The reserved characters of RFC 3986 §2.2, and the percent sign, so that what is encoded already stays as it is.
_URI = ":/?#[]@!$&'()*+,;=%"

FieldLine = tuple[str, str]

# One bit for each header that decides something about framing, the connection, or whether a handler may take its fast
# path. The parser and the encoder set the bits, so that the absence of all these headers costs one test instead of a
# search of the field lines. Two options of Connection have bits of their own.
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
CONDITIONAL = 1024  # a condition or a range, except the two conditions that browsers send to revalidate
IF_NONE_MATCH = 2048
IF_MODIFIED_SINCE = 4096
ACCEPT_ENCODING = 8192

# The headers that set the bits. In a response the hop-by-hop ones (RFC 9110 §7.6.1) are the server's to set.
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
    """Headers as a mapping: case-insensitive names, several values per name, in order (RFC 9110 §5.2, §5.3).

    >>> headers = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    >>> headers["set-cookie"], headers.get_all("SET-COOKIE")
    ('a=1', ['a=1', 'b=2'])
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: list[FieldLine] | None = None) -> None:
        """Makes a view of `lines`, not a copy: changes to one show in the other."""
        self._lines = [] if lines is None else lines

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: str | None = None) -> str | None:
        """Returns the first value of `name`, or `default`."""
        name = name.lower()
        for key, value in self._lines:
            if key.lower() == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """Returns the values of all lines with `name`, in the order of the lines."""
        name = name.lower()
        return [value for key, value in self._lines if key.lower() == name]

    def combined(self, name: str) -> str | None:
        """Returns all values of `name` joined by commas (RFC 9110 §5.3); None if there are none."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def add(self, name: str, value: str) -> None:
        """Appends a line."""
        self._lines.append((name, value))

    def set(self, name: str, value: str) -> None:
        """Replaces all lines with `name` by one, which is appended."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Removes all lines with `name`, if there are any."""
        name = name.lower()
        self._lines[:] = [line for line in self._lines if line[0].lower() != name]

    def items(self) -> list[FieldLine]:
        """Returns a copy of the lines, repeated names included."""
        return list(self._lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Yields each name once, in the case of its first line."""
        seen: dict[str, str] = {}
        for key, _ in self._lines:
            seen.setdefault(key.lower(), key)
        return iter(seen.values())

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._lines == other._lines

    __hash__ = None  # type: ignore[assignment]  # mutable, so unhashable, like a dict

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"


class FieldSource:
    """The field lines of a head that has been checked. Objects are made only when a handler asks for them."""

    __slots__ = ()

    def __len__(self) -> int:
        """The number of lines."""
        raise NotImplementedError

    def lines(self) -> list[FieldLine]:
        """Returns all lines."""
        raise NotImplementedError

    def values(self, name: str) -> list[str]:
        """Returns the values of `name`, which is in lower case."""
        raise NotImplementedError


class Request:
    """A request whose head has been checked and whose body has been received.

    Attributes:
        method: the method as sent, case-sensitive (RFC 9110 §9.1).
        target: the request target as sent (RFC 9112 §3.2).
        minor: 0 or 1, of HTTP/1.x.
        field_count: number of field lines received.
        flags: the bits of `FLAGS` for the headers that the request has.
        raw_path: the path, still percent-encoded; "*" for OPTIONS of the server as a whole.
        query: what follows "?" in the target; "" for none.
        authority: host and port that the request is for; "" if it does not say.
        scheme: "http" or "https".
        client: the address of the client, as the connection or a trusted proxy says. A middleware that replaces it must
            set an `Address` (`kaserve.http.address`), not a plain tuple: logs show its `label`.
        server: the address that the client has connected to.
        mount: the prefix that `Mount` has removed from `raw_path`; "" for none.
        disconnected: whether the connection has ended before the response was complete, so that the work can stop.
        remote_user: the user that a handler such as `BasicAuth` has let in; "" for none. Access logs and WSGI
            applications (REMOTE_USER) read it.
        received: what the sink of `BaseHandler.body_sink` returned; None if `body` holds the content.
    """

    __slots__ = (
        "_body",
        "_fields",
        "_trailers",
        "authority",
        "client",
        "disconnected",
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
        """Makes a request without a body, for a handler's tests, for instance.

        Args:
            method: as in the attributes.
            target: as in the attributes. It is not parsed: `raw_path` is the target, and `query` is empty.
            minor: 0 or 1, of HTTP/1.x.
            fields: the field lines; names in lower case.
            flags: the bits of `FLAGS`.
            host: the value of Host, which becomes `authority`, unchecked.
        """
        self._fill(method, target, minor, fields, flags, host)

    def _fill(
        self, method: str, target: str, minor: int, fields: list[FieldLine] | FieldSource, flags: int, host: str
    ) -> None:
        """Sets all attributes. The compiled parser calls this as a C function, since calling a class with arguments
        costs several hundred instructions more."""
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
        self.client: AnyAddress = UNNAMED
        self.server: AnyAddress = UNNAMED
        self.remote_user = ""
        self.received: Any = None
        self.disconnected = False
        self._trailers: list[FieldLine] | None = None
        self._body: BinaryIO | None = None

    @property
    def http_version(self) -> str:
        """ "HTTP/1.1" or "HTTP/1.0", as sent."""
        return "HTTP/1.1" if self.minor else "HTTP/1.0"

    @property
    def fields(self) -> list[FieldLine]:
        """The headers as pairs, names in lower case."""
        if not isinstance(self._fields, list):
            self._fields = self._fields.lines()
        return self._fields

    def values(self, name: str) -> list[str]:
        """Returns the values of `name`, which must be in lower case. Cheaper than `headers`, which makes all lines."""
        if not isinstance(self._fields, list):
            return self._fields.values(name)
        return [value for key, value in self._fields if key == name]

    @property
    def trailers(self) -> list[FieldLine]:
        """The trailers, which came after a chunked body, as in `fields` (RFC 9110 §6.5)."""
        if self._trailers is None:
            self._trailers = []
        return self._trailers

    @trailers.setter
    def trailers(self, trailers: list[FieldLine]) -> None:
        self._trailers = trailers

    @property
    def headers(self) -> Headers:
        """The headers as a mapping with case-insensitive names, which is a view of `fields`."""
        return Headers(self.fields)

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8, once. Bytes that are not UTF-8 become surrogates (PEP 383)."""
        return unquote(self.raw_path, errors="surrogateescape")

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """The query as decoded pairs of name and value, in order, including those with empty values."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def body(self) -> BinaryIO:
        """The content, as a binary file at its start: in memory, or in a temporary file if it is large."""
        if self._body is None:
            self._body = io.BytesIO()
        return self._body

    @body.setter
    def body(self, body: BinaryIO) -> None:
        self._body = body

    @property
    def content_length(self) -> int | None:
        """The value of Content-Length; None without it, or if the body was chunked (RFC 9112 §6.3)."""
        if not self.flags & CONTENT_LENGTH or self.flags & TRANSFER_ENCODING:
            return None
        return int(self.values("content-length")[0].lstrip("0") or "0")

    def require_length(self) -> int:
        """Returns `content_length`, for a handler that needs it in advance.

        Raises:
            HTTPError: 411 if there is none (RFC 9110 §15.5.12).
        """
        length = self.content_length
        if length is None:
            raise HTTPError(411, "this resource requires a Content-Length")
        return length

    def close(self) -> None:
        """Closes the body and `received`."""
        if self._body is not None:
            self._body.close()
            self._body = None
        if self.received is not None:
            self.received.close()
            self.received = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} {self.http_version}>"


class Owner(Protocol):
    """The owner of a descriptor that several responses share, such as a cache of open files."""

    def close(self) -> None:
        """Called when one of the responses no longer needs the descriptor."""


class FileSpan:
    """Part of an open file, as the body of a response or a piece of it. It is sent without being read into memory.

    Attributes:
        fd: the descriptor of a regular file; -1 after `close`.
        offset: position of the first byte in the file.
        length: number of bytes, which the file must have. A response from a file that has become shorter ends with a
            reset, so that the client does not take it for complete.
    """

    __slots__ = ("_owner", "fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int, owner: Owner | None = None) -> None:
        """Takes over the descriptor, unless it has an owner.

        Args:
            fd: a descriptor of a regular file.
            offset: position of the first byte.
            length: number of bytes.
            owner: `close` calls its close() instead of closing the descriptor.
        """
        self.fd = fd
        self.offset = offset
        self.length = length
        self._owner = owner

    def close(self) -> None:
        """Closes the descriptor, or tells its owner; only the first call does anything."""
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
    """A response.

    Date, Connection, Keep-Alive, Transfer-Encoding and other hop-by-hop headers are the server's to set; those of a
    handler are dropped, and logged. `("Connection", "close")` has the connection close after the response.

    Attributes:
        status: 200 to 599.
        body: the content; see `__init__`.
        fields: the headers as a list of pairs.
        trailers: see `__init__`.
        reason: the reason phrase; None for the standard one.
    """

    __slots__ = ("body", "fields", "reason", "status", "trailers")

    def __init__(
        self,
        status: int = 200,
        body: Body = b"",
        headers: Fields = (),
        trailers: Trailers = None,
        *,
        reason: str | None = None,
    ) -> None:
        """Makes a response.

        Args:
            status: 200 to 599.
            body: bytes; or a `FileSpan`; or an iterable of both. An iterable is advanced only as fast as the client
                reads, and its close() is called in every case. It keeps the descriptors of its spans. A piece that is
                not available yet may be a `Future` of one: the connection waits for it while others are served.

                The length of bytes and spans is known. An iterable is sent in chunks (to HTTP/1.0 until the connection
                closes), unless `headers` has a Content-Length: then it must yield exactly that many bytes.
            headers: pairs of str, such as `("Content-Type", "text/plain")`, or a dict.
            trailers: fields after the content, as `headers`; or a function that returns them, which is called once,
                after the last piece. They are sent only if the body is chunked, and a client may drop them (RFC 9110
                §6.5), so they are for what it can do without, such as a checksum. A client that sends `TE: trailers`
                promises not to drop them. If the handler sets the header Trailer, it announces them.
            reason: the reason phrase of the status line (RFC 9112 §4), one line of Latin-1; None for the standard one.
                Clients may ignore it, so it must not say anything that the content does not say.
        """
        self.status = status
        self.reason = reason
        self.body = body
        self.fields: list[FieldLine] = list(headers.items() if isinstance(headers, dict) else headers)
        self.trailers = trailers

    @property
    def headers(self) -> Headers:
        """The headers as a mapping with case-insensitive names, which is a view of `fields`."""
        return Headers(self.fields)

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """Returns a response with plain text, sent as UTF-8."""
        return _typed_response(cls, status, text, _PLAIN_TEXT)

    @classmethod
    def html(cls, text: str, status: int = 200) -> Response:
        """Returns a response with an HTML page, sent as UTF-8."""
        return _typed_response(cls, status, text, _HTML)

    @classmethod
    def json(cls, value: object, status: int = 200) -> Response:
        """Returns a response with `value` as JSON (RFC 8259).

        Raises:
            TypeError: JSON has no such type.
            ValueError: a number that JSON does not have, such as NaN; or a circular reference.
        """
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _typed_response(cls, status, text, _JSON)

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> Response:
        """Returns a redirect to `location` (RFC 9110 §10.2.2, §15.4).

        Args:
            location: a URI reference. Characters that a URI cannot contain, such as spaces and those beyond ASCII, are
                percent-encoded (RFC 3987 §3.1).
            status: 303 makes the client send a GET; 307 and 308 make it repeat the request.
        """
        return cls(status, b"", (("Location", quote(location, safe=_URI)),))

    def close(self) -> None:
        """Closes the body if it has a close(), as PEP 3333 requires for iterables. Called once, sent or not."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_HTML = ("Content-Type", "text/html; charset=utf-8")
_JSON = ("Content-Type", "application/json")
_CLOSE_LINE = ("Connection", "close")


def _typed_response(cls: type[Response], status: int, text: str, content_type: FieldLine) -> Response:
    """Returns a response with `text` as UTF-8. A subclass is called, since it may do more in its `__init__`; a plain
    `Response` is made without a call of the class, which saves 300 instructions, 2 % of a small response."""
    if cls is Response:
        return new_response(status, text.encode(), [content_type])
    return cls(status, text.encode(), [content_type])


def new_response(status: int, body: Body, fields: list[FieldLine]) -> Response:
    """Returns a `Response` that owns the list `fields`: without the cost of calling the class and copying the list."""
    response = Response.__new__(Response)
    response.status = status
    response.body = body
    response.fields = fields
    response.trailers = None
    response.reason = None
    return response


def error_response(error: HTTPError) -> Response:
    """Returns the response that shows `error`: one line of plain text, since the client may not be a browser. It says
    `Connection: close` if the error does."""
    phrase = PHRASES.get(error.status, "Error")
    response = Response.text(f"{error.status} {phrase}: {error.reason}\n", error.status)
    response.fields.extend(error.headers)
    if error.close:
        response.fields.append(_CLOSE_LINE)
    return response
