"""Clients that send at the worst moment, and are not late for it.

On a busy machine whoever sleeps is woken late, and whoever has many things due at once is late with most of them. So
the connections begin one after the other and stay spread, what is sent is ready, the garbage collector rests, and the
last millisecond before a request is not slept. What left late all the same is counted apart, and more is sent until
enough was not. What the moment is, and what the outcome should be, `faults.py` knows.
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

__all__ = ["Clients", "Tally"]

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
AWAKE = 0.001
"""Seconds before a request in which nobody sleeps: to be woken takes that long, and epoll counts in them."""
PATIENCE = 20.0
"""Seconds after which an answer does not come any more."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, are as evenly spread as can be, however many there are."""


@dataclass
class Tally:
    """What became of requests."""

    answered: int = 0
    refused: int = 0  # the client saw the close before it sent
    lost: int = 0

    @property
    def total(self) -> int:
        return self.answered + self.refused + self.lost


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    moment: float = 0.0  # around which it sends its next request
    tally: Tally | None = None  # of the request that is on its way; None for the first, which is no sample


@dataclass
class Clients:
    """Connections to the server at `address` that ask, wait until `after` seconds from the answer, more or less by
    `spread`, and ask again, and so on.

    tolerance: how many seconds before or after the moment is `in_time`. watchful: they look first whether the server
    has closed, and then do not send.
    """

    address: tuple[str, int]
    after: float
    spread: tuple[float, float]
    tolerance: float = math.inf
    watchful: bool = True
    in_time: Tally = field(default_factory=Tally)
    late: Tally = field(default_factory=Tally)

    def run(self, connections: int, enough: int, seconds: float) -> None:
        """Until `enough` were in time, or `seconds` are over; then until all that was sent is answered or lost."""
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
                self._read(min(self._next(), start + seconds) - AWAKE - time.monotonic())
            end = time.monotonic() + PATIENCE
            while self._awaiting and time.monotonic() < end:
                self._read(end - time.monotonic())
        for connection in self._awaiting.values():
            self._end(connection, lost=True)
        for _, _, waiting in self._due:
            if waiting is not None:
                waiting.sock.close()

    def _next(self) -> float:
        """When somebody has to do something, which is never while all wait for answers."""
        return self._due[0][0] if self._due else math.inf

    def _schedule(self, moment: float, connection: _Connection | None) -> None:
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, connection))

    def _turn(self, connection: _Connection | None) -> None:
        """It is time: for the first request of a new connection, or for the next one."""
        if connection is None:
            sock = socket.create_connection(self.address, timeout=PATIENCE)
            sock.sendall(GET)
            sock.setblocking(False)
            self._awaiting[sock.fileno()] = _Connection(sock)
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLONESHOT)
            return
        began = time.monotonic()
        refused = self.watchful and _is_closed(connection.sock)
        if not refused:
            try:
                connection.sock.send(GET)
            except ConnectionError:  # reset; to read will tell so once more
                pass
        ended = time.monotonic()  # it left in between
        in_time = began >= connection.moment - self.tolerance and ended <= connection.moment + self.tolerance
        connection.tally = self.in_time if in_time else self.late
        if refused:
            connection.tally.refused += 1
            self._end(connection)
            return
        self._awaiting[connection.sock.fileno()] = connection
        self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLONESHOT)

    def _read(self, timeout: float) -> None:
        """The answers that have come, or come within `timeout` seconds, to the millisecond below."""
        for fd, _ in self._epoll.poll(max(0, math.floor(timeout * 1000)) / 1000):
            connection = self._awaiting.pop(fd)
            try:
                answer = connection.sock.recv(65536)
            except ConnectionError:
                answer = b""
            now = time.monotonic()
            assert not answer or answer.startswith(b"HTTP/1.1 200 "), answer
            assert answer or connection.tally is not None, "the first request of a connection was lost"
            if answer and connection.tally is not None:
                connection.tally.answered += 1
            if not answer or b"\r\nConnection: close\r\n" in answer:
                self._end(connection, lost=not answer)
                continue
            connection.moment = now + self.after
            low, high = self.spread
            self._schedule(connection.moment + low + (high - low) * (self._count * GOLDEN % 1), connection)

    def _end(self, connection: _Connection, lost: bool = False) -> None:
        """Another one takes its place."""
        if lost and connection.tally is not None:
            connection.tally.lost += 1
        connection.sock.close()
        self._schedule(time.monotonic(), None)


def _is_closed(sock: socket.socket) -> bool:
    """As far as the client can know."""
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
