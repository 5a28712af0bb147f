"""What a WSGI application answers with: `start_response`, `write()`, `wsgi.file_wrapper`, and what they come to.

Knows the rules of PEP 3333 for all of them, and makes a `Response`. Does not know in which thread that happens, nor how
pieces travel.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from stat import S_ISREG
from types import TracebackType
from typing import Any, BinaryIO

from ...http.messages import (
    CONTENT_LENGTH,
    DATE,
    EXPECT,
    FLAGS,
    HOST,
    FieldLine,
    FileSpan,
    Request,
    Response,
    new_response,
)

__all__ = ["Application", "ExcInfo", "FileWrapper", "Result", "StartResponse", "close", "new_start", "require_bytes"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Result = Iterable[bytes]
Application = Callable[[dict[str, Any], Any], Result]

_STATUS = re.compile(r"([2-5][0-9][0-9])(?: [^\r\n\0]*)?", re.ASCII)
_MAX_KNOWN = 1024  # of the names and statuses that applications use; a full memory starts anew

# Kinds of field names.
_PLAIN = 0
_LENGTH = 1

_kinds: dict[str, int] = {}
_statuses: dict[str, int] = {}


def _kind(name: object) -> int:
    """The kind of a field name. Raises for what is not one, or is the server's own (PEP 3333, RFC 9110 §7.6.1)."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a field is a str, not {name!r}")
    flag = FLAGS.get(name.lower(), 0)
    if flag & ~(HOST | EXPECT | DATE | CONTENT_LENGTH):
        raise ValueError(f"{name} is a field of one hop, which is the server's own")
    kind = _LENGTH if flag == CONTENT_LENGTH else _PLAIN
    if len(_kinds) >= _MAX_KNOWN:
        _kinds.clear()
    _kinds[name] = kind
    return kind


def _read_status(status: object) -> int:
    """The number in front of `200 OK`; the reason is dropped, since HTTP/1.1 clients ignore it (RFC 9112 §4)."""
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {status!r}")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"not the status of an answer: {status!r}")
    if len(_statuses) >= _MAX_KNOWN:
        _statuses.clear()
    number = _statuses[status] = int(match[1])
    return number


