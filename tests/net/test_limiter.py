"""ConnectionLimiter: what is announced as the server fills up, which connection is evicted, the limit per address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kaserve.http.address import UNNAMED, Address, AnyAddress, UnixAddress
from kaserve.http.messages import Response
from kaserve.http.phases import CLOSED, IDLE, LINGER, SEND
from kaserve.net.connection import Connection
from kaserve.net.limiter import ConnectionLimiter
from kaserve.net.service import Deadlines
from tests.tools.net import GET, PEER, Client, Net, Router, get, open_descriptors, post

LATE = 0.2  # seconds; the wheel is at most a tick of 0.125 late


class Harness:
    """The connections of a service, and their limiter."""

    def __init__(self, net: Net, limit: int, limit_per_address: int = 0) -> None:
        self.net = net
        self.limiter = ConnectionLimiter(net.service, limit, limit_per_address)
        net.service.on_close = self.limiter.leave

    def enter(self, address: AnyAddress = PEER) -> tuple[Client, Connection]:
        """A client at `address` connects."""
        client, connection = self.net.connect()
        connection.client = address
        self.limiter.enter(connection)
        return client, connection

    def sleep(self, seconds: float) -> None:
        """Time passes, and a turn begins."""
        self.net.sleep(seconds)
        self.net.step()

    def fill(self, count: int) -> list[tuple[Client, Connection]]:
        return [self.enter() for _ in range(count)]


@contextmanager
def limited(limit: int, limit_per_address: int = 0, net: Net | None = None) -> Iterator[Harness]:
    """A harness that must leave no descriptor open, except those of a `net` of the caller's."""
    before = open_descriptors()
    net, lent = net or Net(), net is not None
    harness = Harness(net, limit, limit_per_address)
    yield harness
    net.close()
    harness.limiter.close()
    assert lent or open_descriptors() <= before


def announced(harness: Harness, client: Client) -> str:
    """What the next response to `client` announces as the idle time."""
    (response,) = harness.net.ask(client, GET)
    return "".join(response.values("keep-alive")).partition(",")[0]


# What is announced.


@pytest.mark.parametrize(
    ("count", "timeout"), [(1, 120), (30, 120), (31, 60), (32, 30), (33, 15), (35, 3), (36, 1), (40, 1)]
)
def test_the_announced_idle_time_shrinks_near_the_limit(count: int, timeout: int) -> None:
    with limited(40) as harness:
        clients = harness.fill(count)
        assert announced(harness, clients[0][0]) == f"timeout={timeout}"


def test_it_grows_again_when_connections_have_ended() -> None:
    with limited(40) as harness:
        clients = harness.fill(36)
        assert announced(harness, clients[0][0]) == "timeout=1"
        for client, _ in clients[6:]:
            client.close()
        harness.net.settle()
        assert announced(harness, clients[0][0]) == "timeout=120"


@pytest.mark.parametrize(("setting", "least"), [(0.5, "timeout=1"), (1.0, "timeout=1"), (0.0, "")])
def test_an_idle_time_of_a_second_or_less_stays(setting: float, least: str) -> None:
    net = Net(deadlines=Deadlines(keep_alive=setting))
    with limited(10, net=net) as harness:
        client, _ = harness.fill(10)[0]
        assert announced(harness, client) == least
        assert net.service.idle == (setting + 1 if setting else 30.0)


def test_connections_that_were_announced_less_end_without_eviction() -> None:
    with limited(40) as harness:
        clients = harness.fill(36)
        for client, _ in clients:
            harness.net.ask(client, GET)
        harness.sleep(2 + LATE)
        assert {connection.phase for _, connection in clients} == {LINGER}
        assert harness.net.stats.closed == {}


def test_a_draining_server_does_not_announce_another_idle_time() -> None:
    with limited(10) as harness:
        harness.net.service.drain()
        harness.fill(10)
        assert harness.net.service.idle == 1.0


# Which connection is evicted.


def test_from_90_percent_on_each_new_connection_evicts_the_longest_idle_one() -> None:
    with limited(20) as harness:
        clients = []
        for _ in range(17):
            clients.append(harness.enter())
            harness.sleep(1)
        harness.net.ask(clients[0][0], GET)  # the second one is the longest idle now
        harness.enter()
        assert [number for number, (_, one) in enumerate(clients) if one.phase != IDLE] == [1]
        harness.enter()
        assert [number for number, (_, one) in enumerate(clients) if one.phase != IDLE] == [1, 2]
        assert clients[1][0].read() == b""
        assert clients[1][0].ended
        clients[1][0].close()
        harness.net.settle()
        assert harness.net.stats.closed == {"evicted": 1}


def test_a_candidate_that_was_used_after_the_search_stays() -> None:
    with limited(20) as harness:
        clients = harness.fill(17)
        harness.sleep(5)
        harness.enter()
        evicted = [client for client, one in clients if one.phase != IDLE]
        assert len(evicted) == 1
        stayed = [(client, one) for client, one in clients if one.phase == IDLE]
        for client, _ in stayed[1:]:
            harness.net.ask(client, GET)
        harness.enter()
        harness.enter()
        assert [one.phase for _, one in stayed] == [LINGER] + [IDLE] * 15


