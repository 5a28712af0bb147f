"""The storm: hostile visits to a real server, in a process of its own, over the loopback device.

    python -m tests.fuzz.storm --connections 100000 --seed 7
    python -m tests.fuzz.storm --connections 20000 --tls

Many visitors at once send what `visits` generates; now and then a well-behaved client comes, and must be served. At the
end
the server must be as it was: all connections are closed, memory and descriptors are as after the first twentieth of the
visits, stderr has no traceback, and it exits with code 0 when it is told to stop. Otherwise the storm's exit code is 1.
Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import shutil
import signal
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.visits import Leaving, Visit, Visits
from tests.tools.server import DEMO, Client, Process, connect
from tests.tools.tls import client_context, make_certificate

__all__ = ["main", "storm"]

_AT_ONCE = 100
_PATIENCE = 0.15  # seconds without a byte after which a visitor that stays leaves
_HANDSHAKE_PATIENCE = 5.0  # seconds for a handshake, while all the other visitors want one as well
_MAX_GROWTH = 8 << 20  # bytes of resident memory, after the first visits
_MAX_KEPT = 65536  # bytes of the responses that a visitor keeps
_RESET = struct.pack("ii", 1, 0)
_RECORDS = {b"\x15": "alert", b"\x16": "handshake"}
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# Short deadlines, so that connections end soon; low limits, so that they are reached.
OPTIONS = "--no-access-log --zip --upload --upload-overwrite --limit-request-body 65536 --keep-alive-requests 200"
OPTIONS += " --keep-alive 2 --header-timeout 2 --body-timeout 2 --send-timeout 2"


class Visitor:
    """A visit that takes place."""

    def __init__(self, visit: Visit, address: tuple[str, int], now: float, tls: ssl.SSLContext | None) -> None:
        self.visit = visit
        self.sock = socket.create_connection(address)
        self.sock.setblocking(False)
        self.unsent = list(visit.pieces)
        self.received = b""
        self.until = now + _PATIENCE
        if tls is not None and not visit.bare:  # the handshake begins with the first piece
            self.sock = tls.wrap_socket(self.sock, do_handshake_on_connect=False)
            self.until = now + (_HANDSHAKE_PATIENCE if self.unsent else 0.0)
        self.left = False  # its sending side is closed

    def move(self, now: float) -> bool:
        """Sends a piece and reads what has arrived. Returns False when the visit is over."""
        try:
            if self.visit.reads and not self._read(now):
                return False
            if self.unsent:
                self._send(now)
        except _LATER:
            pass
        except (ConnectionError, ssl.SSLError):
            return False
        if self.unsent and now < self.until:
            return True
        if self.visit.leaving is Leaving.FINISH and not self.left:
            self.left = True
            self.until = now + _PATIENCE
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_WR)  # of the TCP connection, with TLS as well
            except OSError:
                return False
        return self.visit.leaving in (Leaving.STAY, Leaving.FINISH) and now < self.until

    def _read(self, now: float) -> bool:
        try:
            data = self.sock.recv(65536)
        except _LATER:
            return True
        self.until = now + _PATIENCE
        if len(self.received) < _MAX_KEPT:
            self.received += data
        return bool(data)

    def _send(self, now: float) -> None:
        sent = self.sock.send(self.unsent[0])
        self.until = now + _PATIENCE
        if sent < len(self.unsent[0]):
            self.unsent[0] = self.unsent[0][sent:]
        else:
            del self.unsent[0]

    def leave(self) -> None:
        if self.visit.leaving is Leaving.RESET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()


def storm(
    address: tuple[str, int], visits: Iterator[Visit], tls: ssl.SSLContext | None = None, good_every: int = 500
) -> Counter[str]:
    """Plays `visits` to the server at `address`, and returns the statuses that they got. Raises AssertionError."""
    answers: Counter[str] = Counter()
    selector = selectors.DefaultSelector()
    present: set[Visitor] = set()
    count = 0
    pending = next(visits, None)
    while present or pending is not None:
        now = time.monotonic()
        while pending is not None and len(present) < _AT_ONCE:
            visitor = Visitor(pending, address, now, tls)
            present.add(visitor)
            events = selectors.EVENT_READ if visitor.visit.reads else selectors.EVENT_WRITE
            selector.register(visitor.sock, events, visitor)
            count += 1
            if count % good_every == 0:
                make_good_requests(address, tls)
            pending = next(visits, None)
        ready = {key.data for key, _ in selector.select(0.005)}
        now = time.monotonic()
        for visitor in [each for each in present if each in ready or each.unsent or now > each.until]:
            if not visitor.move(now):
                selector.unregister(visitor.sock)
                visitor.leave()
                present.remove(visitor)
                answers[_first_status(visitor)] += 1
    selector.close()
    return answers


def make_good_requests(address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
    """Makes two good requests in the middle of the storm, which must be served."""
    client = connect(address)
    if tls is not None:
        client = Client(tls.wrap_socket(client.sock))
    with client:
        for _ in range(2):
            answer = client.ask("/index.html")
            assert answer.status == 200
            assert answer.body == (DEMO / "index.html").read_bytes()


def _first_status(visitor: Visitor) -> str:
    if not visitor.received:
        return "none"
    if visitor.visit.bare and visitor.received[:1] in _RECORDS:
        return _RECORDS[visitor.received[:1]]
    assert visitor.received.startswith(b"HTTP/1."), visitor.received[:200]
    return visitor.received[9:12].decode()


@contextmanager
def server(tls: bool) -> Iterator[Process]:
    """Runs a server of a copy of the demo's files, which accepts uploads."""
    with tempfile.TemporaryDirectory(prefix="kaserve-storm-") as name:
        directory = Path(name, "site")
        shutil.copytree(DEMO, directory)
        options = OPTIONS.split()
        if tls:
            certificate = make_certificate(Path(name), "h", "h")
            options += ["--tls-cert", certificate.cert, "--tls-key", certificate.key]
        with Process("0", "--directory", str(directory), *options) as process:
            yield process


