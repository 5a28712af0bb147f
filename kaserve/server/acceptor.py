"""Acceptor: from listening sockets to the connections of a service.

Knows the steps of a new connection: it is accepted, its PROXY header is read if there must be one, TLS is put in front,
and the connection limit is applied. Does not know HTTP, nor when a server starts and stops.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable, Iterable
from typing import Any

from ..http.address import AnyAddress
from ..net.connection import Connection
from ..net.limiter import ConnectionLimiter
from ..net.listener import Listener
from ..net.proxy_protocol import ProxyHeaderReader
from ..net.service import Service
from ..net.sockets import accept, accept_plain, adopt
from ..net.tls import TLS
from ..telemetry.endings import Ending

__all__ = ["Acceptor"]

log = logging.getLogger("kaserve")

_LOG_INTERVAL = 60.0  # seconds between two lines about missing PROXY headers; any client can cause as many as it likes


class Acceptor:
    """Accepts the connections of one server. Its methods are called in the reactor's thread, or while that is stopped.

    Attributes:
        addresses: what it listens on, or listened on until `stop`, in the order of `listen`.
    """

    def __init__(
        self,
        service: Service,
        *,
        tls: TLS | None,
        max_connections: int,
        max_connections_per_address: int,
        proxy_header_timeout: float | None,
        on_end: Callable[[], object],
    ) -> None:
        """Prepares for `listen`.

        Args:
            service: the service whose connections these become.
            tls: encrypts connections; None for plain HTTP.
            max_connections: connections open at once.
            max_connections_per_address: connections open at once from one client address; 0 for no limit.
            proxy_header_timeout: seconds for the PROXY header that each connection must begin with; None if connections
                begin with a request.
            on_end: called after a connection has ended, even if it ended before its PROXY header arrived.
        """
        self.addresses: list[AnyAddress] = []
        self._service = service
        self._tls = tls
        self._proxy_header_timeout = proxy_header_timeout
        self._on_end = on_end
        self._listeners: list[Listener] = []
        self._proxy_readers: set[ProxyHeaderReader] = set()  # connections whose PROXY header has not arrived yet
        self._limiter = ConnectionLimiter(service, max_connections, max_connections_per_address, self._proxy_readers)
        self._is_draining = False
        self._is_paused = False
        self._next_log = -math.inf  # reactor time
        self._unlogged = 0  # missing PROXY headers since the last line about one
        service.on_close = self._connection_closed

    @property
    def open_connections(self) -> int:
        """The number of open connections, including idle ones and those whose PROXY header has not arrived."""
        return len(self._service.connections) + len(self._proxy_readers)

    def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Accepts connections from `sockets`, which listen and do not block. `stop` closes them."""
        reactor = self._service.reactor
        take = accept_plain if self._tls is None and self._proxy_header_timeout is None else accept
        listeners = [Listener(reactor, sock, self._accept, self._limiter, take) for sock in sockets]
        self._listeners += listeners
        self.addresses += [listener.address for listener in listeners]

    def pause(self) -> None:
        """Leaves clients in the backlogs until `resume`. If `stop` comes first, they are not accepted at all."""
        self._is_paused = True
        for listener in self._listeners:
            listener.pause()

    def resume(self) -> None:
        """Accepts the clients that wait, and those that come."""
        self._is_paused = False
        for listener in self._listeners:
            listener.resume()

    def stop(self) -> None:
        """Closes the listening sockets, after accepting what waits in their backlogs."""
        for listener in self._listeners:
            listener.close(accept=not self._is_paused)

    def limit_proxy_headers(self, seconds: float) -> None:
        """Gives the PROXY headers that have not arrived yet no more than `seconds` to do so."""
        self._is_draining = True
        reactor = self._service.reactor
        for reader in self._proxy_readers:
            reactor.wheel.schedule(reader, min(reader.deadline, reactor.now + seconds))

    def abort(self) -> None:
        """Resets all connections."""
        for reader in list(self._proxy_readers):
            reader.close()
        for connection in list(self._service.connections):
            connection.abort()

    def close(self) -> None:
        """Stops, resets all connections, and releases the rest."""
        self.stop()
        self.abort()
        self._limiter.close()

    # The steps of a connection.

    def _accept(self, sock: Any, client: AnyAddress, server: AnyAddress) -> None:
        """A listener has accepted a connection. Its socket is a `socket.socket` if more than a PlainSocket is needed
        (`listen`)."""
        if self._proxy_header_timeout is None:
            self._connect(sock, client, server)
            return
        self._proxy_readers.add(
            ProxyHeaderReader(
                self._service.reactor,
                sock,
                client,
                server,
                timeout=self._proxy_header_timeout,
                on_header=self._connect,
                on_end=self._proxy_reader_ended,
                on_failure=self._proxy_header_missing,
            )
        )

    def _connect(self, sock: Any, client: AnyAddress, server: AnyAddress) -> None:
        """The addresses of a connection are known. It enters the service."""
        channel = adopt(sock) if self._tls is None else self._tls.wrap(sock)
        self._limiter.enter(Connection(self._service, channel, client, server))

    def _proxy_header_missing(self, reader: ProxyHeaderReader, reason: str) -> None:
        """Counts a connection that never became one of the service, and logs it unless nobody waits for it."""
        if self._is_draining:
            ending = Ending.DRAIN
        else:
            ending = Ending.PROXY_HEADER if reason else Ending.CLIENT
        stats = self._service.stats
        stats.accepted += 1
        stats.connection_ended(ending, reader.client.label, 0, 0.0, by_client=not reason, race_lost=False)
        if ending is Ending.PROXY_HEADER:
            self._log_missing_header(reader.client, reason)

    def _log_missing_header(self, client: AnyAddress, reason: str) -> None:
        now = self._service.reactor.now
        if now < self._next_log:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line like this" if self._unlogged else ""
        log.warning("a connection from %s did not begin with a PROXY header (%s)%s", client.label, reason, more)
        self._next_log = now + _LOG_INTERVAL
        self._unlogged = 0

    def _proxy_reader_ended(self, reader: ProxyHeaderReader) -> None:
        self._proxy_readers.discard(reader)
        self._connection_ended()

    def _connection_closed(self, connection: Connection) -> None:
        self._limiter.leave(connection)
        self._connection_ended()

    def _connection_ended(self) -> None:
        """Informs the owner, and resumes listeners that paused because the server was full; closed ones stay closed."""
        self._on_end()
        if not self._is_paused:
            self.resume()
