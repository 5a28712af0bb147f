"""Hold many idle connections open: a process of its own, so that its descriptors are nobody else's.

    python idle_holder.py PORT COUNT [SECONDS]

Each connection does one request for / first, for a connection that never did one is not what keep-alive leaves behind.
A JSON line tells how many are open.  When standard input ends, a second line tells how many still are.
"""

import json
import resource
import select
import socket
import sys
import time

SOURCES = 5
"""Source addresses, from 127.0.0.2 on: one alone has ports for about 28,000 connections at most."""
BATCH = 100
"""Connections that are opened side by side, so that a server which answers late does not make it take hours."""
OPEN_SECONDS = 60.0
"""For all of them together, unless told otherwise."""
IP_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>; the socket module does not name it before Python 3.13."""


def remaining(deadline: float) -> float:
    """Seconds left; TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("they could not be opened in time")
    return seconds


def connect(port: int, number: int, deadline: float) -> socket.socket:
    """Open connection `number` and send its request."""
    connection = socket.socket()
    connection.settimeout(remaining(deadline))
    # Without this the kernel would choose the port at bind, for all destinations at once.
    connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return connection


def read_answer(connection: socket.socket, deadline: float) -> None:
    """Read the answer, whose body is "hello", and leave the connection ready to wait."""
    answer = b""
    while not answer.endswith(b"hello"):
        connection.settimeout(remaining(deadline))
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("the server closed the connection")
        answer += data


def open_connections(port: int, count: int, seconds: float) -> tuple[list[socket.socket], str]:
    """Open `count` connections, or as many as can be had in so many `seconds`, and the reason why not all."""
    held: list[socket.socket] = []
    deadline = time.monotonic() + seconds
    try:
        while len(held) < count:
            batch = [connect(port, len(held) + i, deadline) for i in range(min(BATCH, count - len(held)))]
            for connection in batch:
                read_answer(connection, deadline)
            held += batch
    except OSError as error:
        return held, str(error)
    return held, ""


def still_open(held: list[socket.socket]) -> int:
    """How many were not closed by the server: an idle connection that is readable has been."""
    poll = select.poll()
    for connection in held:
        poll.register(connection, select.POLLIN)
    return len(held) - len(poll.poll(0))


def main() -> None:
    """Open, report, wait for the end of standard input, report."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, count, *seconds = sys.argv[1:]
    held, error = open_connections(int(port), int(count), float(seconds[0]) if seconds else OPEN_SECONDS)
    print(json.dumps({"open": len(held), "error": error}), flush=True)
    sys.stdin.read()
    print(json.dumps({"open": still_open(held), "error": ""}), flush=True)


if __name__ == "__main__":
    main()
