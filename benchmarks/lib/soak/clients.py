"""The clients of soak.py: each kind is a method of `Clients` that uses one connection."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from lib.soak.connection import Connection, Request, Tally, WrongResponse

PATIENCE = 30.0
"""Seconds after which a response or a close is overdue."""
PAUSE_SECONDS = 2.0
"""The longest that a browser is idle: less than the announced idle time."""
MAX_FAULTS = 20
"""After so many, the clients stop."""

Kind = Callable[["Clients", Connection], Awaitable[None]]


class Clients:
    """Clients of all kinds, each of which opens one connection after another.

    Attributes:
        tally: What they have done and seen.
        stopping: They finish what they do and leave.
        may_drain: A server may be draining, so that it closes idle connections sooner than announced.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.tally = Tally()
        self.stopping = False
        self.may_drain = True
        self._port = port
        self._rng = random.Random(seed)
        self._count = 0

    async def loop(self, kind: str, visit: Kind) -> None:
        """One client: visits until it is to stop, and records its faults."""
        while not self.stopping and len(self.tally.faults) < MAX_FAULTS:
            self.tally.visits[kind] += 1
            connection = None
            try:
                async with asyncio.timeout(PATIENCE), self._connected(kind) as connection:
                    await visit(self, connection)
            except (OSError, EOFError, TimeoutError, WrongResponse, ValueError) as error:
                if self.may_drain and connection is not None and connection.crossed and _is_an_end(error):
                    self.tally.crossed += 1
                else:
                    self.tally.faults.append(f"{kind}: {type(error).__name__} {error} {connection or ''}")

    @asynccontextmanager
    async def _connected(self, kind: str) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 18)
        try:
            yield Connection(kind, self.tally, reader, writer)
        finally:
            writer.close()

    async def _pause(self, most: float) -> None:
        await asyncio.sleep(self._rng.random() * most)

    # Requests.

    def _get(self, method: str = "GET", path: str = "/", content: bytes = b"") -> Request:
        self._count += 1
        target = path if path.startswith("/large") else f"{path}?{self._count}"
        wire = f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        return Request(wire, method, f"{method} {target}\n".encode() + content)

    def _large(self, size: int) -> Request:
        return self._get(path=f"/large?{size}", content=bytes(size))

    def _post(self, size: int, *fields: str, path: str = "/") -> tuple[Request, bytes]:
        """A request with Content-Length, and its head."""
        self._count += 1
        body = self._rng.randbytes(size)
        lines = [f"POST {path}?{self._count} HTTP/1.1", "Host: h", f"Content-Length: {size}", *fields, "", ""]
        head = "\r\n".join(lines).encode()
        return Request(head + body, "POST", f"POST {path}?{self._count}\n".encode() + body), head

    def _any(self) -> Request:
        """A random small request."""
        kind = self._rng.randrange(5)
        if kind == 0:
            return self._get("HEAD")
        if kind == 1:
            return self._post(self._rng.randrange(5000), path="/pieces")[0]
        if kind == 2:
            return self._large(self._rng.randrange(100_000))
        return self._get()

    # Kinds of clients.

    async def browse(self, connection: Connection) -> None:
        """One request after another, with pauses shorter than the announced idle time."""
        while not connection.ended and not self.stopping:
            request = self._any()
            await connection.send(request.wire)
            if not await connection.expect(request):
                return
            await self._pause(self._rng.choice((0.0, 0.01, PAUSE_SECONDS)))

    async def pipeline(self, connection: Connection) -> None:
        """Many requests at once. Those after a response with close get no response; a real client would repeat them."""
        for _ in range(5):
            if connection.ended:
                return
            requests = [self._any() for _ in range(self._rng.randrange(2, 40))]
            sending = asyncio.ensure_future(connection.send(b"".join(request.wire for request in requests)))
            try:
                for request in requests:
                    if not await connection.expect(request):
                        return
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def upload(self, connection: Connection) -> None:
        expectation = ["Expect: 100-continue"] * (self._rng.random() < 0.3)
        request, head = self._post(self._rng.randrange(2_000_000), *expectation)
        await connection.send(head)
        for start in range(len(head), len(request.wire), 50_000):
            await connection.send(request.wire[start : start + 50_000])
            if self._rng.random() < 0.1:
                await self._pause(0.2)
        await connection.expect(request)

    async def upload_in_chunks(self, connection: Connection) -> None:
        body = self._rng.randbytes(self._rng.randrange(500_000))
        await connection.send(b"POST /pieces HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        start = 0
        while start < len(body):
            piece = body[start : start + self._rng.randrange(1, 20_000)]
            await connection.send(b"%x;n=%d\r\n%b\r\n" % (len(piece), start, piece))
            start += len(piece)
        await connection.send(b"0\r\nX: trailer\r\n\r\n")
        await connection.expect(Request(b"chunks", "POST", b"POST /pieces\n" + body))

    async def send_slowly(self, connection: Connection) -> None:
        """A head in pieces of 4 bytes, within the deadline."""
        request = self._get()
        for start in range(0, len(request.wire), 4):
            await connection.send(request.wire[start : start + 4])
            await asyncio.sleep(0.1)
        await connection.expect(request)

    async def read_slowly(self, connection: Connection) -> None:
        request = self._large(self._rng.randrange(5_000_000))
        await connection.send(request.wire)
        response = await connection.response("HEAD")
        content = b""
        while len(content) < len(request.content):
            data = await connection.some(100_000)
            if not data:
                raise WrongResponse("the response ended too early")
            content += data
            await self._pause(0.05)
        if response.status != 200 or content != request.content:
            raise WrongResponse("a large response with wrong content")
        self.tally.received["read_slowly"] += len(content)

    async def vanish(self, connection: Connection) -> None:
        """Closes or resets in the middle of a head, a body, a response or a pipeline."""
        choices = [self._post(200_000)[0].wire, self._large(3_000_000).wire, self._get().wire * 50, self._get().wire]
        wire = self._rng.choice(choices)
        await connection.send(wire[: self._rng.randrange(len(wire) + 1)])
        await self._pause(self._rng.choice((0.0, 0.05)))
        if self._rng.random() < 0.5:
            connection.reset()

    async def say_nothing(self, connection: Connection) -> None:
        """Sends nothing, or an incomplete request, which must get a 408."""
        part = self._rng.choice((b"", b"GET / HT", self._post(1000)[0].wire[:-10]))
        await connection.send(part)
        said = await connection.end()
        if part:
            _check_status(said, 408)
        elif said:
            raise WrongResponse(f"{said[:60]!r} without a request")

    async def talk_nonsense(self, connection: Connection) -> None:
        await connection.send(b"\x16\x03\x01" + self._rng.randbytes(200))
        _check_status(await connection.end(), 400)


def _check_status(said: bytes, status: int) -> None:
    """Raises EOFError without a response, and WrongResponse for one with another status."""
    if not said:
        raise EOFError
    if not said.startswith(b"HTTP/1.1 %d " % status):
        raise WrongResponse(f"{said[:60]!r} instead of {status}")


def _is_an_end(error: Exception) -> bool:
    """Whether the server closed before the first byte of a response."""
    return isinstance(error, EOFError | ConnectionError) and not getattr(error, "partial", b"")


CLIENTS: list[tuple[Kind, int]] = [
    (Clients.browse, 60),
    (Clients.pipeline, 8),
    (Clients.upload, 6),
    (Clients.upload_in_chunks, 6),
    (Clients.send_slowly, 10),
    (Clients.read_slowly, 6),
    (Clients.vanish, 10),
    (Clients.say_nothing, 10),
    (Clients.talk_nonsense, 2),
]
