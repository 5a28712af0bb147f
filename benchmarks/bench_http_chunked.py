"""Chunked bodies (RFC 9112 section 7.1): decoding and encoding, with kaserve's two builds, httptools and h11.

Decoding: 64 KiB of content in chunks of 16 bytes, 4 KiB and 64 KiB, ten bodies a round. They are fed whole, or in
pieces of 1 KiB as a slow network delivers them. Each decoder returns the content as a list of pieces, which are dropped
immediately. The head of each message was read before, which does not count. "copy" is the lower bound of any decoder:
copying the content, in the same pieces, into objects of Python.

Encoding: one chunk. httptools encodes nothing.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import h11
import httptools
import pytest
from lib.builds import BUILDS, DATE_LINE, Build
from lib.messages import MINIMAL, chunked, split
from lib.timing import Timing

Feed = Callable[[bytes], list[bytes]]
"""Takes a piece of what was received, and returns the content found in it; the list may be emptied afterwards."""
Start = Callable[[], Feed]
"""Begins a body."""
Encode = Callable[[bytes], bytes]
"""From the content of a chunk to the chunk."""

HEAD = b"POST /upload HTTP/1.1\r\nHost: www.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTENT = Random(0).randbytes(64 << 10)
BODIES = 10
CHUNK_SIZES = {"16 B": 16, "4 KiB": 4 << 10, "64 KiB": 64 << 10}
PIECE_SIZES = {"whole": 1 << 20, "in 1 KiB pieces": 1 << 10}


# Decoding.


def kaserve_decoder(build: Build) -> Start:
    """Calls the decoder as HTTPProtocol does."""
    decoder_class = build.module("http.wire").ChunkedDecoder
    limits = build.module("http.limits").Limits()

    def start() -> Feed:
        decoder = decoder_class(limits)

        def feed(piece: bytes) -> list[bytes]:
            decoder.feed(piece, 0)
            content: list[bytes] = decoder.content
            return content

        return feed

    return start


class HttptoolsUser:
    """A parser with one callback: that for the body."""

    def __init__(self) -> None:
        self.content: list[bytes] = []
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(HEAD)

    def feed(self, piece: bytes) -> list[bytes]:
        """As `Feed`."""
        self.parser.feed_data(piece)
        return self.content

    def on_body(self, content: bytes) -> None:
        """A piece of the content."""
        self.content.append(content)


def h11_decoder() -> Feed:
    """A connection that has read the head."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD)
    connection.next_event()

    def feed(piece: bytes) -> list[bytes]:
        connection.receive_data(piece)
        content = []
        while type(event := connection.next_event()) is h11.Data:
            content.append(event.data)
        return content

    return feed


def copier() -> Feed:
    """Takes the content itself, not the chunks."""
    return lambda piece: [bytes(memoryview(piece))]


DECODERS: dict[str, Start] = {
    **{build.name: kaserve_decoder(build) for build in BUILDS},
    "httptools": lambda: HttptoolsUser().feed,
    "h11": h11_decoder,
    "copy": copier,
}


def decode(feed: Feed, pieces: list[bytes]) -> None:
    """Decode a body, and drop its content."""
    for piece in pieces:
        feed(piece).clear()


def taken(content: list[bytes]) -> bytes:
    """All of the content, after which the list is empty."""
    taken = b"".join(content)
    content.clear()
    return taken


@pytest.mark.parametrize("contender", DECODERS)
@pytest.mark.parametrize("feeding", PIECE_SIZES)
@pytest.mark.parametrize("chunk", CHUNK_SIZES)
def bench_decoding(timing: Timing, chunk: str, feeding: str, contender: str) -> None:
    timing.row(f"chunked, {BODIES} bodies of 64 KiB in {chunk} chunks, {feeding}", contender)
    received = CONTENT if contender == "copy" else chunked(CONTENT, CHUNK_SIZES[chunk])
    pieces = split(received, PIECE_SIZES[feeding])
    start = DECODERS[contender]
    feed = start()
    assert b"".join(taken(feed(piece)) for piece in pieces) == CONTENT
    timing.time_fresh(start, lambda feed: decode(feed, pieces), batch=BODIES)


# Encoding.


def kaserve_encoder(build: Build) -> Encode:
    """A protocol in the middle of a response of unknown length."""
    protocol = build.protocol()
    protocol.receive(MINIMAL)
    protocol.read_head()
    response = build.module("http.messages").Response(200, iter(()))
    outgoing = build.module("http.outgoing").Outgoing()
    protocol.prepare(outgoing, response, DATE_LINE, True)
    encode: Encode = outgoing.encode
    return encode


def h11_encoder() -> Encode:
    """The same of h11."""
    connection: Any = h11.Connection(h11.SERVER)
    connection.receive_data(MINIMAL)
    connection.next_event()
    connection.send(h11.Response(status_code=200, headers=[]))
    return lambda piece: connection.send(h11.Data(data=piece))


ENCODERS = {**{build.name: kaserve_encoder(build) for build in BUILDS}, "h11": h11_encoder()}


@pytest.mark.parametrize("contender", ENCODERS)
@pytest.mark.parametrize("size", CHUNK_SIZES)
def bench_encoding(timing: Timing, size: str, contender: str) -> None:
    timing.row(f"encoding a chunk of {size}", contender)
    content = CONTENT[: CHUNK_SIZES[size]]
    assert timing.time(ENCODERS[contender], content) == b"%x\r\n%b\r\n" % (len(content), content)
