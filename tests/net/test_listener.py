"""The listener: what it takes from the backlog, when it stops taking, and the forms of an address."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaserve.http.messages import Address
from kaserve.net.listener import Listener, address_of, open_listener, split_host_port
from kaserve.net.reactor import Reactor
from tests.tools.net import START, FakeClock, open_descriptors

PAUSE = 0.25
TICK = 0.125  # of the reactor's wheel


class ConnectionQuota:
    """Room for `count` connections, of which none can be made to leave unless a test says so."""

    def __init__(self) -> None:
        self.count = 1000
        self.asked = 0
        self.spare = 0

    def left(self) -> int:
        return self.count

    def make(self) -> bool:
        self.asked += 1
        return False

    def free_descriptor(self) -> bool:
        self.spare -= 1
        return self.spare >= 0


class House:
    """A listener on a free port of the loopback device, and the connections it took."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reactor = Reactor(self.clock)
        self.room = ConnectionQuota()
        self.taken: list[tuple[socket.socket, Address, Address]] = []
        self.clients: list[socket.socket] = []
        self.sock = Listening(open_listener("127.0.0.1", 0, backlog=512))
        self.listener = Listener(self.reactor, self.sock, self._take, self.room)

    def _take(self, sock: socket.socket, client: Address, server: Address) -> None:
        self.taken.append((sock, client, server))
        self.room.count -= 1

    def knock(self, count: int = 1) -> None:
        """Clients arrive in the backlog."""
        address = self.listener.address
        assert isinstance(address, tuple)
        for _ in range(count):
            self.clients.append(socket.create_connection(address))

    def would_turn(self) -> bool:
        """Whether the reactor would wake up for something."""
        return bool(select.select([self.reactor.fileno()], [], [], 0)[0])

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.reactor.step()

    def close(self) -> None:
        self.listener.close()
        self.reactor.close()
        for sock, _, _ in self.taken:
            sock.close()
        for client in self.clients:
            client.close()


class Listening(socket.socket):
    """A listening socket whose accept() fails first with each of `failures`."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.setblocking(False)
        self.failures: list[int] = []
        self.calls = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.calls += 1
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def house() -> Iterator[House]:
    before = open_descriptors()
    house = House()
    yield house
    house.close()
    assert open_descriptors() <= before


# Taking.


def test_it_takes_a_connection_and_tells_who_is_at_both_ends(house: House) -> None:
    house.knock()
    house.reactor.step()
    ((sock, client, server),) = house.taken
    assert client == house.clients[0].getsockname()
    assert server == house.listener.address == sock.getsockname()


def test_what_it_takes_neither_blocks_nor_waits_for_more_to_send(house: House) -> None:
    """Nagle against delayed acknowledgements costs 40 ms a request."""
    house.knock()
    house.reactor.step()
    sock = house.taken[0][0]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()
    assert not sock.get_inheritable()


def test_a_burst_is_taken_in_bounded_turns(house: House) -> None:
    """So that the connections that are open get their turn in between."""
    house.knock(300)
    turns = []
    while house.would_turn():
        before = len(house.taken)
        house.reactor.step()
        turns.append(len(house.taken) - before)
    assert sum(turns) == 300
    assert max(turns) <= 128
    assert len(turns) <= 4


def test_a_client_that_vanished_in_the_backlog_is_skipped(house: House) -> None:
    house.sock.failures = [errno.ECONNABORTED, errno.ECONNABORTED]
    house.knock()
    house.reactor.step()
    assert len(house.taken) == 1


def test_a_client_that_vanished_meanwhile_is_skipped_too(house: House) -> None:
    """Its reset may come to light in the first call that is made on the socket; wrapping it for TLS makes some."""
    take = house.listener._accept

    def touch(sock: socket.socket, client: Address, server: Address) -> None:
        if client == house.clients[0].getsockname():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        take(sock, client, server)

    house.listener._accept = touch
    house.knock(3)
    house.reactor.step()
    assert len(house.taken) == 2
    assert house.clients[0].recv(1) == b"", "its descriptor is back"


# No room.


def test_without_room_it_pauses_and_leaves_clients_in_the_backlog(house: House) -> None:
    house.room.count = 2
    house.knock(5)
    house.reactor.step()
    assert len(house.taken) == 2
    assert not house.would_turn(), "it would spin"
    house.room.count = 1
    house.listener.resume()
    house.reactor.step()
    assert len(house.taken) == 3
    assert not house.would_turn()
    house.room.count = 10
    house.listener.resume()
    house.reactor.step()
    assert len(house.taken) == 5


def test_without_room_it_asks_for_some_and_asks_again(house: House) -> None:
    """Close policy, point 5: somebody who can be spared leaves, who may not be there yet."""
    house.room.count = 0
    house.knock()
    house.reactor.step()
    assert house.room.asked == 1
    assert not house.would_turn(), "it would spin"
    house.sleep(PAUSE + TICK)
    house.reactor.step()
    assert house.room.asked == 2
    house.room.count = 1
    house.sleep(PAUSE + TICK)
    house.reactor.step()
    assert len(house.taken) == 1


def test_a_spare_descriptor_lets_it_go_on(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.room.spare = 1
    house.sock.failures = [errno.EMFILE]
    house.knock(2)
    house.reactor.step()
    assert len(house.taken) == 2
    assert caplog.records == []


def test_resume_and_pause_may_be_repeated(house: House) -> None:
    house.listener.resume()
    house.listener.pause()
    house.listener.pause()
    house.knock()
    assert not house.would_turn()
    house.listener.resume()
    house.listener.resume()
    house.reactor.step()
    assert len(house.taken) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_at_the_limit_of_the_system_it_waits_a_moment_and_tries_again(
    house: House, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Close policy, point 5: never spin, never stop serving."""
    house.sock.failures = [number]
    house.knock(3)
    house.reactor.step()
    assert house.sock.calls == 1
    assert house.taken == []
    assert not house.would_turn(), "it would spin"
    timeout = house.reactor.timeout()
    assert timeout is not None
    assert PAUSE <= timeout <= PAUSE + TICK
    house.sleep(PAUSE - 0.01)
    assert not house.would_turn()
    house.sleep(0.01 + TICK)
    assert house.would_turn()
    house.reactor.step()
    assert len(house.taken) == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert os.strerror(number) in caplog.text


