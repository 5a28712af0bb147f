"""1,000 clients that send a byte every 100 ms to a WSGI application with 4 threads: do other clients wait for them?

    python benchmarks/slow_posts.py
    python benchmarks/slow_posts.py --clients 1000 --seconds 4

Sends one request after another on one connection, first alone and then while the slow clients are in the middle of a
POST. Prints both latencies. Exits with 1 if the request of a slow client was lost or got an error, or if the other
client waited for a thread: above --most times the latency alone, plus 50 ms for the processor that all of them share.
"""

import argparse
import http.client
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    from kaserve.testing import serve
except ModuleNotFoundError:  # in a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from kaserve.testing import serve

from lib.processes import raise_descriptor_limit

THREADS = 4


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Reads the body and responds with its length."""
    response = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(response)))])
    return [response]


class SlowClients:
    """Sends for all of them in one thread, evenly, until `stop`; then each sends the rest and reads its response."""

    def __init__(self, address: tuple[str, int], count: int, size: int, pause: float) -> None:
        self._size = size
        self._pause = pause
        self._sent = 0
        self._stopped = threading.Event()
        head = f"POST /slow HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: {size}\r\n\r\n".encode()
        self._sockets = []
        for _ in range(count):
            sock = socket.create_connection(address, 10)
            sock.sendall(head)
            self._sockets.append(sock)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while self._sent < self._size - 1 and not self._stopped.is_set():
            began = time.monotonic()
            slice_size = max(1, len(self._sockets) // 10)
            for number, sock in enumerate(self._sockets):
                sock.sendall(b"x")
                if number % slice_size == slice_size - 1:  # spread over the pause
                    time.sleep(self._pause / 10)
            self._sent += 1
            self._stopped.wait(max(0.0, self._pause - (time.monotonic() - began)))

    def early_responses(self) -> int:
        """How many got a response, or were closed, before they were complete."""
        poll = select.poll()
        for sock in self._sockets:
            poll.register(sock, select.POLLIN)
        return len(poll.poll(0))

    def stop(self) -> int:
        """How many got the right response in the end."""
        self._stopped.set()
        self._thread.join()
        for sock in self._sockets:
            sock.sendall(b"x" * (self._size - self._sent))
        good = 0
        for sock in self._sockets:
            response = sock.recv(4096)
            good += response.startswith(b"HTTP/1.1 200 ") and response.endswith(b"\r\n\r\n%d" % self._size)
            sock.close()
        return good


def latencies(address: tuple[str, int], seconds: float) -> list[float]:
    """Of requests on one connection, in seconds, sorted."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    times = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        connection.request("GET", "/")
        if connection.getresponse().read() != b"0":
            raise RuntimeError("a wrong response")
        times.append(time.monotonic() - began)
    connection.close()
    return sorted(times)


def describe(name: str, times: list[float]) -> str:
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    return (
        f"{name}: {len(times)} responses, p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, most {times[-1] * 1e3:.2f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the two measurements")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two bytes of a client")
    parser.add_argument("--most", type=float, default=10.0, help="how many times the latency alone is allowed")
    options = parser.parse_args()
    raise_descriptor_limit()
    with serve(wsgi=app, threads=THREADS) as server:
        assert isinstance(server.address, tuple)
        alone = latencies(server.address, options.seconds)
        print(describe("alone", alone), flush=True)
        clients = SlowClients(server.address, options.clients, size=10_000, pause=options.pause)
        beside = latencies(server.address, options.seconds)
        early = clients.early_responses()
        print(describe(f"with {options.clients} slow POSTs", beside), flush=True)
        good = clients.stop()
    print(
        f"slow requests with an early response: {early} (0); with the right one afterwards: {good} ({options.clients})"
    )
    p99_alone, p99_beside = (times[len(times) * 99 // 100] for times in (alone, beside))
    waited = p99_beside > options.most * p99_alone + 0.05
    print("the other client waited" if waited else "the other client waited for no thread")
    return int(waited or early != 0 or good != options.clients)


if __name__ == "__main__":
    sys.exit(main())
