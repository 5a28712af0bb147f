"""Complete responses from a stream, as the probe reads them, with each implementation of the syntax."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wire import IMPLEMENTATIONS, Implementation, bytewise, cut, whole

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)


def reader(implementation: Implementation, *methods: str, **limits: int) -> Any:
    reader = implementation.module("response_reader").ResponseReader(implementation.limits(**limits))
    for method in methods:
        reader.expect(method)
    return reader


def rejected(implementation: Implementation) -> Any:
    return pytest.raises(implementation.module("responses").BadResponse)


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
    assert (stream.pending, stream.has_unread()) == (0, False)
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


def test_a_switch_of_protocols_that_nobody_asked_for(implementation: Implementation) -> None:
    """RFC 9110 §7.8."""
    stream = reader(implementation, "GET")
    stream.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsomething")
    with rejected(implementation):
        stream.read()


def test_a_tunnel_is_not_read(implementation: Implementation) -> None:
    stream = reader(implementation, "CONNECT")
    stream.receive(b"HTTP/1.1 200 OK\r\n\r\nbytes")
    response = stream.read()
    assert (response.body, response.persists, stream.has_unread()) == (b"", False, True)


def test_an_unsolicited_response_is_not_read(implementation: Implementation) -> None:
    stream = reader(implementation)
    stream.receive(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert stream.read() is None
    assert stream.has_unread()


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
