"""Tunnels: a connection after a 101, in both directions, and every way in which it ends."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from kaserve.handlers import Threaded
from kaserve.handlers.middleware.cors import CORSPreflight
from kaserve.handlers.middleware.headers import HeaderMiddleware
from kaserve.http.messages import Request, Response
from kaserve.http.phases import CLOSED, HANDLER, IDLE, LINGER, SEND, TUNNEL
from kaserve.http.tunnel import Tunnel, TunnelConnection
from kaserve.net.connection import Connection
from kaserve.net.poller import HANGUP, READ, WRITE, SelectorPoller
from kaserve.net.service import CLIENT_LEAVES, Deadlines
from kaserve.net.sockets import queued_bytes
from kaserve.net.tls import TLS
from tests.tools.connections import (
    SMALL_BUFFER,
    WHEEL_DELAY,
    MakeNet,
    is_called_again,
    logged_errors,
    send,
    send_during_turn,
    unsent,
)
from tests.tools.logs import LoggedNet
from tests.tools.net import GET, Client, Net, get, hello, open_descriptors
from tests.tools.server import wait_for
from tests.tools.tls import TLSClient, client_context, make_certificate

ASK = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
TIMEOUT = Deadlines().tunnel_timeout
MANY = b"0123456789abcdef" * 500_000  # 8 MB, which no kernel buffers


class Recorder(Tunnel):
    """A tunnel that records what it is told. `does` has what it does then, by the name of the method."""

    def __init__(self, **does: Callable[[TunnelConnection], object]) -> None:
        self.told: list[str] = []
        self.data = b""
        self.does = does
        self.connection: TunnelConnection

    def _tell(self, name: str) -> None:
        self.told.append(name)
        if name in self.does:
            self.does[name](self.connection)

    def opened(self, connection: TunnelConnection) -> None:
        self.connection = connection
        self._tell("opened")

    def received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert 0 < len(data) <= 65536
        self.data += data
        self._tell("received")

    def ended(self) -> None:
        self._tell("ended")

    def drained(self) -> None:
        self._tell("drained")

    def stopping(self) -> None:
        self._tell("stopping")

    def closed(self) -> None:
        self.told.append("closed")
        if "closed" in self.does:
            self.does["closed"](self.connection)


class Echo(Recorder):
    """Sends what it receives, and reads no faster than the client does."""

    def received(self, data: bytes) -> None:
        if not self.connection.write(data):
            self.connection.pause()

    def drained(self) -> None:
        self.connection.resume()

    def ended(self) -> None:
        self.told.append("ended")
        self.connection.finish()


def upgrading(tunnel: Tunnel) -> Callable[[Request], Response]:
    """A handler that upgrades requests for /up."""
    return lambda request: Response.upgrade("echo", tunnel) if request.path == "/up" else hello(request)


def opened(make_net: MakeNet, tunnel: Tunnel, *, tcp: bool = True, **settings: Any) -> tuple[Net, Client, Connection]:
    """A net and a connection of it that has become a tunnel."""
    net = make_net(upgrading(tunnel))
    client, connection = net.connect(tcp=tcp, **settings)
    send(net, client, ASK)
    assert client.read() == HEAD
    assert connection.phase == TUNNEL
    client.received = b""
    return net, client, connection


def fill(tunnel: Recorder, size: int = len(MANY)) -> None:
    """Writes more than the kernel accepts."""
    assert not tunnel.connection.write(MANY[:size])


# Opening.


def test_opened_comes_first_and_then_the_bytes_after_the_request(make_net: MakeNet) -> None:
    tunnel = Recorder(opened=lambda connection: connection.write(b"hi"))
    net = make_net(upgrading(tunnel))
    client, connection = net.connect()
    send(net, client, ASK + b"early")
    assert (tunnel.told, tunnel.data) == (["opened", "received"], b"early")
    assert client.read() == HEAD + b"hi"
    assert (connection.phase, net.interest(connection), net.time_left(connection)) == (TUNNEL, READ, TIMEOUT)
    assert net.stats.requests == 1
    assert net.stats.statuses.counts[0] == 1
    assert (net.stats.received, net.stats.sent) == (len(ASK) + 5, len(HEAD) + 2)


def test_a_client_may_have_finished_by_then(make_net: MakeNet) -> None:
    tunnel = Echo()
    net = make_net(upgrading(tunnel))
    client, connection = net.connect(tcp=True)
    client.send(ASK + b"all of it")
    client.finish()
    net.settle()
    assert client.read() == HEAD + b"all of it"
    assert (client.ended, client.was_reset, connection.phase) == (True, False, CLOSED)
    assert tunnel.told == ["opened", "ended", "closed"]


def test_after_other_requests_of_a_pipeline(make_net: MakeNet) -> None:
    tunnel = Echo()
    net = make_net(upgrading(tunnel))
    client, connection = net.connect()
    send(net, client, GET + get("/x") + ASK + GET)
    received = client.read()
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(HEAD + GET)  # the last one is no request any more
    assert (net.stats.requests, connection.protocol.served) == (3, 3)


def test_a_101_that_comes_later(make_net: MakeNet) -> None:
    tunnel, future = Recorder(), Future[Response]()
    net = make_net(lambda request: future)
    client, connection = net.connect()
    send(net, client, ASK)
    assert connection.phase == HANDLER
    future.set_result(Response.upgrade("echo", tunnel))
    send(net, client, b"x")
    assert (client.read(), tunnel.data, connection.phase) == (HEAD, b"x", TUNNEL)


def test_a_101_that_the_kernel_does_not_accept_at_once(make_net: MakeNet) -> None:
    tunnel = Recorder(opened=lambda connection: connection.write(b"after it"))
    net = make_net(lambda request: Response.upgrade("echo", tunnel, {"X": "x" * 60_000}))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, ASK)
    assert (connection.phase, net.interest(connection), tunnel.told) == (TUNNEL, READ | WRITE, ["opened"])
    while client.read():
        net.settle()
    assert client.received.endswith(b"x\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nafter it")
    assert (tunnel.told, net.interest(connection)) == (["opened", "drained"], READ)


def test_drained_is_not_called_for_the_101(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net = make_net(lambda request: Response.upgrade("echo", tunnel, {"X": "x" * 60_000}))
    client, _ = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, ASK)
    while client.read():
        net.settle()
    assert client.received.endswith(b"x\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
    assert tunnel.told == ["opened"]


def test_the_kernel_probes_a_client_that_is_silent(make_net: MakeNet) -> None:
    """One that has vanished without a packet is noticed before the deadline."""
    _, _, connection = opened(make_net, Recorder())
    sock: Any = connection._sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_client_that_has_not_asked_gets_a_500(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9110 §7.8: a server must not switch to a protocol that the client has not named."""
    tunnel = Recorder()
    net = make_net(upgrading(tunnel))
    client, connection = net.connect()
    with logged_errors(caplog, "(?s)cannot be sent.*has not asked to switch to 'echo'"):
        (answer,) = net.ask(client, get("/up"))
    assert (answer.status, answer.persists, connection.phase) == (500, True, IDLE)
    assert tunnel.told == ["closed"]
    assert net.stats.failed == 1


