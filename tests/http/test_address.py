"""Addresses: what both kinds have in common, and that they are still what sockets accept."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from kaserve.http.address import UNNAMED, Address, UnixAddress


class TestAddress:
    def test_it_is_a_tuple(self) -> None:
        host, port = address = Address("192.0.2.1", 4711)
        assert (host, port) == address == ("192.0.2.1", 4711)
        assert (address.host, address.port, address.label) == ("192.0.2.1", 4711, "192.0.2.1")

    def test_it_takes_the_memory_of_a_tuple(self) -> None:
        assert sys.getsizeof(Address("192.0.2.1", 4711)) == sys.getsizeof(("192.0.2.1", 4711))
        assert not hasattr(Address("192.0.2.1", 4711), "__dict__")

    def test_a_socket_connects_to_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            client.connect(Address(*listener.getsockname()))
            assert client.getpeername() == listener.getsockname()


class TestUnixAddress:
    def test_it_is_a_path_with_the_attributes_of_an_address(self) -> None:
        address = UnixAddress("/run/site.sock")
        assert address == "/run/site.sock"
        assert (address.host, address.port, address.label) == ("", 0, "unix")
        assert not hasattr(address, "__dict__")

    def test_a_socket_connects_to_it(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            client.connect(UnixAddress(tmp_path / "s"))

    def test_a_socket_without_a_path(self) -> None:
        assert UNNAMED == ""
        assert UNNAMED.label == "unix"
