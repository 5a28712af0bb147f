"""Reading heads: kaserve's two builds, httptools and h11.

There are two questions for each head:

- syntax: what is valid, and where are the parts? They are not interpreted yet. h11 cannot do that alone.
- request: a checked request, its framing and persistence decided. kaserve checks the target and Host as well.

httptools is one parser that reads one head after the other, with the callbacks of its users: method, target, a list of
fields with names in lower case, and whether to keep the connection. kaserve makes such a list on demand; "+ fields"
demands it. All find the end of the head. "in HTTPProtocol" is how a connection of kaserve reads: that checks limits and
Expect, and leaves persistence to the response. h11 is a connection that has read nothing before; making it does not
count.

Each parser may cache what it reads repeatedly. Both builds of kaserve cache the field lines that are
demanded, the compiled one also methods, targets and hosts. "new cookies" are 4,096 heads in turn, each
with a cookie of its own.
"""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import h11
import httptools
import pytest
from lib.builds import BUILDS, Build
from lib.messages import BROWSER, HEADS, browsers
from lib.timing import Timing

Read = Callable[[bytes], Any]
"""Reads a complete head, the empty line included."""


def kaserve_syntax(build: Build) -> Read:
    """As HTTPProtocol.read_head has it: where does the head end, and what is in it?"""
    wire = build.module("http.wire")
    find_head_end, parse_head = wire.find_head_end, wire.parse_head
    return lambda data: parse_head(data, 0, find_head_end(data, 0) + 2)


def kaserve_request(build: Build) -> Read:
    """The functions that HTTPProtocol.read_head and respond call, in their order."""
    wire = build.module("http.wire")
    find_head_end, parse_head = wire.find_head_end, wire.parse_head
    resolve_target = build.module("http.target").resolve_target
    framing = build.module("http.framing")
    request_framing, persists = framing.request_framing, framing.persists

    def read(data: bytes) -> Any:
        request = parse_head(data, 0, find_head_end(data, 0) + 2)
        resolve_target(request)
        return request, request_framing(request), persists(request, 0, True)

    return read


def kaserve_request_with_fields(build: Build) -> Read:
    """And every field made into a pair of str."""
    read_request = kaserve_request(build)

    def read(head: bytes) -> Any:
        request, *framing = read_request(head)
        return request, framing, request.fields

    return read


def kaserve_protocol(build: Build) -> Read:
    """One protocol that reads one head after another, as if each had had its response."""
    protocol, idle = build.protocol(), build.module("http.phases").IDLE

    def read(head: bytes) -> Any:
        protocol.receive(head)
        request = protocol.read_head()
        protocol.phase = idle
        return request

    return read


def httptools_syntax() -> Read:
    """A parser without a single callback."""
    read: Read = httptools.HttpRequestParser(object()).feed_data
    return read


class HttptoolsUser:
    """What a server builds out of the callbacks."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.result: Any = None

    def read(self, head: bytes) -> Any:
        """All that was found."""
        self.parser.feed_data(head)
        return self.result

    def on_message_begin(self) -> None:
        """A new head begins."""
        self.fields = []

    def on_url(self, url: bytes) -> None:
        """The target."""
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field."""
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The end of the head."""
        parser = self.parser
        self.result = (
            parser.get_method(),
            self.url,
            parser.get_http_version(),
            self.fields,
            parser.should_keep_alive(),
        )


def builds_doing(make: Callable[[Build], Read], suffix: str = "") -> dict[str, Read]:
    """The rows of kaserve."""
    return {build.name + suffix: make(build) for build in BUILDS}


SYNTAX = {**builds_doing(kaserve_syntax), "httptools": httptools_syntax()}
REQUEST = {
    **builds_doing(kaserve_request),
    **builds_doing(kaserve_request_with_fields, " + fields"),
    **builds_doing(kaserve_protocol, " in HTTPProtocol"),
    "httptools": HttptoolsUser().read,
}


@pytest.mark.parametrize("contender", SYNTAX)
@pytest.mark.parametrize("head", HEADS)
def bench_syntax(timing: Timing, head: str, contender: str) -> None:
    timing.row(f"head, {head}: syntax", contender)
    timing.time(SYNTAX[contender], HEADS[head])


@pytest.mark.parametrize("contender", REQUEST)
@pytest.mark.parametrize("head", HEADS)
def bench_request(timing: Timing, head: str, contender: str) -> None:
    timing.row(f"head, {head}: request", contender)
    assert timing.time(REQUEST[contender], HEADS[head])


@pytest.mark.parametrize("head", HEADS)
def bench_request_h11(timing: Timing, head: str) -> None:
    timing.row(f"head, {head}: request", "h11")

    def read(connection: h11.Connection) -> None:
        connection.receive_data(HEADS[head])
        assert type(connection.next_event()) is h11.Request

    timing.time_fresh(lambda: h11.Connection(h11.SERVER), read)


@pytest.mark.parametrize("contender", REQUEST)
def bench_new_cookies(timing: Timing, contender: str) -> None:
    timing.row(f"head, {len(BROWSER)} bytes, new cookies: request", contender)
    read, heads = REQUEST[contender], cycle(browsers())
    timing.time(lambda: read(next(heads)))
