"""OwnRequests: keeps the requests for the live page out of the figures that the page shows.

A page that asks for an event every second would otherwise be the busiest client of a quiet server, and its stream the
slowest response of all. Nothing is checked for other requests: the page itself says which request is its own, after the
handler in front of it has compared the path anyway.

Knows connections and their exchanges. Does not know the page.
"""

from __future__ import annotations

from ..http.messages import Request
from ..telemetry.counters import Stats
from .exchange import Exchange
from .service import Service

__all__ = ["OwnRequests"]


class OwnRequests:
    """What the server's own page has cost so far.

    What happens after `set_aside` (the response, its status and its duration) is counted in `stats` instead of the
    server's counters. What the server had counted before, when it had read the request, cannot be taken back: counters
    of a metric never go down. It is counted a second time in `stats`, so that it can be subtracted for the page.

    Attributes:
        stats: the counters of these requests.
    """

    def __init__(self) -> None:
        """Counts nothing before `attach`."""
        self.stats = Stats()
        self._live: dict[int, Exchange] = {}  # by connection

    def attach(self, service: Service) -> None:
        """Begins to count; `service` has the connections."""
        self._service = service
        self._log = service.access_log
        # Has what an exchange needs, with other counters. Its access log is this object, which passes each on.
        self._uncounted = Service(service.reactor, service.handler)
        self._uncounted.access_log = self  # type: ignore[assignment]  # has the one method that is called
        self._uncounted.timed = service.timed
        self._uncounted.stats = self.stats

    def set_aside(self, request: Request) -> None:
        """Counts `request`, which a handler is responding to, as the server's own. Ignored if no connection has it."""
        for connection in self._service.connections:
            exchange: Exchange | None = connection.set_aside(request, self._uncounted)
            if exchange is not None:
                self._live[exchange.connection_number] = exchange
                self.stats.received += _size(request)
                return

    def add_sent(self, size: int) -> None:
        """Counts a piece of `size` bytes of a body in chunks."""
        self.stats.sent += size + len(f"{size:x}\r\n\r\n")

    @property
    def sent(self) -> int:
        """Bytes sent in response to these requests."""
        begun = [exchange for exchange in self._live.values() if exchange.response is not None]
        return self.stats.sent + sum(len(exchange.head) for exchange in begun)

    @property
    def live(self) -> int:
        """The number of connections that are responding to such a request now."""
        return len(self._live)

    def is_own(self, connection: object) -> bool:
        """Whether `connection` is responding to such a request now."""
        return getattr(connection, "number", 0) in self._live

    def log(self, exchange: Exchange) -> None:
        """Counts the bytes of an exchange that has ended, and passes it on to the access log."""
        if self._live.pop(exchange.connection_number, None) is not None:
            # The content stands in the head if it is short, and that of a stream has been counted by `add_sent`.
            is_apart = exchange.framing >= 0 and not exchange.is_inline
            self.stats.sent += len(exchange.head) + (exchange.bytes_sent if is_apart else 0)
        if self._log is not None:
            self._log.log(exchange)


def _size(request: Request) -> int:
    """The bytes of the head of `request`, as far as they can still be told."""
    line = len(f"{request.method} {request.raw_path} HTTP/1.1\r\n") + (
        len(request.query_string) + 1 if request.query_string else 0
    )
    return line + sum(len(name) + len(value) + 4 for name, value in request.fields) + 2
