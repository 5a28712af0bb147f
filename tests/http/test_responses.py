"""What heads of responses mean (RFC 9112 §4, §5, §6.3, §9.3), with each implementation of the syntax."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.wire import Implementation


def parse(implementation: Implementation, head: bytes) -> Any:
    """The head, from the middle of other bytes."""
    data = b"x" + head + b"\r\nbody"
    return implementation.module("responses").parse_response_head(data, 1, 1 + len(head))


def head(implementation: Implementation, *lines: str, status: int = 200, minor: int = 1) -> Any:
    text = "".join(f"{line}\r\n" for line in (f"HTTP/1.{minor} {status} OK", *lines))
    return parse(implementation, text.encode("latin-1"))


def rejected(implementation: Implementation) -> Any:
    return pytest.raises(implementation.module("responses").BadResponse)


# The head.


def test_a_head(implementation: Implementation) -> None:
    parsed = parse(implementation, b"HTTP/1.1 404 Not  Here \r\nServer:  x y\t\r\nSet-Cookie: a\r\nset-cookie: b\r\n")
    assert (parsed.status, parsed.reason, parsed.minor) == (404, "Not  Here ", 1)
    assert parsed.fields == [("server", "x y"), ("set-cookie", "a"), ("set-cookie", "b")]
    assert parsed.headers.get_all("Set-Cookie") == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "status", "reason", "minor"),
    [
        (b"HTTP/1.1 200 ", 200, "", 1),  # the reason is optional
        (b"HTTP/1.1 200", 200, "", 1),  # and so is, for a reader, the space that must be sent in front of it
        (b"HTTP/1.0 200 OK", 200, "OK", 0),
        (b"HTTP/1.9 200 OK", 200, "OK", 1),  # RFC 9110 §2.5
        (b"HTTP/1.1 599 what", 599, "what", 1),
        (b"HTTP/1.1 100 ", 100, "", 1),
        (b"HTTP/1.1 200 \t d\xe9j\xe0 vu", 200, "\t d\xe9j\xe0 vu", 1),  # obs-text
    ],
)
def test_status_lines(implementation: Implementation, line: bytes, status: int, reason: str, minor: int) -> None:
    parsed = parse(implementation, line + b"\r\n")
    assert (parsed.status, parsed.reason, parsed.minor) == (status, reason, minor)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 600 OK",  # RFC 9110 §15
        b"HTTP/1.1 999 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 ",
        b"HTTP/1.1 2",
        b"HTTP/1.1",
        b"HTTP/1.1  200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 2\xb20 OK",
        b"HTTP/1.1\t200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1 200 OK",
        b"HTTP/11 200 OK",
        b"HTTP/1.10 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200 OK\rX: y",
        b"HTTP/1.1 200 OK\nX: y",
        b"",
        b"HTTP/1.1 200 OK\r\nX y",
        b"HTTP/1.1 200 OK\r\nX y: z",
        b"HTTP/1.1 200 OK\r\nX\x00: y",
        b"HTTP/1.1 200 OK\r\n X: y",  # RFC 9112 §2.2: white space in front of the first field line
        b"HTTP/1.1 200 OK\r\n\tX: y\r\nY: z",
        b"HTTP/1.1 200 OK\r\n \r\nY: z",
        b"HTTP/1.1 200 OK\r\n : y",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nY z",
        b"HTTP/1.1 200 OK\r\nX: y\r\n fol\x7fded",
        b"HTTP/1.1 200 OK\r\n: y",
        b"HTTP/1.1 200 OK\r\nX: a\x00b",
        b"HTTP/1.1 200 OK\r\nX: a\nY: b",
    ],
)
def test_malformed_heads(implementation: Implementation, start: bytes) -> None:
    with rejected(implementation):
        parse(implementation, start + b"\r\n")


def test_white_space_in_front_of_a_colon_is_removed(implementation: Implementation) -> None:
    """RFC 9112 §5.1: a proxy must remove it from a response."""
    parsed = parse(implementation, b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\nX: a : b\r\nY \t: :\r\n")
    assert parsed.fields == [("content-length", "5"), ("x", "a : b"), ("y", ":")]
    assert implementation.module("responses").response_length("GET", parsed) == 5


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"X: y\r\n folded", "y folded"),
        (b"X: y \r\n \t folded\r\n\ttwice", "y  folded twice"),
        (b"X:\r\n y", "y"),
        (b"X: y\r\n ", "y"),
        (b"X: y\r\n Z: a", "y Z: a"),
        (b"X: y\r\n Content-Length : 5", "y Content-Length : 5"),
    ],
)
def test_a_folded_line_becomes_one(implementation: Implementation, lines: bytes, value: str) -> None:
    """RFC 9112 §5.2: a proxy must reject it, or replace each fold by spaces."""
    assert parse(implementation, b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nLast: z\r\n").fields == [
        ("x", value),
        ("last", "z"),
    ]


def test_repairs_take_linear_time(implementation: Implementation) -> None:
    for line in (b"X" + b" " * 60_000, b"X: " + b" " * 60_000 + b"\r\n" + b" " * 60_000, b"x" * 60_000):
        with rejected(implementation):
            parse(implementation, b"HTTP/1.1 200 OK\r\n" + line + b"\r\nbad\r\n")


def test_heads_are_compared_by_what_they_say(implementation: Implementation) -> None:
    one, same, other = head(implementation, "X: y"), head(implementation, "X: y"), head(implementation, "X: z")
    assert one == same
    assert one != other
    assert one != "HTTP/1.1 200 OK"
    assert repr(one) == "<ResponseHead 200 [('x', 'y')]>"


# Where the response ends.

CHUNKED, UNTIL_CLOSE, TUNNEL = -1, -2, -4
LENGTH = "Content-Length: 5"
CODED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "status", "lines", "length"),
    [
        pytest.param("HEAD", 200, [LENGTH], 0, id="HEAD 200 with length 0"),  # step 1
        pytest.param("HEAD", 200, [CODED], 0, id="HEAD 200 chunked 0"),
        pytest.param("GET", 304, [CODED], 0, id="GET 304 chunked 0"),
        pytest.param("GET", 103, ["Content-Length: nonsense"], 0, id="GET 103 Content-Length: nonsense 0"),
        pytest.param("GET", 101, [LENGTH], TUNNEL, id="GET 101 with length TUNNEL"),
        pytest.param("GET", 200, ["Transfer-Encoding:  CHUNKED "], CHUNKED, id="GET 200 CHUNKED CHUNKED"),
        pytest.param("GET", 200, ["Content-Length: 9223372036854775807"], 2**63 - 1, id="the longest"),
        pytest.param("HEAD", 404, [], 0, id="HEAD 404  0"),
        pytest.param("GET", 204, [LENGTH], 0, id="GET 204 with length 0"),
        pytest.param("GET", 304, [LENGTH], 0, id="GET 304 with length 0"),
        pytest.param("GET", 304, [], 0, id="GET 304  0"),
        pytest.param("GET", 100, [], 0, id="GET 100  0"),
        pytest.param("GET", 199, [CODED], 0, id="GET 199 chunked 0"),
        pytest.param("GET", 205, [LENGTH], 5, id="GET 205 with length 5"),  # 205 has a length like any other
        pytest.param("CONNECT", 200, [LENGTH], TUNNEL, id="CONNECT 200 with length TUNNEL"),  # step 2
        pytest.param("CONNECT", 299, [CODED], TUNNEL, id="CONNECT 299 chunked TUNNEL"),
        pytest.param("CONNECT", 407, [LENGTH], 5, id="CONNECT 407 with length 5"),
        pytest.param("GET", 200, [CODED], CHUNKED, id="GET 200 chunked CHUNKED"),  # step 4
        pytest.param("GET", 200, [LENGTH], 5, id="GET 200 with length 5"),  # step 6
        pytest.param("POST", 500, ["Content-Length: 0"], 0, id="POST 500 Content-Length: 0 0"),
        pytest.param(
            "GET", 200, ["Content-Length: 0000000000000000005"], 5, id="GET 200 Content-Length: 0000000000000000005 5"
        ),
        pytest.param("GET", 200, [], UNTIL_CLOSE, id="GET 200  UNTIL_CLOSE"),  # step 8
    ],
)
def test_the_length_of_the_body(
    implementation: Implementation, method: str, status: int, lines: list[str], length: int
) -> None:
    found = implementation.module("responses").response_length(method, head(implementation, *lines, status=status))
    assert found == length


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5, 5"],  # step 5
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 5_0"],
        ["Content-Length: 0x5"],
        ["Content-Length:"],
        ["Content-Length: \xb2"],
        ["Content-Length: 99999999999999999999"],
        ["Content-Length: 9223372036854775808"],  # more than 63 bits
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],  # step 3: ought to be handled as an error
        ["Transfer-Encoding: chunked", "Content-Length: nonsense"],
        ["Transfer-Encoding: gzip, chunked"],  # step 4: nobody asked for it
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: gzip;level=9"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked;x=y"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: chunked, gzip, chunked"],
        ["Transfer-Encoding: chunked,"],
        ["Transfer-Encoding:"],
        ["Transfer-Encoding: \xa0chunked"],
    ],
    ids=ascii,
)
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_ambiguous_lengths(implementation: Implementation, lines: list[str], method: str, status: int) -> None:
    """Also where the fields do not count: a client gets those in a response to HEAD, and is to believe them."""
    with rejected(implementation):
        implementation.module("responses").response_length(method, head(implementation, *lines, status=status))


def test_a_transfer_coding_from_http_1_0(implementation: Implementation) -> None:
    """RFC 9112 §6.1: the framing is faulty."""
    with rejected(implementation):
        implementation.module("responses").response_length("GET", head(implementation, CODED, minor=0))


@pytest.mark.parametrize(
    ("minor", "lines", "persists"),
    [
        pytest.param(1, [LENGTH], True, id="1.1 with length persists"),
        pytest.param(1, [CODED], True, id="1.1 chunked persists"),
        pytest.param(
            1, [LENGTH, "Connection: Upgrade, CLOSE"], False, id="1.1 with length Connection: Upgrade CLOSE ends"
        ),
        pytest.param(
            1, [LENGTH, "Connection: keep-alive, close"], False, id="1.1 with length Connection: keep-alive close ends"
        ),
        pytest.param(1, [], False, id="1.1  ends"),
        pytest.param(0, [LENGTH], False, id="1.0 with length ends"),
        pytest.param(0, [LENGTH, "Connection: Keep-Alive"], True, id="1.0 with length Connection: Keep-Alive persists"),
        pytest.param(0, ["Connection: keep-alive"], False, id="1.0 Connection: keep-alive ends"),
        pytest.param(
            0, [LENGTH, "Connection: close, keep-alive"], False, id="1.0 with length Connection: close keep-alive ends"
        ),
    ],
)
def test_persistence(implementation: Implementation, minor: int, lines: list[str], persists: bool) -> None:
    responses = implementation.module("responses")
    parsed = head(implementation, *lines, minor=minor)
    assert responses.response_persists(parsed, responses.response_length("GET", parsed)) is persists


@pytest.mark.parametrize(
    ("lines", "persists"),
    [([], True), (["Content-Length: 0"], True), ([LENGTH], False), ([CODED], False)],
    ids=["nothing", "no content", "length", "chunked"],
)
def test_a_204_that_announces_content(implementation: Implementation, lines: list[str], persists: bool) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: forbidden. What may follow must not be taken for the next response."""
    responses = implementation.module("responses")
    parsed = head(implementation, *lines, status=204)
    assert responses.response_persists(parsed, responses.response_length("GET", parsed)) is persists