def test_it_keeps_trying_for_as_long_as_the_system_has_no_room(house: House) -> None:
    house.sock.failures = [errno.EMFILE] * 5
    house.knock()
    for _ in range(8):
        house.reactor.step()
        house.sleep(PAUSE + TICK)
    assert house.sock.calls < 9
    assert len(house.taken) == 1


def test_a_connection_that_closes_meanwhile_ends_the_pause(house: House) -> None:
    house.sock.failures = [errno.EMFILE]
    house.knock()
    house.reactor.step()
    house.listener.resume()  # what the server does when there is room again
    house.reactor.step()
    assert len(house.taken) == 1
    house.sleep(10)  # the pause that has been forgotten harms nobody
    house.knock()
    house.reactor.step()
    assert len(house.taken) == 2


# The end.


def test_close_takes_the_backlog_first(house: House) -> None:
    """Close policy, point 4: closing a listening socket resets those who wait."""
    house.knock(300)
    house.listener.close()
    assert len(house.taken) == 300
    assert len({client for _, client, _ in house.taken}) == 300
    with pytest.raises(ConnectionRefusedError):
        house.knock()


def test_close_takes_the_backlog_though_there_is_no_room(house: House) -> None:
    """Closing resets what is not taken, and each of these gets one answer at most."""
    house.room.count = 3
    house.knock(5)
    house.listener.close()
    assert len(house.taken) == 5


def test_closed_while_it_pauses_it_stays_closed(house: House) -> None:
    house.sock.failures = [errno.EMFILE]
    house.knock()
    house.reactor.step()
    house.listener.close()
    house.sleep(10)
    assert house.reactor.timeout() is None
    assert not house.would_turn()


def test_closing_twice_is_harmless(house: House) -> None:
    house.listener.close()
    calls = house.sock.calls
    house.listener.close()
    assert house.sock.calls == calls  # a socket that is closed has no backlog to empty


def test_closed_it_is_not_resumed(house: House) -> None:
    house.listener.close()
    house.listener.resume()
    assert not house.would_turn()


# Unix sockets.


def test_a_unix_socket_serves_and_its_path_goes_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    reactor = Reactor(FakeClock(START))
    taken: list[tuple[socket.socket, Address, Address]] = []
    listener = Listener(
        reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda *it: taken.append(it), ConnectionQuota()
    )
    assert listener.address == path
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        reactor.step()
    ((sock, peer, server),) = taken
    assert peer == server == path
    assert not sock.getblocking()
    sock.close()
    listener.close()
    reactor.close()
    assert not os.path.lexists(path)


def test_a_path_that_somebody_else_took_over_stays(tmp_path: Path) -> None:
    """A new server has replaced the socket before the old one is gone: a restart without a gap."""
    path = str(tmp_path / "socket")
    reactor = Reactor(FakeClock(START))
    old = Listener(
        reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda sock, *_: sock.close(), ConnectionQuota()
    )
    os.unlink(path)
    new = Listener(
        reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda sock, *_: sock.close(), ConnectionQuota()
    )
    old.close()
    assert stat.S_ISSOCK(os.lstat(path).st_mode)
    new.close()
    assert not os.path.lexists(path)
    reactor.close()


def test_a_socket_that_a_crashed_server_left_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    open_listener(f"unix:{path}", 0, backlog=5).close()
    assert os.path.lexists(path)
    with open_listener(f"unix:{path}", 0, backlog=5), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_that_a_living_server_listens_on_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with open_listener(f"unix:{path}", 0, backlog=5) as living:
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:{path}", 0, backlog=5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            living.accept()[0].close()  # the probe
            living.accept()[0].close()


def test_nor_that_of_a_living_server_whose_backlog_is_full(tmp_path: Path) -> None:
    """And finding out does not wait for it."""
    path = str(tmp_path / "socket")
    with open_listener(f"unix:{path}", 0, backlog=0), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:{path}", 0, backlog=0)