def test_a_connection_that_became_idle_less_than_a_second_ago_stays() -> None:
    with limited(10) as harness:
        clients = harness.fill(9)
        harness.sleep(0.99)
        assert not harness.limiter.evict_one()
        harness.sleep(0.02)
        assert harness.limiter.evict_one()
        assert sorted(one.phase for _, one in clients) == [IDLE] * 8 + [LINGER]


def test_a_connection_with_a_request_stays() -> None:
    net = Net(Router(large=Response(200, b"x" * 4_000_000)))
    with limited(4, net=net) as harness:
        clients = [(client, one) for client, one in (harness.enter(), harness.enter(), harness.enter())]
        clients[0][0].send(get("/large"))
        clients[1][0].send(post(b"12345")[:-1])
        clients[2][0].send(GET[:5])
        net.settle()
        phases = [one.phase for _, one in clients]
        harness.sleep(20)
        assert not harness.limiter.evict_one()
        assert [one.phase for _, one in clients] == phases
        assert phases[0] == SEND


def test_a_lingering_connection_is_evicted_first_and_at_once() -> None:
    with limited(10) as harness:
        (_, idle), (last, lingering) = harness.enter(), harness.enter()
        harness.sleep(10)
        harness.net.ask(last, b"GET / HTTP/1.0\r\n\r\n")
        assert lingering.phase == LINGER
        harness.sleep(1.01)
        assert harness.limiter.evict_one()
        assert (idle.phase, lingering.phase) == (IDLE, CLOSED)
        assert harness.limiter.evict_one()
        assert idle.phase == LINGER


def test_a_search_without_result_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at all connections, and a burst of new connections would start one for each of them."""
    with limited(10) as harness:
        harness.fill(9)
        harness.sleep(0.5)
        assert not harness.limiter.evict_one()
        searches: list[float] = []
        monkeypatch.setattr(harness.limiter, "_search", lambda: searches.append(harness.net.clock.now))
        for _ in range(100):
            assert not harness.limiter.evict_one()
        assert searches == []


# Descriptors.


def test_the_reserve_descriptor_is_closed_once_and_restored() -> None:
    with limited(10) as harness:
        (client, _), _ = harness.enter(), harness.enter()
        before = open_descriptors()
        assert harness.limiter.free_descriptor()
        assert open_descriptors() == before - 1
        assert not harness.limiter.free_descriptor()
        client.close()
        harness.net.settle()
        assert open_descriptors() == before - 2, "the client closed one; that of the connection is in reserve now"


def test_without_descriptors_the_longest_idle_connection_is_evicted() -> None:
    with limited(1000) as harness:
        clients = harness.fill(2)
        harness.sleep(5)
        harness.limiter.free_descriptor()
        assert sorted(one.phase for _, one in clients) == [IDLE, LINGER]
        harness.sleep(1.01)
        before = open_descriptors()
        assert harness.limiter.free_descriptor(), "the lingering connection is closed at once"
        assert open_descriptors() == before - 1


def test_it_works_without_a_descriptor_in_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        net = Net()
        harness = Harness(net, 10)
    assert not harness.limiter.free_descriptor()
    client, _ = harness.enter()
    client.close()
    net.settle()
    assert harness.limiter.free_descriptor()
    net.close()
    harness.limiter.close()


# Addresses.


def test_one_connection_more_from_an_address_gets_a_503() -> None:
    with limited(100, 3) as harness:
        clients = [harness.enter(Address("192.0.2.7", port)) for port in range(3)]
        other, _ = harness.enter(Address("192.0.2.8", 1))
        too_many, connection = harness.enter(Address("192.0.2.7", 9))
        assert connection.phase == LINGER
        (response,) = too_many.answers("GET")
        assert response.status == 503
        assert not response.persists
        for client in (clients[0][0], clients[2][0], other):
            assert harness.net.ask(client, GET)[0].status == 200
        assert harness.net.stats.refused == {503: 1}
        too_many.close()
        clients[0][0].close()
        harness.net.settle()
        client, _ = harness.enter(Address("192.0.2.7", 10))
        assert harness.net.ask(client, GET)[0].status == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_ipv6_network_of_64_bits_counts_as_one_address(one: str, other: str, same: bool) -> None:
    with limited(100, 1) as harness:
        harness.enter(Address(one, 1))
        _, connection = harness.enter(Address(other, 2))
        assert connection.phase == (LINGER if same else IDLE)


@pytest.mark.parametrize("address", [UnixAddress("/run/socket"), UNNAMED], ids=["path", "no path"])
def test_clients_without_an_address_are_not_counted(address: AnyAddress) -> None:
    with limited(100, 1) as harness:
        clients = [harness.enter(address) for _ in range(5)]
        assert {one.phase for _, one in clients} == {IDLE}


def test_addresses_without_connections_are_forgotten() -> None:
    with limited(100, 5) as harness:
        for number in range(20):
            client, _ = harness.enter(Address(f"192.0.2.{number}", 1))
            client.close()
        harness.net.settle()
        assert not harness.limiter._per_address
