"""The counters: each event by itself, and that the figures of a busy server add up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from typing import cast

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.net.connection import Connection
from kaserve.net.service import Deadlines
from kaserve.telemetry.counters import NO_GAP, Stats
from kaserve.telemetry.endings import UNSOLICITED, Ending
from tests.tools.net import LAST_GET, Client, Net, get, post


def test_requests() -> None:
    stats = Stats()
    for gap in (NO_GAP, 0.5, 0.0, NO_GAP):
        stats.request_parsed(gap)
    for status in (200, 204, 404, 599):
        stats.response_started(status)
    assert (stats.used, stats.requests) == (2, 4)
    assert sum(stats.gaps.counts) == 2
    assert stats.statuses.counts == [0, 2, 0, 1, 1]


def ended(
    stats: Stats,
    ending: Ending,
    carried: int = 5,
    idle: float = 60.0,
    *,
    by_client: bool = False,
    race_lost: bool = False,
) -> None:
    stats.connection_ended(ending, "h", carried, idle, by_client=by_client, race_lost=race_lost)


def test_connections_that_end() -> None:
    stats = Stats()
    ended(stats, Ending.CLIENT, by_client=True)
    ended(stats, Ending.IDLE, 1)
    ended(stats, Ending.IDLE, race_lost=True)
    ended(stats, Ending.DRAIN, race_lost=True)
    ended(stats, Ending.LAST_RESPONSE, 1)
    assert stats.closed == {"client": 1, "idle": 2, "drain": 1, "last response": 1}
    assert (sum(stats.per_connection.counts), stats.per_connection.total) == (5, 17.0)
    assert sum(stats.client_closed.counts) == 1
    peer = stats.peers.of("h")
    assert (peer.connections, peer.requests, peer.single_request, peer.unused) == (5, 17, 2, 0)
    assert (peer.closed_by_peer, list(peer.idle_times), peer.closed_by_server, peer.races_lost) == (1, [60.0], 2, 2)


def test_a_lost_race_is_counted_before_its_connection_has_ended() -> None:
    stats = Stats()
    stats.race_lost(Ending.EVICTED)
    stats.race_lost(Ending.IDLE)
    stats.race_lost(Ending.IDLE)
    assert stats.races_lost == {"evicted": 1, "idle": 2}
    ended(stats, Ending.IDLE, race_lost=True)
    assert stats.races_lost.total() == 3
    assert stats.peers.of("h").races_lost == 1


def test_connections_without_a_request() -> None:
    """They say nothing about idle times: their clients never wanted them kept."""
    stats = Stats()
    ended(stats, Ending.CLIENT, 0, by_client=True)
    ended(stats, Ending.IDLE, 0, race_lost=True)
    assert (stats.unused, sum(stats.per_connection.counts), sum(stats.client_closed.counts)) == (2, 0, 0)
    peer = stats.peers.of("h")
    assert (peer.unused, peer.closed_by_peer, peer.closed_by_server, peer.races_lost) == (2, 0, 0, 1)


# The figures of one server, which have to add up whatever its clients do.

# What a client may send at once.
MESSAGES = [
    get("/"),
    get("/") * 3,
    get("/later"),
    get("/never"),
    get("/fails"),
    get("/refused"),
    get("/breaks"),
    post(b"hello"),
    post(b"hello") + get("/"),
    LAST_GET,
    LAST_GET + get("/"),
    get("/")[:9],
    post(b"hello")[:-2],
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n",
    b"\r\n",
    b"GET\r\n\r\n",
    b"\x16\x03\x01",
    b"x",
]


class Crowd:
    """Clients that do anything, at random, to a server that does everything a server may."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.net = Net(
            self.respond,
            deadlines=Deadlines(keep_alive=5.0, age=40.0),
            limits=Limits(body=1000),
            keep_alive=KeepAlive(5.0, 4),
        )
        self.stats = self.net.stats
        self.futures: list[Future[Response]] = []
        self.clients: list[Client] = []

    def respond(self, request: Request) -> Response | Future[Response]:
        if request.path in ("/later", "/never"):
            future: Future[Response] = Future()
            if request.path == "/later":
                self.futures.append(future)
            return future
        if request.path == "/refused":
            raise HTTPError(403, "not today")
        if request.path == "/fails":
            raise ZeroDivisionError
        if request.path == "/breaks":
            return Response(200, breaks_off())
        return Response.text("hello")

    def act(self) -> None:
        rng = self.rng
        choice = rng.randrange(20)
        client = rng.choice(self.clients) if self.clients else None
        if client is None or choice < 4:
            self.clients.append(self.net.connect(tcp=rng.random() < 0.2)[0])
        elif choice < 13:
            try:
                client.send(rng.choice(MESSAGES))
            except OSError:  # the server has closed
                self.leave(client)
        elif choice == 13:
            self.leave(client)
        elif choice == 14:
            self.clients.remove(client)
            client.reset()
        elif choice == 15 and self.futures:
            future = self.futures.pop()
            if future.set_running_or_notify_cancel():
                future.set_result(Response.text("late"))
        elif choice == 16 and (connections := sorted(self.net.service.connections, key=lambda each: each.number)):
            rng.choice(connections).drain()
        elif choice == 17 and (idle := [each for each in self.net.service.connections if each.idle_since < 1e9]):
            min(idle, key=lambda each: each.number).evict()
        else:
            self.net.sleep(rng.choice((0.0, 0.1, 1.0, 3.0, 7.0, 50.0)))
        self.net.settle()

    def leave(self, client: Client) -> None:
        self.clients.remove(client)
        client.close()

    def check(self) -> None:
        stats = self.stats
        connections = [cast(Connection, connection) for connection in self.net.service.connections]
        ended = sum(stats.closed.values())
        assert set(stats.closed) <= set(Ending)
        assert set(stats.races_lost) <= UNSOLICITED
        assert stats.accepted == ended + len(connections)
        assert ended == stats.unused + sum(stats.per_connection.counts)
        assert stats.requests == sum(stats.statuses.counts)
        assert sum(stats.refused.values()) + stats.failed <= stats.requests + stats.closed[Ending.FAILED]
        assert sum(stats.latency.counts) <= stats.requests
        # A lost race is counted at once, and its peer's when the connection has ended.
        lingering = sum(connection._race_lost for connection in connections)
        assert stats.races_lost.total() == sum(peer.races_lost for peer in stats.peers.by_connections()) + lingering
        assert all(stats.races_lost[ending] <= stats.closed[ending] + len(connections) for ending in UNSOLICITED)
        assert sum(stats.client_closed.counts) <= stats.closed[Ending.CLIENT] + stats.closed[Ending.RESET]
        peers = stats.peers.by_connections()
        assert sum(peer.connections for peer in peers) == ended
        assert sum(peer.unused for peer in peers) == stats.unused
        assert sum(peer.requests for peer in peers) == stats.per_connection.total
        carried = stats.per_connection.total + sum(connection.protocol.served for connection in connections)
        assert carried >= stats.requests  # some got no response

    def check_end(self) -> None:
        """After the last connection has ended."""
        stats = self.stats
        assert stats.accepted == sum(stats.closed.values())
        assert stats.used <= sum(stats.per_connection.counts)
        assert stats.used + sum(stats.gaps.counts) <= stats.per_connection.total  # some requests could not be parsed


def breaks_off() -> Iterator[bytes]:
    yield b"half of it"
    raise ZeroDivisionError


@pytest.mark.parametrize("seed", range(20))
def test_the_figures_add_up(seed: int) -> None:
    crowd = Crowd(seed)
    try:
        for _ in range(300):
            crowd.act()
            crowd.check()
        for connection in list(crowd.net.service.connections):
            connection.abort()
        crowd.check()
        crowd.check_end()
    finally:
        crowd.net.close()


def test_a_request_without_a_response_is_still_a_request() -> None:
    """A client that gives up waiting for a slow handler is no health check."""
    net = Net(lambda request: Future())
    try:
        for message in (get("/"), post(b"hello")[:-2]):
            client, _ = net.connect()
            client.send(message)
            net.settle()
        for connection in list(net.service.connections):
            connection.abort()
        assert (net.stats.used, net.stats.unused, net.stats.per_connection.total) == (2, 0, 2.0)
    finally:
        net.close()
