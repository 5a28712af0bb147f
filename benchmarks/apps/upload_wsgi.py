"""The upload of every WSGI server."""

from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Read the whole body, and respond with its length in bytes.

    As PEP 3333 has it, no more is read than CONTENT_LENGTH says. It says nothing of a chunked body; servers that take
    one end their input where it ends.
    """
    length = environ.get("CONTENT_LENGTH")
    body = environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read()
    response = b"%d" % len(body)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(response)))])
    return [response]
