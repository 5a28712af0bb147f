"""Responses as a client reads them (RFC 9112 §4, §6.3, §9.3), with each implementation of the syntax."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wire import IMPLEMENTATIONS, Implementation, bytewise, cut, whole

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)


def parse(implementation: Implementation, head: bytes) -> Any:
    return implementation.module("responses").parse_response_head(head)


def head(implementation: Implementation, *lines: str, status: int = 200, minor: int = 1) -> Any:
    text = "".join(f"{line}\r\n" for line in (f"HTTP/1.{minor} {status} OK", *lines))
    return parse(implementation, text.encode("latin-1"))


def reader(implementation: Implementation, *methods: str, **limits: int) -> Any:
    reader = implementation.module("responses").ResponseReader(implementation.limits(**limits))
    for method in methods:
        reader.expect(method)
    return reader


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
        (b"HTTP/1.1 200 ", 200, "", 1),  # the reason is optional, the space is not
        (b"HTTP/1.0 200 OK", 200, "OK", 0),
        (b"HTTP/1.9 200 OK", 200, "OK", 1),  # RFC 9110 §2.5
        (b"HTTP/1.1 999 what", 999, "what", 1),
        (b"HTTP/1.1 000 ", 0, "", 1),
        (b"HTTP/1.1 200 \t d\xe9j\xe0 vu", 200, "\t d\xe9j\xe0 vu", 1),  # obs-text
    ],
)
def test_status_lines(implementation: Implementation, line: bytes, status: int, reason: str, minor: int) -> None:
    parsed = parse(implementation, line + b"\r\n")
    assert (parsed.status, parsed.reason, parsed.minor) == (status, reason, minor)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200",
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
        b"HTTP/1.1 200 OK\r\nX : y",
        b"HTTP/1.1 200 OK\r\n X: y",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded",
        b"HTTP/1.1 200 OK\r\n: y",
        b"HTTP/1.1 200 OK\r\nX: a\x00b",
        b"HTTP/1.1 200 OK\r\nX: a\nY: b",
    ],
)
def test_malformed_heads(implementation: Implementation, start: bytes) -> None:
    with rejected(implementation):
        parse(implementation, start + b"\r\n")


# Where the response ends.

CHUNKED, UNTIL_CLOSE, TUNNEL = -1, -2, -4
LENGTH = "Content-Length: 5"
CODED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "status", "lines", "length"),
    [
        pytest.param("HEAD", 200, [LENGTH], 0, id="HEAD 200 with length 0"),  # step 1
        pytest.param("HEAD", 200, [CODED], 0, id="HEAD 200 chunked 0"),
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
        pytest.param("GET", 200, [LENGTH, CODED], CHUNKED, id="GET 200 with length chunked CHUNKED"),  # step 3
        pytest.param(
            "GET",
            200,
            [CODED, "Content-Length: nonsense"],
            CHUNKED,
            id="GET 200 chunked Content-Length: nonsense CHUNKED",
        ),
        pytest.param(
            "GET",
            200,
            ["Transfer-Encoding: gzip , CHUNKED"],
            CHUNKED,
            id="GET 200 Transfer-Encoding: gzip  CHUNKED CHUNKED",
        ),  # step 4
        pytest.param(
            "GET",
            200,
            ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
            CHUNKED,
            id="GET 200 Transfer-Encoding: gzip Transfer-Encoding: chunked CHUNKED",
        ),
        pytest.param(
            "GET",
            200,
            ["Transfer-Encoding: chunked, gzip"],
            UNTIL_CLOSE,
            id="GET 200 Transfer-Encoding: chunked gzip UNTIL_CLOSE",
        ),
        pytest.param(
            "GET",
            200,
            ["Transfer-Encoding: gzip;level=9"],
            UNTIL_CLOSE,
            id="GET 200 Transfer-Encoding: gzip;level=9 UNTIL_CLOSE",
        ),
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
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: chunked, gzip, chunked"],
        ["Transfer-Encoding: chunked,"],
        ["Transfer-Encoding:"],
        ["Transfer-Encoding: \xa0chunked"],
    ],
    ids=ascii,
)
def test_ambiguous_lengths(implementation: Implementation, lines: list[str]) -> None:
    with rejected(implementation):
        implementation.module("responses").response_length("GET", head(implementation, *lines))


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
        pytest.param(1, [LENGTH, CODED], False, id="1.1 with length chunked ends"),
        pytest.param(0, [LENGTH], False, id="1.0 with length ends"),
        pytest.param(0, [LENGTH, "Connection: Keep-Alive"], True, id="1.0 with length Connection: Keep-Alive persists"),
        pytest.param(0, ["Connection: keep-alive"], False, id="1.0 Connection: keep-alive ends"),
        pytest.param(0, [CODED, "Connection: keep-alive"], False, id="1.0 chunked Connection: keep-alive ends"),
        pytest.param(
            0, [LENGTH, "Connection: close, keep-alive"], False, id="1.0 with length Connection: close keep-alive ends"
        ),
    ],
)
def test_persistence(implementation: Implementation, minor: int, lines: list[str], persists: bool) -> None:
    found = implementation.module("responses").response_persists("GET", head(implementation, *lines, minor=minor))
    assert found is persists


# Responses from a stream.

STREAM = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\n6\r\npedia \r\n0\r\nX-Sum: 10\r\n\r\n"
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
)
METHODS = ("POST", "HEAD", "GET", "GET", "GET")


def read_stream(implementation: Implementation, pieces: list[bytes]) -> list[Any]:
    stream = reader(implementation, *METHODS)
    responses = []
    for piece in [*pieces, b""]:
        stream.receive(piece)
        while (response := stream.read()) is not None:
            responses.append(response)
    assert (stream.pending, stream.unread) == (0, b"")
    return responses


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_a_stream(implementation: Implementation, cut: Any) -> None:
    responses = read_stream(implementation, cut(STREAM))
    assert [response.status for response in responses] == [200, 200, 200, 304, 200]
    assert [response.body for response in responses] == [b"hello", b"", b"Wikipedia ", b"", b"until the end"]
    assert [response.persists for response in responses] == [True, True, True, True, False]
    assert [interim.status for interim in responses[0].interim] == [100, 103]
    assert responses[1].interim == []
    assert responses[2].trailers == [("x-sum", "10")]


@each_implementation
@given(places=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_a_stream_in_any_pieces(implementation: Implementation, places: list[int]) -> None:
    assert read_stream(implementation, cut(STREAM, places)) == read_stream(implementation, [STREAM])


def test_a_switch_of_protocols_is_the_last_response(implementation: Implementation) -> None:
    stream = reader(implementation, "GET")
    stream.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsomething")
    response = stream.read()
    assert (response.status, response.persists, stream.unread) == (101, False, b"something")


def test_a_tunnel_is_not_read(implementation: Implementation) -> None:
    stream = reader(implementation, "CONNECT")
    stream.receive(b"HTTP/1.1 200 OK\r\n\r\nbytes")
    response = stream.read()
    assert (response.body, response.persists, stream.unread) == (b"", False, b"bytes")


def test_an_unsolicited_response_is_not_read(implementation: Implementation) -> None:
    stream = reader(implementation)
    stream.receive(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert stream.read() is None
    assert stream.unread.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"h",
        b"\x15\x03\x01",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 OK\r\n\r\n".replace(b" 200", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2000),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 600,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + bytes(1001),
    ],
)
def test_malformed_streams(implementation: Implementation, wire: bytes) -> None:
    stream = reader(implementation, "GET", head=500, body=1000)
    stream.receive(wire)
    with rejected(implementation):
        stream.read()


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
def test_truncated_responses(implementation: Implementation, wire: bytes) -> None:
    stream = reader(implementation, "GET")
    for piece in whole(wire):
        stream.receive(piece)
    assert stream.read() is None
    stream.receive(b"")
    with rejected(implementation):
        stream.read()
