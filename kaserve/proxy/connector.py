"""Connector: finds the addresses of an upstream, and begins connections to them.

Knows sockets that are not connected yet, and names. Does not know what is sent. A test replaces it.

A name is resolved in a thread, since the system's resolver blocks, and the result is used for a while. Addresses, and
paths of Unix sockets, need no thread.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, NamedTuple, Protocol

from ..net.reactor import Reactor
from .location import UpstreamURL

__all__ = ["Address", "Connector", "SystemConnector"]

_KEPT = 30.0  # seconds for which the addresses of a name are used again


class Address(NamedTuple):
    """Where to connect to.

    Attributes:
        family: AF_INET, AF_INET6 or AF_UNIX.
        location: what `socket.connect` takes.
    """

    family: int
    location: object


Resolved = Callable[["list[Address] | OSError"], object]


class Connector(Protocol):
    """What an upstream connection needs of the system."""

    def resolve(self, url: UpstreamURL, reactor: Reactor, then: Resolved) -> None:
        """Calls `then` with the addresses of `url`, at least one, or with the error; in the thread of the reactor, now
        or later."""

    def connect(self, address: Address) -> socket.socket:
        """Returns a socket that does not block, and is being connected. Raises OSError if that fails at once."""

    def error_of(self, sock: Any) -> int:
        """Returns why `sock`, which is ready for writing, could not be connected, as an errno; 0 if it is connected."""


class SystemConnector:
    """The connector of the system."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._waiting: dict[tuple[str, int], list[Resolved]] = {}

    def resolve(self, url: UpstreamURL, reactor: Reactor, then: Resolved) -> None:
        if url.path_of_socket is not None:
            then([Address(socket.AF_UNIX, url.path_of_socket)])
            return
        key = url.host, url.port
        literal = _literal(*key)
        if literal is not None:
            then(literal)
            return
        expires, addresses = self._known.get(key, (0.0, []))
        if reactor.now < expires:
            then(addresses)
            return
        waiting = self._waiting.setdefault(key, [])
        waiting.append(then)
        if len(waiting) == 1:
            Thread(target=self._look_up, args=(key, reactor), name=f"kaserve resolves {url.host}", daemon=True).start()

    def _look_up(self, key: tuple[str, int], reactor: Reactor) -> None:
        """In a thread of its own."""
        found: list[Address] | OSError
        try:
            infos = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)
            found = [Address(family, location) for family, _, _, _, location in infos]
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError(errno.EINVAL, "the name is malformed")
        reactor.call(partial(self._looked_up, key, reactor, found))

    def _looked_up(self, key: tuple[str, int], reactor: Reactor, found: list[Address] | OSError) -> None:
        if not isinstance(found, OSError):
            self._known[key] = reactor.now + _KEPT, found
        for then in self._waiting.pop(key, []):
            then(found)

    def connect(self, address: Address) -> socket.socket:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if address.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = sock.connect_ex(address.location)  # type: ignore[arg-type]  # it depends on the family
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
        except BaseException:
            sock.close()
            raise
        return sock

    def error_of(self, sock: Any) -> int:
        number: int = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return number


def _literal(host: str, port: int) -> list[Address] | None:
    """Returns the address that `host` is; None if it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [Address(family, (host, port))]
    return None
