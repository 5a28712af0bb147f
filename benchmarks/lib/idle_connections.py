"""Many idle connections, held open by a separate process, so that they do not use up the descriptors of the benchmark.

`idle_connections` starts that process: `python idle_connections.py PORT COUNT SECONDS`. Each connection does one
request for / first, because a connection without a request is not what keep-alive leaves open. The process prints a
JSON line with the number of open connections; when its standard input ends, a second one with how many still are open.
"""

import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SOURCES = 5
"""Source addresses, from 127.0.0.2 on: one address has ports for about 28,000 connections at most."""
BATCH = 100
"""Connections that are opened concurrently, so that a server that responds late does not make it take hours."""
OPEN_SECONDS = 60.0
"""To open all of them, unless another time is given."""
IP_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>; the socket module does not name it before Python 3.13."""


# In the benchmark.


@dataclass(frozen=True)
class Report:
    """How many connections are open, and why not all of them."""

    open: int
    error: str


class IdleConnections:
    """The process that holds the connections."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.opened = self._report()

    def _report(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline() or '{"open": 0, "error": "the process that holds them failed"}'
        return Report(**json.loads(line))

    def close(self) -> int:
        """Closes them; returns how many were still open."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._report().open


@contextmanager
def idle_connections(port: int, count: int, seconds: float = OPEN_SECONDS) -> Iterator[IdleConnections]:
    """Holds `count` connections to 127.0.0.1 while the block lasts, or as many as could be opened in `seconds`."""
    process = subprocess.Popen(
        (sys.executable, __file__, str(port), str(count), str(seconds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield IdleConnections(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# In the process that holds them.


def remaining(deadline: float) -> float:
    """Seconds left; TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("they could not be opened in time")
    return seconds


def connect(port: int, number: int, deadline: float) -> socket.socket:
    """Opens connection `number` and sends its request."""
    connection = socket.socket()
    connection.settimeout(remaining(deadline))
    # Without this the kernel chooses the port in bind(), where it must be unique among all destinations.
    connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return connection


def read_response(connection: socket.socket, deadline: float) -> None:
    """Reads the response, whose body is "hello"; the connection is idle then."""
    response = b""
    while not response.endswith(b"hello"):
        connection.settimeout(remaining(deadline))
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("the server closed the connection")
        response += data


def open_connections(port: int, count: int, seconds: float) -> tuple[list[socket.socket], str]:
    """Opens `count` connections, or as many as possible in `seconds`, and says why not all."""
    held: list[socket.socket] = []
    deadline = time.monotonic() + seconds
    try:
        while len(held) < count:
            batch = [connect(port, len(held) + i, deadline) for i in range(min(BATCH, count - len(held)))]
            for connection in batch:
                read_response(connection, deadline)
            held += batch
    except OSError as error:
        return held, str(error)
    return held, ""


def still_open(held: list[socket.socket]) -> int:
    """How many the server has not closed: an idle connection that is readable has been closed."""
    poll = select.poll()
    for connection in held:
        poll.register(connection, select.POLLIN)
    return len(held) - len(poll.poll(0))


def main() -> None:
    """Opens, reports, waits for the end of standard input, reports."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, count, seconds = sys.argv[1:]
    held, error = open_connections(int(port), int(count), float(seconds))
    print(json.dumps({"open": len(held), "error": error}), flush=True)
    sys.stdin.read()
    print(json.dumps({"open": still_open(held), "error": ""}), flush=True)


if __name__ == "__main__":
    main()
