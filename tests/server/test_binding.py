"""Where a server listens: the addresses of the settings, and the sockets of a service manager."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from kaserve import Request, Response, Server
from kaserve.http.address import Address, AnyAddress, UnixAddress
from tests.tools.net import open_descriptors
from tests.tools.server import (
    Process,
    config,
    connect,
    hello,
    serving,
    started_after,
    wait_for,
)

ECHO = ("--handler", "tests.tools.server:echo")


class TestAddresses:
    def test_several(self) -> None:
        with serving(bind=("127.0.0.1", "127.0.0.2:0", "localhost")) as server:
            assert len(set(server.addresses)) >= 3
            for address in server.addresses:
                with connect(address) as client:
                    assert client.ask().body == b"hello"
            assert server.url == server.url_of(server.addresses[0])

    def test_one_needs_no_tuple(self) -> None:
        with serving(bind="127.0.0.1:0") as server, connect(server) as client:
            assert client.ask().status == 200

    def test_every_address_of_the_machine(self) -> None:
        with serving(bind="") as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            with connect(("127.0.0.1", port)) as client:
                assert client.ask().status == 200
            assert server.url in (f"http://[::1]:{port}/", f"http://127.0.0.1:{port}/")

    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
    @pytest.mark.parametrize("bind", ["::1", "[::1]", "[::1]:0"])
    def test_ipv6(self, bind: str) -> None:
        with serving(bind=bind) as server, connect(server) as client:
            assert client.ask().status == 200
            assert server.url.startswith("http://[::1]:")

    @pytest.mark.parametrize(
        ("address", "url"),
        [
            (Address("127.0.0.1", 80), "http://127.0.0.1:80/"),
            (Address("0.0.0.0", 8000), "http://127.0.0.1:8000/"),
            (Address("::", 8000), "http://[::1]:8000/"),
            (Address("fe80::1", 8000), "http://[fe80::1]:8000/"),
            (Address("fe80::1%eth0", 8000), "http://[fe80::1%25eth0]:8000/"),  # RFC 6874
            (UnixAddress("/run/site.sock"), "unix:/run/site.sock"),
            (None, ""),
        ],
    )
    def test_urls(self, address: AnyAddress | None, url: str) -> None:
        server = Server(hello, config())
        assert server.url_of(address) == url
        server.close()

    def test_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        seen: list[Request] = []

        def look(request: Request) -> Response:
            seen.append(request)
            return hello(request)

        with serving(look, bind=f"unix:{path}") as server, connect(server) as client:
            assert (server.address, server.url) == (path, f"unix:{path}")
            assert [client.ask().status, client.ask().status] == [200, 200]
        assert seen[0].server == path

    def test_the_path_of_a_unix_socket_goes_with_the_server(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with serving(bind=f"unix:{path}"):
            assert path.is_socket()
        assert not path.exists()

    def test_a_unix_socket_that_a_dead_server_left_behind_is_replaced(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with serving(bind=f"unix:{path}") as server:
            with connect(server) as client:
                assert client.ask().status == 200
            with pytest.raises(OSError, match="in use"), serving(bind=f"unix:{path}"):
                pass
            with connect(server) as client:
                assert client.ask().status == 200

    def test_a_descriptor(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            with serving(bind=f"fd:{listener.detach()}") as server, connect(address) as client:
                assert client.ask().status == 200
                assert server.address == address

    def test_a_port_is_refused_while_it_is_in_use_and_free_right_afterwards(self) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            address, port = server.address, server.address[1]
            with pytest.raises(
                OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
            ) as caught:
                Server(hello, config(port=port)).open()
            assert caught.value.errno == errno.EADDRINUSE
            with connect(server) as client:
                assert not client.ask("/", "Connection: close").persists
                assert client.is_closed  # by the server first: its side of the connection stays in TIME_WAIT
        with serving(port=port) as server, connect(address) as client:
            assert client.ask().status == 200

    @pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
    def test_a_port_may_be_shared(self) -> None:
        with serving(reuse_port=True) as one:
            assert isinstance(one.address, tuple)
            with serving(reuse_port=True, port=one.address[1]) as two:
                assert one.address == two.address
                for _ in range(20):
                    with connect(one) as client:
                        assert client.ask().status == 200
                assert one.stats.accepted + two.stats.accepted == 20
            with pytest.raises(OSError, match="in use"), serving(port=one.address[1]):
                pass

    @pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
    def test_a_port_may_be_shared_by_processes(self) -> None:
        """Both receive connections, and one goes on alone when the other has stopped."""

        own = ("--handler", "tests.tools.server:pid", "--reuse-port")
        with Process("0", *own) as one:
            assert isinstance(one.address, tuple)
            with Process(str(one.address[1]), *own) as two:
                answered: set[int] = set()

                def ask() -> None:
                    with connect(one.address) as client:
                        answered.add(int(client.ask("/", "Connection: close").body))

                wait_for(lambda: answered == {one.pid, two.pid}, ask)
                two.signal(signal.SIGTERM)
                assert two.wait() == 0
                answered.clear()
                for _ in range(5):
                    ask()
                assert answered == {one.pid}

    @pytest.mark.parametrize(
        "bind",
        [
            "192.0.2.1",
            "[2001:db8::1]:80",
            "no.such.host.invalid",
            "a..b",
            "x" * 64,
            "unix:/no/such/directory/socket",
            "unix:/" + "x" * 200,
            "fd:9999",
            "fd:99999999999",
        ],
    )
    def test_an_address_that_is_unavailable_raises_in_the_caller(self, bind: str) -> None:
        before = open_descriptors()
        server = Server(hello, config(bind=("127.0.0.1", bind), port=0))
        with pytest.raises(OSError, match="cannot listen on ") as caught:
            server.__enter__()
        assert bind.removesuffix(":80") in str(caught.value)
        assert "None" not in str(caught.value)
        assert open_descriptors() <= before

    def test_a_pipe_is_no_listening_socket(self) -> None:
        readable, writable = os.pipe()
        try:
            with pytest.raises(OSError, match=f"cannot listen on fd:{readable}: "):
                Server(hello, config(bind=f"fd:{readable}")).open()
        finally:
            os.close(readable)
            os.close(writable)


class TestInheritedSockets:
    """sd_listen_fds(3): descriptors from 3 on, for one process; they replace `bind`."""

    AS_A_MANAGER = """
