"""What goes in and out of a handler: `Request` and `Response`.

Knows the parts of a message, and convenient ways to read and make them. Does not know how they look on the wire
(`wire`), where they end (`framing`), nor that there are connections. Headers are in `headers`, the convenient ways for
bodies and cookies in `forms` and `cookies`; they are computed when a handler asks for them.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import Future
from typing import Any, BinaryIO, NoReturn, Protocol
from urllib.parse import quote, unquote

from .address import UNNAMED, AnyAddress
from .body_stream import BodyStream, ReceivedBody
from .cookies import format_deleted_cookie, format_set_cookie, parse_cookies
from .errors import PHRASES, HTTPError, body_too_large
from .file_span import FileSpan, Piece
from .forms import Form, parse_form, parse_query
from .headers import CONTENT_LENGTH, TRANSFER_ENCODING, FieldLine, Fields, FieldSource, Headers, field_lines
from .multi_mapping import MultiMapping
from .tunnel import Tunnel, TunnelBody

__all__ = ["Body", "Request", "Response", "Trailers", "error_response", "new_response"]

# The reserved characters of RFC 3986 §2.2, and the percent sign, so that what is encoded already stays as it is.
_URI = ":/?#[]@!$&'()*+,;=%"

_MAX_JSON = 1 << 20  # bytes; json.loads needs some ten milliseconds for as many, in which no other client is served
_MAX_FORM = 64 << 20  # bytes, files included, of which only the boundaries are searched
_MAX_FIELDS = 1 << 20  # bytes of the fields of a form
_MAX_PARTS = 1000  # fields and files of a form


class RequestOwner(Protocol):
    """What a request asks of the connection that it came on (`net.request_loop`).

    Attributes:
        client: the other end of the connection, whoever `Request.client` is.
    """

    client: AnyAddress

    def inform(self, request: Request, response: Response) -> bool:
        """See `Request.inform`."""

    def is_half_closed(self) -> bool:
        """See `Request.half_closed`."""


class Request:
    """A request whose head has been checked and whose body has been received.

    >>> request = Request("GET", "/", 1, [("host", "example.org"), ("cookie", "a=1; b=2")])
    >>> request.query_string = "tag=x&tag=y"
    >>> request.headers["Host"], request.cookies["b"], request.query.get_all("tag")
    ('example.org', '2', ['x', 'y'])

    Attributes:
        method: the method as sent, case-sensitive (RFC 9110 §9.1).
        target: the request target as sent (RFC 9112 §3.2).
        minor: 0 or 1, of HTTP/1.x.
        field_count: number of field lines received.
        flags: the bits of `FLAGS` for the headers that the request has.
        raw_path: the path, still percent-encoded; "*" for OPTIONS of the server as a whole.
        query_string: what follows "?" in the target, as sent; "" for none. `query` has its parameters.
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
        log_fields: further fields for the access log in JSON, such as those that a proxy adds; None for none.
        owner: the connection; None if the response is complete, or the request came on no connection.
        on_leave: called without arguments, in the server's own thread, when the client leaves before the response is
            complete: it has finished sending (`half_closed`), or the connection has ended (`disconnected`). So it may
            be called twice. None for nothing.
    """

    __slots__ = (
        "_body",
        "_fields",
        "_parsed",
        "_trailers",
        "authority",
        "client",
        "disconnected",
        "field_count",
        "flags",
        "log_fields",
        "method",
        "minor",
        "mount",
        "on_leave",
        "owner",
        "query_string",
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
            target: as in the attributes. It is not parsed: `raw_path` is the target, and `query_string` is empty.
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
        self.query_string = ""
        self.authority = host
        self.scheme = "http"
        self.mount = ""
        self.client: AnyAddress = UNNAMED
        self.server: AnyAddress = UNNAMED
        self.remote_user = ""
        self.received: Any = None
        self.disconnected = False
        self.owner: RequestOwner | None = None
        self.on_leave: Callable[[], object] | None = None
        self.log_fields: dict[str, object] | None = None
        self._trailers: list[FieldLine] | None = None
        self._parsed: dict[tuple[str, ...], MultiMapping[str]] | None = None
        self._body: BinaryIO | BodyStream | None = None  # None: empty

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

    def raw_fields(self) -> list[tuple[bytes, bytes]]:
        """Returns the headers as pairs of bytes, names in lower case: what an ASGI application is told."""
        if not isinstance(self._fields, list):
            return self._fields.raw_lines()
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._fields]

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
        return Headers.view(self.fields)

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8, once. Bytes that are not UTF-8 become surrogates (PEP 383)."""
        return unquote(self.raw_path, errors="surrogateescape")

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters in `query_string` by name, decoded: percent-encoding as UTF-8, and plus signs as spaces (the
        URL standard, §5.1). `query["a"]` is the first value of a name, `query.get_all("a")` all of them; a name without
        a value has the value ""."""
        return self._parse_once(("query", self.query_string), lambda: parse_query(self.query_string))

    @property
    def cookies(self) -> MultiMapping[str]:
        """The cookies by name (RFC 6265 §4.2). A part of the header that is no cookie is ignored, and loses no others.
        A client may change its cookies, so a program must not trust them unless it has signed them."""
        values = self.values("cookie")
        return self._parse_once(("cookie", *values), lambda: parse_cookies(values))

    def _parse_once(self, key: tuple[str, ...], parse: Callable[[], MultiMapping[str]]) -> MultiMapping[str]:
        """The result of `parse`, which is kept by what it is made of: a middleware may replace that later."""
        if self._parsed is None:
            self._parsed = {}
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = parse()
        return found

    def json(self, *, max_size: int = _MAX_JSON) -> Any:
        """Returns the body, parsed as JSON (RFC 8259). The Content-Type is not checked.

        JSON is UTF-8 (§8.1), whatever charset the Content-Type names (§11); a byte order mark is ignored. NaN and
        Infinity are not JSON. The body is at its start again afterwards.

        Args:
            max_size: bytes of the body. The default of 1 MiB keeps the time for parsing at some ten milliseconds. A
                larger body has been received anyway, up to `limit_request_body`.

        Raises:
            HTTPError: 400 for a body that is not JSON, and says where; 413 for one that is too large.
        """
        body = self.body
        body.seek(0)
        data = body.read(max_size + 1)
        body.seek(0)
        if len(data) > max_size:
            raise body_too_large(max_size)
        if not data:
            raise HTTPError(400, "the body is empty, but must be JSON")
        try:
            return json.loads(data.decode("utf-8-sig"), parse_constant=_reject_constant)
        except UnicodeDecodeError as error:
            raise HTTPError(400, f"the body is not JSON: byte {error.start} is not UTF-8") from None
        except json.JSONDecodeError as error:
            reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
            raise HTTPError(400, f"the body is not JSON: {reason}") from None
        except ValueError as error:  # NaN, or a number with more digits than int() accepts
            raise HTTPError(400, f"the body has a value that is not accepted: {error}") from None
        except RecursionError:
            raise HTTPError(400, "the body is nested too deeply") from None

    def form(self, *, max_size: int = _MAX_FORM, max_memory: int = _MAX_FIELDS, max_parts: int = _MAX_PARTS) -> Form:
        """Returns the body as a form, in either of the two encodings that browsers send.

        The fields are in the mapping that is returned, as str, the files in its attribute `files`. A file is a part of
        `body`: it can be read until the response has been sent. For large files use `kaserve.handlers.Threaded`, or
        `body_sink` with a `kaserve.http.multipart.FormReader`, which reads the form while it arrives.

        Args:
            max_size: bytes of the whole body.
            max_memory: bytes of all fields together, names included; files do not count.
            max_parts: number of fields and files.

        Raises:
            HTTPError: 400 for a malformed form (RFC 7578, RFC 2046 §5.1), 413 for one that exceeds a limit, 415 for a
                Content-Type that is not that of a form.
        """
        content_type = ", ".join(self.values("content-type"))
        return parse_form(self.body, content_type, max_size=max_size, max_memory=max_memory, max_parts=max_parts)

    @property
    def body(self) -> BinaryIO:
        """The content, as a binary file at its start: in memory, or in a temporary file if it is large. RuntimeError if
        the handler streams."""
        body = self._body
        if body is None:
            body = self._body = io.BytesIO()
        elif isinstance(body, BodyStream):
            raise RuntimeError("this handler streams, so that the body is in request.stream, and not in request.body")
        return body

    @body.setter
    def body(self, body: BinaryIO) -> None:
        self._body = body

    @property
    def stream(self) -> BodyStream:
        """The content while it arrives, for a handler with `streams = True`. For other handlers, and for a request that
        a test has made, it reads `body`."""
        body = self._body
        return body if isinstance(body, BodyStream) else ReceivedBody(self.body, self.trailers)

    @stream.setter
    def stream(self, stream: BodyStream) -> None:
        self._body = stream

    async def read(self) -> bytes:
        """Returns the whole content, for a handler that is an `async def`, whether it streams or not.

        Raises:
            HTTPError: as `stream.read`.
            ClientDisconnected: as `stream.read`.
        """
        return b"".join([piece async for piece in self.stream])

    @property
    def upgrades(self) -> list[str]:
        """The protocols that the client asks to switch to (RFC 9110 §7.8), in lower case: `["websocket"]`. It prefers
        the first. Empty without `Connection: upgrade`, and for an HTTP/1.0 client, whose Upgrade must be ignored.
        `Response.upgrade` switches to one of them; any other response declines."""
        if self.minor == 0 or "upgrade" not in _members(self.values("connection")):
            return []
        return _members(self.values("upgrade"))

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

    def inform(self, status: int, headers: Fields = ()) -> bool:
        """Sends an informational response, before the final one: 103 Early Hints, for instance (RFC 9110 §15.2, RFC
        8297). To be called in the server's own thread.

        Args:
            status: 100 to 199, but not 101.
            headers: as in `Response(...)`.

        Returns:
            False if it is not sent: to an HTTP/1.0 client, which does not know them; after the final response has
            begun; or because there is no connection.

        Raises:
            ValueError, TypeError: the status or a header cannot be sent.
        """
        owner = self.owner
        return owner is not None and owner.inform(self, Response(status, b"", headers))

    @property
    def half_closed(self) -> bool:
        """Whether the client has finished sending. It may wait for the response, or have left: a client that has closed
        its socket looks the same until it is sent something."""
        return self.owner is not None and self.owner.is_half_closed()

    def close(self) -> None:
        """Closes the body and `received`."""
        self.owner = None
        self.on_leave = None
        body = self._body
        if body is not None:
            if isinstance(body, BodyStream):  # it stays, closed: a thread that looks must not find an empty body
                body.close(disconnected=self.disconnected)
            else:
                body.close()
                self._body = None
        if self.received is not None:
            self.received.close()
            self.received = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} {self.http_version}>"


def _members(values: list[str]) -> list[str]:
    """Returns the members of a list in a header (RFC 9110 §5.6.1) in lower case, without the empty ones."""
    members = [member.strip(" \t").lower() for member in ",".join(values).split(",")]
    return [member for member in members if member]


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Future is invariant, so a Future of bytes is no Future of a piece for a type checker.
Body = bytes | FileSpan | Iterable[Piece | Future[Piece] | Future[bytes] | Future[FileSpan]] | AsyncIterable[bytes]
Trailers = Fields | Callable[[], Fields] | None


class Response:
    """A response: a status, headers and a body.

    >>> response = Response.json({"name": "Ann"}, 201, {"Location": "/people/7"})
    >>> response.set_cookie("session", "a1b2", max_age=3600)
    >>> response.status, response.headers["Content-Type"], response.body
    (201, 'application/json', b'{"name":"Ann"}')

    Date, Connection, Keep-Alive, Transfer-Encoding and other hop-by-hop headers are the server's to set; those of a
    handler are dropped, and logged. `("Connection", "close")` has the connection close after the response.

    Attributes:
        status: 200 to 599; 101 if it was made by `upgrade`.
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
                not available yet may be a `Future` of one: the connection waits for it while others are served. The
                response of an async handler may have an asynchronous iterable of bytes.

                The length of bytes and spans is known. An iterable is sent in chunks (to HTTP/1.0 until the connection
                closes), unless `headers` has a Content-Length: then it must yield exactly that many bytes.
            headers: pairs of str, such as `("Content-Type", "text/plain")`, a mapping, or `Headers`.
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
        self.fields: list[FieldLine] = field_lines(headers)
        self.trailers = trailers

    @property
    def headers(self) -> Headers:
        """The headers as a mapping with case-insensitive names, which is a view of `fields`."""
        return Headers.view(self.fields)

    @classmethod
    def text(cls, text: str, status: int = 200, headers: Fields = ()) -> Response:
        """Returns a response with plain text.

        Args:
            text: the content, which is sent as UTF-8.
            status: 200 to 599.
            headers: as in `Response(...)`. A Content-Type among them replaces `text/plain; charset=utf-8`.
        """
        return _typed_response(cls, status, text, _PLAIN_TEXT, headers)

    @classmethod
    def html(cls, text: str, status: int = 200, headers: Fields = ()) -> Response:
        """Returns a response with an HTML page.

        Args:
            text: the content, which is sent as UTF-8. Nothing in it is escaped; `html.escape` does that.
            status: 200 to 599.
            headers: as in `Response(...)`. A Content-Type among them replaces `text/html; charset=utf-8`.
        """
        return _typed_response(cls, status, text, _HTML, headers)

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Fields = ()) -> Response:
        """Returns a response with `value` as JSON (RFC 8259).

        Args:
            value: what `json.dumps` accepts.
            status: 200 to 599.
            headers: as in `Response(...)`. A Content-Type among them replaces `application/json`, as in
                `{"Content-Type": "application/problem+json"}`.

        Raises:
            TypeError: JSON has no such type.
            ValueError: a number that JSON does not have, such as NaN; or a circular reference.
        """
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _typed_response(cls, status, text, _JSON, headers)

    @classmethod
    def redirect(cls, location: str, status: int = 303, headers: Fields = ()) -> Response:
        """Returns a redirect to `location` (RFC 9110 §10.2.2, §15.4).

        Args:
            location: a URI reference. Characters that a URI cannot contain, such as spaces and those beyond ASCII, are
                percent-encoded (RFC 3987 §3.1).
            status: 303 makes the client send a GET; 307 and 308 make it repeat the request.
            headers: further headers, as in `Response(...)`.
        """
        return cls(status, b"", [("Location", quote(location, safe=_URI)), *field_lines(headers)])

    @classmethod
    def upgrade(cls, protocol: str, tunnel: Tunnel, headers: Fields = ()) -> Response:
        """Returns `101 Switching Protocols`, after which the connection is not HTTP any more (RFC 9110 §7.8): its bytes
        go to `tunnel` and come from there.

        It can only be sent to a client that has asked for the protocol (`Request.upgrades`), when its request has been
        received completely, and once. Otherwise it is an error of the handler: the client gets a 500, and the log says
        why. `tunnel.closed` is called in any case.

        Args:
            protocol: what to switch to, such as "websocket". Compared without regard to case.
            tunnel: what receives the bytes.
            headers: further headers, as in `Response(...)`. kaserve sets Upgrade and Connection itself.
        """
        return cls(101, TunnelBody(tunnel), [("Upgrade", protocol), *field_lines(headers)])

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = True,
        same_site: str | None = "Lax",
    ) -> None:
        """Adds a header Set-Cookie (RFC 6265 §4.1).

        By default the cookie lasts until the browser is closed and is hidden from scripts. Browsers do not send it with
        requests that other sites make, except when a user follows a link.

        Args:
            name: a token (RFC 9110 §5.6.2): letters, digits and some signs.
            value: any text without control characters. `Request.cookies` returns it unchanged.
            max_age: seconds for which the client keeps the cookie; 0 deletes it, None keeps it until the browser is
                closed.
            path: the path below which the client sends it; None for the directory of the request's path.
            domain: a host, whose subdomains get the cookie as well; None for this host alone.
            secure: whether the client sends it by HTTPS only.
            http_only: whether scripts in a page cannot read it.
            same_site: "Strict", "Lax" or "None", which requires `secure`; None leaves the attribute out.

        Raises:
            ValueError: a name, value or attribute that cannot be sent, such as one with a line break; or attributes
                that browsers reject together.
        """
        line = format_set_cookie(
            name,
            value,
            max_age=max_age,
            path=path,
            domain=domain,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
        )
        self.fields.append(("Set-Cookie", line))

    def delete_cookie(
        self, name: str, *, path: str | None = "/", domain: str | None = None, secure: bool = False
    ) -> None:
        """Adds a header Set-Cookie that makes the client forget a cookie (RFC 6265 §3.1).

        Args:
            name: as in `set_cookie`.
            path: as it was set, since a client distinguishes cookies by name, path and domain.
            domain: as it was set.
            secure: True for a cookie whose name begins with `__Secure-` or `__Host-`.

        Raises:
            ValueError: as `set_cookie`.
        """
        line = format_deleted_cookie(name, path=path, domain=domain, secure=secure)
        self.fields.append(("Set-Cookie", line))

    def close(self) -> None:
        """Closes the body if it has a close(), as PEP 3333 requires for iterables. Called once, sent or not."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


_NO_HEADERS: Fields = ()  # the default, of which Python has one object
_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_HTML = ("Content-Type", "text/html; charset=utf-8")
_JSON = ("Content-Type", "application/json")
_CLOSE_LINE = ("Connection", "close")


def _typed_response(cls: type[Response], status: int, text: str, content_type: FieldLine, headers: Fields) -> Response:
    """Returns a response with `text` as UTF-8. A subclass is called, since it may do more in its `__init__`; a plain
    `Response` is made without a call of the class, which saves 300 instructions, 2 % of a small response."""
    fields = [content_type]
    if headers is not _NO_HEADERS:
        given = field_lines(headers)
        fields = given if "Content-Type" in Headers.view(given) else fields + given
    if cls is Response:
        return new_response(status, text.encode(), fields)
    return cls(status, text.encode(), fields)


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
    if error.status < 400:
        return Response(error.status, b"", error.headers)
    phrase = PHRASES.get(error.status, "Error")
    response = Response.text(f"{error.status} {phrase}: {error.reason}\n", error.status)
    response.fields.extend(error.headers)
    if error.close:
        response.fields.append(_CLOSE_LINE)
    return response
