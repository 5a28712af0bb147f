"""Visits for the storms: what a client sends in which pieces, whether it reads, and how it leaves.

Some send what the differential fuzzer tries (from the grammar, mutated from the corpus, at random). The others send
what an
attacker sends: to hold the server up, to fill its memory, or to be understood in two ways. Over TLS some of them want
no handshake, or none that ends.

Does not know a server: tests/end_to_end/test_storm.py plays visits to connections with a fake clock,
tests/fuzz/storm.py to a server in another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.fuzz.generate import Generator, Rng, named
from tests.fuzz.handshakes import HANDSHAKES
from tests.tools.wire import cut

__all__ = ["MALICE", "Leaving", "Visit", "Visits"]


class Leaving(Enum):
    """What a visitor does when it has sent everything."""

    STAY = "waits until the server closes"
    FINISH = "closes its sending side"
    VANISH = "closes at once, with unread responses"
    RESET = "closes with a reset"


@dataclass(frozen=True)
class Visit:
    kind: str
    pieces: tuple[bytes, ...]
    reads: bool  # whether it ever reads
    leaving: Leaving
    bare: bool = False  # over TLS: the pieces are sent instead of a handshake

    @property
    def wire(self) -> bytes:
        return b"".join(self.pieces)


class Visits:
    """Endless visits, the same ones for the same seed. `tls`: to a server that speaks TLS."""

    def __init__(self, seed: int, *, tls: bool = False) -> None:
        self._generator = Generator(seed)
        self.rng = self._generator.rng
        self.tls = tls

    def next(self) -> Visit:
        rng = self.rng
        bare = self.tls and rng.one_in(2)
        if bare:
            kind, harm = rng.pick(HANDSHAKES)
            pieces = self._cut(harm(rng))
        elif rng.one_in(3):
            kind, harm = rng.pick(MALICE)
            pieces = self._cut(harm(rng))
        elif rng.one_in(16):
            kind = "noise"
            pieces = (rng.bytes(200),)
        else:
            kind = "fuzz"
            case = self._generator.pipeline()
            pieces = tuple(cut(case.wire, case.places))
        leaving = rng.pick((Leaving.STAY, Leaving.STAY, Leaving.FINISH, Leaving.VANISH, Leaving.RESET))
        return Visit(kind, tuple(filter(None, pieces)), not rng.one_in(8), leaving, bare)

    def _cut(self, wire: bytes) -> tuple[bytes, ...]:
        rng = self.rng
        return tuple(cut(wire, sorted(rng.below(len(wire) + 1) for _ in range(rng.below(4)))))


# Malice. Each function makes one stream of bytes: some are short and harmless, some exceed every limit.

_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n"
_CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
_GET = _HEAD + b"\r\n"


def _many(rng: Rng, most: int) -> int:
    """Returns a number up to `most`, of any magnitude."""
    return 1 + rng.below(rng.pick((2, 30, 300, most)))


def endless_request_line(rng: Rng) -> bytes:
    return b"GET /" + b"a" * _many(rng, 70_000)


def endless_field(rng: Rng) -> bytes:
    return _HEAD + b"X: " + b"a" * _many(rng, 70_000)


def endless_fields(rng: Rng) -> bytes:
    return _HEAD + b"X: y\r\n" * _many(rng, 12_000)


def endless_empty_lines(rng: Rng) -> bytes:
    return b"\r\n" * _many(rng, 40_000) + rng.pick((b"", _GET))


def endless_chunk_extension(rng: Rng) -> bytes:
    return _CHUNKED + b"5;" + b"a" * _many(rng, 70_000)


def endless_trailers(rng: Rng) -> bytes:
    return _CHUNKED + b"0\r\n" + b"X: y\r\n" * _many(rng, 12_000)


def crumbs(rng: Rng) -> bytes:
    """A body in chunks of one byte."""
    return _CHUNKED + b"1\r\nx\r\n" * _many(rng, 10_000) + rng.pick((b"", b"0\r\n\r\n", b"0\r\n\r\n" + _GET))


def huge_chunk(rng: Rng) -> bytes:
    size = rng.pick((b"7fffffffffffffff", b"ffffffffffffffff", b"10000000000000005", b"0" * 5000 + b"5", b"fffffffe"))
    return _CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n"


def huge_length(rng: Rng) -> bytes:
    digits = rng.pick((b"99999", b"2147483648", b"4294967301", b"18446744073709551621", b"9" * 5000, b"0" * 20 + b"5"))
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + digits + b"\r\n\r\nhello"


def two_framings(rng: Rng) -> bytes:
    """A second request is hidden in a body, or a body in it."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    fields = [
        rng.pick((b"Content-Length: 4", b"Content-Length: %d" % (5 + len(hidden)), b"Content-Length: 0")),
        rng.pick((b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\x0bchunked")),
        rng.pick((b"X: y", b"Transfer-Encoding: identity", b"Content-Length: 5", b"\tTransfer-Encoding: chunked")),
    ]
    if rng.one_in(2):
        fields.reverse()
    return b"POST / HTTP/1.1\r\nHost: h\r\n" + b"\r\n".join([*fields, b"", b"0\r\n\r\n"]) + hidden


def unread_pipeline(rng: Rng) -> bytes:
    return _GET * _many(rng, 3000)


def promises(rng: Rng) -> bytes:
    """Bodies that are announced and never sent."""
    expected = b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\nExpect: 100-continue\r\n\r\n"
    return expected * _many(rng, 20)


def other_protocols(rng: Rng) -> bytes:
    return rng.pick(
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            b"\x05\x01\x00",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"EHLO h\r\n",
            b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00\x00\x00\x2b\xffSMB",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + _GET,
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + bytes(12),
        )
    )


