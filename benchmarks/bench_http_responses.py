"""Writing the heads of responses: kaserve's two builds and h11.  httptools only reads.

- field lines: checked, and made into bytes.
- head: all of it, with status, Date, framing and persistence, a hundred times; each connection has read a request
  before, which does not count. h11 is given the values of Date and Content-Length, and makes neither Connection nor
  Keep-Alive.

"hello" has one field, "file" has eight. Both are the same every time, as the responses of a server mostly are.
"""

from collections.abc import Callable
from typing import Any

import h11
import pytest
from lib.builds import BUILDS, DATE_LINE, Build
from lib.messages import MINIMAL
from lib.timing import Timing

Fields = list[tuple[str, str]]

HELLO = [("Content-Type", "text/plain; charset=utf-8")]
FILE = [
    ("Content-Type", "text/css; charset=utf-8"),
    ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("ETag", '"2f6-17d1f0a3b5c4d000"'),
    ("Accept-Ranges", "bytes"),
    ("Cache-Control", "public, max-age=3600"),
    ("Vary", "Accept-Encoding"),
    ("Content-Security-Policy", "default-src 'self'"),
    ("X-Content-Type-Options", "nosniff"),
]
RESPONSES = {"hello": HELLO, "file": FILE}
BODY = b"hello"
HEADS = 100


def kaserve_connection(build: Build) -> Any:
    """A protocol that has a request to respond to."""
    protocol = build.protocol()
    protocol.receive(MINIMAL)
    assert protocol.read_head() is not None
    return protocol


def kaserve_respond(build: Build, fields: Fields) -> Callable[[Any], bytes]:
    """What encodes a response on such a protocol."""
    response_class = build.module("http.messages").Response
    outgoing_class = build.module("http.outgoing").Outgoing

    def respond(protocol: Any) -> bytes:
        outgoing = outgoing_class()
        protocol.prepare(outgoing, response_class(200, BODY, fields), DATE_LINE, True)
        head: bytes = outgoing.head
        return head

    return respond


def h11_connection() -> h11.Connection:
    """A connection that has a request to respond to."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(MINIMAL)
    assert type(connection.next_event()) is h11.Request
    return connection


def h11_respond(fields: Fields) -> Callable[[h11.Connection], bytes | None]:
    """What encodes a response on such a connection."""
    name, _, date = DATE_LINE.strip().partition(b": ")
    headers = [(key.encode(), value.encode()) for key, value in fields]
    headers += [(name, date), (b"Content-Length", b"%d" % len(BODY))]

    def respond(connection: h11.Connection) -> bytes | None:
        return connection.send(h11.Response(status_code=200, headers=headers))

    return respond


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("response", RESPONSES)
def bench_field_lines(timing: Timing, response: str, build: Build) -> None:
    timing.row(f"response, {response}: field lines", build.name)
    assert timing.time(build.module("http.wire").encode_head, RESPONSES[response])


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("response", RESPONSES)
def bench_head(timing: Timing, response: str, build: Build) -> None:
    timing.row(f"response, {response}: {HEADS} heads", build.name)
    respond = kaserve_respond(build, RESPONSES[response])
    assert respond(kaserve_connection(build)).endswith(b"\r\n\r\n" + BODY)
    timing.time_fresh(lambda: kaserve_connection(build), respond, batch=HEADS)


@pytest.mark.parametrize("response", RESPONSES)
def bench_head_h11(timing: Timing, response: str) -> None:
    timing.row(f"response, {response}: {HEADS} heads", "h11")
    respond = h11_respond(RESPONSES[response])
    assert (respond(h11_connection()) or b"").endswith(b"\r\n\r\n")
    timing.time_fresh(h11_connection, respond, batch=HEADS)
