"""Listener: accepts connections from a listening socket, and stops accepting while the limit is reached.

Knows addresses, backlogs and descriptors. Does not know what a connection is for.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..http.address import Address, AnyAddress, UnixAddress
from .poller import NOTHING, READ
from .reactor import Reactor
from .sockets import PlainSocket, accept
from .timerwheel import Timer

__all__ = ["ConnectionQuota", "Listener", "address_of", "open_listeners", "split_host_port"]

log = logging.getLogger("kaserve")

# Gets each accepted socket, with the addresses of the client and of the server.
AcceptCallback = Callable[[Any, AnyAddress, AnyAddress], object]
Accept = Callable[[socket.socket], tuple[PlainSocket, object] | None]

# Where it is known that an accepted socket has the options of the listening one.
_INHERITS_OPTIONS = sys.platform == "linux"

_MAX_PER_TURN = 128  # connections accepted in one turn, so that the open ones are served in between
_MAX_IN_BACKLOG = 65536
_PAUSE = 0.25  # seconds without accepting at the limit, unless a connection ends earlier

_ON = struct.pack("i", 1)

# The system has no descriptor or no buffer left. accept() would fail again at once, and since the client stays in the
# backlog, the listening socket stays readable: without a pause the loop would spin.
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# There is no such address on this machine, or no such family.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
_MAX_PORT_TRIES = 20  # to find a port that is free at each address of a name


class ConnectionQuota(Protocol):
    """What a listener asks about the limit of connections; see `net.limiter`."""

    def available(self) -> int:
        """Returns how many more connections may be accepted. Zero or less at the limit."""

    def evict_one(self) -> bool:
        """Evicts one idle connection, which may take a moment to close. Returns True if one was found."""

    def free_descriptor(self) -> bool:
        """Called when the system has no descriptor left. Returns True if one was freed."""


class Listener(Timer):
    """Accepts connections from one listening socket. It is a timer to end its pauses.

    Attributes:
        address: what the socket is bound to.
    """

    __slots__ = ("_accept", "_interest", "_is_unix", "_on_accept", "_quota", "_reactor", "_sock", "address")

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        on_accept: AcceptCallback,
        quota: ConnectionQuota,
        accept: Accept = accept,
    ) -> None:
        """Starts accepting.

        Args:
            reactor: the loop that watches the socket.
            sock: listens and does not block. The listener owns it from now on.
            on_accept: called with each accepted socket, which does not block, and the client's and the server's
                address.
            quota: says how many connections may still be accepted.
            accept: `sockets.accept`, or `sockets.accept_plain` if `on_accept` wants no more than a PlainSocket.
        """
        super().__init__()
        self._reactor = reactor
        self._sock = sock
        self._on_accept = on_accept
        self._quota = quota
        self._accept = accept
        self._is_unix = sock.family == getattr(socket, "AF_UNIX", None)
        if not self._is_unix:
            _disable_nagle(sock)
        self._interest = NOTHING
        self.address = address_of(sock)
        self.resume()

    def ready(self, events: int) -> None:
        if self._quota.available() <= 0:
            self._quota.evict_one()
        self._accept_some(min(_MAX_PER_TURN, self._quota.available()))
        if self._quota.available() <= 0:
            self._pause_briefly()

    def _accept_some(self, limit: int) -> None:
        """Accepts the connections that wait in the backlog, at most `limit` of them."""
        for _ in range(limit):
            try:
                accepted = self._accept(self._sock)
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    if self._quota.free_descriptor():
                        continue
                    self._pause_briefly()
                    log.warning("cannot accept connections: %s", os.strerror(error.errno))
                    return
                continue  # ECONNABORTED and the like: this client is gone, but the next one may be waiting
            if accepted is None:
                return
            sock, peer = accepted
            try:
                self._hand_over(sock, peer)
            except OSError:  # the client is gone; its reset shows in the first system call on the socket
                sock.close()

    def _hand_over(self, sock: PlainSocket, peer: object) -> None:
        """Passes an accepted socket to `on_accept`, with its addresses."""
        if self._is_unix:
            self._on_accept(sock, self.address, self.address)
            return
        if not _INHERITS_OPTIONS:
            _disable_nagle(sock)
        assert isinstance(peer, tuple)
        self._on_accept(sock, _tcp_address(peer), self.address)

    def expired(self, now: float) -> None:
        self.resume()

    def _pause_briefly(self) -> None:
        """Stops accepting until `resume` is called because a connection ended, or until the pause is over."""
        self.pause()
        self._reactor.wheel.schedule(self, self._reactor.now + _PAUSE)

    def pause(self) -> None:
        """Stops accepting; clients wait in the backlog."""
        self._watch(NOTHING)

    def resume(self) -> None:
        """Accepts again. Does nothing after `close`."""
        self._watch(READ)

    def _watch(self, events: int) -> None:
        fd = self._sock.fileno()
        if fd >= 0:
            self._reactor.watch(fd, self, self._interest, events)
            self._interest = events

    def close(self, *, accept: bool = True) -> None:
        """Accepts all connections of the backlog, since closing would reset them, and closes the socket.

        The path of a Unix socket is removed, unless another socket listens there by now: that of a successor, or of a
        manager that lent us this one. May be called twice.
        """
        if self._sock.fileno() < 0:
            return
        if accept:
            self._accept_some(_MAX_IN_BACKLOG)
        self.pause()
        self._reactor.wheel.cancel(self)
        self._sock.close()
        if isinstance(self.address, UnixAddress) and _is_abandoned(self.address):
            try:
                os.unlink(self.address)
            except OSError:  # the directory may be read-only for us by now
                pass


def _disable_nagle(sock: PlainSocket | socket.socket) -> None:
    """Sets TCP_NODELAY. Without it the kernel holds back a small segment until the one before is acknowledged (Nagle),
    and the client delays that acknowledgement: 40 ms for nothing, request after request."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, _ON)