def upgrades(rng: Rng) -> bytes:
    wish = rng.pick((b"h2c\r\nHTTP2-Settings: AAMAAABk", b"websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
    more = rng.pick((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x81\x85\x00\x00\x00\x00hello", _GET))
    return _HEAD + b"Connection: Upgrade\r\nUpgrade: " + wish + b"\r\n\r\n" + more


def many_ranges(rng: Rng) -> bytes:
    ranges = b",".join([rng.pick((b"0-", b"-1", b"1-1", b"5-2", b"0-9999999999999999999999"))] * _many(rng, 1500))
    return b"GET /index.html HTTP/1.1\r\nHost: h\r\nRange: bytes=" + ranges + b"\r\n\r\n"


def many_tags(rng: Rng) -> bytes:
    return b"GET /index.html HTTP/1.1\r\nHost: h\r\nIf-None-Match: " + b'W/"a",' * _many(rng, 1300) + b"\r\n\r\n"


def many_hops(rng: Rng) -> bytes:
    return _HEAD + b"Connection: " + b"close-not," * _many(rng, 800) + b"\r\n\r\n" + _GET


def paths_outside(rng: Rng) -> bytes:
    steps = rng.pick((b"../", b"..%2f", b"%2e%2e/", b"..\\", b"%00/", b"//", b"./", b"%c0%ae%c0%ae/", b"..;/"))
    return b"GET /" + steps * _many(rng, 1500) + b"etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n"


def odd_queries(rng: Rng) -> bytes:
    query = rng.pick((b"zip", b"json", b"sort=" + b"a" * 5000, b"&" * 5000, b"%" * 5000, b"a=b&" * 2000, b"zip=../.."))
    return b"GET /?" + query + b" HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n"


def forms(rng: Rng) -> bytes:
    """A form of several parts, with a boundary that is missing, too long, or everywhere."""
    boundary = rng.pick((b"b", b"-", b"a" * 70, b"a" * 4000, b'"', b""))
    part = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="f"; filename="../x"\r\n\r\n'
    body = (part + b"\r\n") * _many(rng, 300) + rng.pick((b"", b"--" + boundary + b"--\r\n"))
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=" + boundary
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


MALICE = named(
    endless_request_line,
    endless_field,
    endless_fields,
    endless_empty_lines,
    endless_chunk_extension,
    endless_trailers,
    crumbs,
    huge_chunk,
    huge_length,
    two_framings,
    unread_pipeline,
    promises,
    other_protocols,
    upgrades,
    many_ranges,
    many_tags,
    many_hops,
    paths_outside,
    odd_queries,
    forms,
)
