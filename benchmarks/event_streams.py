"""How much memory and processor time an event stream takes, in servers for ASGI.

    python benchmarks/event_streams.py
    python benchmarks/event_streams.py --streams 1000 --servers kaserve-asgi,uvicorn

Opens the streams, waits until each has had three events, and compares the resident memory with that before. Then it
counts the processor time of ten seconds, in which each stream has ten events. Then the clients leave, and it counts how
long the server takes until it has closed its side of all of them. Linux only.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path

from lib.peers import PEERS, Site
from lib.processes import Child, raise_descriptor_limit, running, wait_until
from lib.serving import accepts, free_port

SERVERS = ("kaserve-asgi", "uvicorn", "hypercorn", "granian-asgi")
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
SECONDS = 10


def main() -> None:
    """Measures the servers one after the other."""
    parser = argparse.ArgumentParser(description="Event streams: memory and processor time of each.")
    parser.add_argument("--streams", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--servers", default=",".join(SERVERS), metavar="A,B", help=", ".join(SERVERS))
    options = parser.parse_args()
    raise_descriptor_limit()
    print(f"{'server':16}{'KiB a stream':>14}{'us CPU an event':>17}{'s to notice departures':>25}")
    for name in options.servers.split(","):
        missing = PEERS[name].missing()
        print(f"{name:16}{missing or measure(name, options.streams)}", flush=True)


def measure(name: str, count: int) -> str:
    """Returns the figures of one server as a line."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        site = Site(free_port(), path, path)
        core = max(os.sched_getaffinity(0))
        with running(PEERS[name].start["events"](site), core=core, directory=path) as child:
            if not wait_until(lambda: accepts(site.port), 20):
                return "did not start"
            with Streams(site.port, 10) as some:  # so that what is loaded with the first request is there before
                some.read(2)
            time.sleep(1)
            before, descriptors = child.resident_bytes(), _descriptors(child)
            with Streams(site.port, count) as streams:
                streams.read(4)
                memory = (child.resident_bytes() - before) / count
                start, events = child.cpu_seconds(), streams.events
                streams.read(SECONDS)
                cpu = (child.cpu_seconds() - start) / (streams.events - events)
            left = time.monotonic()
            gone = wait_until(lambda: _descriptors(child) <= descriptors, 30)
            noticed = f"{time.monotonic() - left:.2f}" if gone else "more than 30"
            return f"{memory / 1024:14.1f}{cpu * 1e6:17.1f}{noticed:>25}"


def _descriptors(child: Child) -> int:
    """Of a server and its workers."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in child.pids())


class Streams:
    """Clients of event streams.

    Attributes:
        events: how many have come.
    """

    def __init__(self, port: int, count: int) -> None:
        self.events = 0
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(REQUEST)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
            self._sockets.append(sock)

    def read(self, seconds: float) -> None:
        """Reads what comes within some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket
                if not data:
                    sys.exit("a server has closed a stream")
                self.events += data.count(b"data: ")

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *exception: object) -> None:
        self._selector.close()
        for sock in self._sockets:
            sock.close()


if __name__ == "__main__":
    main()
