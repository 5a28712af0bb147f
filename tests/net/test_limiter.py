"""Room: what is announced while it gets crowded, who leaves for whom, and how many one address may have."""

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


class House:
    """A server's connections and their room. The tenth part of it, or less, is what is kept free."""

    def __init__(self, net: Net, most: int, most_per_address: int = 0) -> None:
        self.net = net
        self.room = ConnectionLimiter(net.service, most, most_per_address)
        net.service.on_close = self.room.leave

    def enter(self, address: AnyAddress = PEER) -> tuple[Client, Connection]:
        client, connection = self.net.connect()
        connection.client = address
        self.room.enter(connection)
        return client, connection

    def sleep(self, seconds: float) -> None:
        """Time passes, and a turn begins."""
        self.net.sleep(seconds)
        self.net.step()

    def fill(self, count: int) -> list[tuple[Client, Connection]]:
        return [self.enter() for _ in range(count)]


@contextmanager
def house(most: int, most_per_address: int = 0, net: Net | None = None) -> Iterator[House]:
    before = open_descriptors()
    net, lent = net or Net(), net is not None
    house = House(net, most, most_per_address)
    yield house
    net.close()
    house.room.close()
    assert lent or open_descriptors() <= before


def announced(house: House, client: Client) -> str:
    (answer,) = house.net.ask(client, GET)
    return "".join(answer.values("keep-alive")).partition(",")[0]


# What is announced.


@pytest.mark.parametrize(
    ("count", "timeout"), [(1, 120), (30, 120), (31, 60), (32, 30), (33, 15), (35, 3), (36, 1), (40, 1)]
)
def test_the_idle_time_shrinks_as_the_limit_comes_near(count: int, timeout: int) -> None:
    with house(40) as crowd:
        clients = crowd.fill(count)
        assert announced(crowd, clients[0][0]) == f"timeout={timeout}"


def test_it_grows_again_when_there_is_room() -> None:
    with house(40) as crowd:
        clients = crowd.fill(36)
        assert announced(crowd, clients[0][0]) == "timeout=1"
        for client, _ in clients[6:]:
            client.close()
        crowd.net.settle()
        assert announced(crowd, clients[0][0]) == "timeout=120"


@pytest.mark.parametrize(("setting", "least"), [(0.5, "timeout=1"), (1.0, "timeout=1"), (0.0, "")])
def test_an_idle_time_that_is_short_anyhow_stays(setting: float, least: str) -> None:
    net = Net(deadlines=Deadlines(keep_alive=setting))
    with house(10, net=net) as crowd:
        client, _ = crowd.fill(10)[0]
        assert announced(crowd, client) == least
        assert net.service.idle == (setting + 1 if setting else 30.0)


def test_who_was_promised_less_makes_room_by_that_alone() -> None:
    with house(40) as crowd:
        clients = crowd.fill(36)
        for client, _ in clients:
            crowd.net.ask(client, GET)
        crowd.sleep(2 + LATE)
        assert {connection.phase for _, connection in clients} == {LINGER}
        assert crowd.net.stats.closed == {}


def test_a_server_that_retires_announces_nothing_any_more() -> None:
    with house(10) as crowd:
        crowd.net.service.drain()
        crowd.fill(10)
        assert crowd.net.service.idle == 1.0


# Who leaves.


def test_from_90_percent_on_the_longest_idle_leaves_for_each_who_comes() -> None:
    """Close policy, point 5."""
    with house(20) as crowd:
        clients = []
        for _ in range(17):
            clients.append(crowd.enter())
            crowd.sleep(1)
        crowd.net.ask(clients[0][0], GET)  # the second one is the longest idle now
        crowd.enter()
        assert [number for number, (_, one) in enumerate(clients) if one.phase != IDLE] == [1]
        crowd.enter()
        assert [number for number, (_, one) in enumerate(clients) if one.phase != IDLE] == [1, 2]
        assert clients[1][0].read() == b""
        assert clients[1][0].ended
        clients[1][0].close()
        crowd.net.settle()
        assert crowd.net.stats.closed == {"evicted": 1}


def test_who_was_found_and_has_been_busy_since_stays() -> None:
    with house(20) as crowd:
        clients = crowd.fill(17)
        crowd.sleep(5)
        crowd.enter()
        evicted = [client for client, one in clients if one.phase != IDLE]
        assert len(evicted) == 1
        stayed = [(client, one) for client, one in clients if one.phase == IDLE]
        for client, _ in stayed[1:]:
            crowd.net.ask(client, GET)
        crowd.enter()
        crowd.enter()
        assert [one.phase for _, one in stayed] == [LINGER] + [IDLE] * 15


def test_who_became_idle_less_than_a_second_ago_stays() -> None:
    with house(10) as crowd:
        clients = crowd.fill(9)
        crowd.sleep(0.99)
        assert not crowd.room.evict_one()
        crowd.sleep(0.02)
        assert crowd.room.evict_one()
        assert sorted(one.phase for _, one in clients) == [IDLE] * 8 + [LINGER]


