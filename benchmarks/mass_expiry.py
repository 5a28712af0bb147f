"""Many idle connections that expire at the same moment: does another client wait?

    python benchmarks/mass_expiry.py                  # as many as the descriptor limit allows
    python benchmarks/mass_expiry.py --count 100000   # after: ulimit -n 300000

Opens the connections from several loopback addresses, one request each; stops the server (SIGSTOP) until all of them
are past their idle time, and resumes it. Meanwhile one client sends one request after another.
Prints the memory of each idle connection and the longest wait of the client after the server was resumed. Exits with 1
above --most milliseconds.
"""

import argparse
import os
import resource
import signal
import socket
import sys
import time

from lib.idle_connections import idle_connections
from lib.kaserve_process import KaserveProcess
from lib.processes import raise_descriptor_limit

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def ask(connection: socket.socket) -> float:
    """One request and its response; how many seconds that took."""
    began = time.monotonic()
    connection.sendall(REQUEST)
    response = b""
    while not response.endswith(b"hello"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError("the server closed the connection of the client")
        response += piece
    return time.monotonic() - began


def main() -> int:
    """Opens the connections, lets them expire, and prints the waits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    parser = argparse.ArgumentParser(description="Many idle connections that expire at once.")
    # Above three quarters of the limit, kaserve announces shorter idle times.
    parser.add_argument("--count", type=int, default=int(hard * 0.7), help="idle connections (%(default)s)")
    parser.add_argument(
        "--idle", type=int, default=20, help="seconds until they expire, and to open them (%(default)s)"
    )
    parser.add_argument("--most", type=float, default=50.0, help="milliseconds that the client may wait (%(default)s)")
    options = parser.parse_args()
    raise_descriptor_limit()
    with (
        KaserveProcess(
            *("0", "--handler", "hello_app:hello", "--no-access-log"),
            *("--keep-alive", str(options.idle), "--keep-alive-requests", "0"),
        ) as server,
        server.connect() as client,
    ):
        ask(client)
        before = server.resident_bytes
        with idle_connections(server.address[1], options.count, options.idle) as idle:
            opened = idle.opened.open
            each = (server.resident_bytes - before) / max(1, opened)
            print(f"{opened} idle connections {idle.opened.error}: {each:.0f} bytes each", flush=True)
            alone = max(ask(client) for _ in range(2000))
            waits = let_expire(server, options.idle + 2)
            left = idle.close()
    worst = max(waits) * 1000
    print(f"{opened - left} closed at once; longest wait {worst:.1f} ms meanwhile, {alone * 1000:.1f} ms before")
    return 0 if worst <= options.most and left == 0 else 1


def let_expire(server: KaserveProcess, seconds: float) -> list[float]:
    """Stops the server for `seconds`; how long each request took in the 5 s after it went on."""
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(seconds)
    waits = []
    with server.connect() as client:  # a new one: the connection of the first client has expired as well
        os.kill(server.pid, signal.SIGCONT)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            waits.append(ask(client))
    return waits


if __name__ == "__main__":
    sys.exit(main())
