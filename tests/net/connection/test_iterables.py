"""Iterable response bodies: backpressure, framing, wrong lengths, failures, pieces that are Futures, and close()."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import cast

import pytest

from kaserve.http.messages import FileSpan, Response
from kaserve.http.phases import CLOSED, HANDLER, IDLE, LINGER, SEND
from tests.tools.connections import SMALL_BUFFER, WHEEL_DELAY, MakeNet, logged_errors, read_slowly, send, server_socket
from tests.tools.net import GET, Body, Router, get


def test_an_iterable_is_pulled_only_as_fast_as_the_client_reads(make_net: MakeNet) -> None:
    body = Body(bytes([number]) * 10_000 for number in range(200))
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    client.send(GET)
    net.settle()
    held = body.pulled
    assert held < 20
    while body.pulled < 100:
        client.read(5000)
        net.settle()
        assert body.pulled - len(client.received) / 10_000 < 20
        assert connection.phase == SEND
    closed_early = body.closed
    (response,) = read_slowly(net, client, 1)
    assert response.framing == "chunked"
    assert response.body == b"".join(bytes([number]) * 10_000 for number in range(200))
    assert (closed_early, body.closed) == (0, 1)
    assert connection.phase == IDLE


def test_an_iterable_of_any_length_is_sent_in_bounded_turns(make_net: MakeNet) -> None:
    body = Body(b"x" for _ in range(1000))
    net = make_net(lambda request: Response(200, body))
    client, _ = net.connect()
    client.send(GET)
    pulled = 0
    while net.busy:
        net.step()
        client.read()
        assert body.pulled - pulled <= 64
        pulled = body.pulled
    assert client.answers("GET")[0].body == b"x" * 1000


def test_each_piece_reaches_the_client_before_the_next_is_pulled(make_net: MakeNet) -> None:
    """A piece is sent immediately: the next one may take the handler a long time."""
    seen: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        yield b"first"
        client.read()
        seen.append(client.received[-10:])
        yield b"second"

    net = make_net(lambda request: Response(200, pieces()))
    client, _ = net.connect()
    client.send(GET)
    net.settle()
    assert seen == [b"5\r\nfirst\r\n"]


def test_empty_pieces_do_not_end_a_body(make_net: MakeNet) -> None:
    """RFC 9112 §7.1: a chunk of size zero would end it."""
    net = make_net(lambda request: Response(200, [b"", b"a", b"", b"", b"b", b""]))
    client, _ = net.connect()
    for response in net.ask(client, GET, GET):
        assert response.body == b"ab"


@pytest.mark.parametrize("body", [pytest.param([], id="no pieces"), pytest.param([b""], id="an empty piece")])
def test_an_iterable_without_content(make_net: MakeNet, body: list[bytes]) -> None:
    net = make_net(lambda request: Response(200, body))
    client, _ = net.connect()
    assert [response.body for response in net.ask(client, GET, GET)] == [b"", b""]


def test_an_iterable_to_http_1_0_ends_with_the_connection(make_net: MakeNet) -> None:
    """RFC 9112 §6.3 rule 8: without a length, HTTP/1.0 has no other end of a body."""
    body = Body([b"a", b"b"])
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    (response,) = net.ask(client, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert response.framing == "close"
    assert response.body == b"ab"
    assert client.ended
    assert not client.was_reset
    assert connection.phase == LINGER
    assert body.closed == 1


def test_an_iterable_with_a_content_length(make_net: MakeNet) -> None:
    body = Body([b"abc", b"def"])
    net = make_net(lambda request: Response(200, body, {"Content-Length": "6"}))
    client, _ = net.connect()
    (response,) = net.ask(client, GET)
    assert response.framing == "length"
    assert response.body == b"abcdef"
    assert response.persists
    assert body.closed == 1


@pytest.mark.parametrize(
    "pieces", [[b"abcdefgh"], [b"abc", b"defgh"], [b"abcde", b"fgh"], [b"abcde", b"", b"f", b"gh"]], ids=repr
)
def test_a_body_longer_than_its_content_length_is_cut_off_and_logged(
    make_net: MakeNet, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    body = Body(pieces)
    net = make_net(lambda request: Response(200, body, {"Content-Length": "5"}))
    client, _ = net.connect()
    with logged_errors(caplog, "longer than its Content-Length"):
        (response,) = net.ask(client, GET)
    assert response.body == b"abcde"
    assert body.closed == 1


def test_an_endless_body_is_cut_off_at_its_content_length(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(iter(lambda: b"x", b""))
    net = make_net(lambda request: Response(200, body, {"Content-Length": "100"}))
    client, connection = net.connect()
    client.send(GET)
    with logged_errors(caplog, "longer than its Content-Length"):
        (response,) = read_slowly(net, client, 1)
    assert response.body == b"x" * 100
    assert body.closed == 1
    assert body.pulled < 200
    assert connection.phase != SEND


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="no pieces"),
        pytest.param([b"abc"], id="one piece"),
        pytest.param([b"ab", b"cd"], id="two pieces"),
    ],
)
def test_a_body_shorter_than_its_content_length_ends_with_a_reset(
    make_net: MakeNet, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A short body is never silent: otherwise the client would take the next response for the rest."""
    body = Body(pieces)
    net = make_net(lambda request: Response(200, body, {"Content-Length": "5"}))
    client, connection = net.connect(tcp=True)
    with logged_errors(caplog, "1 bytes shorter|2 bytes shorter|5 bytes shorter"):
        client.send(GET * 2)
        net.settle()
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert client.received.count(b"HTTP/1.1") <= 1
    assert body.closed == 1
    assert net.stats.failed == 1


