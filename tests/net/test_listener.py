"""The listener: what it accepts, when it stops accepting, and the forms of an address."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaserve.http.address import AnyAddress
from kaserve.http.messages import Response
from kaserve.net.listener import Listener, address_of, open_listeners, split_host_port
from kaserve.net.reactor import Reactor
from tests.tools.net import START, FakeClock, open_descriptors
from tests.tools.server import connect, serving


def open_listener(bind: str, port: int, **settings: Any) -> socket.socket:
    """The only socket of an address."""
    (sock,) = open_listeners(bind, port, **settings)
    return sock


PAUSE = 0.25
TICK = 0.125  # of the reactor's wheel


class FakeQuota:
    """Allows `count` more connections. Evicts none, and frees `spare` descriptors."""

    def __init__(self) -> None:
        self.count = 1000
        self.evictions_asked = 0
        self.spare = 0

    def available(self) -> int:
        return self.count

    def evict_one(self) -> bool:
        self.evictions_asked += 1
        return False

    def free_descriptor(self) -> bool:
        self.spare -= 1
        return self.spare >= 0


class Harness:
    """A listener on a free port of the loopback device, the clients, and the connections that were accepted."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reactor = Reactor(self.clock)
        self.quota = FakeQuota()
        self.accepted: list[tuple[socket.socket, AnyAddress, AnyAddress]] = []
        self.clients: list[socket.socket] = []
        self.sock = Listening(open_listener("127.0.0.1", 0, backlog=512))
        self.listener = Listener(self.reactor, self.sock, self._on_accept, self.quota)

    def _on_accept(self, sock: socket.socket, client: AnyAddress, server: AnyAddress) -> None:
        self.accepted.append((sock, client, server))
        self.quota.count -= 1

    def connect(self, count: int = 1) -> None:
        """New clients connect, and wait in the backlog."""
        address = self.listener.address
        assert isinstance(address, tuple)
        for _ in range(count):
            self.clients.append(socket.create_connection(address))

    def has_work(self) -> bool:
        """Whether the reactor would wake up."""
        return bool(select.select([self.reactor.fileno()], [], [], 0)[0])

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.reactor.step()

    def close(self) -> None:
        self.listener.close()
        self.reactor.close()
        for sock, _, _ in self.accepted:
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
def harness() -> Iterator[Harness]:
    before = open_descriptors()
    harness = Harness()
    yield harness
    harness.close()
    assert open_descriptors() <= before


# Accepting.


def test_a_connection_is_accepted_with_both_addresses(harness: Harness) -> None:
    harness.connect()
    harness.reactor.step()
    ((sock, client, server),) = harness.accepted
    assert client == harness.clients[0].getsockname()
    assert server == harness.listener.address == sock.getsockname()


def test_an_accepted_socket_does_not_block_and_has_tcp_nodelay(harness: Harness) -> None:
    """Nagle against delayed acknowledgements costs 40 ms a request."""
    harness.connect()
    harness.reactor.step()
    sock = harness.accepted[0][0]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()
    assert not sock.get_inheritable()


def test_a_burst_is_accepted_in_bounded_turns(harness: Harness) -> None:
    """So the open connections are served in between."""
    harness.connect(300)
    turns = []
    while harness.has_work():
        before = len(harness.accepted)
        harness.reactor.step()
        turns.append(len(harness.accepted) - before)
    assert sum(turns) == 300
    assert max(turns) <= 128
    assert len(turns) <= 4


def test_a_client_that_left_the_backlog_is_skipped(harness: Harness) -> None:
    harness.sock.failures = [errno.ECONNABORTED, errno.ECONNABORTED]
    harness.connect()
    harness.reactor.step()
    assert len(harness.accepted) == 1


def test_a_client_that_left_after_it_was_accepted_is_skipped(harness: Harness) -> None:
    """Its reset may show in the first system call on the socket; wrapping it for TLS makes some."""
    on_accept = harness.listener._on_accept

    def touch(sock: socket.socket, client: AnyAddress, server: AnyAddress) -> None:
        if client == harness.clients[0].getsockname():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        on_accept(sock, client, server)

    harness.listener._on_accept = touch
    harness.connect(3)
    harness.reactor.step()
    assert len(harness.accepted) == 2
    assert harness.clients[0].recv(1) == b"", "its descriptor was closed"


# At the limit.


