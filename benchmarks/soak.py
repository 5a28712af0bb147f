"""Everything at once, for as long as told: is every byte right, and is nothing leaked?

    python benchmarks/soak.py --seconds 1200

Clients of all manners share a kaserve: browsers that keep their connections and pause, pipelines, uploads with a
length and in chunks, slow senders and slow readers, those that vanish or reset in the middle, and those that send
nothing or nonsense. Whoever can be answered checks the answer by its content; whoever cannot must be told so.

In the first half kaserve is drained and replaced every ten seconds. In the second half one process is watched: its
memory must not grow, and when all clients have left, its descriptors must be as at its start. The exit code is 1 when
anything was wrong.
"""

import argparse
import asyncio
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import get_args

from fleet import Fleet, Misbehaved, Process, Way
from processes import clean_up_when_terminated, raise_descriptor_limit
from tables import align

OPTIONS = (
    *("--handler", "echo_app:echo_in_pieces", "--no-access-log"),
    *("--keep-alive", "3", "--keep-alive-requests", "150", "--keep-alive-time", "20"),
    *("--header-timeout", "3", "--body-timeout", "5", "--send-timeout", "5"),
)
REPLACED_SECONDS = 10.0
PAUSE_SECONDS = 2.0
"""The longest that a browser is idle: less than what is announced."""
PATIENCE = 30.0
"""Seconds after which something that should have come has not."""
MAX_GROWTH = 8 << 20
"""Bytes of resident memory, from the first quarter of a process's life on."""
MAX_FAULTS = 20
"""After so many there is nothing more to learn."""
SPARED_SECONDS = 0.9
"""A draining server closes what has been idle for a second; this much is certainly less (kernels count in ticks)."""
LAST_DATA_RECEIVED = 52
"""Where `struct tcp_info` (tcp(7)) has the milliseconds since the last byte arrived, or the connection was made."""
RESET = struct.pack("ii", 1, 0)


class Wrong(Exception):
    """An answer that is not what was asked for; the message says how."""