def test_a_failing_body_does_not_discard_the_responses_before_it(
    make_net: MakeNet, caplog: pytest.LogCaptureFixture
) -> None:
    """Responses to a pipeline wait for each other in the output buffer, which a reset would discard."""
    whole = Response(200, b"whole")
    net = make_net(lambda request: Response(200, [], {"Content-Length": "5"}) if request.path == "/bad" else whole)
    client, connection = net.connect(tcp=True)
    with logged_errors(caplog, "5 bytes shorter"):
        client.send(get("/1") + get("/2") + get("/bad"))
        net.settle()
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert client.received.count(b"whole") == 2


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("length", [pytest.param("", id="no length"), pytest.param("5", id="Content-Length")])
def test_nothing_is_pulled_for_a_response_without_content(make_net: MakeNet, status: int, length: str) -> None:
    """RFC 9112 §6.3 rule 1: responses to HEAD, 204 and 304 have no content."""
    if length and status == 204:
        pytest.skip("RFC 9110 §8.6: a 204 has no Content-Length")
    body = Body([b"abcde"])
    net = make_net(lambda request: Response(status, body, {"Content-Length": length} if length else {}))
    client, connection = net.connect()
    (response,) = net.ask(client, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert response.status == status
    assert response.persists
    assert body.pulled == 0
    assert body.closed == 1
    assert connection.phase == IDLE


def test_a_body_is_closed_when_the_client_resets(make_net: MakeNet) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True, send_buffer=SMALL_BUFFER)
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert body.closed == 1
    assert net.stats.closed == {"reset": 1}


def test_a_body_is_closed_when_the_deadline_passes(make_net: MakeNet) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make_net(lambda request: Response(200, body))
    client, _ = net.connect()
    client.send(GET)
    net.sleep(60 + WHEEL_DELAY)
    assert body.closed == 1


def test_a_body_is_closed_when_the_server_aborts(make_net: MakeNet) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect()
    client.send(GET)
    net.settle()
    connection.abort()
    connection.abort()
    assert body.closed == 1
    assert net.stats.closed == {"shutdown": 1}