def address_of(sock: socket.socket) -> AnyAddress:
    """Returns the address that `sock` is bound to, with the zone of a link-local host, and `@name` for an abstract Unix
    socket."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return _tcp_address(name)
    path = os.fsdecode(name)
    return UnixAddress("@" + path[1:] if path.startswith("\0") else path)


def _tcp_address(name: tuple[Any, ...]) -> Address:
    """Returns the address in a sockaddr. The zone of a link-local host is in the scope id alone; raises OSError if its
    network interface has gone."""
    if len(name) == 4 and name[3]:
        return Address(f"{name[0]}%{socket.if_indextoname(name[3])}", name[1])
    return Address(name[0], name[1])


def open_listeners(
    bind: str, port: int, *, backlog: int, reuse_port: bool = False, unix_mode: int = 0o666
) -> list[socket.socket]:
    """Opens the sockets of one address, which listen, do not block, and are not inherited by child processes.

    All forms have one socket, but for a name with several addresses (`localhost` has 127.0.0.1 and ::1).

    Args:
        bind: HOST, HOST:PORT, [V6]:PORT, `unix:PATH`, `unix:@NAME` (abstract, Linux) or `fd:N`. An empty host and `::`
            are every address of the machine, IPv4 and IPv6; `0.0.0.0` is those of IPv4.
        port: used if `bind` has none; 0 for any free port.
        backlog: connections that the kernel keeps until they are accepted.
        reuse_port: whether other processes may listen on the same port (SO_REUSEPORT).
        unix_mode: the permissions of the path of a Unix socket, whatever the umask; connecting takes the right to
            write.

    Raises:
        ValueError: `bind` has another form.
        OSError: the address cannot be used.
    """
    if bind.startswith("unix:"):
        sockets = [_open_unix(bind.removeprefix("unix:"), unix_mode)]
    elif bind.startswith("fd:"):
        sockets = [socket.socket(fileno=_parse_number(bind.removeprefix("fd:"), "descriptor", 2**31 - 1))]
    else:
        sockets = _open_tcp(*split_host_port(bind, port), reuse_port=reuse_port)
    try:
        for sock in sockets:
            sock.listen(backlog)
            sock.setblocking(False)
            sock.set_inheritable(False)
    except BaseException:
        _close_all(sockets)
        raise
    return sockets


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def split_host_port(bind: str, port: int) -> tuple[str, int]:
    """Splits HOST, HOST:PORT, V6, [V6] or [V6]:PORT into host and port.

    Args:
        bind: the text. The brackets of an IPv6 address are not part of the host.
        port: returned if `bind` has none.

    Raises:
        ValueError: `bind` has another form, or its port is not a number up to 65535.
    """
    host, colon, digits = bind.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # no port: a name, or a V6 address without brackets
        host, digits = bind, ""
    if len(host) > 2 and host[0] == "[" and host[-1] == "]":
        host = host[1:-1]
    if "[" in host or "]" in host:
        raise ValueError(f"not a host: {host!r}")
    return host, _parse_number(digits, "port", 65535) if digits else port


def _parse_number(digits: str, what: str, largest: int) -> int:
    """Parses a number from 0 to `largest`. Python's int() alone accepts signs, underscores and digits of other
    scripts."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= largest):
        raise ValueError(f"not a {what}: {digits!r}")
    return int(digits)


