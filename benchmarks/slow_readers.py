"""Clients that read 2 kB per 100 ms of a 30 MiB response of a WSGI application with 4 threads: do others wait for them?

    python benchmarks/slow_readers.py
    python benchmarks/slow_readers.py --readers 8 --seconds 10

Starts the readers, and sends one request after another on another connection at once. Prints how long the first
response took, the latencies of all of them, and by how much the memory of the process has grown, to which the readers
contribute a little. Exits with 1 if a response took longer than --most milliseconds.
"""

import argparse
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    from kaserve.testing import serve
except ModuleNotFoundError:  # in a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from kaserve.testing import serve

from slow_posts import describe, latencies

THREADS = 4
PIECE = bytes(64 * 1024)
PIECES = 480
READ_SIZE = 2048
PAUSE = 0.1  # seconds between two reads


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes]:
    """Responds with 30 MiB at /slow, and with "0" elsewhere, each made piece by piece."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["PATH_INFO"] != "/slow":
        yield b"0"
        return
    for _ in range(PIECES):
        yield PIECE


def start_reader(address: tuple[str, int], stopped: threading.Event) -> threading.Thread:
    """Starts a client that asks for the long response and reads it slowly, until `stopped`."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_SIZE)  # before connecting, or the kernel takes it all
    client.connect(address)
    client.sendall(f"GET /slow HTTP/1.1\r\nHost: {address[0]}\r\n\r\n".encode())

    def read() -> None:
        with client:
            while not stopped.wait(PAUSE):
                client.recv(READ_SIZE)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--most", type=float, default=100.0, help="milliseconds that a response may take")
    options = parser.parse_args()
    stopped = threading.Event()
    with serve(wsgi=app, threads=THREADS) as server:
        assert isinstance(server.address, tuple)
        latencies(server.address, 0.1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        readers = [start_reader(server.address, stopped) for _ in range(options.readers)]
        first = latencies(server.address, 0.0001)[0]
        times = latencies(server.address, options.seconds)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        stopped.set()
        for reader in readers:
            reader.join()
    print(f"the first response with {options.readers} slow readers: {first * 1e3:.2f} ms")
    print(describe("then", times))
    print(f"most memory of the process: {grown / 1024:.1f} MiB more")
    return int(max(first, times[-1]) * 1e3 > options.most)


if __name__ == "__main__":
    sys.exit(main())