def test_a_client_that_has_left_before_the_101(make_net: MakeNet) -> None:
    tunnel, future = Recorder(), Future[Response]()
    net = make_net(lambda request: future)
    client, _ = net.connect(tcp=True)
    send(net, client, ASK)
    client.reset()
    net.settle()
    assert future.cancelled()
    assert tunnel.told == []  # never made
    running = Future[Response]()
    running.set_running_or_notify_cancel()
    net = make_net(lambda request: running)
    client, _ = net.connect(tcp=True)
    send(net, client, ASK)
    client.reset()
    net.settle()
    running.set_result(Response.upgrade("echo", tunnel))
    assert tunnel.told == ["closed"]


def test_a_101_that_cannot_be_sent(make_net: MakeNet) -> None:
    """The client has reset the connection meanwhile."""
    tunnel = Recorder()
    clients: list[Client] = []

    def handler(request: Request) -> Response:
        clients[0].reset()
        return Response.upgrade("echo", tunnel)

    net = make_net(handler)
    client, connection = net.connect(tcp=True)
    clients.append(client)
    send(net, client, ASK)
    assert connection.phase == CLOSED
    assert tunnel.told == ["closed"]
    assert net.stats.closed == {"reset": 1}


@pytest.mark.parametrize("middleware", ["header", "cors", "threaded"])
def test_middlewares_leave_it_alone(make_net: MakeNet, middleware: str) -> None:
    tunnel = Echo()
    inner = upgrading(tunnel)
    if middleware == "threaded":
        handler: Any = Threaded(inner, threads=1)
    else:
        handler = HeaderMiddleware(inner, (("X-Mine", "1"),)) if middleware == "header" else CORSPreflight(inner)
    net = make_net(handler)
    client, _ = net.connect()
    client.send(ASK + b"hello")

    def has_arrived() -> bool:
        net.settle()
        client.read()
        return client.received.endswith(b"hello")

    wait_for(has_arrived)
    assert client.received.startswith(b"HTTP/1.1 101 ")
    assert client.received.endswith(b"\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello")
    handler.close()


# Both directions.


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_an_echo_to_a_slow_client(make_net: MakeNet, tcp: bool) -> None:
    """Flow control keeps what is in memory small, and no byte is lost or out of order."""
    tunnel = Echo()
    net, client, connection = opened(make_net, tunnel, tcp=tcp, send_buffer=SMALL_BUFFER)
    data, sent, held = MANY[:1_000_000], 0, 0
    while len(client.received) < len(data):
        sent += client.send(data[sent : sent + 50_000])
        net.settle()
        held = max(held, len(unsent(connection)))
        client.read(7_000)
    assert client.received == data
    assert held <= 65536
    assert net.stats.received == len(ASK) + len(data)
    assert net.stats.sent == len(HEAD) + len(data)