def _open_tcp(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Binds a TCP socket to each address of `host`, all with the same port."""
    if not host or _is_every_ipv6(host):
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or host else socket.AF_INET
        return [socket.create_server((host, port), family=family, reuse_port=reuse_port, dualstack_ipv6=dual)]
    addresses: dict[tuple[Any, ...], int] = {}
    for family, _, _, _, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        addresses[found] = family
    for _ in range(_MAX_PORT_TRIES if port == 0 else 1):
        try:
            return _bind_each(addresses, port, reuse_port=reuse_port)
        except OSError as error:
            last = error  # with port 0: the port that was free at one address is in use at another
    raise last


def _is_every_ipv6(host: str) -> bool:
    """Whether `host` is `::`, in any of its spellings, such as `0::0` (RFC 4291 §2.2)."""
    try:
        return ipaddress.IPv6Address(host).is_unspecified
    except ValueError:
        return False


def _bind_each(addresses: dict[tuple[Any, ...], int], port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Binds a socket to each of `addresses`, which are sockaddrs with their families. The sockaddr is used as a whole,
    since that of a link-local address has a scope. An address that this machine does not have (::1 where IPv6 is
    switched off) is left out if there is another one."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for (host, _, *scope), family in addresses.items():
        try:
            sock = socket.create_server(
                (host, port, *scope),
                family=socket.AddressFamily(family),
                reuse_port=reuse_port,
            )
        except OSError as error:
            if error.errno in _NOT_HERE:
                missing = error
                continue
            _close_all(sockets)
            raise
        port = sock.getsockname()[1]
        sockets.append(sock)
    if not sockets and missing is not None:
        raise missing
    return sockets


def _open_unix(path: str, mode: int) -> socket.socket:
    """Binds a Unix socket. Replaces a socket that a crashed server has left, but not one that a running server listens
    on, and nothing that is not a socket."""
    if path in ("", "@"):  # the kernel would make up an abstract name
        raise ValueError("a Unix socket needs a path")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
            return sock
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            sock.bind(path)
        # Before it listens, so that nobody connects in between. Not by the umask, which other threads share.
        os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    """Returns whether `path` is a Unix socket on which no process listens."""
    if path.startswith("@"):  # an abstract name; a path that begins like that can be written as ./@
        return False
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):  # connecting to any other file is refused as well
            return False
    except (OSError, ValueError):  # there is no such file, or it is an abstract name
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is a sign of life, and not worth waiting for
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
