"""`start_response` and `write()` of a WSGI application, and the response that they and its result make.

Knows the rules of PEP 3333 for them. Does not know in which thread the application runs, nor how the pieces of its
response reach the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from ...http.errors import PHRASES
from ...http.headers import CONNECTION, CONTENT_LENGTH, FLAGS, HOP_BY_HOP, TRANSFER_ENCODING, FieldLine
from ...http.memo import remember
from ...http.messages import Request, Response, new_response
from .file_wrapper import FileWrapper
from .hop_by_hop import HopByHopFilter

__all__ = [
    "Application",
    "ExcInfo",
    "NoStatusError",
    "Result",
    "StartResponse",
    "close_result",
    "new_start_response",
    "reject_write",
    "to_bytes",
]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Result = Iterable[bytes]
Application = Callable[[dict[str, Any], Any], Result]

# 2xx to 5xx: an application cannot send an interim response (PEP 3333 has no way to send a second one).
_STATUS = re.compile(r"([2-5][0-9][0-9])(?: ([^\r\n\0]*))?", re.ASCII)

# What a field name means here.
_OTHER = 0
_LENGTH = 1
_ONE_HOP = 2  # the server's own (RFC 9110 §7.6.1)

# Bounded memos of the names and statuses that applications use. A status with a reason of its own is in neither: it is
# rare, and may have another reason each time.
_MAX_REMEMBERED = 1024
_name_kinds: dict[str, int] = {}
_codes: dict[str, int] = {}


def _classify_name(name: object) -> int:
    """What the field name means: _LENGTH, _ONE_HOP or _OTHER.

    Raises:
        TypeError: it is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a header must be a str, not {name!r}")
    flag = FLAGS.get(name.lower(), 0)
    kind = _OTHER
    if flag == CONTENT_LENGTH:
        kind = _LENGTH
    elif flag & (CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING):
        kind = _ONE_HOP
    remember(_name_kinds, name, kind, _MAX_REMEMBERED)
    return kind


def _parse_status(status: object) -> tuple[int, str | None]:
    """The code of a status such as `200 OK`, and its reason; None for the standard reason, and without one."""
    if not isinstance(status, str):
        raise TypeError(f"a status must be a str, not {status!r}")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"a status must be a number from 200 to 599 and a reason, such as '200 OK', not {status!r}")
    code = int(match[1])
    reason = (match[2] or "").strip(" \t")
    if reason and reason != PHRASES.get(code):
        return code, reason
    remember(_codes, status, code, _MAX_REMEMBERED)
    return code, None


class NoStatusError(RuntimeError):
    """The application has not called start_response."""


