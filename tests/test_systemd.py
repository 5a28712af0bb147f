"""What a service manager is told: the protocol of sd_notify(3), and when a server uses it."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaserve import Server, systemd
from tests.tools.server import PATIENCE, Process, config, connect, hello


class Manager:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.settimeout(PATIENCE)
        self.address = address

    def hear(self) -> str:
        return self.sock.recv(4096).decode()

    @property
    def is_quiet(self) -> bool:
        return not select.select([self.sock], [], [], 0)[0]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and not os.path.isdir("/proc/self"):
        pytest.skip("only Linux has abstract names")
    manager = Manager(f"@kaserve-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield manager
    manager.sock.close()


class TestNotify:
    def test_what_is_told(self, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        assert systemd.notify("X=1\nY=2")
        assert manager.hear() == "X=1\nY=2"
        assert systemd.ready()
        assert manager.hear() == "READY=1"
        assert systemd.ready("serves")
        assert manager.hear() == "READY=1\nSTATUS=serves"
        assert systemd.stopping()
        assert manager.hear() == "STOPPING=1"
        assert systemd.reloading()
        name, _, microseconds = manager.hear().partition("\nMONOTONIC_USEC=")
        assert name == "RELOADING=1"
        assert microseconds.isdigit()

    @pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "@no-such-name", "/" + "x" * 300, "@", "/"])
    def test_nobody_listens(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not systemd.ready()
        monkeypatch.delenv("NOTIFY_SOCKET")
        assert not systemd.ready()

    @pytest.mark.parametrize(
        ("microseconds", "pid", "interval"),
        [
            ("30000000", None, 15.0),
            ("30000000", "own", 15.0),
            ("30000000", "1", None),
            ("30000000", "", None),
            ("0", None, None),
            ("", None, None),
            ("-5", None, None),
            ("soon", None, None),
        ],
    )
    def test_the_watchdog(
        self, microseconds: str, pid: str | None, interval: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if pid is not None:
            monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
        assert systemd.watchdog_interval() == interval


class TestServer:
    def test_a_program_says_when_it_is_ready_reloads_and_stops(self, manager: Manager) -> None:
        with Process("0", NOTIFY_SOCKET=manager.address) as process:
            assert manager.hear() == "READY=1"
            with process.connect() as client:
                assert client.ask("/", "Connection: close").status == 200
            process.signal(signal.SIGHUP)
            assert manager.hear().startswith("RELOADING=1\nMONOTONIC_USEC=")
            assert manager.hear() == "READY=1"
            assert manager.is_quiet
            process.signal(signal.SIGTERM)
            assert manager.hear() == "STOPPING=1"
            assert process.wait() == 0
        assert manager.is_quiet

    def test_a_program_feeds_the_watchdog(self, manager: Manager) -> None:
        with Process("0", NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="20000"):
            assert manager.hear() == "READY=1"
            assert [manager.hear() for _ in range(3)] == ["WATCHDOG=1"] * 3

    def test_a_manager_that_is_gone_does_not_stop_the_server(self) -> None:
        with Process("0", NOTIFY_SOCKET="/no/such/socket") as process, process.connect() as client:
            assert client.ask().status == 200

    def test_a_server_that_is_not_the_program_keeps_quiet(
        self, manager: Manager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        with Server(hello, config()) as server, connect(server) as client:
            assert client.ask("/", "Connection: close").status == 200
        thread = threading.Thread(target=(other := Server(hello, config())).run)
        other.shutdown()
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert manager.is_quiet
