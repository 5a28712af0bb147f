"""What is counted, event by event."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.net.service import Deadlines
from kaserve.telemetry.counters import NO_GAP, REASONS, Stats
from tests.tools.net import LAST_GET, Client, Net, get, post


def test_requests() -> None:
    stats = Stats()
    for gap in (NO_GAP, 0.5, 0.0, NO_GAP):
        stats.request_came(gap)
    for status in (200, 204, 404, 599):
        stats.answer_begun(status)
    assert (stats.used, stats.requests) == (2, 4)
    assert sum(stats.gaps.counts) == 2
    assert stats.statuses.counts == [0, 2, 0, 1, 1]


def ended(stats: Stats, reason: str, carried: int = 5, idle: float = 60.0, *, by_client: bool = False) -> None:
    stats.connection_ended(reason, "h", carried, idle, by_client=by_client)


def test_ends() -> None:
    stats = Stats()
    ended(stats, "client", by_client=True)
    ended(stats, "idle", 1)
    ended(stats, "idle, race lost")
    ended(stats, "drain, race lost")
    ended(stats, "answered", 1)
    assert stats.closed == {"client": 1, "idle": 1, "idle, race lost": 1, "drain, race lost": 1, "answered": 1}
    assert (sum(stats.per_connection.counts), stats.per_connection.total) == (5, 17.0)
    assert sum(stats.client_closed.counts) == 1
    peer = stats.peers.of("h")
    assert (peer.connections, peer.requests, peer.single, peer.silent) == (5, 17, 2, 0)
    assert (peer.times_closed, list(peer.closed_idle), peer.outlived, peer.races_lost) == (1, [60.0], 2, 2)


def test_connections_without_a_request() -> None:
    """Say nothing about idle times: their clients never wanted them kept."""
    stats = Stats()
    ended(stats, "client", 0, by_client=True)
    ended(stats, "idle", 0)
    assert (stats.unused, sum(stats.per_connection.counts), sum(stats.client_closed.counts)) == (2, 0, 0)
    peer = stats.peers.of("h")
    assert (peer.silent, peer.times_closed, peer.outlived) == (2, 0, 0)


# The figures of one server, which have to add up whatever its clients do.

WORDS = [
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
    """Clients that do anything, by lot, to a server that does everything a server may."""

    def __init__(self, seed: int) -> None:
        self.lot = random.Random(seed)
        self.net = Net(
            self.answer,
            deadlines=Deadlines(keep_alive=5.0, age=40.0),
            limits=Limits(body=1000),
            keep_alive=KeepAlive(5.0, 4),
        )
        self.stats = self.net.stats
        self.promises: list[Future[Response]] = []
        self.clients: list[Client] = []

    def answer(self, request: Request) -> Response | Future[Response]:
        if request.path in ("/later", "/never"):
            promise: Future[Response] = Future()
            if request.path == "/later":
                self.promises.append(promise)
            return promise
        if request.path == "/refused":
            raise HTTPError(403, "not today")
        if request.path == "/fails":
            raise ZeroDivisionError
        if request.path == "/breaks":
            return Response(200, broken())
        return Response.text("hello")

    def act(self) -> None:
        lot = self.lot
        choice = lot.randrange(20)
        client = lot.choice(self.clients) if self.clients else None
        if client is None or choice < 4:
            self.clients.append(self.net.connect(tcp=lot.random() < 0.2)[0])
        elif choice < 13:
            try:
                client.send(lot.choice(WORDS))
            except OSError:  # the server has left
                self.leave(client)
        elif choice == 13:
            self.leave(client)
        elif choice == 14:
            self.clients.remove(client)
            client.reset()
        elif choice == 15 and self.promises:
            promise = self.promises.pop()
            if promise.set_running_or_notify_cancel():
                promise.set_result(Response.text("at last"))
        elif choice == 16 and (connections := sorted(self.net.service.connections, key=lambda each: each.number)):
            lot.choice(connections).retire()
        elif choice == 17 and (spare := [each for each in self.net.service.connections if each.idle_since < 1e9]):
            min(spare, key=lambda each: each.number).evict()
        else:
            self.net.sleep(lot.choice((0.0, 0.1, 1.0, 3.0, 7.0, 50.0)))
        self.net.settle()

    def leave(self, client: Client) -> None:
        self.clients.remove(client)
        client.close()

    def check(self) -> None:
        stats, connections = self.stats, self.net.service.connections
        ended = sum(stats.closed.values())
        assert set(stats.closed) <= set(REASONS)
        assert stats.accepted == ended + len(connections)
        assert ended == stats.unused + sum(stats.per_connection.counts)
        assert stats.requests == sum(stats.statuses.counts)
        assert sum(stats.refused.values()) + stats.failed <= stats.requests + stats.closed["failed"]
        assert sum(stats.latency.counts) <= stats.requests
        lost = [count for reason, count in stats.closed.items() if reason.endswith("race lost")]
        lost += [1 for connection in connections if connection.ending.endswith("race lost")]
        assert stats.races_lost == sum(lost)
        assert sum(stats.client_closed.counts) <= stats.closed["client"] + stats.closed["reset"]
        peers = stats.peers.by_weight()
        assert sum(peer.connections for peer in peers) == ended
        assert sum(peer.silent for peer in peers) == stats.unused
        assert sum(peer.requests for peer in peers) == stats.per_connection.total
        carried = stats.per_connection.total + sum(connection.protocol.served for connection in connections)
        assert carried >= stats.requests  # some got no answer

    def check_end(self) -> None:
        """Nobody is there any more."""
        stats = self.stats
        assert stats.accepted == sum(stats.closed.values())
        assert stats.used <= sum(stats.per_connection.counts)
        assert stats.used + sum(stats.gaps.counts) <= stats.per_connection.total  # some could not be read


def broken() -> Iterator[bytes]:
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


def test_a_request_without_an_answer_was_one_all_the_same() -> None:
    """Whoever gives up waiting for a slow handler is no health check."""
    net = Net(lambda request: Future())
    try:
        for word in (get("/"), post(b"hello")[:-2]):
            client, _ = net.connect()
            client.send(word)
            net.settle()
        for connection in list(net.service.connections):
            connection.abort()
        assert (net.stats.used, net.stats.unused, net.stats.per_connection.total) == (2, 0, 2.0)
    finally:
        net.close()
