"""Listener: takes connections from a listening socket, and stops taking them when there is no room.

Knows addresses, backlogs and descriptors. Does not know what a connection is for.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from typing import Protocol

from ..http.messages import Address
from .poller import NOTHING, READ
from .reactor import Reactor
from .timerwheel import Timer

__all__ = ["Listener", "address_of", "open_listener"]

log = logging.getLogger("kaserve")

Accept = Callable[[socket.socket, Address, Address], object]

_MAX_PER_TURN = 128  # connections taken before the ones that are open get their turn
_MAX_IN_BACKLOG = 65536
_PAUSE = 0.25  # seconds without accepting when there is no room for another connection, unless one ends earlier

# No room for another descriptor or buffer: accept() would fail again at once, for as long as the listener is readable.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ConnectionQuota(Protocol):
    """Whoever knows how many connections there may be; see `net.room`."""

    def left(self) -> int:
        """How many connections may still be taken."""

    def make(self) -> bool:
        """Has somebody leave, soon or at once; whether anybody does."""

    def free_descriptor(self) -> bool:
        """The system has none: whether there is one now."""


class Listener(Timer):
    """One listening socket. `room` says how many connections may still be taken; `accept` gets each of them."""

    __slots__ = ("_accept", "_interest", "_reactor", "_room", "_sock", "address")

    def __init__(self, reactor: Reactor, sock: socket.socket, accept: Accept, room: ConnectionQuota) -> None:
        """Takes over `sock`, which listens and does not block."""
        super().__init__()
        self._reactor = reactor
        self._sock = sock
        self._accept = accept
        self._room = room
        self._interest = NOTHING
        self.address = address_of(sock)
        self.resume()

    def ready(self, events: int) -> None:
        if self._room.left() <= 0:
            self._room.make()
        self._accept_some(min(_MAX_PER_TURN, self._room.left()))
        if self._room.left() <= 0:
            self._rest()

    def _accept_some(self, most: int) -> None:
        """Takes the connections that wait, at most `most` of them."""
        for _ in range(most):
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    if self._room.free_descriptor():
                        continue
                    self._rest()
                    log.warning("no connection can be taken: %s", os.strerror(error.errno))
                    return
                continue  # ECONNABORTED and the like: that client is gone, the next may be there
            try:
                self._take(sock, peer)
            except OSError:  # gone while it waited, which is no reason to stop
                sock.close()

    def _take(self, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            self._accept(sock, self.address, self.address)
            return
        # Without this the kernel holds back a small segment until the one before is acknowledged, and the client
        # delays that acknowledgement: 40 ms for nothing, request after request.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert isinstance(peer, tuple)
        self._accept(sock, (peer[0], peer[1]), self.address)

    def expired(self, now: float) -> None:
        self.resume()

    def _rest(self) -> None:
        """Leaves clients in the backlog until somebody is gone, or may be made to go."""
        self.pause()
        self._reactor.wheel.schedule(self, self._reactor.now + _PAUSE)

    def pause(self) -> None:
        """Leaves clients in the backlog for now."""
        self._watch(NOTHING)

    def resume(self) -> None:
        """Goes on, unless it was closed."""
        self._watch(READ)

    def _watch(self, events: int) -> None:
        fd = self._sock.fileno()
        if fd >= 0:
            self._reactor.watch(fd, self, self._interest, events)
            self._interest = events

    def close(self) -> None:
        """Takes what is in the backlog, since closing resets it, and no more. A Unix socket's path goes too, unless
        somebody else listens there: a successor, or a manager that lent us the socket. May be called twice."""
        if self._sock.fileno() < 0:
            return
        self._accept_some(_MAX_IN_BACKLOG)
        self.pause()
        self._reactor.wheel.cancel(self)
        self._sock.close()
        if isinstance(self.address, str) and _is_abandoned(self.address):
            try:
                os.unlink(self.address)
            except OSError:  # the directory is not ours any more
                pass


def address_of(sock: socket.socket) -> Address:
    """(host, port), or the path of a Unix socket, that `sock` is bound to."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return name[0], name[1]
    return os.fsdecode(name)


def open_listener(bind: str, port: int, *, backlog: int, reuse_port: bool = False) -> socket.socket:
    """A socket that listens, does not block, and is not inherited.

    bind: HOST, HOST:PORT, [V6]:PORT, `unix:PATH` or `fd:N`; `port` stands in where there is none, 0 is any free one.
    An empty host is every address of the machine. Raises OSError when that fails, ValueError for another form.
    """
    if bind.startswith("unix:"):
        sock = _open_unix(bind.removeprefix("unix:"))
    elif bind.startswith("fd:"):
        sock = socket.socket(fileno=_number(bind.removeprefix("fd:"), "descriptor", 2**31 - 1))
    else:
        sock = _open_tcp(*split_host_port(bind, port), reuse_port=reuse_port)
    try:
        sock.listen(backlog)
        sock.setblocking(False)
        sock.set_inheritable(False)
    except BaseException:
        sock.close()
        raise
    return sock


def split_host_port(bind: str, port: int) -> tuple[str, int]:
    """The host and port of HOST, HOST:PORT, V6, [V6] or [V6]:PORT. Raises ValueError for other forms."""
    host, colon, digits = bind.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # no port: a name, or a V6 address without brackets
        host, digits = bind, ""
    if len(host) > 2 and host[0] == "[" and host[-1] == "]":
        host = host[1:-1]
    if "[" in host or "]" in host:
        raise ValueError(f"not a host: {host!r}")
    return host, _number(digits, "port", 65535) if digits else port


def _number(digits: str, what: str, most: int) -> int:
    """Python's int() alone takes more than anybody means: signs, underscores, the digits of other scripts."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= most):
        raise ValueError(f"not a {what}: {digits!r}")
    return int(digits)


def _open_tcp(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((str(address[0]), port), family=socket.AddressFamily(family), reuse_port=reuse_port)
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, reuse_port=reuse_port, dualstack_ipv6=dual)


def _open_unix(path: str) -> socket.socket:
    """A socket that a crashed server left behind is replaced; one that a living server listens on is not, nor is
    anything that is not a socket."""
    if not path:  # which would be a name that the kernel makes up
        raise ValueError("a Unix socket needs a path")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    """Whether a Unix socket is there on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):  # a connection to any other file would be refused as well
            return False
    except (OSError, ValueError):  # there is none, or it is an abstract name
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
