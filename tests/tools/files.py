"""Tools for tests of handlers that serve files: files on a disk, requests as the server parses them, no sockets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from kaserve.handlers import Files
from kaserve.http.file_span import FileSpan
from kaserve.http.messages import Request, Response
from kaserve.http.target import resolve_target
from kaserve.http.wire import encode_head, parse_head
from tests.tools.hooks import respond

NOW = 784_111_777 + 86_400.0  # a day after
MODIFIED = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
SMALL = 64 * 1024
NAMES = {"Cache-Control", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges", "X-Content-Type-Options"}


def write(path: Path, content: bytes | str = b"content", modified: float = MODIFIED) -> None:
    """Writes a file with that date, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (modified, modified))


def parse(target: str, method: str = "GET", *lines: str) -> Request:
    """Returns a request, parsed as the server does it."""
    head = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: example.com", *lines, "")).encode("latin-1")
    request = parse_head(head, 0, len(head))
    resolve_target(request)
    return request


def read_body(response: Response) -> bytes:
    """Returns the body as the server sends it: in order, spans read from their files, Futures waited for."""
    body = response.body
    assert isinstance(body, (bytes, FileSpan, Iterable))
    content = b""
    for piece in (body,) if isinstance(body, (bytes, FileSpan)) else body:
        if isinstance(piece, Future):
            piece = piece.result(timeout=20)
        if isinstance(piece, FileSpan):
            piece = os.pread(piece.fd, piece.length, piece.offset)
        content += piece
    return content


class ReceivedResponse:
    """A response whose body was read and closed, and whose headers can be sent."""

    def __init__(self, response: Response, method: str = "GET") -> None:
        self.status = response.status
        self.headers = response.headers
        self.fields = response.fields
        self.is_span = isinstance(response.body, FileSpan)
        self.body = read_body(response) if method != "HEAD" else b""
        response.close()
        declared = response.headers.get("content-length")
        assert declared is None or method == "HEAD" or int(declared) == len(self.body)
        encode_head(response.fields)  # raises for what cannot be sent

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.fields}


def ask(files: Files, target: str, method: str = "GET", *lines: str) -> ReceivedResponse:
    """Returns the response of `files` to a request with these header lines."""
    return ReceivedResponse(respond(files, parse(target, method, *lines)), method)