@pytest.mark.parametrize("kind", ["file", "link", "directory", "pipe"])
def test_what_is_not_a_socket_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("years of work")
    elif kind == "link":
        (tmp_path / "real").write_text("years of work")
        path.symlink_to(tmp_path / "real")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match="in use"):
        open_listener(f"unix:{path}", 0, backlog=5)
    assert os.path.lexists(path)
    if kind in ("file", "link"):
        assert path.read_text() == "years of work"


def test_a_path_that_cannot_be_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match="No such file"):
        open_listener(f"unix:{tmp_path}/missing/socket", 0, backlog=5)
    with pytest.raises(OSError, match="too long"):
        open_listener(f"unix:{tmp_path}/{'x' * 200}", 0, backlog=5)
    assert open_descriptors() <= before


# Forms of an address.


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.mark.parametrize(
    ("bind", "host", "family"),
    [
        ("127.0.0.1", "127.0.0.1", socket.AF_INET),
        ("127.0.0.1:{port}", "127.0.0.1", socket.AF_INET),
        ("::1", "::1", socket.AF_INET6),
        ("[::1]", "::1", socket.AF_INET6),
        ("[::1]:{port}", "::1", socket.AF_INET6),
        ("0.0.0.0:{port}", "0.0.0.0", socket.AF_INET),
    ],
)
def test_forms_of_an_address(bind: str, host: str, family: socket.AddressFamily) -> None:
    port = free_port()
    asked = port if "{port}" not in bind else 1  # the port that stands in where the address has none
    with open_listener(bind.format(port=port), asked, backlog=5) as sock:
        assert sock.family == family
        assert address_of(sock) == (host, port)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), "the port can be taken again at once"


@pytest.mark.parametrize("bind", ["", ":{port}"])
def test_an_empty_host_is_every_address_of_the_machine(bind: str) -> None:
    port = free_port()
    with open_listener(bind.format(port=port), port, backlog=5) as sock:
        for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            socket.create_connection((host, port)).close()
        assert sock.getsockname()[1] == port


def test_port_0_is_any_free_one() -> None:
    with open_listener("127.0.0.1", 0, backlog=5) as first, open_listener("127.0.0.1:0", 1, backlog=5) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        assert 0 not in (first.getsockname()[1], second.getsockname()[1])


def test_a_port_in_use_is_refused_unless_both_want_to_share_it() -> None:
    with open_listener("127.0.0.1", 0, backlog=5) as sock, pytest.raises(OSError, match="in use"):
        open_listener("127.0.0.1", sock.getsockname()[1], backlog=5)
    with (
        open_listener("127.0.0.1", 0, backlog=5, reuse_port=True) as sock,
        open_listener("127.0.0.1", sock.getsockname()[1], backlog=5, reuse_port=True) as other,
    ):
        assert sock.getsockname() == other.getsockname()


def test_a_descriptor_that_was_inherited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        address = made.getsockname()
        with open_listener(f"fd:{made.detach()}", 1, backlog=5) as sock:
            assert sock.getsockname() == address
            assert not sock.getblocking()


@pytest.mark.parametrize(
    "bind",
    [
        "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999",
        "127.0.0.1:-1",
        "127.0.0.1:+80",
        "127.0.0.1:8_0",
        "127.0.0.1:http",
        "127.0.0.1: 80",
        "127.0.0.1:٨٠",
        "[::1]:65536",
        "[::1]:x",
        "[::1",
        "::1]",
        "[::1]80",
        "[]:80",
        "unix:",
        "fd:",
        "fd:x",
        "fd:-1",
        "fd:+3",
        "fd:1_0",
    ],
)
def test_other_forms_are_refused(bind: str) -> None:
    """With ValueError, as they could never be an address, before anything is tried."""
    before = open_descriptors()
    with pytest.raises(ValueError, match=r".") as caught:
        open_listener(bind, 8000, backlog=5)
    assert not isinstance(caught.value, OSError)
    assert open_descriptors() <= before


@pytest.mark.parametrize("bind", ["192.0.2.1", "192.0.2.1:80", "fd:999999"])
def test_addresses_that_cannot_be_had(bind: str) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"."):
        open_listener(bind, 0, backlog=5)
    assert open_descriptors() <= before


def test_a_descriptor_that_is_not_a_socket() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match=r"[Ss]ocket"):
        open_listener(f"fd:{reader}", 0, backlog=5)
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize(
    ("bind", "split"),
    [
        ("", ("", 8000)),
        (":80", ("", 80)),
        ("host", ("host", 8000)),
        ("host:80", ("host", 80)),
        ("host:0", ("host", 0)),
        ("::1", ("::1", 8000)),
        ("::", ("::", 8000)),
        ("[::]:80", ("::", 80)),
        ("[::1]", ("::1", 8000)),
        ("fe80::1%eth0", ("fe80::1%eth0", 8000)),
    ],
)
def test_split_host_port(bind: str, split: tuple[str, int]) -> None:
    assert split_host_port(bind, 8000) == split
