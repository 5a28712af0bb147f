"""Clients that send at a precise moment after the last response: around the end of a connection's idle time.

On a busy machine a process that sleeps is woken late, and one with many requests due at once is late with most of them.
So the connections start one after another and stay spread out, each request is prepared, the garbage collector is off,
and the last millisecond before a request is a busy loop. Requests that are sent late in spite of that are counted
separately, and more are sent until enough were in time. The scenario knows the moment and the expected outcome.
"""

from __future__ import annotations

import gc
import heapq
import math
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Tally", "TimedClients"]

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BUSY_SECONDS = 0.001
"""Before a request, the client does not sleep: waking up takes that long, and epoll counts in milliseconds."""
PATIENCE = 20.0
"""Seconds after which a response is lost."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples, modulo 1, are evenly spread for any number of them."""


@dataclass
class Tally:
    """The outcome of requests."""

    answered: int = 0
    unsent: int = 0  # the client saw the close first
    lost: int = 0

    @property
    def total(self) -> int:
        return self.answered + self.unsent + self.lost


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    moment: float = 0.0  # around which it sends its next request
    tally: Tally | None = None  # of the request that is on its way; None for the first, which is no sample


@dataclass
class TimedClients:
    """Connections that send a request, wait until some seconds after the response, send the next one, and so on.

    Attributes:
        address: Of the server.
        after: Seconds from the response to the next request.
        spread: The least and the most seconds to add to that; the connections are spread evenly between them.
        tolerance: How many seconds before or after the moment a request is `in_time`.
        looks_first: They look whether the server has closed, and do not send then.
        in_time: What became of requests that were sent in time.
        late: What became of the others.
    """

    address: tuple[str, int]
    after: float
    spread: tuple[float, float]
    tolerance: float = math.inf
    looks_first: bool = True
    in_time: Tally = field(default_factory=Tally)
    late: Tally = field(default_factory=Tally)

    def run(self, connections: int, enough: int, seconds: float) -> None:
        """Runs until `enough` requests were in time or `seconds` are over, then waits for the remaining responses."""
        self._epoll = select.epoll()
        self._awaiting: dict[int, _Connection] = {}
        self._due: list[tuple[float, int, _Connection | None]] = []  # None: to be opened
        self._count = 0
        start = time.monotonic()
        for number in range(connections):
            self._schedule(start + self.after * number / connections, None)
        with self._epoll, _no_garbage():
            while self.in_time.total < enough and time.monotonic() < start + seconds:
                while self._next() <= time.monotonic():
                    self._turn(heapq.heappop(self._due)[2])
                self._read(min(self._next(), start + seconds) - BUSY_SECONDS - time.monotonic())
            end = time.monotonic() + PATIENCE
            while self._awaiting and time.monotonic() < end:
                self._read(end - time.monotonic())
        for connection in self._awaiting.values():
            self._end(connection, lost=True)
        for _, _, waiting in self._due:
            if waiting is not None:
                waiting.sock.close()

    def _next(self) -> float:
        """When the next request is due; never while all connections wait for responses."""
        return self._due[0][0] if self._due else math.inf

    def _schedule(self, moment: float, connection: _Connection | None) -> None:
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, connection))

    def _turn(self, connection: _Connection | None) -> None:
        """Opens a connection and sends its first request, or sends the next one of `connection`."""
        if connection is None:
            sock = socket.create_connection(self.address, timeout=PATIENCE)
            sock.sendall(GET)
            sock.setblocking(False)
            self._awaiting[sock.fileno()] = _Connection(sock)
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLONESHOT)
            return
        began = time.monotonic()
        closed = self.looks_first and _is_closed(connection.sock)
        if not closed:
            try:
                connection.sock.send(GET)
            except ConnectionError:  # reset; recv() raises the same
                pass
        ended = time.monotonic()  # it was sent in between
        in_time = began >= connection.moment - self.tolerance and ended <= connection.moment + self.tolerance
        connection.tally = self.in_time if in_time else self.late
        if closed:
            connection.tally.unsent += 1
            self._end(connection)
            return
        self._awaiting[connection.sock.fileno()] = connection
        self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLONESHOT)

    def _read(self, timeout: float) -> None:
        """Reads the responses that have arrived or arrive within `timeout` seconds, rounded down to a millisecond."""
        for fd, _ in self._epoll.poll(max(0, math.floor(timeout * 1000)) / 1000):
            connection = self._awaiting.pop(fd)
            try:
                response = connection.sock.recv(65536)
            except ConnectionError:
                response = b""
            now = time.monotonic()
            assert not response or response.startswith(b"HTTP/1.1 200 "), response
            assert response or connection.tally is not None, "the first request of a connection was lost"
            if response and connection.tally is not None:
                connection.tally.answered += 1
            if not response or b"\r\nConnection: close\r\n" in response:
                self._end(connection, lost=not response)
                continue
            connection.moment = now + self.after
            low, high = self.spread
            self._schedule(connection.moment + low + (high - low) * (self._count * GOLDEN % 1), connection)

    def _end(self, connection: _Connection, lost: bool = False) -> None:
        """Closes the connection and opens another one in its place."""
        if lost and connection.tally is not None:
            connection.tally.lost += 1
        connection.sock.close()
        self._schedule(time.monotonic(), None)


def _is_closed(sock: socket.socket) -> bool:
    """Whether the client can see that the server has closed."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@contextmanager
def _no_garbage() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
