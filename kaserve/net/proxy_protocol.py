"""The PROXY protocol, versions 1 and 2: what a proxy says of a connection before the first byte of the client.

Knows the headers of both versions (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; sections are of that
text), and how to take exactly one from a socket. Does not know what follows it, which is TLS or HTTP.

A connection must begin with a header, or it is closed: where both were allowed, a client could bring its own.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from typing import NamedTuple

from ..http.messages import Address
from .poller import NOTHING, READ
from .reactor import Reactor
from .timerwheel import Timer

__all__ = ["ProxyError", "ProxyHeader", "ProxyHeaderReader", "read_proxy_header"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # §2.2
_FIXED = 16  # the signature, version and command, family and transport, length
_MOST = 4096  # bytes of a header; what the proxy adds about its TLS or its cloud fits many times

_V1_START = b"PROXY "  # §2.1
_MOST_V1 = 107  # with its CRLF
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1 = re.compile(
    rb"PROXY (?:TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) " + _PORT + rb" " + _PORT + rb"|UNKNOWN(?: .*)?)"
)

_LOCAL, _PROXY = 0x20, 0x21  # version 2 with its commands
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_DATAGRAMS = frozenset({0x12, 0x22, 0x32})
_ADDRESS_SIZES = {_TCP4: 4, _TCP6: 16, _UNIX: 108}  # of one of the two


class ProxyError(ValueError):
    """The bytes are no header, and can never become one."""


class ProxyHeader(NamedTuple):
    """size: bytes of the header. client, server: the two ends of the connection between client and proxy; None where
    the header does not tell (a health check of the proxy itself, say), which leaves those of the socket."""

    size: int
    client: Address = None
    server: Address = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None as long as it is not complete. Raises ProxyError."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[: len(_V1_START)] == _V1_START[: len(data)]:
        return _read_v1(data)
    raise ProxyError("no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    """One line of text (§2.1)."""
    line, end, _ = data[:_MOST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= _MOST_V1 or b"\n" in line:
            raise ProxyError("a line that does not end")
        return None
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyError("a malformed line")
    size = len(line) + len(end)
    family, client, server, client_port, server_port = match.groups()
    if family is None:  # UNKNOWN: what follows is to be ignored
        return ProxyHeader(size)
    read = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        hosts = [str(read(host.decode("ascii"))) for host in (client, server)]
    except ValueError:
        raise ProxyError("a malformed address") from None
    ports = int(client_port), int(server_port)
    if max(ports) > 65535:
        raise ProxyError("a malformed port")
    return ProxyHeader(size, (hosts[0], ports[0]), (hosts[1], ports[1]))


def _read_v2(data: bytes) -> ProxyHeader | None:
    """A binary header, of fixed fields, addresses, and further values that nobody asks for here (§2.2)."""
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProxyError("another version or command")
    is_local = len(data) > 12 and data[12] == _LOCAL  # then the family means nothing, and neither does what follows
    family = data[13] if len(data) > 13 and not is_local else _UNSPEC
    if family != _UNSPEC and family not in _ADDRESS_SIZES and family not in _DATAGRAMS:
        raise ProxyError("an unknown family of addresses")
    if len(data) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(data[14:16], "big")
    address_size = _ADDRESS_SIZES.get(family, 0)
    if size > _MOST:
        raise ProxyError("a header that is too long")
    ends = 2 * address_size + (4 if family in (_TCP4, _TCP6) else 0)
    if size < _FIXED + ends:
        raise ProxyError("a header without room for its addresses")
    if len(data) < size:
        return None
    if not address_size:
        return ProxyHeader(size)
    client = data[_FIXED : _FIXED + address_size]
    server = data[_FIXED + address_size : _FIXED + 2 * address_size]
    if family == _UNIX:
        return ProxyHeader(size, _path(client), _path(server))
    hosts = [
        socket.inet_ntop(socket.AF_INET if family == _TCP4 else socket.AF_INET6, each) for each in (client, server)
    ]
    ports = data[_FIXED + 2 * address_size :]
    return ProxyHeader(
        size,
        (hosts[0], int.from_bytes(ports[0:2], "big")),
        (hosts[1], int.from_bytes(ports[2:4], "big")),
    )


def _path(field: bytes) -> str:
    """The path of a Unix socket, "" for one without a name; the first byte of an abstract one is NUL."""
    return os.fsdecode(field[:1] + field[1:].partition(b"\0")[0]).removesuffix("\0")


class ProxyHeaderReader(Timer):
    """A connection whose PROXY header has not come yet. It stands in front of the phases of `net.connection`: `welcome`
    gets the socket, with nothing taken from it but the header, and the addresses of both ends."""

    __slots__ = ("_data", "_ended", "_reactor", "_sock", "_welcome", "client", "server")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        client: Address,
        server: Address,
        *,
        timeout: float,
        welcome: Callable[[socket.socket, Address, Address], object],
        ended: Callable[[ProxyHeaderReader], object],
    ) -> None:
        """Takes over `sock`, which is connected and does not block. timeout: seconds for the header. ended: called when
        the greeting is over, whichever way."""
        super().__init__()
        self._reactor = reactor
        self._sock = sock
        self._data = b""  # of the header so far
        self._welcome = welcome
        self._ended = ended
        self.client = client
        self.server = server
        reactor.watch(sock.fileno(), self, NOTHING, READ)
        reactor.wheel.schedule(self, reactor.read_clock() + timeout)

    def ready(self, events: int) -> None:
        try:
            header = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProxyError):  # whoever cannot even greet is told nothing
            self.close()
            return
        if header is not None:
            self._leave()
            client = self.client if header.client is None else header.client
            server = self.server if header.server is None else header.server
            try:
                self._welcome(self._sock, client, server)
            except OSError:  # gone meanwhile
                self._sock.close()
            self._ended(self)

    def _receive(self) -> ProxyHeader | None:
        """Looks at what is there first: what comes after the header is for somebody else."""
        there = self._sock.recv(_MOST, socket.MSG_PEEK)
        if not there:
            raise ProxyError("the end before a header")
        header = read_proxy_header(self._data + there)
        taken = len(there) if header is None else header.size - len(self._data)
        self._data += self._sock.recv(taken)
        return header

    def expired(self, now: float) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._leave()
        self._sock.close()
        self._ended(self)

    def _leave(self) -> None:
        self._reactor.watch(self._sock.fileno(), self, READ, NOTHING)
        self._reactor.wheel.cancel(self)
