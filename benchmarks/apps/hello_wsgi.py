"""The hello of every WSGI server."""

from collections.abc import Callable, Iterable
from typing import Any

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "5")]


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Respond with five bytes of text; the list is copied because some servers add to it."""
    start_response("200 OK", HEADERS.copy())
    return [b"hello"]