def test_a_body_is_closed_once_when_its_response_to_head_is_cut_off(make_net: MakeNet) -> None:
    """A body without use is closed when the response is made, and not again when the connection ends."""
    body = Body([b"x"])
    filling = b"x" * 16_150  # four of them, so that the response to HEAD fills the turn

    net = make_net(lambda request: Response(200, body if request.method == "HEAD" else filling))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    client.send(GET * 4 + b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    net.settle()
    assert body.closed == 1
    connection.abort()
    assert body.closed == 1


def test_a_body_whose_head_cannot_be_sent_is_closed(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    body = Body([b"x"])
    net = make_net(lambda request: Response(200, body, {"X-Split": "a\r\nb"}))
    client, connection = net.connect()
    with logged_errors(caplog, "cannot be sent"):
        (response,) = net.ask(client, GET)
    assert response.status == 500
    assert response.persists
    assert body.closed == 1
    assert connection.phase == IDLE


def test_a_close_that_raises_is_logged_and_changes_nothing(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Body):
        def close(self) -> None:
            raise RuntimeError("the handler's own fault")

    net = make_net(lambda request: Response(200, Stubborn([b"x"])))
    client, connection = net.connect()
    with logged_errors(caplog, "closing", "closing"):
        assert [response.body for response in net.ask(client, GET, GET)] == [b"x", b"x"]
    assert connection.phase == IDLE


def test_a_body_that_fails_at_its_first_piece_is_a_500_that_keeps_the_connection(
    make_net: MakeNet, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body([b"x"], fails_after=0)
    net = make_net(Router(bad=Response(200, body)))
    client, connection = net.connect()
    with logged_errors(caplog, "cannot be sent[^$]*the handler's own fault"):
        first, second = net.ask(client, get("/bad"), GET)
    assert first.status == 500
    assert first.persists
    assert second.status == 200
    assert body.closed == 1
    assert net.stats.failed == 1
    assert connection.phase == IDLE


@pytest.mark.parametrize("fails_after", [1, 5, 40], ids=lambda count: f"after {count} pieces")
def test_a_body_that_fails_later_ends_with_a_reset(
    make_net: MakeNet, fails_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9112 §8: an incomplete body must not look complete."""
    body = Body([b"x"] * 100, fails_after=fails_after)
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    with logged_errors(caplog, "failed while responding[^$]*the handler's own fault"):
        client.send(GET * 2)
        net.settle()
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert b"0\r\n\r\n" not in client.received
    assert body.closed == 1
    assert net.stats.failed == 1
    assert net.stats.closed == {"failed": 1}


@pytest.mark.parametrize("fields", [{}, {"Content-Length": "10"}], ids=["chunked", "length"])
def test_a_piece_that_is_not_bytes_ends_with_a_reset(
    make_net: MakeNet, fields: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    body = Body([b"x", cast(bytes, "text")])
    net = make_net(lambda request: Response(200, body, fields))
    client, connection = net.connect()
    with logged_errors(caplog, "failed while responding"):
        client.send(GET)
        net.settle()
    assert connection.phase == CLOSED
    assert server_socket(connection).aborted
    assert body.closed == 1


def test_a_future_piece(make_net: MakeNet) -> None:
    """Pieces before it are sent immediately. A Future of b"" does not end the body."""
    pieces: list[Future[bytes | FileSpan]] = [Future(), Future(), Future()]
    body = Body([b"now, ", *pieces, b"and the end"])
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect()
    send(net, client, GET)
    assert client.read().endswith(b"\r\n\r\n5\r\nnow, \r\n")
    assert connection.phase == HANDLER
    pieces[0].set_result(b"later, ")
    net.settle()
    assert client.read() == b"7\r\nlater, \r\n"
    pieces[1].set_result(b"")
    net.settle()
    assert client.read() == b""
    pieces[2].set_result(b"last, ")
    net.settle()
    [response] = client.answers("GET")
    assert response.body == b"now, later, last, and the end"
    assert body.closed == 1
    assert connection.phase == IDLE


def test_a_future_piece_that_fails_ends_with_a_reset(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    piece: Future[bytes | FileSpan] = Future()
    body = Body([b"now", piece])
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    send(net, client, GET)
    with logged_errors(caplog, "the handler failed while responding"):
        piece.set_exception(RuntimeError("the handler's own fault"))
        net.settle()
    assert connection.phase == CLOSED
    assert body.closed == 1
    client.read()
    assert client.was_reset


def test_a_body_with_a_pending_piece_is_closed_when_the_server_aborts(make_net: MakeNet) -> None:
    piece: Future[bytes | FileSpan] = Future()
    body = Body([piece])
    net = make_net(lambda request: Response(200, body))
    client, connection = net.connect()
    send(net, client, GET)
    connection.abort()
    assert piece.cancelled()
    assert body.closed == 1
    net.settle()
