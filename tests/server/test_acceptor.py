"""The connection limits of a whole server, and eviction when they are reached."""

from __future__ import annotations

import os
import resource
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaserve.telemetry.endings import Ending
from tests.tools.server import (
    Driven,
    connect,
    get,
)


class TestEviction:
    """A full server closes the connection that has been idle for longest."""

    def test_at_the_limit_the_longest_idle_is_closed_for_the_next_one(self) -> None:
        with Driven(max_connections=2) as driven:
            one, two = driven.connect(), driven.connect()
            driven.pass_time(1)
            one.ask()
            with connect(driven.server, driven.turn) as three:
                three.send(get())
                driven.settle()
                assert two.is_closed
                assert one.is_quiet
                two.close()
                assert three.answer().status == 200
                three.close()
                driven.settle()
                assert driven.server.stats.closed[Ending.EVICTED] == 1

    def test_when_none_is_idle_the_next_one_waits(self) -> None:
        with Driven(max_connections=1) as driven:
            one = driven.connect()
            assert one.ask().value("keep-alive").startswith("timeout=1,")
            with connect(driven.server, driven.turn) as two:
                two.send(get())
                driven.settle()
                assert one.is_quiet
                driven.pass_time(0.8)
                assert one.is_quiet
                driven.pass_time(0.6)
                assert one.is_closed
                one.close()
                assert two.answer().status == 200

    def test_without_descriptors_the_reserved_one_is_used(self) -> None:
        with Driven() as driven:
            idle = [driven.connect() for _ in range(3)]
            for client in idle:
                client.ask()
                driven.pass_time(2)
            with connect(driven.server, driven.turn) as one, no_descriptors_left():
                one.send(get())
                assert one.answer().status == 200
                assert idle[0].is_closed


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """During the block, the system gives this process no new descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 1, limits[1]))
    held: list[int] = []
    try:
        while True:  # use up those that are free below the limit
            held.append(os.dup(0))
    except OSError:
        pass
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in held:
            os.close(fd)


def highest_descriptor() -> int:
    return max(map(int, os.listdir("/dev/fd")))


class TestConnectionsPerAddress:
    def test_beyond_the_limit_the_response_is_503_until_one_has_closed(self) -> None:
        with Driven(max_connections_per_address=2) as driven:
            one, two, three = driven.connect(), driven.connect(), driven.connect()
            assert [client.ask().status for client in (one, two)] == [200, 200]
            answer = three.answer()
            assert (answer.status, answer.persists) == (503, False)
            assert three.is_closed
            three.close()
            one.close()
            driven.settle()
            assert driven.connect().ask().status == 200

    def test_clients_of_a_unix_socket_are_not_counted(self, tmp_path: Path) -> None:
        with Driven(max_connections_per_address=1, bind=f"unix:{tmp_path}/socket") as driven:
            clients = [driven.connect() for _ in range(3)]
            assert [client.ask().status for client in clients] == [200] * 3


class TestMaxConnections:
    def test_the_next_one_waits_until_one_has_closed(self) -> None:
        with Driven(max_connections=2) as driven:
            one, two = driven.connect(), driven.connect()
            with connect(driven.server, driven.turn) as three, connect(driven.server, driven.turn) as four:
                three.send(get())
                four.send(get())
                driven.settle()
                assert driven.server.stats.accepted == driven.server.open_connections == 2
                assert [client.ask().status for client in (one, two, one)] == [200, 200, 200]
                assert three.is_quiet
                one.close()
                assert three.answer().status == 200
                assert driven.server.open_connections == 2
                assert four.is_quiet
                two.close()
                assert four.answer().status == 200
                assert driven.server.stats.accepted == 4

    def test_on_all_addresses_together(self) -> None:
        with Driven(max_connections=1, bind=("127.0.0.1", "127.0.0.2")) as driven:
            one = driven.connect()
            with connect(driven.server.addresses[1], driven.turn) as two:
                two.send(get())
                driven.settle()
                assert two.is_quiet
                one.close()
                assert two.answer().status == 200

    def test_a_full_server_spends_no_time_on_waiting_connections(self) -> None:
        with Driven(max_connections=1) as driven:
            driven.connect()
            with connect(driven.server):
                driven.settle()
                assert not select.select([driven.server.fileno()], [], [], 0.05)[0]

    def test_closing_a_full_server(self) -> None:
        with Driven(max_connections=1) as driven:
            driven.connect()
            driven.server.close()
        with Driven(max_connections=1) as driven:
            driven.connect()
            driven.server.shutdown(0.0)
            driven.pass_time(0.2)
            assert driven.server.open_connections == 0
