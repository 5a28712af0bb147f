"""Responses as a proxy reads them: whole, byte by byte, and cut at random; and what it must not pass on."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from kaserve.http.framing import CHUNKED, UNTIL_CLOSE
from kaserve.http.limits import Limits
from kaserve.http.response_parser import ResponseParser
from kaserve.http.responses import BadResponse


class Read:
    """What a parser makes of a sequence of pieces; b"" at the end for the end of the connection."""

    def __init__(self, pieces: Iterable[bytes], method: str = "GET", *, upgrade: bool = False) -> None:
        self.parser = parser = ResponseParser(Limits())
        parser.expect(method, upgrade=upgrade)
        self.statuses: list[int] = []
        self.body = b""
        for piece in pieces:
            parser.receive(piece)
            while not self.statuses or self.statuses[-1] < 200:
                head = parser.read_head()
                if head is None:
                    break
                self.statuses.append(head.status)
                if head.status == 101:
                    return
            if self.statuses and self.statuses[-1] >= 200:
                while data := parser.read_body():
                    self.body += data


def splits(wire: bytes, *, ends: bool = False) -> list[list[bytes]]:
    """`wire` whole, byte by byte, and cut at random."""
    rng = random.Random(wire)
    end = [b""] if ends else []
    cases = [[wire], [wire[i : i + 1] for i in range(len(wire))]]
    for _ in range(10):
        cuts = sorted(rng.sample(range(1, len(wire)), min(4, len(wire) - 1)))
        cases.append([wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)])
    return [case + end for case in cases]


@pytest.mark.parametrize(
    ("wire", "length", "body", "persists"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5, b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", CHUNKED, b"abc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", 1, b"x", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, b"x", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", 1, b"x", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\n",
            0,
            b"",
            True,
        ),
    ],
)
def test_responses(wire: bytes, length: int, body: bytes, persists: bool) -> None:
    """RFC 9112 §6.3, §9.3."""
    for pieces in splits(wire):
        read = Read(pieces)
        assert read.parser.complete
        assert (read.parser.length, read.body, read.parser.persists) == (length, body, persists)
        assert not read.parser.has_received()


def test_a_body_that_ends_with_the_connection() -> None:
    """RFC 9112 §6.3 step 8."""
    for pieces in splits(b"HTTP/1.1 200 OK\r\n\r\nsome text"):
        read = Read(pieces)
        assert (read.parser.length, read.body, read.parser.complete) == (UNTIL_CLOSE, b"some text", False)
        read.parser.receive(b"")
        assert read.parser.read_body() == b""
        assert read.parser.complete
        assert not read.parser.persists


def test_trailers_without_those_that_must_not_be_there() -> None:
    """RFC 9110 §6.5.1."""
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"
    for pieces in splits(wire):
        assert Read(pieces).parser.trailers == [("x-sum", "1")]


def test_head_has_no_body() -> None:
    """RFC 9112 §6.3 step 1."""
    for pieces in splits(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"):
        assert Read(pieces, "HEAD").parser.complete


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bytes_behind_a_response_are_stray(method: str) -> None:
    """RFC 9112 §6.3: they would be taken for the response to the next request."""
    length = b"Content-Length: 5\r\n" if method == "HEAD" else b""
    status = b"200" if method == "HEAD" else b"204"
    read = Read([b"HTTP/1.1 %b \r\n%b\r\nhello" % (status, length)], method)
    assert read.parser.complete
    assert read.parser.has_received()
    assert read.body == b""


def test_a_switch_of_protocols_that_was_asked_for() -> None:
    """RFC 9110 §7.8; what follows belongs to the other protocol."""
    read = Read([b"HTTP/1.1 101 \r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhi"], upgrade=True)
    assert read.statuses == [101]
    assert not read.parser.persists
    assert read.parser.take_rest() == b"hi"


def test_the_next_response_is_read_from_its_beginning() -> None:
    read = Read([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])
    read.parser.expect("GET")
    assert not read.parser.complete
    read.parser.receive(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    head = read.parser.read_head()
    assert head is not None
    assert head.status == 404
    assert read.parser.complete


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = {
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "a coding beside chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a malformed chunk": CHUNKS + b"zz\r\n",
    "a chunk without its end": CHUNKS + b"1\r\nxx\r\n",
    "a 101 that nobody asked for": b"HTTP/1.1 101 \r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "no status line": b"<html>hello</html>\r\n\r\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status without a class": b"HTTP/1.1 700 OK\r\n\r\n",
    "lines that end with LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "white space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
    "interim responses without an end": b"HTTP/1.1 102 \r\n\r\n" * 101,
    "an interim response with a length": b"HTTP/1.1 103 \r\nContent-Length: 1\r\n\r\n",
}


@pytest.mark.parametrize("wire", BAD.values(), ids=BAD)
def test_what_is_doubtful_is_refused(wire: bytes) -> None:
    """RFC 9112 §5, §6.1, §6.3, §7.1, §11.1; RFC 9110 §7.8, §8.6."""
    for pieces in splits(wire) if len(wire) < 1000 else [[wire]]:
        with pytest.raises(BadResponse):
            Read(pieces)


CUT = {
    "nothing": b"",
    "a part of the head": b"HTTP/1.1 200 OK\r\nConte",
    "a part of a counted body": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    "a part of a chunk": CHUNKS + b"5\r\nhel",
    "chunks without the last one": CHUNKS + b"1\r\nx\r\n",
    "the last chunk without its end": CHUNKS + b"0\r\n",
}


@pytest.mark.parametrize("wire", CUT.values(), ids=CUT)
def test_a_part_never_looks_like_the_whole(wire: bytes) -> None:
    """RFC 9112 §8."""
    for pieces in splits(wire, ends=True) if wire else [[b""]]:
        with pytest.raises(BadResponse):
            Read(pieces)