def resident(pid: int) -> int:
    """Returns the bytes of resident memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def settle(pid: int, before: int, seconds: float = 20.0) -> int:
    """Waits until the server has closed all connections, or `seconds`, and returns how many descriptors are open."""
    end = time.monotonic() + seconds
    while descriptors(pid) > before and time.monotonic() < end:
        time.sleep(0.1)
    return descriptors(pid)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.storm")
    parser.add_argument("--connections", type=int, default=100_000, help="number of visits (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 32), help="seed of an earlier run (default: a new one)"
    )
    parser.add_argument("--tls", action="store_true", help="half of them inside TLS, half against its handshake")
    options = parser.parse_args(arguments)
    tls = client_context() if options.tls else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves the with blocks, which end the server
    print(f"seed {options.seed}", flush=True)
    visits = Visits(options.seed, tls=options.tls)
    kinds: Counter[str] = Counter()

    def some(count: int) -> Iterator[Visit]:
        for _ in range(count):
            visit = visits.next()
            kinds[visit.kind] += 1
            yield visit

    with server(options.tls) as process:
        address = process.address
        assert isinstance(address, tuple)
        before = descriptors(process.pid)
        make_good_requests(address, tls)
        start = time.monotonic()
        first = options.connections // 20
        answers = storm(address, some(first), tls)
        settle(process.pid, before)
        warm = resident(process.pid)
        answers += storm(address, some(options.connections - first), tls)
        took = time.monotonic() - start
        after = settle(process.pid, before)
        grown = resident(process.pid) - warm
        make_good_requests(address, tls)
        process.signal(signal.SIGTERM)
        status = process.wait()
        stderr = process.stderr
    print(f"{options.connections:,} connections in {took:.0f} s")
    print("sent: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common()))
    print("first status: " + ", ".join(f"{count:,} {kind}" for kind, count in answers.most_common()))
    print(f"descriptors: {before} before, {after} after")
    print(f"resident memory: {warm / 2**20:.1f} MiB after {first:,} connections, {grown / 2**20:+.1f} MiB at the end")
    print(f"exit code {status}; lines on stderr: {len(stderr.splitlines())}")
    print(stderr[:2000], end="")
    faults = []
    if "Traceback" in stderr:
        faults.append("a traceback on stderr:\n" + stderr[stderr.index("Traceback") :][:3000])
    if after > before:
        faults.append("descriptors are still open")
    if grown > _MAX_GROWTH:
        faults.append("memory has grown")
    if status != 0:
        faults.append("its exit code is not 0")
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "the server is as it was")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
