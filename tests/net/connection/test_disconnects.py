"""Clients that half-close or reset, in every phase."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from kaserve.http.messages import Piece, Request, Response
from kaserve.http.phases import CLOSED, HANDLER, Phase
from kaserve.net.connection import Connection
from kaserve.net.poller import NOTHING, SelectorPoller
from kaserve.net.service import Deadlines
from kaserve.net.tls import TLS
from tests.tools.connections import (
    PHASE_STARTS,
    POST_HEAD,
    SMALL_BUFFER,
    WHEEL_DELAY,
    MakeNet,
    large,
    server_socket,
)
from tests.tools.net import GET, Body, Client, Net, get, open_descriptors
from tests.tools.tls import TLSClient, make_certificate


def test_a_half_closed_client_still_gets_its_responses(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET * 3)
    client.finish()
    net.settle()
    assert [response.status for response in client.answers(*["GET"] * 3)] == [200] * 3
    assert client.ended
    assert not client.was_reset
    assert connection.phase == CLOSED


def test_a_half_closed_client_gets_the_responses_to_a_long_pipeline(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response.text(request.path))
    client, _ = net.connect(send_buffer=SMALL_BUFFER)
    client.send(b"".join(get(f"/{number}") for number in range(200)))
    client.finish()
    for _ in range(1000):
        net.settle()
        client.read(1000)
    responses = client.answers(*["GET"] * 200)
    assert [response.body for response in responses] == [f"/{number}".encode() for number in range(200)]
    assert client.ended
    assert not client.was_reset


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(GET[:9], id="request line"),
        pytest.param(GET[:-2], id="head without its empty line"),
        pytest.param(POST_HEAD + b"12345", id="body"),
    ],
)
def test_half_a_request_and_a_half_close_is_400(make_net: MakeNet, start: bytes) -> None:
    """RFC 9112 §8: the request is incomplete."""
    net = make_net()
    client, connection = net.connect()
    client.send(GET + start)
    client.finish()
    net.settle()
    assert [response.status for response in client.answers("GET", "POST")] == [200, 400]
    assert connection.phase == CLOSED


def reach_handler(net: Net, client: Client) -> None:
    client.send(GET * 100)


@pytest.mark.parametrize(
    ("phase", "reach"),
    [
        *(pytest.param(phase, row[0], id=phase.name) for phase, row in PHASE_STARTS.items()),
        pytest.param(HANDLER, reach_handler, id="HANDLER"),
    ],
)
def test_a_client_that_resets_is_forgotten_without_a_log_line(
    make_net: MakeNet, phase: Phase, reach: Callable[[Net, Client], None]
) -> None:
    """In every phase: nothing is logged and all descriptors are closed (the fixture checks both)."""
    net = make_net(large)
    client, connection = net.connect(tcp=True, send_buffer=SMALL_BUFFER)
    reach(net, client)
    net.step()
    if phase != HANDLER:
        net.settle()
    assert connection.phase == phase
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert connection not in net.service.connections
    assert net.interest(connection) == NOTHING


class Waiting:
    """A handler whose responses, and the pieces of whose bodies, are not there yet."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.futures: list[Future[Any]] = []
        self.bodies: list[Body] = []
        self.disconnected: list[bool] = []  # what each request said when its Future was cancelled

    def __call__(self, request: Request) -> Response | Future[Response]:
        future: Future[Any] = Future()
        self.requests.append(request)
        self.futures.append(future)
        future.add_done_callback(lambda _: self.disconnected.append(request.disconnected))
        if request.path != "/body":
            return future
        self.bodies.append(Body([b"first", future]))
        return Response(200, self.bodies[-1])


HALF_CLOSE_TIMEOUT = Deadlines().half_close_timeout


def waiting(make_net: MakeNet, path: str = "/", **settings: Any) -> tuple[Waiting, Net, Client, Connection]:
    """A handler, and a connection that waits for it."""
    handler = Waiting()
    net = make_net(handler, **settings)
    client, connection = net.connect(tcp=True)
    client.send(get(path))
    net.settle()
    assert connection.phase == HANDLER
    return handler, net, client, connection


PATHS = pytest.mark.parametrize("path", ["/", "/body"])


@PATHS
@pytest.mark.parametrize("pipelined", [b"", GET], ids=["alone", "with the next request"])
def test_a_reset_while_the_handler_is_waited_for_cancels_its_future(
    make_net: MakeNet, path: str, pipelined: bytes
) -> None:
    handler, net, client, connection = waiting(make_net, path)
    client.send(pipelined)
    net.settle()  # unread bytes do not make the loop spin
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.futures[0].cancelled()
    assert handler.disconnected == [True]
    assert [body.closed for body in handler.bodies] == [1] * (path == "/body")
    assert net.stats.closed == {"disconnected": 1}


@PATHS
@pytest.mark.parametrize("pipelined", [b"", GET], ids=["alone", "with the next request"])
def test_a_half_close_while_the_handler_is_waited_for_has_a_deadline(
    make_net: MakeNet, path: str, pipelined: bytes
) -> None:
    handler, net, client, connection = waiting(make_net, path)
    net.sleep(1000)  # the client stays: there is no deadline
    assert connection.phase == HANDLER
    client.send(pipelined)
    client.finish()
    net.sleep(HALF_CLOSE_TIMEOUT - 1)
    assert connection.phase == HANDLER
    assert not handler.requests[0].disconnected
    net.sleep(1 + WHEEL_DELAY)
    assert connection.phase == CLOSED
    assert handler.futures[0].cancelled()
    assert handler.disconnected == [True]
    assert net.stats.closed == {"half-close timeout": 1}
    client.read()
    assert client.was_reset, "a part of a response must not look like the whole"