class StartResponse:
    """`start_response` of one request, and what the application has told it.

    status: 0 until it was called. sent: the head is on its way, and cannot be changed any more.
    transmit: takes what `write()` is given; by default that is kept in `written` until the application has returned.
    """

    __slots__ = ("_fields", "_length", "sent", "status", "transmit", "written")

    def __init__(self) -> None:
        self._fill()

    def _fill(self) -> None:
        """What __init__ does, without what a call of a type costs."""
        self.status = 0
        self.sent = False
        self.transmit: Callable[[bytes], object] | None = None
        self.written: list[bytes] | None = None
        self._fields: list[FieldLine] = []
        self._length: FieldLine | None = None  # kept apart, since it is seldom needed

    def __call__(
        self, status: str, headers: list[FieldLine], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333: begins the answer; again only with `exc_info`, which is raised once the head is on its way."""
        if self.status:
            self._restart(exc_info)
        fields = []
        length = None
        for field in headers:
            name, _ = field
            kind = _kinds.get(name)
            if kind is None:
                kind = _kind(name)
            if kind == _LENGTH and length is None:
                length = field
            else:  # a second length is for the server to refuse
                fields.append(field)
        number = _statuses.get(status)
        self.status = _read_status(status) if number is None else number
        self._fields = fields
        self._length = length
        return self.write

    def _restart(self, exc_info: ExcInfo | None) -> None:
        if exc_info is None:
            raise RuntimeError("start_response is called a second time without exc_info")
        error = exc_info[1]
        if self.sent:
            if error is None:  # sys.exc_info() where there is no exception
                raise RuntimeError("start_response is called behind the head, without an exception")
            try:
                raise error.with_traceback(exc_info[2])
            finally:
                exc_info = error = None  # no cycle through this frame, as PEP 3333 has it
        self.status = 0  # should what follows not do for an answer

    def write(self, data: bytes) -> None:
        """PEP 3333: sends `data`, for applications that were not written with iterables in mind."""
        require_bytes(data)
        if not data:
            return
        if self.transmit is not None:
            self.transmit(data)
        else:
            self.sent = True
            if self.written is None:
                self.written = []
            self.written.append(data)

    def require_status(self) -> None:
        """Raises RuntimeError when there is content, but not what to say of it."""
        if not self.status:
            raise RuntimeError("the application has not called start_response")

    def content(self, result: Result) -> bytes | None:
        """All of the content, where `result` holds it and has not to be asked for it; None otherwise."""
        if type(result) is list or type(result) is tuple:
            if len(result) == 1 and self.written is None and type(result[0]) is bytes:
                return result[0]
            return b"".join((*(self.written or ()), *result))
        return None

    @property
    def length(self) -> int:
        """What its Content-Length says; -1 without a good one."""
        value = "" if self._length is None else self._length[1]
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else -1

    # The answer, by what is known of its content.

    def whole(self, request: Request, body: bytes) -> Response:
        """The answer with all of its content. A length that disagrees is left to the server, which cuts off what is too
        much, and closes the connection when it is too little."""
        if not self.status:
            self.require_status()
        self.sent = True
        fields = self._fields
        if self._length is None:
            if not body and request.method == "HEAD":  # the length of what was left out is not known
                return Response(self.status, (), fields)
        elif self._length[1] != str(len(body)):
            fields.append(self._length)
            return Response(self.status, (body,), fields)
        return new_response(self.status, body, fields)

    def pieces(self, body: Iterable[Any]) -> Response:
        """The answer whose content comes piece by piece."""
        self.require_status()
        self.sent = True
        if self.transmit is None:
            self.transmit = _refuse
        if self._length is not None:
            self._fields.append(self._length)
        return Response(self.status, body, self._fields)

    def file(self, wrapper: FileWrapper) -> Response | None:
        """The answer whose content the kernel sends; None where it cannot. Closing it closes the file."""
        self.require_status()
        span = wrapper.span()
        if span is None or self.written is not None:
            return None
        if self._length is not None:
            if not 0 <= self.length <= span.length:
                return None
            span.length = self.length
        self.sent = True
        return Response(self.status, span, self._fields)


def new_start() -> StartResponse:
    """One for each request, so it is made without the detour of a call."""
    start = StartResponse.__new__(StartResponse)
    start._fill()
    return start


def _refuse(data: bytes) -> None:
    """What is written while the iterable is sent would come between its pieces, or never."""
    raise RuntimeError("write() is called by the iterable of the answer")


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable. When it is returned as it is, the server sends the file itself, from
    its present position on, without reading it."""

    __slots__ = ("_block_size", "_close", "file")

    def __init__(self, file: BinaryIO, block_size: int = 65536) -> None:
        self.file = file
        self._block_size = block_size
        self._close: Callable[[], object] | None = getattr(file, "close", None)

    def __iter__(self) -> FileWrapper:  # itself: some keep no more of it than its iterator, and close that
        return self

    def __next__(self) -> bytes:
        data = self.file.read(self._block_size)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Closes the file, if it can be closed; once."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def span(self) -> FileSpan | None:
        """The rest of the file, or None unless it is a regular one of which a descriptor tells the truth.

        Many objects have a fileno() that is not what read() reads: gzip.GzipFile has the one of the compressed file.
        So the types of `io` and `tempfile` are trusted, and nothing else: what derives from them may read in a way of
        its own.
        """
        file: Any = self.file
        if isinstance(file, tempfile._TemporaryFileWrapper):
            file = file.file
        raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
        if type(raw) is not io.FileIO:
            return None
        try:
            file.flush()
            fd, position = file.fileno(), file.tell()
            status = os.fstat(fd)
        except (OSError, ValueError):  # a pipe; or it is closed, and reading it will say so
            return None
        if not S_ISREG(status.st_mode):
            return None
        return FileSpan(fd, position, max(0, status.st_size - position), self)


def require_bytes(data: object) -> None:
    """Raises TypeError for what an application has mistaken for content."""
    if not isinstance(data, bytes):
        raise TypeError(f"the content of an answer is bytes, not {type(data).__name__}")


def close(result: object) -> None:
    """PEP 3333: an answer is let go of, however it ended."""
    function = getattr(result, "close", None)
    if function is not None:
        function()