class StartResponse:
    """`start_response` of one request, and what the application has said with it.

    Args:
        hop_by_hop: the filter of the application's headers.

    Attributes:
        status: the status code; 0 until the application has called start_response.
        reason: the application's reason phrase; None for the standard one.
        head_sent: whether the response has begun, so that its status and headers cannot be changed any more.
        send: called with what the application gives to `write()`. None keeps it in `written` until the application
            returns: on the reactor's thread nothing can be sent before that.
        written: what the application has given to `write()`; None if that was nothing.
    """

    __slots__ = ("_fields", "_hop_by_hop", "_length", "head_sent", "reason", "send", "status", "written")

    def __init__(self, hop_by_hop: HopByHopFilter) -> None:
        self._initialize(hop_by_hop)

    def _initialize(self, hop_by_hop: HopByHopFilter) -> None:
        """Does what __init__ does, without what a call of a type costs."""
        self._hop_by_hop = hop_by_hop
        self.status = 0
        self.reason: str | None = None
        self.head_sent = False
        self.send: Callable[[bytes], object] | None = None
        self.written: list[bytes] | None = None
        self._fields: list[FieldLine] = []
        # Content-Length is kept apart from the other fields, since mostly the server's own is the same and the
        # application's need not be sent.
        self._length: FieldLine | None = None

    def __call__(
        self, status: str, headers: list[FieldLine], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Begins the response (PEP 3333, "The start_response() Callable").

        Args:
            status: such as "200 OK".
            headers: pairs of str.
            exc_info: must be given when this is not the first call: the new response replaces one that has not been
                sent. If that one has been sent, the exception is raised instead.

        Returns:
            `write`.
        """
        if self.status:
            self._prepare_replacement(exc_info)
        self._set_headers(headers)
        code = _codes.get(status)
        if code is not None:
            self.status, self.reason = code, None
        else:
            self.status, self.reason = _parse_status(status)
        return self.write

    def _set_headers(self, headers: list[FieldLine]) -> None:
        fields = []
        length = None
        has_hop_by_hop = False
        for field in headers:
            name, _ = field
            known = _name_kinds.get(name)
            kind = _classify_name(name) if known is None else known
            if kind == _LENGTH and length is None:
                length = field
            else:  # a second Content-Length is sent on to the protocol, which rejects it
                fields.append(field)
                if kind == _ONE_HOP:
                    has_hop_by_hop = True
        self._fields = self._hop_by_hop.drop(fields) if has_hop_by_hop else fields
        self._length = length

    def _prepare_replacement(self, exc_info: ExcInfo | None) -> None:
        """Checks that another call may replace the response; raises the exception in `exc_info` if it is too late."""
        if exc_info is None:
            raise RuntimeError("start_response was called twice; the second call needs exc_info")
        error = exc_info[1]
        if self.head_sent:
            if error is None:  # sys.exc_info() where there is no exception
                raise RuntimeError("start_response was called after the headers were sent, without an exception")
            try:
                raise error.with_traceback(exc_info[2])
            finally:
                exc_info = error = None  # no reference cycle through this frame, as PEP 3333 asks
        self.status = 0  # so that nothing is sent if the replacement is rejected

    def write(self, data: bytes) -> None:
        """Sends `data` (PEP 3333, "The write() Callable"): for applications that do not return iterables."""
        data = to_bytes(data)
        if not data:
            return
        if self.send is not None:
            self.send(data)
        else:
            self.head_sent = True
            if self.written is None:
                self.written = []
            self.written.append(data)

    def require_status(self) -> None:
        """Raises NoStatusError if the application has not called start_response."""
        if not self.status:
            raise NoStatusError("the application has not called start_response")

    def buffered_body(self, result: Result) -> bytes | None:
        """The whole content if `result` is a list or tuple, whose items are all there; otherwise None."""
        if type(result) is list or type(result) is tuple:
            if len(result) == 1 and self.written is None and type(result[0]) is bytes:
                return result[0]
            return b"".join((*(self.written or ()), *map(to_bytes, result)))
        return None

    @property
    def declared_length(self) -> int:
        """The application's Content-Length in bytes; -1 without a valid one."""
        value = "" if self._length is None else self._length[1]
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else -1

    # The response, by what is known of its content.

    def full_response(self, request: Request, body: bytes) -> Response:
        """The response with all of its content.

        A Content-Length that disagrees with `body` is sent on to the protocol, which cuts off what is too much, and
        closes the connection if the content is too short.
        """
        if not self.status:
            self.require_status()
        self.head_sent = True
        fields = self._fields
        if self._length is None:
            if not body and request.method == "HEAD":
                # The application left out the content of the GET, and its length with it. A Content-Length of 0 would
                # be wrong, and none is allowed (RFC 9110 §8.6, §9.3.2): an empty iterable has none.
                return Response(self.status, (), fields, reason=self.reason)
        elif self._length[1] != str(len(body)):
            fields.append(self._length)
            return Response(self.status, (body,), fields, reason=self.reason)
        response = new_response(self.status, body, fields)
        if self.reason is not None:
            response.reason = self.reason
        return response

    def streamed_response(self, body: Iterable[Any]) -> Response:
        """The response whose content comes piece by piece."""
        self.require_status()
        self.head_sent = True
        if self._length is not None:
            self._fields.append(self._length)
        return Response(self.status, body, self._fields, reason=self.reason)

    def file_response(self, wrapper: FileWrapper) -> Response | None:
        """The response whose content the kernel sends; None if the file has to be read. Closing it closes the file."""
        self.require_status()
        span = wrapper.file_span()
        if span is None or self.written is not None:
            return None
        if self._length is not None:
            # PEP 3333, "Optional Platform-Specific File Handling": no more than Content-Length is sent of a file.
            if not 0 <= self.declared_length <= span.length:
                return None
            span.length = self.declared_length
        self.head_sent = True
        return Response(self.status, span, self._fields, reason=self.reason)


def new_start_response(hop_by_hop: HopByHopFilter) -> StartResponse:
    """A new StartResponse. There is one per request, and a call from C code to this function costs less than one of
    the type."""
    start_response = StartResponse.__new__(StartResponse)
    start_response._initialize(hop_by_hop)
    return start_response


def reject_write(data: bytes) -> None:
    """`StartResponse.send` while the iterable is sent: the data would come between its pieces, or never."""
    raise RuntimeError("write() was called while the iterable of the response was sent")


def to_bytes(data: object) -> bytes:
    """Returns a piece of content as bytes.

    PEP 3333 allows bytes alone. bytearray and memoryview are accepted as well, since what is meant is clear. They are
    copied at once: the application may use their memory again for the next piece.

    Raises:
        TypeError: it is neither, such as a str that an application has yielded.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return memoryview(data).tobytes()
    raise TypeError(f"the content of a response must be bytes, not {type(data).__name__}")


def close_result(result: object) -> None:
    """Calls `result.close()` if there is one. PEP 3333 asks for that however the response ended."""
    close = getattr(result, "close", None)
    if close is not None:
        close()
