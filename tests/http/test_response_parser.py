"""The parser of the responses on one connection, with each implementation of the syntax, however the bytes arrive."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wire import IMPLEMENTATIONS, Implementation, at_random, bytewise, cut, whole

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)

CHUNKED, UNTIL_CLOSE, TUNNEL = -1, -2, -4
OK = b"HTTP/1.1 200 OK\r\n"
FIVE = OK + b"Content-Length: 5\r\n\r\n"
CODED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def new_parser(implementation: Implementation, **limits: int) -> Any:
    return implementation.module("response_parser").ResponseParser(implementation.limits(**limits))


@dataclass
class Outcome:
    """What a parser has found; comparable, so that two ways to cut the bytes can be compared."""

    interim: list[int] = field(default_factory=list)
    status: int = 0
    length: int = 0
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False
    persists: bool = False
    rest: bytes = b""
    error: str = ""  # the name of the exception


def parse(
    implementation: Implementation,
    pieces: Iterable[bytes],
    method: str = "GET",
    *,
    eof: bool = False,
    upgrade: bool = False,
    most: int | None = None,
    **limits: int,
) -> Outcome:
    """Feeds `pieces` to a new parser, and reads after each."""
    parser = new_parser(implementation, **limits)
    parser.expect(method, upgrade=upgrade)
    outcome = Outcome()
    try:
        for piece in (*pieces, b"") if eof else pieces:
            parser.receive(piece)
            take(parser, outcome, most)
    except implementation.module("responses").BadResponse as error:
        outcome.error = type(error).__name__
    outcome.complete, outcome.persists = parser.complete, parser.persists
    outcome.trailers = list(parser.trailers)
    if parser.complete:
        has_rest = parser.has_received()
        outcome.rest = parser.take_rest()
        assert (has_rest, parser.has_received()) == (outcome.rest != b"", False)
    return outcome


def take(parser: Any, outcome: Outcome, most: int | None) -> None:
    while (head := parser.read_head()) is not None:
        if head.status < 200 and head.status != 101:
            outcome.interim.append(head.status)
        else:
            outcome.status, outcome.length = head.status, parser.length
    while piece := parser.read_body() if most is None else parser.read_body(most):
        assert most is None or len(piece) <= most
        outcome.body += piece


def parse_everyhow(implementation: Implementation, wire: bytes, method: str = "GET", **options: Any) -> Outcome:
    """Parses `wire` whole, byte by byte, and in random pieces, with the same outcome. A body that turns out to be
    malformed may have been returned up to that point or not; which error it was may be found earlier."""
    expected = parse(implementation, whole(wire), method, **options)
    rng = random.Random(zlib.crc32(wire))
    for pieces in (bytewise(wire), *(at_random(wire, rng) for _ in range(5))):
        for most in (None, 1, 7):
            found = parse(implementation, pieces, method, most=most, **options)
            if expected.error:
                found.body = expected.body = b""
            assert found == expected
    return expected


def response(**values: Any) -> Outcome:
    return Outcome(**{"status": 200, "complete": True, "persists": True, **values})


# Where responses end.


@pytest.mark.parametrize(
    ("wire", "method", "expected"),
    [
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", "GET", response(), id="empty"),
        pytest.param(FIVE + b"hello", "GET", response(length=5, body=b"hello"), id="length"),  # RFC 9112 §6.3 step 6
        pytest.param(FIVE + b"hel", "GET", response(length=5, body=b"hel", complete=False, persists=False), id="part"),
        pytest.param(FIVE, "HEAD", response(), id="HEAD"),  # step 1
        pytest.param(CODED, "HEAD", response(), id="HEAD, chunked"),
        pytest.param(b"HTTP/1.1 204 \r\n\r\n", "GET", response(status=204), id="204"),
        pytest.param(b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", "GET", response(status=304), id="304"),
        pytest.param(
            CODED + b"4;x=y\r\nWiki\r\n6\r\npedia \r\n0\r\nX-Sum: 10\r\nContent-Length: 3\r\n\r\n",
            "GET",
            response(length=CHUNKED, body=b"Wikipedia ", trailers=[("x-sum", "10")]),  # RFC 9110 §6.5.1
            id="chunked",
        ),
        pytest.param(CODED + b"0\r\n\r\n", "GET", response(length=CHUNKED), id="chunked, empty"),
        pytest.param(
            CODED + b"5\r\nhello\r\n0\r\n",
            "GET",
            response(length=CHUNKED, body=b"hello", complete=False, persists=False),
            id="chunked, part",
        ),
        pytest.param(
            FIVE.replace(b"\r\n\r\n", b"\r\nConnection: x, CLOSE\r\n\r\n") + b"hello",
            "GET",
            response(length=5, body=b"hello", persists=False),  # RFC 9112 §9.3
            id="close",
        ),
        pytest.param(
            FIVE.replace(b"1.1", b"1.0") + b"hello", "GET", response(length=5, body=b"hello", persists=False), id="1.0"
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello",
            "GET",
            response(length=5, body=b"hello"),
            id="1.0, keep-alive",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + FIVE + b"hello",
            "POST",
            response(interim=[100, 103], length=5, body=b"hello"),  # RFC 9110 §15.2
            id="interim",
        ),
        pytest.param(
            b"HTTP/1.1 100 x\r\nContent-Length: 0\r\n\r\n" + FIVE + b"hello",
            "GET",
            response(interim=[100], length=5, body=b"hello"),  # forbidden, but nobody can misunderstand it
            id="interim, length 0",
        ),
    ],
)
def test_responses(implementation: Implementation, wire: bytes, method: str, expected: Outcome) -> None:
    assert parse_everyhow(implementation, wire, method) == expected


def test_a_body_until_the_connection_closes(implementation: Implementation) -> None:
    """RFC 9112 §6.3 step 8."""
    wire = OK + b"\r\nhello"
    part = response(length=UNTIL_CLOSE, body=b"hello", complete=False, persists=False)
    assert parse_everyhow(implementation, wire) == part
    assert parse_everyhow(implementation, wire, eof=True) == response(length=UNTIL_CLOSE, body=b"hello", persists=False)
    empty = response(length=UNTIL_CLOSE, persists=False)
    assert parse_everyhow(implementation, OK + b"\r\n", eof=True) == empty


def test_it_is_complete_as_soon_as_the_last_byte_is_read(implementation: Implementation) -> None:
    parser = new_parser(implementation)
    parser.expect("GET")
    parser.receive(OK + b"\r\nhello")
    parser.receive(b"")
    parser.read_head()
    assert (parser.read_body(4), parser.complete) == (b"hell", False)
    assert (parser.read_body(4), parser.complete) == (b"o", True)


# What is cut off is not complete.


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        pytest.param(b"", "MissingResponse", id="nothing"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "MissingResponse", id="after 100"),
        pytest.param(b"H", "TruncatedResponse", id="one byte"),
        pytest.param(OK + b"\r", "TruncatedResponse", id="head"),
        pytest.param(FIVE, "TruncatedResponse", id="no content"),
        pytest.param(FIVE + b"hell", "TruncatedResponse", id="less content"),
        pytest.param(CODED, "TruncatedResponse", id="no chunk"),
        pytest.param(CODED + b"5\r\nhell", "TruncatedResponse", id="within a chunk"),
        pytest.param(CODED + b"5\r\nhello\r\n", "TruncatedResponse", id="between chunks"),
        pytest.param(CODED + b"5\r\nhello\r\n1", "TruncatedResponse", id="within a size"),
        pytest.param(CODED + b"5\r\nhello\r\n0\r\n", "TruncatedResponse", id="no end of the trailers"),
        pytest.param(CODED + b"5\r\nhello\r\n0\r\nX: y\r\n\r", "TruncatedResponse", id="one byte less"),
    ],
)
def test_truncated_responses(implementation: Implementation, wire: bytes, error: str) -> None:
    """RFC 9112 §8: what came before its end is returned, and then an error."""
    found = parse_everyhow(implementation, wire, eof=True)
    assert (found.error, found.complete, found.persists) == (error, False, False)
    assert not parse_everyhow(implementation, wire).error
    assert parse(implementation, whole(FIVE + b"hell"), eof=True).body == b"hell"


# What belongs to no response.


@pytest.mark.parametrize(
    ("wire", "method", "stray"),
    [
        pytest.param(FIVE + b"hello", "HEAD", b"hello", id="HEAD"),  # RFC 9112 §6.3 step 1
        pytest.param(b"HTTP/1.1 204 \r\n\r\nhello", "GET", b"hello", id="204"),
        pytest.param(b"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\nhello", "GET", b"hello", id="304"),
        pytest.param(FIVE + b"hello, world", "GET", b", world", id="length"),
        pytest.param(CODED + b"0\r\n\r\n\r\n", "GET", b"\r\n", id="chunked"),
        pytest.param(FIVE + b"hello" + OK, "GET", OK, id="a second response"),
    ],
)
def test_stray_bytes(implementation: Implementation, wire: bytes, method: str, stray: bytes) -> None:
    """They are no part of the body, and are there for the owner to see."""
    found = parse_everyhow(implementation, wire, method)
    assert (found.complete, found.rest, found.error) == (True, stray, "")


def test_nothing_is_read_before_a_response_is_due(implementation: Implementation) -> None:
    parser = new_parser(implementation)
    assert (parser.complete, parser.persists, parser.has_received()) == (True, True, False)
    parser.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert (parser.read_head(), parser.read_body(), parser.has_received()) == (None, b"", True)


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length: x"])
def test_an_interim_response_with_content(implementation: Implementation, field: bytes) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: forbidden. What follows might be content or a response."""
    wire = b"HTTP/1.1 103 x\r\n" + field + b"\r\n\r\n" + FIVE + b"hello"
    assert parse_everyhow(implementation, wire).error == "BadResponse"