def test_the_deadline_after_a_half_close_is_a_setting(make_net: MakeNet) -> None:
    _, net, client, connection = waiting(make_net, deadlines=Deadlines(half_close_timeout=3))
    client.finish()
    net.settle()
    assert net.time_left(connection) == 3


def test_a_half_closed_client_gets_the_response_of_a_future(make_net: MakeNet) -> None:
    """`nc -N`, `printf | nc`, and every client that finishes sending before it reads (RFC 9112 §9.6)."""
    handler, net, client, connection = waiting(make_net)
    client.send(GET)
    client.finish()
    net.sleep(HALF_CLOSE_TIMEOUT - 1)
    handler.futures[0].set_result(Response.text("first"))
    net.sleep(HALF_CLOSE_TIMEOUT - 1)  # the deadline starts again for the second one
    handler.futures[1].set_result(Response.text("second"))
    net.settle()
    assert [response.body for response in client.answers("GET", "GET")] == [b"first", b"second"]
    assert client.ended
    assert not client.was_reset
    assert connection.phase == CLOSED
    assert net.stats.closed == {"client": 1}
    assert handler.disconnected == [False, False]


def test_each_piece_for_a_half_closed_client_starts_the_deadline_anew(make_net: MakeNet) -> None:
    """An event stream: the client took what it was sent, so it is still there."""
    pieces: list[Future[Piece]] = [Future() for _ in range(5)]
    net = make_net(lambda request: Response(200, Body(pieces)))
    client, connection = net.connect(tcp=True)
    client.send(GET)
    client.finish()
    for piece in pieces:
        net.sleep(HALF_CLOSE_TIMEOUT - 1)
        assert connection.phase == HANDLER
        piece.set_result(b"x")
    net.settle()
    (response,) = client.answers("GET")
    assert response.body == b"xxxxx"


def test_a_reset_after_a_half_close_is_noticed_at_once(make_net: MakeNet) -> None:
    handler, net, client, connection = waiting(make_net)
    client.finish()
    net.settle()
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.futures[0].cancelled()


def test_a_future_that_is_done_at_the_deadline_is_still_sent(make_net: MakeNet) -> None:
    handler, net, client, _ = waiting(make_net)
    client.finish()
    net.settle()
    net.clock.advance(HALF_CLOSE_TIMEOUT + 1)
    handler.futures[0].set_result(Response.text("just in time"))
    net.settle()
    (response,) = client.answers("GET")
    assert response.body == b"just in time"


def test_a_connection_that_waits_long_has_the_kernel_probe_its_client(make_net: MakeNet) -> None:
    """A client that vanishes without a packet, which a test cannot play: the kernel looks for it, if it is told to."""
    _, net, _, connection = waiting(make_net)
    sock = server_socket(connection)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    net.sleep(10 + WHEEL_DELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 10, 6]
    assert net.reactor.timeout() is None  # from here on the connection wakes nothing


def test_short_waits_do_not_touch_the_socket(make_net: MakeNet) -> None:
    handler, net, client, connection = waiting(make_net)
    for number in range(20):
        net.sleep(1)
        handler.futures[number].set_result(Response.text(""))
        net.settle()
        client.send(GET)
        net.settle()
    assert not server_socket(connection).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_clients_that_leave_are_noticed_without_epoll(make_net: MakeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the selectors of other systems: the same, but for a reset after a half-close or behind unread bytes."""
    monkeypatch.setattr("tests.tools.net.new_poller", SelectorPoller)
    handler, net, client, connection = waiting(make_net)
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.futures[0].cancelled()
    handler, net, client, connection = waiting(make_net)
    client.finish()
    net.sleep(HALF_CLOSE_TIMEOUT + WHEEL_DELAY)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"half-close timeout": 1}
    handler, net, client, connection = waiting(make_net)
    client.send(GET)
    net.settle()
    handler.futures[0].set_result(Response.text("first"))
    net.settle()
    handler.futures[1].set_result(Response.text("second"))
    net.settle()
    assert len(client.answers("GET", "GET")) == 2


def test_a_unix_client_that_closes_has_disconnected(make_net: MakeNet) -> None:
    handler = Waiting()
    net = make_net(handler)
    client, connection = net.connect()
    client.send(GET)
    net.settle()
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert handler.futures[0].cancelled()


def test_a_thousand_clients_that_leave_release_their_descriptors(make_net: MakeNet, tmp_path: Path) -> None:
    """In three ways: a FIN, a reset, and a TLS client that closes its socket without close_notify (also a FIN)."""
    handler = Waiting()
    net = make_net(handler)
    tls = TLS([make_certificate(tmp_path, "h", "h.example")])
    before = open_descriptors()
    for number in range(999):
        if number % 3 == 2:
            secure = TLSClient(net, tls, tcp=True).handshake()
            secure.write(GET)
            secure.raw.close()
        else:
            client, _ = net.connect(tcp=True)
            client.send(GET)
            net.settle()
            if number % 3:
                client.reset()
            else:
                client.close()
    net.settle()
    assert len(handler.futures) == 999
    assert net.stats.closed == {"disconnected": 333}
    net.sleep(HALF_CLOSE_TIMEOUT + WHEEL_DELAY)
    assert net.stats.closed == {"disconnected": 333, "half-close timeout": 666}
    assert not net.service.connections
    assert open_descriptors() <= before
    assert all(future.cancelled() for future in handler.futures)
