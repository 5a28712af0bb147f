"""Round trips without sockets: bytes of requests in, bytes of responses out, with a handler in between.

kaserve's two builds do it through HTTPProtocol, in the steps of a connection: receive, read the head, read the body,
call the handler, respond, finish. h11 does the same through its Connection. httptools only parses. Its
responses are written by hand, as uvicorn does it, and neither limits nor Host are checked.

Each handler builds a response of five bytes; for uploads it reads the whole body first. The bytes arrive in
pieces of at most 32 KiB, as kaserve reads them. Connections take 1,000 requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import httptools
import pytest
from lib.builds import BUILDS, DATE_LINE, REQUESTS_PER_CONNECTION, Build
from lib.messages import BROWSER, MINIMAL, chunked, split
from lib.timing import Timing

RoundTrip = Callable[[list[bytes]], bytes]
"""Maps the pieces that arrive on a connection to the bytes that are sent."""

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: www.example.com\r\n"
CONTENT = bytes(64 << 10)
RECEIVED_AT_ONCE = 32 << 10
CONTENT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Conversation:
    """What the client sends, and what comes back."""

    sent: bytes
    responses: int = 1
    response: bytes = b"hello"
    """The body of each response."""


CONVERSATIONS = {
    "hello, 46 bytes": Conversation(MINIMAL),
    "hello, 703 bytes": Conversation(BROWSER),
    "hello, 46 bytes, 16 pipelined": Conversation(MINIMAL * 16, responses=16),
    "64 KiB with a length": Conversation(UPLOAD + b"Content-Length: 65536\r\n\r\n" + CONTENT, response=b"65536"),
    "64 KiB in 4 KiB chunks": Conversation(
        UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(CONTENT, 4 << 10), response=b"65536"
    ),
}


class Kaserve:
    """One build of kaserve."""

    def __init__(self, build: Build) -> None:
        self.outgoing = build.module("http.outgoing").Outgoing
        messages, phases = build.module("http.messages"), build.module("http.phases")
        self.new_protocol = build.protocol
        self.protocol = build.protocol()
        self.respond_with = messages.Response.text
        self.body, self.handler, self.idle = phases.BODY, phases.HANDLER, phases.IDLE

    def handle(self, request: Any) -> Any:
        """The handler: a greeting, or the size of the body."""
        if request.method == "POST":
            return self.respond_with(str(len(request.body.read())))
        return self.respond_with("hello")

    def round_trip(self, pieces: list[bytes]) -> bytes:
        """As `RoundTrip`."""
        if self.protocol.phase != self.idle:  # it has closed after its last request
            self.protocol = self.new_protocol()
        responses = []
        for piece in pieces:
            self.protocol.receive(piece)
            while self.protocol.has_received and self.read():
                responses.append(self.respond())
        return b"".join(responses)

    def read(self) -> bool:
        """Read on; whether a request is complete."""
        protocol = self.protocol
        if protocol.phase != self.body:
            protocol.read_head()
        if protocol.phase == self.body:
            protocol.read_body()
        complete: bool = protocol.phase == self.handler
        return complete

    def respond(self) -> bytes:
        """Responds to the request, which is complete."""
        protocol = self.protocol
        response = self.handle(protocol.request)
        outgoing = self.outgoing()
        protocol.prepare(outgoing, response, DATE_LINE, True)
        protocol.start(outgoing)
        protocol.finish()
        head: bytes = outgoing.head
        return head


class H11:
    """h11, with the few fields of a response that it does not make itself."""

    def __init__(self) -> None:
        self.connection = h11.Connection(h11.SERVER)
        self.request: h11.Request | None = None
        self.body: list[bytes] = []
        self.served = 0

    def handle(self, method: bytes, body: bytes) -> bytes:
        """The handler: a greeting, or the size of the body."""
        return b"%d" % len(body) if method == b"POST" else b"hello"

    def round_trip(self, pieces: list[bytes]) -> bytes:
        """As `RoundTrip`."""
        if self.served >= REQUESTS_PER_CONNECTION:
            self.connection, self.served = h11.Connection(h11.SERVER), 0
        responses = []
        for piece in pieces:
            self.connection.receive_data(piece)
            while self.read():
                responses += self.respond()
        return b"".join(responses)

    def read(self) -> bool:
        """Read on; whether a request is complete."""
        while (event := self.connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                self.request = event
            elif isinstance(event, h11.Data):
                self.body.append(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return True
        return False

    def respond(self) -> list[bytes]:
        """Responds to the request, which is complete."""
        assert self.request is not None
        content = self.handle(self.request.method, b"".join(self.body))
        self.body.clear()
        name, _, date = DATE_LINE.rstrip().partition(b": ")
        headers = [(name, date), (b"Content-Type", CONTENT_TYPE.encode()), (b"Content-Length", b"%d" % len(content))]
        send = self.connection.send
        sent = [
            send(h11.Response(status_code=200, headers=headers)),
            send(h11.Data(data=content)),
            send(h11.EndOfMessage()),
        ]
        self.connection.start_next_cycle()
        self.served += 1
        return [data for data in sent if data]


class Httptools:
    """A parser, and responses put together by hand."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.keep_alive = False
        self.body: list[bytes] = []
        self.responses: list[bytes] = []

    def handle(self, method: bytes, body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The handler: a greeting, or the size of the body."""
        content = b"%d" % len(body) if method == b"POST" else b"hello"
        return [(b"Content-Type", CONTENT_TYPE.encode()), (b"Content-Length", b"%d" % len(content))], content

    def round_trip(self, pieces: list[bytes]) -> bytes:
        """As `RoundTrip`."""
        for piece in pieces:
            self.parser.feed_data(piece)
        sent = b"".join(self.responses)
        self.responses.clear()
        return sent

    def on_message_begin(self) -> None:
        """A new request begins."""
        self.fields = []
        self.body = []

    def on_url(self, url: bytes) -> None:
        """The target."""
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field."""
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, content: bytes) -> None:
        """A piece of the body."""
        self.body.append(content)

    def on_message_complete(self) -> None:
        """Answer the request."""
        headers, content = self.handle(self.parser.get_method(), b"".join(self.body))
        lines = [b"HTTP/1.1 200 OK\r\n", DATE_LINE]
        for name, value in headers:
            lines += [name, b": ", value, b"\r\n"]
        if not self.keep_alive:
            lines.append(b"Connection: close\r\n")
        lines += [b"\r\n", content]
        self.responses.append(b"".join(lines))


def _kaserve(build: Build) -> Callable[[], RoundTrip]:
    return lambda: Kaserve(build).round_trip


CONTENDERS: dict[str, Callable[[], RoundTrip]] = {
    **{build.name: _kaserve(build) for build in BUILDS},
    "httptools": lambda: Httptools().round_trip,
    "h11": lambda: H11().round_trip,
}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def bench_round_trip(timing: Timing, name: str, contender: str) -> None:
    timing.row(f"round trip, {name}", contender)
    conversation = CONVERSATIONS[name]
    responses = timing.time(CONTENDERS[contender](), split(conversation.sent, RECEIVED_AT_ONCE))
    assert responses.count(b"HTTP/1.1 200 ") == conversation.responses
    assert responses.count(b"\r\n\r\n" + conversation.response) == conversation.responses