# Another protocol.


def test_a_switch_of_protocols(implementation: Implementation) -> None:
    """RFC 9110 §7.8: what follows is the other protocol's."""
    found = parse_everyhow(implementation, SWITCH + b"\x81\x05hello", upgrade=True)
    assert found == response(status=101, length=TUNNEL, persists=False, rest=b"\x81\x05hello")


@pytest.mark.parametrize(
    ("wire", "upgrade"),
    [
        pytest.param(SWITCH, False, id="not asked for"),
        pytest.param(SWITCH.replace(b"Connection: Upgrade\r\n", b""), True, id="no Connection"),
        pytest.param(SWITCH.replace(b"Connection: Upgrade", b"Connection: upgrades, close"), True, id="other option"),
        pytest.param(SWITCH.replace(b"Upgrade: websocket\r\n", b""), True, id="no Upgrade"),
        pytest.param(SWITCH.replace(b"HTTP/1.1", b"HTTP/1.0"), True, id="HTTP/1.0"),
    ],
)
def test_a_switch_that_is_none(implementation: Implementation, wire: bytes, upgrade: bool) -> None:
    """RFC 9110 §7.8, §15.2.2."""
    found = parse_everyhow(implementation, wire, upgrade=upgrade)
    assert (found.error, found.complete) == ("BadResponse", False)


