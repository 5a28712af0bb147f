"""The two-browsers experiment: does a client wait because of the connection of another one?

    python benchmarks/two_browsers.py [--seconds 5] [--server kaserve]

Texts about Keep-Alive say that such a server needs threads, because a second browser would wait until the first one
closes its connection. Here three clients do what makes others wait, and a fourth one counts its responses:

1. one holds a persistent connection open after its first request,
2. one sends a request one byte at a time, all the while,
3. one reads a large file slowly, all the while,
4. one sends 200 requests over one connection, and 20 more over a new connection each.

kaserve has one thread, like the http.server it is compared with. The exit code is 0 if kaserve responded to
everything.
"""

import argparse
import http.client
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

from lib.environment import APPS
from lib.peers import PEERS, Peer, Site
from lib.processes import Command, clean_up_when_terminated
from lib.serving import CannotServe, serving
from lib.workloads import write_files

SAME_CONNECTION, NEW_CONNECTIONS = 200, 20
LARGE = "files/large.bin"
SMALL = "files/small.bin"
SIZES = {LARGE: 16 << 20, SMALL: 1024}
STEP_SECONDS = 0.05
"""The pause of the slow clients after each byte, or each piece."""
PIECE = 4096
PAUSE_SECONDS = 0.01
"""Between the requests of the fourth client, so that the slow ones have the time to be in its way."""

SINGLE_THREADED = Peer(
    "http.server, one thread",
    {"files": lambda site: Command((sys.executable, str(APPS / "single_threaded.py"), *_port_and_directory(site)))},
    version=lambda: f"Python {sys.version.split()[0]}",
)


def _port_and_directory(site: Site) -> tuple[str, str]:
    return str(site.port), str(site.directory)


@dataclass
class Result:
    """What the four clients report."""

    latencies: list[float] = field(default_factory=list)
    """Of each response the fourth client got, in seconds."""
    seconds: float = 0.0
    """How long the fourth client took for all of it, or until it gave up."""
    slow: dict[str, str] = field(default_factory=dict)
    """How the first three fared: what each was, and how it ended."""

    @property
    def complete(self) -> bool:
        """Whether the fourth client got every response."""
        return len(self.latencies) == SAME_CONNECTION + NEW_CONNECTIONS


class Experiment:
    """The four clients against one server; nothing in it lasts longer than `seconds`."""

    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._deadline = time.monotonic() + seconds
        self._finished = threading.Event()
        self._result = Result()

    def run(self) -> Result:
        """Let the slow clients begin, then send the requests of the fourth."""
        slow = (("1 holds", self._hold), ("2 sends slowly", self._send_slowly), ("3 reads slowly", self._read_slowly))
        threads = [threading.Thread(target=self._slow_client, args=client) for client in slow]
        for thread in threads:
            thread.start()
            time.sleep(2 * STEP_SECONDS)  # one after the other, so that each really is in the way of the next
        began = time.monotonic()
        with suppress(OSError, http.client.HTTPException):
            self._fourth_client()
        self._result.seconds = time.monotonic() - began
        self._finished.set()
        for thread in threads:
            thread.join()
        return self._result

    def _remaining(self) -> float:
        """Seconds left, but never none: a time-out of 0 would mean something else."""
        return max(0.001, self._deadline - time.monotonic())

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._site.host, self._site.port), self._remaining())

    def _slow_client(self, name: str, client: Callable[[], str]) -> None:
        try:
            self._result.slow[name] = client()
        except OSError as error:
            self._result.slow[name] = f"failed: {error}"

    def _request(self, target: str) -> bytes:
        return f"GET /{target} HTTP/1.1\r\nHost: {self._site.address}\r\n".encode()

    def _hold(self) -> str:
        with self._connect() as connection:
            connection.sendall(self._request(SMALL) + b"\r\n")
            received = connection.recv(PIECE)
            self._finished.wait(self._remaining())
            connection.settimeout(0.001)
            with suppress(TimeoutError):
                while data := connection.recv(PIECE):
                    received += data
                return "was closed by the server"
            return "got a response, and still open" if received.startswith(b"HTTP/1.1 200") else "got an error"

    def _send_slowly(self) -> str:
        """Send a head that never ends."""
        sent = 0
        with self._connect() as connection:
            for byte in chain(self._request(SMALL), b"X-Slow: ", repeat(ord("a"))):
                connection.sendall(bytes([byte]))
                sent += 1
                if self._finished.wait(STEP_SECONDS):
                    break
        return f"{sent} bytes sent, and still sending"

    def _read_slowly(self) -> str:
        received = 0
        with socket.socket() as connection:
            # A small window, set before connecting: else the kernel's buffers would swallow megabytes at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
            connection.settimeout(self._remaining())
            connection.connect((self._site.host, self._site.port))
            connection.sendall(self._request(LARGE) + b"\r\n")
            while not self._finished.wait(STEP_SECONDS):
                data = connection.recv(PIECE)
                if self._finished.is_set():
                    break  # what comes only now came after the others had left
                received += len(data)
        return f"{received} bytes received, and still reading" if received else "waited and received nothing"

    def _fourth_client(self) -> None:
        """All requests; an exception ends them when the time is over."""
        with closing(self._open()) as connection:
            for _ in range(SAME_CONNECTION):
                self._fetch(connection)
        for _ in range(NEW_CONNECTIONS):
            with closing(self._open()) as connection:
                self._fetch(connection)

    def _open(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._site.host, self._site.port, timeout=self._remaining())
        connection.connect()
        return connection

    def _fetch(self, connection: http.client.HTTPConnection) -> None:
        began = time.monotonic()
        connection.sock.settimeout(self._remaining())
        connection.request("GET", "/" + SMALL)
        response = connection.getresponse()
        body = response.read()
        if response.status == 200 and len(body) == SIZES[SMALL]:
            self._result.latencies.append(time.monotonic() - began)
        time.sleep(PAUSE_SECONDS)


def main() -> int:
    """Run the experiment against kaserve and against the standard library."""
    parser = argparse.ArgumentParser(description="The two-browsers experiment.")
    parser.add_argument("--seconds", type=float, default=5, help="for each server (5)")
    parser.add_argument("--server", choices=list(PEERS), default="kaserve", help="that has to pass (kaserve)")
    options = parser.parse_args()
    clean_up_when_terminated()
    complete = {}
    with tempfile.TemporaryDirectory(prefix="bench-browsers-") as name:
        write_files(Path(name), SIZES)
        for peer in (PEERS[options.server], SINGLE_THREADED):
            try:
                with serving(peer, "files", Path(name)) as server:
                    result = Experiment(server.site, options.seconds).run()
            except CannotServe as error:
                print(f"{peer.name}: {error}\n")
                continue
            print(describe(peer.name, result) + "\n")
            complete[peer.name] = result.complete
    return 0 if complete.get(options.server) else 1


def describe(name: str, result: Result) -> str:
    """The result as text."""
    latencies = result.latencies
    slowest = f", the slowest in {max(latencies) * 1000:.1f} ms" if latencies else ""
    lines = [
        f"{name}:",
        f"  client 4: {len(latencies)} of {SAME_CONNECTION + NEW_CONNECTIONS} requests got a response "
        f"in {result.seconds:.2f} s{slowest}",
        *(f"  client {client}: {fate}" for client, fate in sorted(result.slow.items())),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