def test_what_is_written_is_not_waited_for_with_reading(make_net: MakeNet) -> None:
    """Unlike HTTP, which is half-duplex here."""
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    fill(tunnel)
    net.settle()
    assert net.interest(connection) == READ | WRITE
    send(net, client, b"meanwhile")
    assert tunnel.data == b"meanwhile"
    while client.read():
        net.settle()
    assert client.received == MANY
    assert (tunnel.told[-1], net.interest(connection)) == ("drained", READ)
    assert tunnel.told.count("drained") == 1


def test_write_says_whether_the_kernel_has_accepted_it(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, _ = opened(make_net, tunnel)
    assert tunnel.connection.write(b"")
    assert tunnel.connection.write(b"one")
    assert client.read() == b"one"  # at once, without a turn
    fill(tunnel)
    for data in (b"two", b"", b"three"):
        assert not tunnel.connection.write(data)
    client.received = b""
    while client.read():
        net.settle()
    assert client.received == MANY + b"twothree"
    assert tunnel.connection.write(b"four")


def test_small_writes_of_an_owner_that_ignores_flow_control_are_sent_together(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel, tcp=False)
    fill(tunnel)
    for _ in range(100_000):
        tunnel.connection.write(b"x" * 10)
    sock: Any = connection._sock
    sends = len(sock.sends)
    while client.read():
        net.settle()
    assert client.received == MANY + b"x" * 1_000_000
    assert len(sock.sends) - sends < 1000


def test_a_large_write_of_such_an_owner_has_no_more_than_a_share_of_a_turn(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel, tcp=False)
    for _ in range(300):
        tunnel.connection.write(bytes(60_000))
    net.settle()
    sock: Any = connection._sock
    taken: list[int] = []

    def accept_all(data: Any, flags: int = 0) -> int:
        taken.append(len(data))
        return len(data)

    sock.send = accept_all
    client.read()
    net.step()
    assert sum(taken) < 1024 * 1024 + 65536
    net.settle()
    assert sum(taken) > 15_000_000


def test_pause_and_resume(make_net: MakeNet) -> None:
    tunnel = Recorder(received=lambda connection: connection.pause())
    net, client, connection = opened(make_net, tunnel)
    send(net, client, b"one")
    assert (tunnel.data, net.interest(connection)) == (b"one", CLIENT_LEAVES)
    send(net, client, b"two")
    assert tunnel.data == b"one"
    for expected in (b"onetwo", b"onetwo"):
        tunnel.connection.resume()
        net.settle()
        assert tunnel.data == expected
    assert net.interest(connection) == READ  # since nothing came, it did not pause again


def test_pause_has_its_effect_without_another_byte(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, _, connection = opened(make_net, tunnel)
    for call, expected in ((tunnel.connection.pause, CLIENT_LEAVES), (tunnel.connection.resume, READ)):
        call()
        net.settle()
        assert net.interest(connection) == expected


def test_what_an_owner_asks_for_costs_one_turn_at_most(make_net: MakeNet) -> None:
    """And none within a turn of its connection."""

    def ask(connection: TunnelConnection) -> None:
        connection.write(b"x")
        connection.pause()
        connection.resume()

    tunnel = Recorder(received=ask)
    net, client, connection = opened(make_net, tunnel)
    ask(tunnel.connection)
    ask(tunnel.connection)
    assert net.reactor._again.count(connection) == 1
    net.settle()
    client.send(b"x")
    net.step()
    assert tunnel.data == b"x"
    assert not is_called_again(net, connection)
    assert tunnel.connection.write(b"x")
    assert not is_called_again(net, connection)


def test_paused_from_the_beginning(make_net: MakeNet) -> None:
    """Not even the bytes that came with the request are passed on; nor is more received."""
    tunnel = Recorder(opened=lambda connection: connection.pause())
    net = make_net(upgrading(tunnel))
    client, connection = net.connect(tcp=True)
    client.send(ASK + b"one")
    net.settle()
    client.send(b"two")
    client.finish()
    net.settle()
    assert (tunnel.told, net.interest(connection)) == (["opened"], HANGUP)
    tunnel.connection.resume()
    net.settle()
    assert (tunnel.data, tunnel.told) == (b"onetwo", ["opened", "received", "received", "ended"])


def test_paused_with_something_unsent(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    tunnel.connection.pause()
    fill(tunnel)
    net.settle()
    assert net.interest(connection) == WRITE
    send(net, client, b"x")
    assert tunnel.data == b""
    while client.read():
        net.settle()
    assert (net.interest(connection), tunnel.told) == (CLIENT_LEAVES, ["opened", "drained"])


def test_other_connections_are_served_meanwhile(make_net: MakeNet) -> None:
    """In a turn a tunnel reads so much and no more, also of a client that sends without end."""
    tunnel = Recorder()
    net, client, _ = opened(make_net, tunnel)
    client.send(MANY[:1_000_000])
    other, _ = net.connect()
    other.send(GET)
    net.step()
    assert [answer.status for answer in other.answers("GET")] == [200]
    assert len(tunnel.data) <= 256 * 1024


# Half-closes.


def test_the_client_finishes_first(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    client.send(b"last")
    client.finish()
    net.settle()
    assert (tunnel.told, tunnel.data) == (["opened", "received", "ended"], b"last")
    assert (connection.phase, net.interest(connection)) == (TUNNEL, HANGUP)
    assert tunnel.connection.write(b"still here")
    net.settle()
    assert (client.read(), client.ended) == (b"still here", False)
    tunnel.connection.finish()
    net.settle()
    assert (client.read(), client.ended, client.was_reset) == (b"", True, False)
    assert tunnel.told == ["opened", "received", "ended", "closed"]
    assert net.stats.closed == {"tunnel closed": 1}


def test_the_owner_finishes_first(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    tunnel.connection.write(b"last")
    tunnel.connection.finish()
    tunnel.connection.finish()
    net.settle()
    assert (client.read(), client.ended) == (b"last", True)
    with pytest.raises(RuntimeError, match="after finish"):
        tunnel.connection.write(b"x")
    send(net, client, b"still here")
    assert (tunnel.data, connection.phase) == (b"still here", TUNNEL)
    client.send(b"!")
    client.finish()
    net.settle()
    assert (tunnel.data, tunnel.told[-2:], connection.phase) == (b"still here!", ["ended", "closed"], CLOSED)
    assert net.stats.closed == {"tunnel closed": 1}


def test_what_was_written_comes_before_the_end(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    fill(tunnel)
    tunnel.connection.finish()
    net.settle()
    while not client.ended:
        client.read(100_000)
        net.settle()
    assert client.received == MANY
    assert (client.was_reset, connection.phase) == (False, TUNNEL)


def test_a_half_close_while_paused(make_net: MakeNet) -> None:
    tunnel = Recorder(opened=lambda connection: connection.pause())
    net, client, connection = opened(make_net, tunnel)
    client.send(b"last")
    client.finish()
    assert net.settle() < 5  # it is reported once
    assert (tunnel.told, net.interest(connection)) == (["opened"], HANGUP)
    tunnel.connection.resume()
    net.settle()
    assert (tunnel.data, tunnel.told) == (b"last", ["opened", "received", "ended"])


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
@pytest.mark.parametrize("finishes", [True, False])
def test_the_last_bytes_of_a_client_that_closes_while_it_is_not_read(
    make_net: MakeNet, tcp: bool, finishes: bool
) -> None:
    """When both sides are closed the poller reports a hangup, which is no reset."""
    tunnel = Recorder(opened=lambda connection: connection.pause())
    net, client, connection = opened(make_net, tunnel, tcp=tcp)
    if finishes:
        tunnel.connection.finish()
    net.settle()
    client.read()
    client.send(b"last")
    client.close()
    assert net.settle() < 5
    assert connection.phase == TUNNEL
    tunnel.connection.resume()
    net.settle()
    assert (tunnel.data, tunnel.told[:3]) == (b"last", ["opened", "received", "ended"])
    if finishes:
        assert (connection.phase, tunnel.told[3:]) == (CLOSED, ["closed"])
        assert net.stats.closed == {"tunnel closed": 1}


# The ends.


def test_close(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    tunnel.connection.write(b"bye")
    tunnel.connection.close()
    tunnel.connection.close()
    assert not tunnel.connection.write(b"too late")
    net.settle()
    assert (client.read(), client.ended, client.was_reset) == (b"bye", True, False)
    assert (connection.phase, net.time_left(connection)) == (LINGER, 5)
    send(net, client, b"late bytes are no reason to reset")
    assert (tunnel.data, tunnel.told) == (b"", ["opened"])
    client.finish()
    net.settle()
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "closed"])
    assert net.stats.closed == {"tunnel closed": 1}
    for call in (tunnel.connection.close, tunnel.connection.reset, tunnel.connection.pause, tunnel.connection.resume):
        call()
    assert not tunnel.connection.write(b"x")
    net.settle()


def test_close_sends_everything_first(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    fill(tunnel)
    tunnel.connection.write(b"the end")
    tunnel.connection.close()
    net.settle()
    assert (connection.phase, net.interest(connection)) == (SEND, WRITE)
    while not client.ended:
        client.read(100_000)
        net.settle()
    assert client.received == MANY + b"the end"
    assert (client.was_reset, connection.phase) == (False, LINGER)
    net.sleep(5 + WHEEL_DELAY)
    assert (net.stats.closed, tunnel.told) == ({"tunnel closed": 1}, ["opened", "closed"])


def test_a_client_that_does_not_read_the_rest(make_net: MakeNet) -> None:
    """`send_timeout` holds from then on: nobody waits for a tunnel that its owner has closed."""
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    fill(tunnel)
    tunnel.connection.close()
    net.sleep(60 + WHEEL_DELAY)
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "closed"])
    client.read()
    assert client.was_reset


def test_close_after_the_client_has_finished(make_net: MakeNet) -> None:
    tunnel = Recorder(ended=lambda connection: connection.close())
    net, client, connection = opened(make_net, tunnel)
    client.finish()
    net.settle()
    client.read()
    assert (client.ended, client.was_reset, connection.phase) == (True, False, CLOSED)


@pytest.mark.parametrize("closes_first", [True, False])
def test_reset(make_net: MakeNet, closes_first: bool) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    tunnel.connection.write(b"x")
    if closes_first:
        tunnel.connection.close()
    tunnel.connection.reset()
    assert tunnel.told == ["opened"]  # not within its own call
    net.settle()
    client.read()
    assert (client.was_reset, connection.phase) == (True, CLOSED)
    assert tunnel.told == ["opened", "closed"]
    assert net.stats.closed == {"tunnel reset": 1}


def test_reset_discards_what_is_unsent(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    fill(tunnel)
    tunnel.connection.reset()
    net.settle()
    client.read()
    assert (client.was_reset, connection.phase) == (True, CLOSED)


@pytest.mark.parametrize("state", ["reading", "paused", "unsent", "both", "finished", "ended"])
def test_a_client_that_resets_is_noticed_at_once(make_net: MakeNet, state: str) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    if state in ("paused", "both"):
        tunnel.connection.pause()
    if state in ("unsent", "both"):
        fill(tunnel)
    if state == "finished":
        tunnel.connection.pause()
        tunnel.connection.finish()
    if state == "ended":
        client.finish()
    net.settle()
    client.reset()
    net.settle()
    assert (connection.phase, tunnel.told[-1], tunnel.told.count("closed")) == (CLOSED, "closed", 1)
    assert net.stats.closed == {"reset": 1}
    assert sum(net.stats.client_closed.counts) == 0  # which is about idle connections


def test_the_last_bytes_of_a_client_that_cannot_receive_any_more(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    client.send(b"last")
    client.reset()
    assert not tunnel.connection.write(b"x")
    assert not tunnel.connection.write(b"x")
    net.settle()
    assert (tunnel.data, connection.phase, tunnel.told) == (b"last", CLOSED, ["opened", "received", "closed"])
    assert net.stats.closed == {"reset": 1}


def test_a_client_that_has_finished_and_cannot_receive_any_more(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel, tcp=False)
    client.finish()
    net.settle()
    client.close()
    net.settle()
    assert connection.phase == TUNNEL  # a Unix socket has no resets
    assert not tunnel.connection.write(b"x")
    net.settle()
    assert (tunnel.told, net.stats.closed) == (["opened", "ended", "closed"], {"reset": 1})


METHODS = ["opened", "received", "ended", "drained", "stopping"]


def _fail(connection: TunnelConnection) -> None:
    raise RuntimeError("the owner's own fault")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_fails_ends_its_connection_alone(
    make_net: MakeNet, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    tunnel = Recorder(**{method: _fail})
    net = make_net(upgrading(tunnel))
    client, connection = net.connect(tcp=True)
    other, _ = net.connect()
    with logged_errors(caplog, "(?s)the tunnel of <Request GET /up HTTP/1.1> failed.*the owner's own fault"):
        send(net, client, ASK)
        if method == "drained":
            fill(tunnel)
            while client.read():
                net.settle()
        elif method == "stopping":
            net.service.drain()
        elif method != "opened":
            client.send(b"x")
            client.finish()
        net.settle()
        client.read()
    assert (client.was_reset, connection.phase) == (True, CLOSED)
    assert tunnel.told[-2:] == [method, "closed"]
    assert (net.stats.closed["failed"], net.stats.failed) == (1, 1)  # type: ignore[index]
    assert [answer.status for answer in net.ask(other, GET)] == [200]


def test_closed_may_fail_as_well(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    tunnel = Recorder(closed=_fail)
    net, client, connection = opened(make_net, tunnel)
    with logged_errors(caplog, "(?s)at the end of a connection.*the owner's own fault"):
        client.reset()
        net.settle()
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "closed"])
    assert connection not in net.service.connections


def test_an_owner_may_do_anything_anywhere(make_net: MakeNet) -> None:
    """No method is called while another one runs, whatever that calls."""
    depth = 0

    class Careful(Recorder):
        def _tell(self, name: str) -> None:
            nonlocal depth
            assert depth == 0
            depth += 1
            super()._tell(name)
            self.connection.write(b"x")
            self.connection.pause()
            self.connection.resume()
            if name == "ended":
                self.connection.finish()
                self.connection.close()
                self.connection.reset()
            depth -= 1

    tunnel = Careful()
    net, client, connection = opened_with(make_net, tunnel)
    client.send(b"y")
    client.finish()
    net.settle()
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "received", "ended", "closed"])
    assert net.stats.closed == {"tunnel reset": 1}


def opened_with(make_net: MakeNet, tunnel: Tunnel) -> tuple[Net, Client, Connection]:
    net = make_net(upgrading(tunnel))
    client, connection = net.connect(tcp=True)
    send(net, client, ASK)
    return net, client, connection


# Deadlines.


def test_a_silent_tunnel_is_reset(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    net.sleep(TIMEOUT - 1)
    assert connection.phase == TUNNEL
    net.sleep(1 + WHEEL_DELAY)
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "closed"])
    client.read()
    assert client.was_reset
    assert net.stats.closed == {"tunnel timeout": 1}


@pytest.mark.parametrize("direction", ["received", "sent"])
def test_a_byte_in_either_direction_extends_the_deadline(make_net: MakeNet, direction: str) -> None:
    tunnel = Recorder()
    net = make_net(upgrading(tunnel), deadlines=Deadlines(tunnel_timeout=10))
    client, connection = net.connect()
    send(net, client, ASK)
    for _ in range(5):
        net.sleep(9)
        if direction == "received":
            send(net, client, b"x")
        else:
            tunnel.connection.write(b"x")
            client.read()
    net.sleep(9)
    assert connection.phase == TUNNEL
    net.sleep(1 + WHEEL_DELAY)
    assert connection.phase == CLOSED


def test_a_client_that_takes_long_is_not_silent(make_net: MakeNet) -> None:
    """The kernel sends for a long time before it has room for more."""
    tunnel = Recorder()
    net = make_net(upgrading(tunnel), deadlines=Deadlines(tunnel_timeout=10))
    client, connection = net.connect(tcp=True, send_buffer=SMALL_BUFFER)
    fd = connection._sock.fileno()
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, (200_000).to_bytes(4, sys.byteorder))
    send(net, client, ASK)
    assert tunnel.connection.write(MANY[:150_000])
    for _ in range(2):
        net.sleep(9)
        before = queued_bytes(fd)
        while queued_bytes(fd) == before:
            client.read(512)
    net.sleep(9)
    assert (connection.phase, net.busy) == (TUNNEL, False)
    assert queued_bytes(fd) > 0
    net.sleep(25)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"tunnel timeout": 1}


def test_a_client_that_takes_nothing_has_the_benefit_of_the_doubt_once(make_net: MakeNet) -> None:
    """How long the kernel's queue was after a write that it accepted is not known."""
    tunnel = Recorder()
    net = make_net(upgrading(tunnel), deadlines=Deadlines(tunnel_timeout=10))
    client, connection = net.connect(tcp=True, send_buffer=SMALL_BUFFER)
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, (200_000).to_bytes(4, sys.byteorder))
    send(net, client, ASK)
    assert tunnel.connection.write(MANY[:150_000])
    net.sleep(19)
    assert connection.phase == TUNNEL
    net.sleep(1 + 2 * WHEEL_DELAY)
    assert connection.phase == CLOSED