def test_a_refused_upgrade_is_a_response(implementation: Implementation) -> None:
    assert parse_everyhow(implementation, FIVE + b"hello", upgrade=True) == response(length=5, body=b"hello")


# What is no response.


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"hello\r\n\r\n", id="HTTP/0.9"),  # RFC 9112 §4
        pytest.param(b"h", id="another protocol"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="SSH"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="TLS"),
        pytest.param(b"\r\n" + FIVE, id="an empty line"),
        pytest.param(b"\r\n\r\n", id="nothing but lines"),
        pytest.param(b"HTTP/2.0 200 OK\r\n\r\n", id="HTTP/2"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 600 OK\r\n\r\n", id="status 600"),  # RFC 9110 §15
        pytest.param(b"HTTP/1.1 99 OK\r\n\r\n", id="status 99"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", id="LF in the status line"),  # RFC 9112 §2.2
        pytest.param(OK + b"X: a\nContent-Length: 0\r\n\r\n", id="LF in a field"),
        pytest.param(OK + b"X: a\rContent-Length: 0\r\n\r\n", id="CR in a field"),
        pytest.param(OK + b"Content-Length: 0\n\n", id="LF LF"),
        pytest.param(OK + b"X: a\x00b\r\n\r\n", id="NUL"),  # RFC 9110 §5.5
        pytest.param(OK + b"X: a\x00", id="NUL, part"),
        pytest.param(OK + b"X: a\x08b\r\n\r\n", id="control byte"),
        pytest.param(OK + b"X: a\x7fb\r\n\r\n", id="DEL"),
        pytest.param(OK + b"X\r\n\r\n", id="no colon"),  # RFC 9112 §5
        pytest.param(OK + b": x\r\n\r\n", id="no name"),
        pytest.param(OK + b" X: y\r\n\r\n", id="folded status line"),
        pytest.param(OK + b"Content-Length: 5, 5\r\n\r\nhello", id="two lengths"),  # RFC 9112 §6.3 step 5
        pytest.param(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", id="the same length twice"),
        pytest.param(OK + b"Content-Length: +5\r\n\r\nhello", id="signed length"),
        pytest.param(OK + b"Content-Length: 0x5\r\n\r\nhello", id="hexadecimal length"),
        pytest.param(OK + b"Content-Length: \r\n\r\nhello", id="no length"),
        pytest.param(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="another coding"),
        pytest.param(OK + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n", id="unknown coding"),
        pytest.param(CODED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", id="chunks from HTTP/1.0"),  # RFC 9112 §6.1
        pytest.param(CODED + b"x\r\n", id="no size"),  # RFC 9112 §7.1
        pytest.param(CODED + b"5\nhello", id="size with LF"),
        pytest.param(CODED + b"-5\r\nhello", id="negative size"),
        pytest.param(CODED + b"0x5\r\nhello", id="size with a prefix"),
        pytest.param(CODED + b"12345678901234567\r\n", id="size of more than 64 bits"),
        pytest.param(CODED + b"5\r\nhello0\r\n\r\n", id="no end of the chunk"),
        pytest.param(CODED + b"5\r\nhello, world\r\n0\r\n\r\n", id="a longer chunk"),
        pytest.param(CODED + b"0\r\nX y\r\n\r\n", id="malformed trailer"),
        pytest.param(CODED + b"0\r\nX: \x00\r\n\r\n", id="NUL in a trailer"),
    ],
)
def test_malformed_responses(implementation: Implementation, wire: bytes) -> None:
    found = parse_everyhow(implementation, wire)
    assert (found.error, found.complete, found.persists) == ("BadResponse", False, False)


# Limits.


def test_the_size_of_the_head(implementation: Implementation) -> None:
    wire = OK + b"Content-Length: 0\r\nX: " + b"y" * 500 + b"\r\n\r\n"
    size = len(wire) - 4
    assert parse_everyhow(implementation, wire, head=size).complete
    assert parse_everyhow(implementation, wire, head=size - 1).error == "BadResponse"
    assert parse_everyhow(implementation, OK + b"X: " + b"y" * 500, head=400).error == "BadResponse"
    assert parse_everyhow(implementation, b"HTTP/1.1 " + b"2" * 500, head=400).error == "BadResponse"


def test_the_number_of_fields(implementation: Implementation) -> None:
    for count, error in ((10, ""), (11, "BadResponse"), (5_000, "BadResponse")):
        wire = OK + b"Content-Length: 0\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"
        assert parse(implementation, whole(wire), fields=10).error == error
        assert parse(implementation, bytewise(wire), fields=10).error == error


def test_the_number_of_interim_responses(implementation: Implementation) -> None:
    most = implementation.module("response_parser").MAX_INTERIM
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert parse(implementation, whole(early * most + FIVE + b"hello")).complete
    assert parse(implementation, whole(early * (most + 1))).error == "BadResponse"
    assert parse(implementation, bytewise(early * (most + 1))).error == "BadResponse"


def test_trailers_have_the_limits_of_heads(implementation: Implementation) -> None:
    wire = CODED + b"0\r\n" + b"X: y\r\n" * 11 + b"\r\n"
    assert parse_everyhow(implementation, wire, fields=10).error == "BadResponse"


def test_a_body_may_have_any_size(implementation: Implementation) -> None:
    wire = OK + b"Content-Length: 1000000000000000000\r\n\r\n" + bytes(1000)
    assert parse(implementation, whole(wire), body=10).body == bytes(1000)
    wire = CODED + b"fffffffffffff\r\n" + bytes(1000)
    assert parse(implementation, whole(wire), body=10).body == bytes(1000)


def test_bodies_are_not_copied(implementation: Implementation) -> None:
    parser = new_parser(implementation)
    parser.expect("GET")
    parser.receive(OK + b"Content-Length: 3000\r\n\r\n")
    parser.read_head()
    data = bytes(1000)
    for _ in range(3):
        parser.receive(data)
        assert parser.read_body() is data


# One response after another.


def test_the_next_request(implementation: Implementation) -> None:
    parser = new_parser(implementation)
    for number in range(3):
        parser.expect("GET")
        assert not parser.complete
        parser.receive(CODED + b"1\r\n%d\r\n0\r\nX: %d\r\n\r\n" % (number, number))
        assert parser.read_head().status == 200
        assert parser.read_head() is None
        assert parser.read_body() == b"%d" % number
        assert (parser.complete, parser.persists, parser.trailers) == (True, True, [("x", str(number))])
        parser.expect("HEAD")
        assert (parser.complete, parser.persists, parser.trailers) == (False, False, [])
        parser.receive(FIVE)
        assert parser.read_head().status == 200
        assert (parser.complete, parser.persists, parser.length) == (True, True, 0)


def test_a_request_before_the_response_is_complete(implementation: Implementation) -> None:
    parser = new_parser(implementation)
    parser.expect("GET")
    with pytest.raises(RuntimeError):
        parser.expect("GET")


# Any pieces, and another reader.

FIELDS = st.sampled_from(
    [
        b"X: y",
        b"X : y",
        b"X: y\r\n folded",
        b"X: \x00",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: keep-alive",
    ]
)
LINES = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 ", b"HTTP/1.1 304", b"HTTP/1.1 103 x"])
BODIES = st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n", b"0\r\nA: b\r\n\r\n", b"3\r\nabcd"])
RESPONSES = st.builds(
    lambda line, fields, body: b"".join(each + b"\r\n" for each in (line, *fields, b"")) + body,
    LINES,
    st.lists(FIELDS, max_size=3),
    BODIES,
)
STREAMS = st.lists(RESPONSES, min_size=1, max_size=3).map(b"".join)


@each_implementation
@given(wire=STREAMS, method=st.sampled_from(["GET", "HEAD"]), eof=st.booleans(), data=st.data())
def test_any_pieces_have_the_same_outcome(
    implementation: Implementation, wire: bytes, method: str, eof: bool, data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    most = data.draw(st.none() | st.integers(1, 5))
    expected = parse(implementation, whole(wire), method, eof=eof)
    found = parse(implementation, cut(wire, places), method, eof=eof, most=most)
    if expected.error:
        expected.body = found.body = b""
    assert found == expected


@each_implementation
@given(wire=st.binary(max_size=40).map(lambda tail: OK + tail) | st.binary(max_size=40), eof=st.booleans())
def test_anything_at_all(implementation: Implementation, wire: bytes, eof: bool) -> None:
    assert parse(implementation, bytewise(wire), eof=eof).error == parse(implementation, whole(wire), eof=eof).error


@each_implementation
@given(wire=RESPONSES, method=st.sampled_from(["GET", "HEAD"]))
def test_what_is_accepted_means_the_same_to_h11(implementation: Implementation, wire: bytes, method: str) -> None:
    found = parse(implementation, whole(wire), method, eof=True)
    if not found.complete or found.interim or b" :" in wire:  # h11 leaves that repair to others
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    client.receive_data(b"")
    event, body = client.next_event(), b""
    assert isinstance(event, h11.Response)
    assert event.status_code == found.status
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert (body, client.trailing_data[0]) == (found.body, found.rest)