def test_who_is_in_the_middle_of_a_request_stays() -> None:
    net = Net(Router(large=Response(200, b"x" * 4_000_000)))
    with house(4, net=net) as crowd:
        clients = [(client, one) for client, one in (crowd.enter(), crowd.enter(), crowd.enter())]
        clients[0][0].send(get("/large"))
        clients[1][0].send(post(b"12345")[:-1])
        clients[2][0].send(GET[:5])
        net.settle()
        phases = [one.phase for _, one in clients]
        crowd.sleep(20)
        assert not crowd.room.evict_one()
        assert [one.phase for _, one in clients] == phases
        assert phases[0] == SEND


def test_who_only_lingers_goes_first_and_at_once() -> None:
    with house(10) as crowd:
        (_, idle), (last, lingering) = crowd.enter(), crowd.enter()
        crowd.sleep(10)
        crowd.net.ask(last, b"GET / HTTP/1.0\r\n\r\n")
        assert lingering.phase == LINGER
        crowd.sleep(1.01)
        assert crowd.room.evict_one()
        assert (idle.phase, lingering.phase) == (IDLE, CLOSED)
        assert crowd.room.evict_one()
        assert idle.phase == LINGER


def test_nobody_is_searched_for_in_vain_again_and_again() -> None:
    """A search looks at all connections, and in a burst of new ones there would be many."""
    with house(10) as crowd:
        crowd.fill(9)
        crowd.sleep(0.5)
        assert not crowd.room.evict_one()
        searches = []
        crowd.room._search = lambda: searches.append(crowd.net.clock.now)  # type: ignore[method-assign]
        for _ in range(100):
            assert not crowd.room.evict_one()
        assert searches == []


# Descriptors.


def test_the_spare_descriptor_is_given_up_once_and_comes_back() -> None:
    with house(10) as crowd:
        (client, _), _ = crowd.enter(), crowd.enter()
        before = open_descriptors()
        assert crowd.room.free_descriptor()
        assert open_descriptors() == before - 1
        assert not crowd.room.free_descriptor()
        client.close()
        crowd.net.settle()
        assert open_descriptors() == before - 2, "the client's, and the connection's, which is the new spare one"


def test_for_want_of_descriptors_the_longest_idle_leaves() -> None:
    with house(1000) as crowd:
        clients = crowd.fill(2)
        crowd.sleep(5)
        crowd.room.free_descriptor()
        assert sorted(one.phase for _, one in clients) == [IDLE, LINGER]
        crowd.sleep(1.01)
        before = open_descriptors()
        assert crowd.room.free_descriptor(), "who lingered is gone"
        assert open_descriptors() == before - 1


def test_without_a_spare_descriptor_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        net = Net()
        crowd = House(net, 10)
    assert not crowd.room.free_descriptor()
    client, _ = crowd.enter()
    client.close()
    net.settle()
    assert crowd.room.free_descriptor()
    net.close()
    crowd.room.close()


# Addresses.


def test_one_address_may_have_so_many_and_the_next_is_503() -> None:
    with house(100, 3) as crowd:
        clients = [crowd.enter(Address("192.0.2.7", port)) for port in range(3)]
        other, _ = crowd.enter(Address("192.0.2.8", 1))
        too_many, connection = crowd.enter(Address("192.0.2.7", 9))
        assert connection.phase == LINGER
        (answer,) = too_many.answers("GET")
        assert answer.status == 503
        assert not answer.persists
        for client in (clients[0][0], clients[2][0], other):
            assert crowd.net.ask(client, GET)[0].status == 200
        assert crowd.net.stats.refused == {503: 1}
        too_many.close()
        clients[0][0].close()
        crowd.net.settle()
        client, _ = crowd.enter(Address("192.0.2.7", 10))
        assert crowd.net.ask(client, GET)[0].status == 200


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
def test_the_network_of_an_ipv6_client_is_its_address(one: str, other: str, same: bool) -> None:
    with house(100, 1) as crowd:
        crowd.enter(Address(one, 1))
        _, connection = crowd.enter(Address(other, 2))
        assert connection.phase == (LINGER if same else IDLE)


@pytest.mark.parametrize("address", [UnixAddress("/run/socket"), UNNAMED])
def test_clients_without_an_address_are_not_counted(address: AnyAddress) -> None:
    with house(100, 1) as crowd:
        clients = [crowd.enter(address) for _ in range(5)]
        assert {one.phase for _, one in clients} == {IDLE}


def test_nothing_is_remembered_of_who_is_gone() -> None:
    with house(100, 5) as crowd:
        for number in range(20):
            client, _ = crowd.enter(Address(f"192.0.2.{number}", 1))
            client.close()
        crowd.net.settle()
        assert not crowd.room._crowd
