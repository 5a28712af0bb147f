"""Response bodies that are files or parts of files (FileSpan)."""

from __future__ import annotations

import os
import random
import socket

import pytest

from kaserve.http.messages import FileSpan, Request, Response
from kaserve.http.phases import CLOSED, IDLE, SEND
from tests.tools.connections import SMALL_BUFFER, MakeNet, logged_errors, read_slowly, send, server_socket
from tests.tools.net import GET, Body, file_span


def test_a_file_survives_short_writes(make_net: MakeNet) -> None:
    content = random.Random(2).randbytes(5 * 1024 * 1024)
    net = make_net(lambda request: Response(200, file_span(content, 1000, 4_000_000)))
    client, connection = net.connect(send_buffer=65536)
    client.send(GET * 2)
    responses = read_slowly(net, client, 2)
    assert [response.body == content[1000:4_001_000] for response in responses] == [True, True]
    assert connection.phase == IDLE


def test_a_turn_sends_a_bounded_part_of_a_file(make_net: MakeNet) -> None:
    """So that one fast download does not block other connections."""
    content = bytes(8 * 1024 * 1024)
    net = make_net(lambda request: Response(200, file_span(content)))
    client, connection = net.connect(tcp=True, send_buffer=16 * 1024 * 1024)
    client.send(GET)
    net.step()
    assert connection.phase == SEND
    assert 0 < len(client.read()) <= 1024 * 1024 + 1000, "the head, and as much of the file as a turn sends"


@pytest.mark.parametrize("pipelined", [True, False], ids=["a pipeline", "spans of one body"])
def test_a_turn_sends_as_much_of_many_files_as_of_one(make_net: MakeNet, pipelined: bool) -> None:
    size, count = 400_000, 6

    def handler(request: Request) -> Response:
        if pipelined:
            return Response(200, file_span(bytes(size)))
        return Response(200, Body([FileSpan(span.fd, 0, size) for _ in range(count)]))

    span = file_span(bytes(size))
    net = make_net(handler)
    client, connection = net.connect(tcp=True, send_buffer=16 * 1024 * 1024)
    client.send(GET * (count if pipelined else 1))
    sent: list[int] = []
    while connection.phase != IDLE or not sent:
        before = net.stats.sent
        net.step()
        client.read()
        sent.append(net.stats.sent - before)
    span.close()
    assert max(sent) <= 1024 * 1024 + 2000, "heads and frames, and as much of the files as a turn sends"
    assert sum(sent) > count * size
    assert connection.protocol.served == (count if pipelined else 1)


def test_an_empty_file(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response(200, file_span(b"")))
    client, connection = net.connect(tcp=True)
    responses = net.ask(client, GET, GET)
    assert [response.body for response in responses] == [b"", b""]
    assert [response.framing for response in responses] == ["length", "length"]
    assert connection.phase == IDLE


def test_msg_more_joins_a_head_with_its_file_unless_that_is_empty(make_net: MakeNet) -> None:
    """MSG_MORE joins the head with the first bytes of the file. If nothing follows, the kernel holds the head back for
    200 ms."""
    spans = [file_span(b""), file_span(b"content")]
    net = make_net(lambda request: Response(200, spans.pop(0)))
    client, connection = net.connect(tcp=True)
    net.ask(client, GET)
    ((_, flags),) = server_socket(connection).sends
    assert not flags & socket.MSG_MORE
    net.ask(client, GET)
    _, (_, flags) = server_socket(connection).sends
    assert flags & socket.MSG_MORE


def test_a_file_that_cannot_be_read_ends_the_connection(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    """A failing disk, or a descriptor that is not a file: here a pipe, for which sendfile() raises."""
    reader, writer = os.pipe()
    os.close(writer)
    span = FileSpan(reader, 0, 7)
    net = make_net(lambda request: Response(200, span))
    client, connection = net.connect()
    with logged_errors(caplog, "a file could not be sent[^$]*Illegal seek"):
        client.send(GET)
        net.settle()
    assert connection.phase == CLOSED
    assert server_socket(connection).aborted
    assert net.stats.closed == {"failed": 1}
    assert net.stats.failed == 1
    assert span.fd == -1


@pytest.mark.parametrize("remaining", [0, 500, 700_000], ids=lambda remaining: f"{remaining} bytes left")
def test_a_file_that_shrinks_ends_the_connection(
    make_net: MakeNet, remaining: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing bytes are never invented and never taken from the next response."""
    content = random.Random(3).randbytes(1_000_000)
    span = file_span(content)
    net = make_net(lambda request: Response(200, span))
    client, connection = net.connect(tcp=True)
    os.truncate(span.fd, remaining)
    with logged_errors(caplog, "shorter"):
        client.send(GET * 2)
        while connection.phase != CLOSED:
            net.settle()
            client.read()
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000000" in head or client.received == b""
    assert content[:remaining].startswith(body)
    client.read()
    assert client.was_reset
    assert span.fd == -1


def test_the_file_of_a_response_to_head_is_closed_and_not_sent(make_net: MakeNet) -> None:
    span = file_span(b"content")
    net = make_net(lambda request: Response(200, span))
    client, _ = net.connect()
    (response,) = net.ask(client, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert response.value("content-length") == "7"
    assert span.fd == -1


@pytest.mark.parametrize(
    "length", [pytest.param(None, id="chunked"), pytest.param(3 * SMALL_BUFFER * 10 + 9, id="Content-Length")]
)
def test_file_spans_between_pieces_of_bytes(make_net: MakeNet, length: int | None) -> None:
    """With a Content-Length and chunked, over short writes. The body owns the spans, so that they are left open."""
    content = random.Random(1).randbytes(3 * SMALL_BUFFER * 10)
    span = file_span(content)
    middle = FileSpan(span.fd, SMALL_BUFFER, SMALL_BUFFER * 10)
    pieces: list[bytes | FileSpan] = [
        b"one",
        FileSpan(span.fd, 0, SMALL_BUFFER),
        middle,
        b"two",
        FileSpan(span.fd, 0, 0),
    ]
    pieces += [FileSpan(span.fd, 11 * SMALL_BUFFER, 19 * SMALL_BUFFER), b"six"]
    fields = [] if length is None else [("Content-Length", str(length))]
    net = make_net(lambda request: Response(200, Body(pieces), fields))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, GET)
    while connection.phase != IDLE:
        client.read()
        net.settle()
    [response] = client.answers("GET")
    assert response.body == b"one" + content[: 11 * SMALL_BUFFER] + b"two" + content[11 * SMALL_BUFFER :] + b"six"
    assert os.fstat(span.fd).st_size == len(content)
    span.close()


def test_a_file_span_is_cut_off_where_the_content_length_ends(
    make_net: MakeNet, caplog: pytest.LogCaptureFixture
) -> None:
    span = file_span(b"0123456789")
    fields = [("Content-Length", "8")]
    net = make_net(lambda request: Response(200, Body([b"<<<", FileSpan(span.fd, 0, 10)]), fields))
    client, connection = net.connect()
    with logged_errors(caplog, "is longer than its Content-Length"):
        [response] = net.ask(client, GET)
    assert response.body == b"<<<01234"
    assert connection.phase == IDLE
    span.close()


def test_a_shared_file_span_is_closed_by_its_owner(make_net: MakeNet) -> None:
    class Owner:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    owner = Owner()
    span = file_span(b"shared")
    net = make_net(lambda request: Response(200, FileSpan(span.fd, 0, 6, owner)))
    client, _ = net.connect()
    responses = net.ask(client, GET, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [response.body for response in responses] == [b"shared", b""]
    assert owner.closed == 2
    span.close()