def test_a_paused_tunnel_has_its_deadline_too(make_net: MakeNet) -> None:
    tunnel = Recorder(opened=lambda connection: connection.pause())
    net, client, connection = opened(make_net, tunnel)
    send(net, client, b"x")
    net.sleep(TIMEOUT + WHEEL_DELAY)
    assert (connection.phase, tunnel.told) == (CLOSED, ["opened", "closed"])


def test_a_byte_that_arrives_at_the_last_moment(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    net.clock.advance(TIMEOUT + 1)
    send_during_turn(net, client, b"x")
    net.step()
    assert (connection.phase, tunnel.data) == (TUNNEL, b"x")
    net.sleep(TIMEOUT - 1)
    assert connection.phase == TUNNEL


# The server.


def test_draining_tells_the_owner_last_and_waits(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    others = [net.connect()[1] for _ in range(3)]
    net.sleep(2)
    net.step()
    idle: list[Connection] = []
    tunnel.does["stopping"] = lambda _: idle.extend(each for each in others if each.phase == IDLE)
    net.service.drain()
    assert (idle, tunnel.told) == ([], ["opened", "stopping"])
    net.sleep(100)
    assert connection.phase == TUNNEL
    assert connection.idle_since == float("inf")
    send(net, client, b"x")
    tunnel.connection.write(b"bye")
    tunnel.connection.close()
    net.settle()
    assert (tunnel.data, client.read(), client.ended) == (b"x", b"bye", True)


def test_an_owner_may_close_when_it_is_told(make_net: MakeNet) -> None:
    def say_goodbye(connection: TunnelConnection) -> None:
        connection.write(b"bye")
        connection.close()

    tunnel = Recorder(stopping=say_goodbye)
    net, client, connection = opened(make_net, tunnel)
    net.service.drain()
    net.settle()
    assert (client.read(), client.ended, connection.phase) == (b"bye", True, LINGER)


def test_a_tunnel_that_opens_while_the_server_drains(make_net: MakeNet) -> None:
    tunnel, future = Recorder(), Future[Response]()
    net = make_net(lambda request: future)
    client, _ = net.connect()
    send(net, client, ASK)
    net.service.drain()
    future.set_result(Response.upgrade("echo", tunnel))
    send(net, client, b"x")
    assert tunnel.told == ["opened", "stopping", "received"]


def test_abort(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, connection = opened(make_net, tunnel)
    connection.abort()
    client.read()
    assert (client.was_reset, tunnel.told) == (True, ["opened", "closed"])
    assert net.stats.closed == {"shutdown": 1}


def test_a_tunnel_does_not_change_the_response_times(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net, client, _ = opened(make_net, tunnel)
    net.sleep(1000)
    tunnel.connection.close()
    client.finish()
    net.settle()
    assert sum(net.stats.latency.counts) == 1
    assert net.stats.latency.total < 1
    assert sum(net.stats.gaps.counts) == 0
    assert net.stats.per_connection.total == 1


def test_the_timeline_has_the_request(make_net: MakeNet) -> None:
    tunnel = Recorder()
    net = make_net(upgrading(tunnel))
    net.service.timeline.render(net.clock.now)
    client, _ = net.connect()
    send(net, client, ASK)
    net.clock.advance(3)
    (row,) = net.service.timeline.render(net.clock.now)
    assert (row["requests"], row["bursts"], row["ended"]) == (1, [[3, 3, 1, 101, 0]], None)
    tunnel.connection.reset()
    net.settle()
    (row,) = net.service.timeline.render(net.clock.now)
    assert row["ending"] == "tunnel reset"


def test_the_access_log_has_a_line_at_the_end() -> None:
    """With the bytes and the duration of the tunnel, as nginx does it."""
    tunnel = Echo()
    net = LoggedNet("%(r)s %(s)s %(B)s %(T)s", handler=upgrading(tunnel))
    client, _ = net.connect()
    net.sleep(1)
    client.send(ASK)
    client.send(b"12345")
    net.settle()
    net.sleep(30)
    assert net.written.lines == []
    client.finish()
    net.settle()
    net.reactor.step()
    assert net.written.lines == ["GET /up HTTP/1.1 101 5 30"]
    assert tunnel.told[-1] == "closed"
    net.close()


# The other poller.


@pytest.fixture
def selectors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tools.net.new_poller", SelectorPoller)


@pytest.mark.usefixtures("selectors_only")
class TestWithoutEpoll:
    def test_echo_and_half_close(self, make_net: MakeNet) -> None:
        tunnel = Echo()
        net, client, connection = opened(make_net, tunnel, send_buffer=SMALL_BUFFER)
        data, sent = MANY[:300_000], 0
        while len(client.received) < len(data):
            sent += client.send(data[sent : sent + 50_000])
            net.settle()
            client.read(7_000)
        client.finish()
        net.settle()
        client.read()
        assert (client.received, client.ended, connection.phase) == (data, True, CLOSED)

    def test_a_reset_while_paused(self, make_net: MakeNet) -> None:
        tunnel = Recorder(opened=lambda connection: connection.pause())
        net, client, connection = opened(make_net, tunnel)
        client.reset()
        net.settle()
        assert (connection.phase, net.stats.closed) == (CLOSED, {"reset": 1})

    @pytest.mark.parametrize("finishes", [True, False])
    def test_a_close_while_paused(self, make_net: MakeNet, finishes: bool) -> None:
        tunnel = Recorder(opened=lambda connection: connection.pause())
        net, client, _ = opened(make_net, tunnel)
        if finishes:
            tunnel.connection.finish()
        net.settle()
        client.send(b"last")
        client.close()
        assert net.settle() < 5
        tunnel.connection.resume()
        net.settle()
        assert (tunnel.data, tunnel.told[:3]) == (b"last", ["opened", "received", "ended"])


# TLS.


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    return TLS([make_certificate(tmp_path_factory.mktemp("tls"), "site", "localhost")])


both_versions = pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])


def opened_over_tls(
    make_net: MakeNet, tls: TLS, version: str, tunnel: Tunnel, **settings: Any
) -> tuple[Net, TLSClient]:
    net = make_net(upgrading(tunnel))
    context = client_context(getattr(ssl.TLSVersion, version))
    client = TLSClient(net, tls, context, **settings).handshake()
    client.write(ASK)
    client.read()
    assert client.received == HEAD
    client.received = b""
    return net, client


@both_versions
class TestTLS:
    def test_an_echo_of_records_of_any_size(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        """None of them stays behind, decrypted, where the poller does not see it."""
        _, client = opened_over_tls(make_net, tls, version, Echo())
        for size in (1, 100, 16383, 16384, 16385, 40_000):
            client.write(MANY[:size])
            client.read()
            assert client.received == MANY[:size]
            client.received = b""

    def test_a_record_that_arrives_while_paused(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        tunnel = Recorder(received=lambda connection: connection.pause())
        net, client = opened_over_tls(make_net, tls, version, tunnel)
        client.write(b"one")
        client.write(b"two")
        assert tunnel.data == b"one"
        tunnel.connection.resume()
        net.settle()
        assert tunnel.data == b"onetwo"

    def test_the_client_finishes_first(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        tunnel = Recorder()
        net, client = opened_over_tls(make_net, tls, version, tunnel)
        client.write(b"last")
        client.finish()
        assert (tunnel.data, tunnel.told) == (b"last", ["opened", "received", "ended"])
        assert tunnel.connection.write(b"still here")
        tunnel.connection.finish()
        client.read()
        assert (client.received, client.end) == (b"still here", "close_notify")
        assert (net.stats.closed, tunnel.told[-1]) == ({"tunnel closed": 1}, "closed")

    def test_the_owner_finishes_first(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        """RFC 8446 §6.1: close_notify ends one direction. What the client sends before and after that is read."""
        tunnel = Recorder(opened=lambda connection: connection.pause())
        net, client = opened_over_tls(make_net, tls, version, tunnel)
        before = open_descriptors()
        client.send_raw(client.encrypt(b"on its way, "))
        tunnel.connection.write(b"last")
        tunnel.connection.finish()
        net.settle()
        assert open_descriptors() == before
        later = client.encrypt(b"still here")
        client.read()
        assert (client.received, client.end) == (b"last", "close_notify")
        client.send_raw(later)
        tunnel.connection.resume()
        net.settle()
        assert tunnel.data == b"on its way, still here"
        client.raw.finish()
        net.settle()
        assert tunnel.told[-2:] == ["ended", "closed"]
        assert net.stats.closed == {"tunnel closed": 1}

    def test_what_was_written_comes_before_the_end(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        tunnel = Recorder()
        _, client = opened_over_tls(make_net, tls, version, tunnel, tcp=True)
        fill(tunnel)
        tunnel.connection.finish()
        while not client.end:
            client.read()
        assert (client.received == MANY, client.end) == (True, "close_notify")

    @pytest.mark.parametrize("closes", [True, False])
    def test_without_room_for_close_notify(self, make_net: MakeNet, tls: TLS, version: str, closes: bool) -> None:
        tunnel = Recorder()
        net, client = opened_over_tls(make_net, tls, version, tunnel, tcp=True)
        sock: Any = client.connection._sock
        raw_send = socket.socket.send
        room = 0

        def send_some(self: socket.socket, data: Any, *flags: int) -> int:
            nonlocal room
            if self is not sock._sock:
                return raw_send(self, data, *flags)
            if not room:
                raise BlockingIOError
            room -= 1
            return raw_send(self, data[:10], *flags)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(socket.socket, "send", send_some)
            tunnel.connection.finish()
            net.step()
            assert net.interest(client.connection) == READ | WRITE
            room = 1
            net.step()
            if closes:
                tunnel.connection.close()  # the rest of it comes first
            room = 9
            net.settle()
        client.read()
        assert client.end == "close_notify"
        assert net.interest(client.connection) == READ
        assert client.connection.phase == (LINGER if closes else TUNNEL)

    def test_close(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        tunnel = Recorder()
        net, client = opened_over_tls(make_net, tls, version, tunnel)
        client.send_raw(client.encrypt(b"x"))
        tunnel.connection.write(b"bye")
        tunnel.connection.close()
        net.settle()
        client.read()
        assert (client.received, client.end, client.connection.phase) == (b"bye", "close_notify", LINGER)

    def test_reset(self, make_net: MakeNet, tls: TLS, version: str) -> None:
        tunnel = Recorder()
        net, client = opened_over_tls(make_net, tls, version, tunnel, tcp=True)
        tunnel.connection.reset()
        net.settle()
        client.read()
        assert (client.raw.was_reset, client.end) == (True, "truncated")


def test_what_has_not_left(make_net: MakeNet) -> None:
    """`unsent` tells what is kept and what the kernel keeps; reading makes it smaller."""
    tunnel = Recorder()
    net, client, _ = opened(make_net, tunnel)
    connection = tunnel.connection
    assert (connection.sent, connection.unsent()) == (0, (0, 0))
    connection.write(MANY)
    kept, queued = connection.unsent()
    assert connection.sent == len(MANY)
    assert 0 < kept < len(MANY)
    assert 0 <= queued <= len(MANY) - kept
    while client.read():
        net.settle()
    assert connection.unsent()[0] < kept
    connection.close()
    client.close()
    net.settle()
    assert connection.unsent() == (0, 0)
