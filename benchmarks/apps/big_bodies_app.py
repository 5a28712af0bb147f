"""The WSGI application of big_bodies.py."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/upload counts what it reads; the others send the file that is named in the environment."""
    if environ["PATH_INFO"] == "/upload":
        size = sum(len(block) for block in iter(lambda: environ["wsgi.input"].read(65536), b""))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % size]
    file = open(os.environ["BIG_FILE"], "rb")
    size = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    if environ["PATH_INFO"] == "/file":
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped
    return blocks(file)


def blocks(file: Any) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(65536), b"")