@dataclass
class Tally:
    """What all clients together have done and seen."""

    visits: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    crossed: int = 0
    """Requests on connections idle for longer than SPARED_SECONDS, on their way while a draining server closed them."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    wire: bytes
    method: str
    content: bytes
    """What must come back."""


@dataclass(frozen=True)
class Answer:
    status: int
    persists: bool
    content: bytes


class Line:
    """A connection of a client."""

    def __init__(self, kind: str, tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._kind = kind
        self._tally = tally
        self._reader = reader
        self._writer = writer
        self._answers = 0
        self._asked = False
        self._rested = 0.0

    def __str__(self) -> str:
        """What one has to know of it when something was wrong."""
        return f"after {self._answers} answers; the last request came when it had been idle for {self._rested:.3f} s"

    @property
    def crossed(self) -> bool:
        """Whether a draining server may have taken it for idle at the moment of the last request."""
        return self._asked and self._rested > SPARED_SECONDS

    def _idle_seconds(self) -> float:
        """Since something came; asks the kernel, since a client that is short of time reads late."""
        sock = self._writer.get_extra_info("socket")
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECEIVED + 4)
        return int.from_bytes(info[LAST_DATA_RECEIVED:], sys.byteorder) / 1000

    @property
    def ended(self) -> bool:
        """The server has closed its side. Asks the kernel: the loop may not have come to hear of it yet."""
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return self._reader.at_eof() or bool(poll.poll(0))

    async def send(self, data: bytes) -> None:
        self._tally.sent[self._kind] += len(data)
        if not self._asked:
            self._asked = True
            self._rested = self._idle_seconds()
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, method: str) -> Answer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._asked = False
        status_line, *lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.partition(": ")[::2] for line in lines if line)
        status = int(status_line.split()[1])
        if status == 100:
            return await self.answer(method)
        content = b"" if method == "HEAD" else await self._content(fields)
        self._answers += 1
        self._tally.answers[self._kind] += 1
        self._tally.received[self._kind] += len(head) + len(content)
        return Answer(status, fields["connection"] != "close", content)

    async def _content(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(fields["content-length"]))
        pieces = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readuntil(b"\r\n")
        return b"".join(pieces)

    async def expect(self, request: Request) -> bool:
        """The answer to `request`; whether the connection may be used for another."""
        answer = await self.answer(request.method)
        if answer.status != 200:
            raise Wrong(f"status {answer.status} for {request.wire[:60]!r}")
        if request.method != "HEAD" and answer.content != request.content:
            raise Wrong(f"{answer.content[:60]!r} ({len(answer.content)} bytes) for {request.wire[:60]!r}")
        return answer.persists

    async def some(self, most: int) -> bytes:
        """Of the content of an answer whose head alone was read, as that of an answer to HEAD."""
        return await self._reader.read(most)

    async def end(self) -> bytes:
        """What comes until the server closes."""
        return await self._reader.read()

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()


Kind = Callable[["Crowd", Line], Awaitable[None]]


class Crowd:
    """Clients of all kinds, each of which comes again and again."""

    def __init__(self, port: int, seed: int) -> None:
        self.tally = Tally()
        self.leaving = False
        self.drains = True
        """A server may be draining, which closes connections sooner than it has announced."""
        self._port = port
        self._chance = random.Random(seed)
        self._count = 0

    async def loop(self, kind: str, visit: Kind) -> None:
        while not self.leaving and len(self.tally.faults) < MAX_FAULTS:
            self.tally.visits[kind] += 1
            line = None
            try:
                async with asyncio.timeout(PATIENCE), self._connected(kind) as line:
                    await visit(self, line)
            except (OSError, EOFError, TimeoutError, Wrong, ValueError) as error:
                if self.drains and line is not None and line.crossed and _is_an_end(error):
                    self.tally.crossed += 1
                else:
                    self.tally.faults.append(f"{kind}: {type(error).__name__} {error} {line or ''}")

    @asynccontextmanager
    async def _connected(self, kind: str) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 18)
        try:
            yield Line(kind, self.tally, reader, writer)
        finally:
            writer.close()

    async def _pause(self, most: float) -> None:
        await asyncio.sleep(self._chance.random() * most)

    # What they ask.

    def _get(self, method: str = "GET", path: str = "/", content: bytes = b"") -> Request:
        self._count += 1
        target = path if path.startswith("/large") else f"{path}?{self._count}"
        wire = f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        return Request(wire, method, f"{method} {target}\n".encode() + content)

    def _large(self, size: int) -> Request:
        return self._get(path=f"/large?{size}", content=bytes(size))

    def _post(self, size: int, *fields: str, path: str = "/") -> tuple[Request, bytes]:
        """With a length; and what of it is the head."""
        self._count += 1
        body = self._chance.randbytes(size)
        lines = [f"POST {path}?{self._count} HTTP/1.1", "Host: h", f"Content-Length: {size}", *fields, "", ""]
        head = "\r\n".join(lines).encode()
        return Request(head + body, "POST", f"POST {path}?{self._count}\n".encode() + body), head

    def _any(self) -> Request:
        """Something small."""
        kind = self._chance.randrange(5)
        if kind == 0:
            return self._get("HEAD")
        if kind == 1:
            return self._post(self._chance.randrange(5000), path="/pieces")[0]
        if kind == 2:
            return self._large(self._chance.randrange(100_000))
        return self._get()

    # What they do.

    async def browse(self, line: Line) -> None:
        """One thing after another, with pauses that are shorter than announced."""
        while not line.ended and not self.leaving:
            request = self._any()
            await line.send(request.wire)
            if not await line.expect(request):
                return
            await self._pause(self._chance.choice((0.0, 0.01, PAUSE_SECONDS)))

    async def pipeline(self, line: Line) -> None:
        """Many at once; whatever follows a close is not answered, and would be asked again."""
        for _ in range(5):
            if line.ended:
                return
            requests = [self._any() for _ in range(self._chance.randrange(2, 40))]
            sending = asyncio.ensure_future(line.send(b"".join(request.wire for request in requests)))
            try:
                for request in requests:
                    if not await line.expect(request):
                        return
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def upload(self, line: Line) -> None:
        expectation = ["Expect: 100-continue"] * (self._chance.random() < 0.3)
        request, head = self._post(self._chance.randrange(2_000_000), *expectation)
        await line.send(head)
        for start in range(len(head), len(request.wire), 50_000):
            await line.send(request.wire[start : start + 50_000])
            if self._chance.random() < 0.1:
                await self._pause(0.2)
        await line.expect(request)

    async def upload_in_chunks(self, line: Line) -> None:
        body = self._chance.randbytes(self._chance.randrange(500_000))
        await line.send(b"POST /pieces HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        start = 0
        while start < len(body):
            piece = body[start : start + self._chance.randrange(1, 20_000)]
            await line.send(b"%x;n=%d\r\n%b\r\n" % (len(piece), start, piece))
            start += len(piece)
        await line.send(b"0\r\nX: trailer\r\n\r\n")
        await line.expect(Request(b"chunks", "POST", b"POST /pieces\n" + body))

    async def send_slowly(self, line: Line) -> None:
        """A head in crumbs, and still in time."""
        request = self._get()
        for start in range(0, len(request.wire), 4):
            await line.send(request.wire[start : start + 4])
            await asyncio.sleep(0.1)
        await line.expect(request)

    async def read_slowly(self, line: Line) -> None:
        request = self._large(self._chance.randrange(5_000_000))
        await line.send(request.wire)
        answer = await line.answer("HEAD")
        content = b""
        while len(content) < len(request.content):
            data = await line.some(100_000)
            if not data:
                raise Wrong("the end came too early")
            content += data
            await self._pause(0.05)
        if answer.status != 200 or content != request.content:
            raise Wrong("a large answer that is not what it should be")
        self.tally.received["read_slowly"] += len(content)

    async def vanish(self, line: Line) -> None:
        """In the middle of a head, of a body, of an answer, or of a pipeline; by a close or by a reset."""
        choices = [self._post(200_000)[0].wire, self._large(3_000_000).wire, self._get().wire * 50, self._get().wire]
        wire = self._chance.choice(choices)
        await line.send(wire[: self._chance.randrange(len(wire) + 1)])
        await self._pause(self._chance.choice((0.0, 0.05)))
        if self._chance.random() < 0.5:
            line.reset()

    async def say_nothing(self, line: Line) -> None:
        """Or half of it. Whoever began to ask is told that it took too long."""
        part = self._chance.choice((b"", b"GET / HT", self._post(1000)[0].wire[:-10]))
        await line.send(part)
        said = await line.end()
        if part:
            _check_status(said, 408)
        elif said:
            raise Wrong(f"{said[:60]!r} for nothing")

    async def talk_nonsense(self, line: Line) -> None:
        await line.send(b"\x16\x03\x01" + self._chance.randbytes(200))
        _check_status(await line.end(), 400)


def _check_status(said: bytes, status: int) -> None:
    """Raises EOFError when nothing was said, Wrong when it was something else."""
    if not said:
        raise EOFError
    if not said.startswith(b"HTTP/1.1 %d " % status):
        raise Wrong(f"{said[:60]!r} instead of {status}")


def _is_an_end(error: Exception) -> bool:
    """Whether the server closed before the first byte of an answer."""
    return isinstance(error, EOFError | ConnectionError) and not getattr(error, "partial", b"")


CLIENTS: list[tuple[Kind, int]] = [
    (Crowd.browse, 60),
    (Crowd.pipeline, 8),
    (Crowd.upload, 6),
    (Crowd.upload_in_chunks, 6),
    (Crowd.send_slowly, 10),
    (Crowd.read_slowly, 6),
    (Crowd.vanish, 10),
    (Crowd.say_nothing, 10),
    (Crowd.talk_nonsense, 2),
]


@dataclass
class Watch:
    """What was seen of the process that is watched."""

    replaced: int = 0
    memory_at_first: int = 0
    memory_at_last: int = 0
    descriptors_at_first: int = 0
    descriptors_at_most: int = 0
    descriptors_at_last: int = 0


async def soak(crowd: Crowd, fleet: Fleet, seconds: float, watch: Watch) -> None:
    """Lets the clients loose for so long. Raises Misbehaved."""
    watch.descriptors_at_first = fleet.current.descriptors_at_start
    start = time.monotonic()
    tasks = [asyncio.create_task(crowd.loop(kind.__name__, kind)) for kind, count in CLIENTS for _ in range(count)]
    try:
        while time.monotonic() - start < seconds / 2 and len(crowd.tally.faults) < MAX_FAULTS:
            await asyncio.sleep(min(REPLACED_SECONDS, seconds / 5))
            await asyncio.to_thread(fleet.replace)
            watch.replaced += 1
        await asyncio.to_thread(fleet.settle)
        crowd.drains = False
        process = fleet.current
        first_quarter = time.monotonic() + seconds / 8
        while time.monotonic() - start < seconds and len(crowd.tally.faults) < MAX_FAULTS:
            await asyncio.sleep(min(1.0, seconds / 20))
            watch.descriptors_at_most = max(watch.descriptors_at_most, process.descriptors)
            watch.memory_at_last = process.resident_bytes
            if time.monotonic() < first_quarter:
                watch.memory_at_first = max(watch.memory_at_first, watch.memory_at_last)
    finally:
        crowd.leaving = True
        await asyncio.gather(*tasks)
    watch.descriptors_at_last = await quiet_descriptors(process, watch.descriptors_at_first)


async def quiet_descriptors(process: Process, expected: int) -> int:
    """How many are open when everybody has been forgotten, or has had time enough for that."""
    end = time.monotonic() + PATIENCE
    while process.descriptors > expected and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return process.descriptors


def show(tally: Tally, watch: Watch) -> None:
    rows = [["clients", "visits", "answers", "MB sent", "MB received"]]
    for kind, count in CLIENTS:
        name = kind.__name__
        traffic = [f"{tally.sent[name] / 1e6:,.1f}", f"{tally.received[name] / 1e6:,.1f}"]
        words = name.replace("_", " ")
        rows.append([f"{count} who {words}", f"{tally.visits[name]:,}", f"{tally.answers[name]:,}", *traffic])
    print("\n".join(align(rows, words={"clients"})))
    print(f"drained and replaced: {watch.replaced} times; requests that crossed its close: {tally.crossed}")
    memory = watch.memory_at_first / 2**20, watch.memory_at_last / 2**20
    print(f"resident memory of the last process: {memory[0]:.1f} MiB at first, {memory[1]:.1f} MiB in the end")
    descriptors = watch.descriptors_at_first, watch.descriptors_at_most, watch.descriptors_at_last
    print("its descriptors: {} without a client, up to {}, {} in the end".format(*descriptors))


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description="Use kaserve in every manner at once, and look at every answer.")
    parser.add_argument("--seconds", type=float, default=180.0, help="for how long (%(default)s)")
    parser.add_argument("--way", choices=get_args(Way), default="handover", help="how it is replaced (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the clients' choices (%(default)s)")
    options = parser.parse_args()
    clean_up_when_terminated()
    raise_descriptor_limit()
    with Fleet(options.way, *OPTIONS) as fleet:
        crowd = Crowd(fleet.port, options.seed)
        faults = crowd.tally.faults
        watch = Watch()
        try:
            asyncio.run(soak(crowd, fleet, options.seconds, watch))
            fleet.finish()
        except Misbehaved as error:
            faults.append(str(error))
        show(crowd.tally, watch)
        if watch.memory_at_last - watch.memory_at_first > MAX_GROWTH:
            faults.append("its memory has grown")
        if watch.descriptors_at_last > watch.descriptors_at_first:
            faults.append("descriptors were left open")
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "every answer was right, and nothing was leaked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
