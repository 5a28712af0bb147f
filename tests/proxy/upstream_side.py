"""The other end of upstream connections: a connector whose sockets a test holds, and a net with a proxy."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from kaserve.net.reactor import Reactor
from kaserve.proxy.connector import Address
from kaserve.proxy.location import UpstreamURL
from kaserve.proxy.proxy import Proxy
from tests.tools.net import Client, Net, tcp_pair

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class FakeConnector:
    """Connects to the test.

    Attributes:
        peers: the upstream's ends of the connections, in order; each reads only when the test does.
        refuses: errors of the next attempts to connect, the first one first.
        resolves: whether names are resolved; if not, that is an error.
        send_buffer: bytes that the kernel takes without being read, of a pair of Unix sockets; 0 for TCP.
    """

    def __init__(self) -> None:
        self.peers: list[Client] = []
        self.refuses: list[int] = []
        self.resolves = True
        self.send_buffer = 0

    def resolve(self, url: UpstreamURL, reactor: Reactor, then: Callable[[list[Address] | OSError], object]) -> None:
        then([Address(socket.AF_INET, url)] if self.resolves else OSError(errno.ENOENT, "unknown name"))

    def connect(self, address: Address) -> socket.socket:
        if self.refuses:
            number = self.refuses.pop(0)
            raise OSError(number, errno.errorcode[number])
        theirs, ours = socket.socketpair() if self.send_buffer else tcp_pair()
        ours.setblocking(False)
        if self.send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        self.peers.append(Client(theirs))
        return ours

    def error_of(self, sock: Any) -> int:
        number: int = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return number

    def close(self) -> None:
        for peer in self.peers:
            peer.close()


class ProxyNet(Net):
    """A net whose handler is a proxy; the test is the client and the upstream."""

    def __init__(
        self,
        *urls: str,
        proxy: dict[str, Any] | None = None,
        connector: FakeConnector | None = None,
        **settings: Any,
    ) -> None:
        self.connector = FakeConnector() if connector is None else connector
        self.proxy = Proxy(urls or ["http://up"], connector=self.connector, **(proxy or {}))
        super().__init__(self.proxy, **settings)
        self.proxy.attach(self.service)

    @property
    def peers(self) -> list[Client]:
        return self.connector.peers

    def pass_on(self, client: Client, wire: bytes) -> None:
        """Has `client` send `wire`."""
        client.send(wire)
        self.settle()

    def take(self, number: int = -1) -> bytes:
        """Returns what the upstream has received on its connection `number`, and forgets it."""
        self.settle()
        peer = self.peers[number]
        peer.read()
        received, peer.received = peer.received, b""
        return received

    def reply(self, wire: bytes, number: int = -1) -> None:
        """Has the upstream send `wire` on its connection `number`."""
        self.peers[number].send(wire)
        self.settle()

    def close(self) -> None:
        for connection in list(self.service.connections):
            connection.abort()
        self.proxy.detach()
        super().close()
        self.connector.close()