def test_at_the_limit_it_pauses_and_leaves_clients_in_the_backlog(harness: Harness) -> None:
    harness.quota.count = 2
    harness.connect(5)
    harness.reactor.step()
    assert len(harness.accepted) == 2
    assert not harness.has_work(), "the loop would spin"
    harness.quota.count = 1
    harness.listener.resume()
    harness.reactor.step()
    assert len(harness.accepted) == 3
    assert not harness.has_work()
    harness.quota.count = 10
    harness.listener.resume()
    harness.reactor.step()
    assert len(harness.accepted) == 5


def test_at_the_limit_it_asks_for_an_eviction_and_asks_again(harness: Harness) -> None:
    """Close policy, point 5: an idle connection is evicted; there may be none yet."""
    harness.quota.count = 0
    harness.connect()
    harness.reactor.step()
    assert harness.quota.evictions_asked == 1
    assert not harness.has_work(), "the loop would spin"
    harness.sleep(PAUSE + TICK)
    harness.reactor.step()
    assert harness.quota.evictions_asked == 2
    harness.quota.count = 1
    harness.sleep(PAUSE + TICK)
    harness.reactor.step()
    assert len(harness.accepted) == 1


def test_a_freed_descriptor_is_used_at_once(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    harness.quota.spare = 1
    harness.sock.failures = [errno.EMFILE]
    harness.connect(2)
    harness.reactor.step()
    assert len(harness.accepted) == 2
    assert caplog.records == []


def test_resume_and_pause_may_be_repeated(harness: Harness) -> None:
    harness.listener.resume()
    harness.listener.pause()
    harness.listener.pause()
    harness.connect()
    assert not harness.has_work()
    harness.listener.resume()
    harness.listener.resume()
    harness.reactor.step()
    assert len(harness.accepted) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_system_resources_it_pauses_and_tries_again(
    harness: Harness, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Close policy, point 5: never spin, never stop serving."""
    harness.sock.failures = [number]
    harness.connect(3)
    harness.reactor.step()
    assert harness.sock.calls == 1
    assert harness.accepted == []
    assert not harness.has_work(), "the loop would spin"
    timeout = harness.reactor.timeout()
    assert timeout is not None
    assert PAUSE <= timeout <= PAUSE + TICK
    harness.sleep(PAUSE - 0.01)
    assert not harness.has_work()
    harness.sleep(0.01 + TICK)
    assert harness.has_work()
    harness.reactor.step()
    assert len(harness.accepted) == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert os.strerror(number) in caplog.text


def test_it_keeps_trying_while_the_system_has_no_resources(harness: Harness) -> None:
    harness.sock.failures = [errno.EMFILE] * 5
    harness.connect()
    for _ in range(8):
        harness.reactor.step()
        harness.sleep(PAUSE + TICK)
    assert harness.sock.calls < 9
    assert len(harness.accepted) == 1


def test_a_connection_that_closes_ends_the_pause(harness: Harness) -> None:
    harness.sock.failures = [errno.EMFILE]
    harness.connect()
    harness.reactor.step()
    harness.listener.resume()  # as the server does when a connection has closed
    harness.reactor.step()
    assert len(harness.accepted) == 1
    harness.sleep(10)  # the timer of the pause is harmless now
    harness.connect()
    harness.reactor.step()
    assert len(harness.accepted) == 2


# The end.


def test_close_accepts_the_backlog_first(harness: Harness) -> None:
    """Close policy, point 4: closing a listening socket resets the clients in its backlog."""
    harness.connect(300)
    harness.listener.close()
    assert len(harness.accepted) == 300
    assert len({client for _, client, _ in harness.accepted}) == 300
    with pytest.raises(ConnectionRefusedError):
        harness.connect()


def test_close_accepts_the_backlog_beyond_the_limit(harness: Harness) -> None:
    """Closing resets clients that are not accepted, and each of these gets one response at most."""
    harness.quota.count = 3
    harness.connect(5)
    harness.listener.close()
    assert len(harness.accepted) == 5


def test_the_end_of_a_pause_does_not_reopen_a_closed_listener(harness: Harness) -> None:
    harness.sock.failures = [errno.EMFILE]
    harness.connect()
    harness.reactor.step()
    harness.listener.close()
    harness.sleep(10)
    assert harness.reactor.timeout() is None
    assert not harness.has_work()


def test_closing_twice_is_harmless(harness: Harness) -> None:
    harness.listener.close()
    calls = harness.sock.calls
    harness.listener.close()
    assert harness.sock.calls == calls  # a closed socket has no backlog


def test_resume_after_close_does_nothing(harness: Harness) -> None:
    harness.listener.close()
    harness.listener.resume()
    assert not harness.has_work()


# Unix sockets.


def test_close_removes_the_path_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    reactor = Reactor(FakeClock(START))
    accepted: list[tuple[socket.socket, AnyAddress, AnyAddress]] = []
    listener = Listener(
        reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda *it: accepted.append(it), FakeQuota()
    )
    assert listener.address == path
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        reactor.step()
    ((sock, peer, server),) = accepted
    assert peer == server == path
    assert not sock.getblocking()
    sock.close()
    listener.close()
    reactor.close()
    assert not os.path.lexists(path)


def test_close_keeps_a_path_that_another_server_has_taken_over(tmp_path: Path) -> None:
    """A new server replaces the socket before the old one closes it: a restart without a gap."""
    path = str(tmp_path / "socket")
    reactor = Reactor(FakeClock(START))
    old = Listener(reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda sock, *_: sock.close(), FakeQuota())
    os.unlink(path)
    new = Listener(reactor, open_listener(f"unix:{path}", 0, backlog=5), lambda sock, *_: sock.close(), FakeQuota())
    old.close()
    assert stat.S_ISSOCK(os.lstat(path).st_mode)
    new.close()
    assert not os.path.lexists(path)
    reactor.close()


def test_the_socket_of_a_crashed_server_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    open_listener(f"unix:{path}", 0, backlog=5).close()
    assert os.path.lexists(path)
    with open_listener(f"unix:{path}", 0, backlog=5), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_the_socket_of_a_running_server_is_not_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with open_listener(f"unix:{path}", 0, backlog=5) as running:
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:{path}", 0, backlog=5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            running.accept()[0].close()  # the probe
            running.accept()[0].close()


def test_the_socket_of_a_running_server_with_a_full_backlog_is_not_replaced(tmp_path: Path) -> None:
    """And finding out does not block."""
    path = str(tmp_path / "socket")
    with open_listener(f"unix:{path}", 0, backlog=0), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:{path}", 0, backlog=0)


@pytest.mark.parametrize("kind", ["file", "link", "directory", "pipe"])
def test_a_file_that_is_not_a_socket_is_never_replaced(tmp_path: Path, kind: str) -> None:
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


def test_an_impossible_path_leaks_no_descriptor(tmp_path: Path) -> None:
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
        pytest.param("127.0.0.1", "127.0.0.1", socket.AF_INET, id="v4"),
        pytest.param("127.0.0.1:{port}", "127.0.0.1", socket.AF_INET, id="v4-port"),
        pytest.param("::1", "::1", socket.AF_INET6, id="v6"),
        pytest.param("[::1]", "::1", socket.AF_INET6, id="v6-in-brackets"),
        pytest.param("[::1]:{port}", "::1", socket.AF_INET6, id="v6-port"),
        pytest.param("0.0.0.0:{port}", "0.0.0.0", socket.AF_INET, id="any-v4"),
    ],
)
def test_forms_of_an_address(bind: str, host: str, family: socket.AddressFamily) -> None:
    port = free_port()
    default = port if "{port}" not in bind else 1  # used if the address has none
    with open_listener(bind.format(port=port), default, backlog=5) as sock:
        assert sock.family == family
        assert address_of(sock) == (host, port)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), "the port can be used again at once"


@pytest.mark.parametrize("bind", ["", ":{port}", "::", "[::]", "[::]:{port}"])
def test_an_empty_host_is_every_address_of_the_machine(bind: str) -> None:
    port = free_port()
    with open_listener(bind.format(port=port), port, backlog=5) as sock:
        for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            socket.create_connection((host, port)).close()
        assert sock.getsockname()[1] == port


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_name_is_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost`, as most machines have it: one port, free at both addresses."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),  # not of this machine
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    sockets = open_listeners("localhost", 0, backlog=5)
    monkeypatch.undo()
    port = sockets[0].getsockname()[1]
    assert [address_of(sock) for sock in sockets] == [("::1", port), ("127.0.0.1", port)]
    for sock in sockets:
        sock.close()


def test_a_name_whose_port_is_in_use_at_one_address_opens_none() -> None:
    before = open_descriptors()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        open_listeners("localhost", other.getsockname()[1], backlog=5)
    assert open_descriptors() <= before


def test_an_address_that_this_machine_does_not_have() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        open_listeners("192.0.2.1", 0, backlog=5)


def link_local() -> str:
    """A link-local address of this machine with its zone."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        address, _, _, scope, _, name = line.split()
        if scope == "20":
            return f"{ipaddress.IPv6Address(int(address, 16))}%{name}"
    pytest.skip("this machine has no link-local address")


@pytest.mark.parametrize("form", ["{}", "[{}]", "[{}]:0"])
def test_a_link_local_address_keeps_its_zone(form: str) -> None:
    host = link_local()
    with open_listener(form.format(host), 0, backlog=5) as sock:
        port = sock.getsockname()[1]
        assert address_of(sock) == (host, port)
        socket.create_connection((host, port)).close()


def test_a_link_local_client_keeps_its_zone() -> None:
    """The access log, REMOTE_ADDR and the limit of connections per address must not confuse two networks."""
    host = link_local()
    with serving(lambda request: Response.text(request.client.host), bind=(host,)) as server, connect(server) as client:
        assert client.ask().body.decode() == host


@pytest.mark.parametrize("spelling", ["::", "::0", "0::", "0:0:0:0:0:0:0:0", "[::0]", "::0.0.0.0"])
def test_every_spelling_of_every_address(spelling: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no dual-stack sockets")
    with open_listener(spelling, 0, backlog=5) as sock:
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


def test_an_abstract_unix_socket(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has abstract names")
    name = f"kaserve-test-{os.getpid()}"
    with open_listener(f"unix:@{name}", 0, backlog=5) as sock, socket.socket(socket.AF_UNIX) as client:
        assert address_of(sock) == f"@{name}"
        assert not os.path.lexists(f"@{name}")
        client.connect(f"\0{name}")
        with pytest.raises(OSError, match="in use"):
            open_listener(f"unix:@{name}", 0, backlog=5)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_unix_socket_may_be_connected_to_by_other_users(tmp_path: Path, umask: int) -> None:
    """By the workers of nginx, say, which are others: whatever the umask."""
    before = os.umask(umask)
    try:
        for mode in (0o666, 0o660):
            path = tmp_path / f"{mode:o}"
            with open_listener(f"unix:{path}", 0, backlog=5, unix_mode=mode):
                assert stat.S_IMODE(path.stat().st_mode) == mode
        with open_listener(f"unix:{tmp_path / 'default'}", 0, backlog=5):
            assert stat.S_IMODE((tmp_path / "default").stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_port_0_is_any_free_port() -> None:
    with open_listener("127.0.0.1", 0, backlog=5) as first, open_listener("127.0.0.1:0", 1, backlog=5) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        assert 0 not in (first.getsockname()[1], second.getsockname()[1])


def test_a_port_in_use_is_rejected_unless_both_share_it() -> None:
    with open_listener("127.0.0.1", 0, backlog=5) as sock, pytest.raises(OSError, match="in use"):
        open_listener("127.0.0.1", sock.getsockname()[1], backlog=5)
    with (
        open_listener("127.0.0.1", 0, backlog=5, reuse_port=True) as sock,
        open_listener("127.0.0.1", sock.getsockname()[1], backlog=5, reuse_port=True) as other,
    ):
        assert sock.getsockname() == other.getsockname()


def test_an_inherited_descriptor() -> None:
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
def test_other_forms_are_rejected(bind: str) -> None:
    """With ValueError, before any system call, since they can never be an address."""
    before = open_descriptors()
    with pytest.raises(ValueError, match=r".") as caught:
        open_listener(bind, 8000, backlog=5)
    assert not isinstance(caught.value, OSError)
    assert open_descriptors() <= before


@pytest.mark.parametrize("bind", ["192.0.2.1", "192.0.2.1:80", "fd:999999"])
def test_unavailable_addresses(bind: str) -> None:
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
        pytest.param("", ("", 8000), id="empty"),
        pytest.param(":80", ("", 80), id="port-alone"),
        pytest.param("host", ("host", 8000), id="name"),
        pytest.param("host:80", ("host", 80), id="name-port"),
        pytest.param("host:0", ("host", 0), id="port-0"),
        pytest.param("::1", ("::1", 8000), id="v6"),
        pytest.param("::", ("::", 8000), id="v6-any"),
        pytest.param("[::]:80", ("::", 80), id="v6-any-port"),
        pytest.param("[::1]", ("::1", 8000), id="v6-in-brackets"),
        pytest.param("fe80::1%eth0", ("fe80::1%eth0", 8000), id="v6-zone"),
    ],
)
def test_split_host_port(bind: str, split: tuple[str, int]) -> None:
    assert split_host_port(bind, 8000) == split