import fcntl
copies = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv.pop(1).split(",")]
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies)), "LISTEN_FDNAMES": "a:b"}
"""

    def test_in_a_process(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            fds = one.fileno(), two.fileno()
            program = started_after(self.AS_A_MANAGER)
            with Process(",".join(map(str, fds)), "0", *ECHO, "-b", "192.0.2.1", program=program, fds=fds) as process:
                for listener in (one, two):
                    host, port = listener.getsockname()
                    assert f"at http://{host}:{port}/" in process.banner
                    with connect((host, port)) as client:
                        assert client.ask().status == 200

    def test_they_are_used_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        monkeypatch.setattr("kaserve.server.binding._FIRST_LISTEN_FD", listener.detach())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with serving() as one, serving() as two:
            assert one.address == address
            assert two.address != address
            for server in (one, two):
                with connect(server) as client:
                    assert client.ask().status == 200

    @pytest.mark.parametrize("count", ["many", "-1", "1_0", "99999", "\u0661"])
    def test_a_number_of_sockets_that_is_not_a_number(self, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", count)
        with pytest.raises(OSError, match="LISTEN_FDS"):
            Server(hello, config()).open()

    @pytest.mark.parametrize("pid", ["1", "", "me"])
    def test_those_of_another_process_are_not_ours(self, pid: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", "1")
        with serving() as server, connect(server) as client:
            assert client.ask().status == 200

    def test_zero_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "0")
        with serving() as server, connect(server) as client:
            assert client.ask().status == 200
