"""The PROXY protocol, versions 1 and 2: what a proxy says about a connection before the first byte of the client.

Knows the headers of both versions (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; section numbers are of
that text), and how to take exactly one header from a socket. Does not know what follows it, which is TLS or HTTP.

A connection must begin with a header, or it is closed. If connections with and without a header were allowed on one
port, any client could send a header of its own and pretend to have another address.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
from collections.abc import Callable
from typing import NamedTuple

from ..http.address import Address, AnyAddress, UnixAddress
from .poller import NOTHING, READ
from .reactor import Reactor
from .timerwheel import Timer

__all__ = ["ProxyError", "ProxyHeader", "ProxyHeaderReader", "read_proxy_header"]

_V1_PREFIX = b"PROXY "  # §2.1
_MAX_V1_SIZE = 107  # bytes, with the CRLF
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1_LINE = re.compile(
    rb"PROXY (?:TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) " + _PORT + rb" " + _PORT + rb"|UNKNOWN(?: .*)?)"
)

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # §2.2
_V2_FIXED_SIZE = 16  # bytes: the signature, version and command, family and transport, length of the rest
_MAX_SIZE = 4096  # bytes of a header; what proxies add about their TLS or their cloud fits many times

_LOCAL, _PROXY = 0x20, 0x21  # version 2 in the upper half of the byte, the command in the lower
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_DATAGRAMS = frozenset({0x12, 0x22, 0x32})
_ADDRESS_SIZES = {_TCP4: 4, _TCP6: 16, _UNIX: 108}  # bytes of one address; two are sent


class ProxyError(ValueError):
    """The bytes are not a PROXY header, and can never become one."""


class ProxyHeader(NamedTuple):
    """One PROXY header.

    Attributes:
        size: bytes of the header.
        client: the client's end of the connection between client and proxy. None if the header does not tell, as for a
            health check by the proxy itself; the addresses of the socket hold then.
        server: the proxy's end of that connection, or None.
    """

    size: int
    client: AnyAddress | None = None
    server: AnyAddress | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Returns the header that `data` begins with, or None while it is incomplete.

    Raises:
        ProxyError: `data` does not begin with a header, whatever follows.
    """
    if data[: len(_V2_SIGNATURE)] == _V2_SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[: len(_V1_PREFIX)] == _V1_PREFIX[: len(data)]:
        return _read_v1(data)
    raise ProxyError("no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    """Reads one line of text (§2.1)."""
    line, end, _ = data[:_MAX_V1_SIZE].partition(b"\r\n")
    if not end:
        if len(data) >= _MAX_V1_SIZE or b"\n" in line:
            raise ProxyError("a line that does not end")
        return None
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise ProxyError("a malformed line")
    size = len(line) + len(end)
    family, client, server, client_port, server_port = match.groups()
    if family is None:  # UNKNOWN: the rest of the line is to be ignored
        return ProxyHeader(size)
    parse = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        hosts = [str(parse(host.decode("ascii"))) for host in (client, server)]
    except ValueError:
        raise ProxyError("a malformed address") from None
    ports = int(client_port), int(server_port)
    if max(ports) > 65535:
        raise ProxyError("a malformed port")
    return ProxyHeader(size, Address(hosts[0], ports[0]), Address(hosts[1], ports[1]))


def _read_v2(data: bytes) -> ProxyHeader | None:
    """Reads a binary header (§2.2): fixed fields, addresses, and further values, which are skipped."""
    if len(data) < _V2_FIXED_SIZE:
        return None
    command, family = data[12], data[13]
    size = _V2_FIXED_SIZE + int.from_bytes(data[14:16], "big")
    if command == _LOCAL:  # a connection of the proxy's own; its family has no meaning then
        family = _UNSPEC
    elif command != _PROXY:
        raise ProxyError("another version or command")
    elif family != _UNSPEC and family not in _ADDRESS_SIZES and family not in _DATAGRAMS:
        raise ProxyError("an unknown family of addresses")
    if size > _MAX_SIZE:
        raise ProxyError("a header that is too long")
    if size < _V2_FIXED_SIZE + _addresses_size(family):
        raise ProxyError("a header too short for its addresses")
    if len(data) < size:
        return None
    client, server = _read_v2_addresses(family, data[_V2_FIXED_SIZE:size])
    return ProxyHeader(size, client, server)


def _addresses_size(family: int) -> int:
    """Returns how many bytes the two addresses take, with their ports."""
    return 2 * _ADDRESS_SIZES.get(family, 0) + (4 if family in (_TCP4, _TCP6) else 0)


def _read_v2_addresses(family: int, block: bytes) -> tuple[AnyAddress | None, AnyAddress | None]:
    """Reads the client's and the server's address from the bytes after the fixed fields."""
    if family not in _ADDRESS_SIZES:
        return None, None
    size = _ADDRESS_SIZES[family]
    client, server = block[:size], block[size : 2 * size]
    if family == _UNIX:
        return _read_path(client), _read_path(server)
    ip_version = socket.AF_INET if family == _TCP4 else socket.AF_INET6
    ports = block[2 * size : 2 * size + 4]
    return (
        Address(socket.inet_ntop(ip_version, client), int.from_bytes(ports[:2], "big")),
        Address(socket.inet_ntop(ip_version, server), int.from_bytes(ports[2:], "big")),
    )


def _read_path(padded: bytes) -> UnixAddress:
    """Reads the path of a Unix socket, "" for one without a name. The first byte of an abstract name is NUL."""
    return UnixAddress(os.fsdecode(padded[:1] + padded[1:].partition(b"\0")[0]).removesuffix("\0"))


class ProxyHeaderReader(Timer):
    """A connection whose PROXY header has not arrived yet.

    It comes before the phases of `net.connection`, as a channel of its own: neither the phases nor TLS know of it, and
    a connection has its true addresses from the beginning.

    Attributes:
        client: the address of the proxy, as the socket has it.
        server: our address, as the socket has it.
    """

    __slots__ = ("_on_end", "_on_failure", "_on_header", "_reactor", "_received", "_sock", "client", "server")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        client: AnyAddress,
        server: AnyAddress,
        *,
        timeout: float,
        on_header: Callable[[socket.socket, AnyAddress, AnyAddress], object],
        on_end: Callable[[ProxyHeaderReader], object],
        on_failure: Callable[[ProxyHeaderReader, str], object],
    ) -> None:
        """Starts waiting for the header.

        Args:
            reactor: the loop that watches the socket.
            sock: connected, does not block. The reader owns it until `on_header` is called.
            client: the address of the proxy, used if the header has none.
            server: our address, used if the header has none.
            timeout: seconds within which the header must arrive; then the connection closes.
            on_header: called with the socket, from which the header alone was taken, and both addresses.
            on_end: called at the end, after `on_header` or when the connection was closed without a header.
            on_failure: called before `on_end` if no header came, with the reason; "" if the client left without a byte,
                as a health check does that only opens a port. Not called after `close`.
        """
        super().__init__()
        self._reactor = reactor
        self._sock = sock
        self._received = b""  # of the header
        self._on_header = on_header
        self._on_end = on_end
        self._on_failure = on_failure
        self.client = client
        self.server = server
        reactor.watch(sock.fileno(), self, NOTHING, READ)
        reactor.wheel.schedule(self, reactor.read_clock() + timeout)

    def ready(self, events: int) -> None:
        try:
            header = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProxyError) as error:
            reason = error.strerror or "reset" if isinstance(error, OSError) else str(error)
            self._fail(reason if self._received or isinstance(error, ProxyError) else "")
            return
        if header is not None:
            self._stop_watching()
            client = self.client if header.client is None else header.client
            server = self.server if header.server is None else header.server
            try:
                self._on_header(self._sock, client, server)
            except OSError:  # the client is gone
                self._sock.close()
            self._on_end(self)

    def _receive(self) -> ProxyHeader | None:
        """Takes bytes of the header from the socket, and none of what follows it: so it peeks first."""
        peeked = self._sock.recv(_MAX_SIZE, socket.MSG_PEEK)
        if not peeked:
            raise ProxyError("the connection ended within the header") if self._received else ConnectionResetError
        header = read_proxy_header(self._received + peeked)
        taken = len(peeked) if header is None else header.size - len(self._received)
        self._received += self._sock.recv(taken)
        return header

    def expired(self, now: float) -> None:
        self.ready(READ)  # a last look: it may have arrived while this process was stopped
        if self.deadline < math.inf:
            self._fail("the header did not arrive in time")

    def _fail(self, reason: str) -> None:
        """Closes without a response: without a header we do not know whether the client speaks TLS or HTTP."""
        self._on_failure(self, reason)
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._stop_watching()
        self._sock.close()
        self._on_end(self)

    def _stop_watching(self) -> None:
        self._reactor.watch(self._sock.fileno(), self, READ, NOTHING)
        self._reactor.wheel.cancel(self)
