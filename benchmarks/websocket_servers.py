"""WebSockets: what an echo costs, and what an idle WebSocket costs, for kaserve, uvicorn and granian.

    python benchmarks/websocket_servers.py [--rounds N] [--seconds S] [--idle N] [--only NAMES] [--json FILE]

Each server runs the same application (apps/echo_websocket.py) on one core, and the clients run on another. The clients
speak raw frames, so that they cost little. The servers take turns in each round, and a ratio is the median of those
within the rounds. "cpu" is the processor time of the server per message. The workloads:

    64 B x 32     32 clients, each of which sends 64 bytes again when it has them back
    64 B x 1      one client
    64 KiB x 8    8 clients, 64 KiB
    idle          --idle WebSockets that have echoed one message each: resident memory of each
    compressed    the same with permessage-deflate
"""

import argparse
import json
import os
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from lib.processes import Child, Command, running
from lib.tables import align

HOST = "127.0.0.1"
SERVER_CORE, CLIENT_CORE = 0, 1
START_SECONDS = 15.0
SOURCES = 5  # source addresses of the idle ones: one has ports for about 28,000
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
APPS = Path(__file__).parent / "apps"

WORKLOADS = {"64 B x 32": (64, 32), "64 B x 1": (64, 1), "64 KiB x 8": (65536, 8)}
"""Bytes of a message, and clients."""

Arguments = Callable[[int], Sequence[str]]
SERVERS: dict[str, Arguments] = {
    "kaserve": lambda port: ("kaserve", "echo_websocket:app", str(port), "--no-access-log"),
    "kaserve-uvloop": lambda port: ("kaserve", "echo_websocket:app", str(port), "--no-access-log", "--loop", "uvloop"),
    "uvicorn": lambda port: _uvicorn(port, "auto"),
    "uvicorn-sansio": lambda port: _uvicorn(port, "websockets-sansio"),
    "uvicorn-wsproto": lambda port: _uvicorn(port, "wsproto"),
    "granian": lambda port: (
        *("granian", "--interface", "asgi", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--loop", "uvloop", "--no-access-log", "echo_websocket:app"),
    ),
}


def _uvicorn(port: int, implementation: str) -> Sequence[str]:
    return (
        *("uvicorn", "echo_websocket:app", "--host", HOST, "--port", str(port), "--loop", "uvloop"),
        *("--ws", implementation, "--no-access-log", "--log-level", "warning", "--backlog", "4096"),
    )


# Clients.


def connect(port: int, number: int = 0, *more: str) -> socket.socket:
    """Opens a WebSocket; `more` are further lines of its request."""
    sock = socket.socket()
    sock.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    sock.settimeout(START_SECONDS)
    sock.connect((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = ["GET / HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}", *more]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(1)
        if not data:
            raise ConnectionError(f"no handshake: {head!r}")
        head += data
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"no handshake: {head!r}")
    return sock


def frame(size: int) -> bytes:
    """A binary message of a client, masked."""
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")
    return b"\x82" + length + b"\1\2\3\4" + bytes(i % 256 for i in range(size))


def size_of_echo(size: int) -> int:
    """Bytes of the same message from the server."""
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def echo(port: int, size: int, clients: int, seconds: float) -> int:
    """Has `clients` send and receive for `seconds`; returns how many messages came back."""
    message, expected = frame(size), size_of_echo(size)
    socks = [connect(port) for _ in range(clients)]
    poll = select.epoll()
    left, unsent, by_fd = {}, {}, {}
    for sock in socks:
        fd = sock.fileno()
        by_fd[fd], left[fd], unsent[fd] = sock, expected, b""
        sock.setblocking(False)
        poll.register(fd, select.EPOLLIN)
    buffer = bytearray(1 << 18)
    count = 0

    def send(fd: int, data: bytes) -> None:
        try:
            sent = by_fd[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data) or unsent[fd]:
            unsent[fd] = data[sent:]
            poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if sent < len(data) else 0))

    for fd in by_fd:
        send(fd, message)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for fd, events in poll.poll(1.0):
            if events & select.EPOLLOUT:
                send(fd, unsent[fd])
            if events & ~select.EPOLLOUT:
                received = by_fd[fd].recv_into(buffer)
                if not received:
                    raise ConnectionError("the server closed a WebSocket")
                left[fd] -= received
                if left[fd] <= 0:
                    count += 1
                    left[fd] = expected
                    send(fd, message)
    for sock in socks:
        sock.close()
    poll.close()
    return count


# Measuring.


def wait_for(port: int, child: Child) -> None:
    """Waits until the server accepts WebSockets."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            connect(port).close()
            return
        except OSError as error:
            if time.monotonic() > end or not child.alive():
                raise RuntimeError(f"it does not start: {error}; {child.last_words()}") from None
            time.sleep(0.05)


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def measure_echo(port: int, child: Child, size: int, clients: int, seconds: float) -> dict[str, float]:
    """Messages per second, and microseconds of the server's processor per message."""
    echo(port, size, clients, seconds / 4)
    before, began = child.cpu_seconds(), time.perf_counter()
    count = echo(port, size, clients, seconds)
    elapsed = time.perf_counter() - began
    return {"rate": count / elapsed, "cpu_us": (child.cpu_seconds() - before) / count * 1e6}


def measure_idle(port: int, child: Child, count: int, *more: str) -> dict[str, float]:
    """Bytes of resident memory for each of `count` idle WebSockets."""
    before = child.resident_bytes()
    socks = []
    message = frame(64)
    for number in range(count):
        sock = connect(port, number, *more)
        sock.sendall(message)
        sock.recv(1)  # the echo, compressed or not
        socks.append(sock)
    after = child.resident_bytes()
    for sock in socks:
        sock.close()
    return {"bytes": (after - before) / count}


def run(name: str, idle: int, seconds: float) -> dict[str, dict[str, float]]:
    """Starts one server, and measures it."""
    port = free_port()
    module, *arguments = SERVERS[name](port)
    path = os.pathsep.join((str(APPS), *filter(None, [os.environ.get("PYTHONPATH")])))
    command = Command((sys.executable, "-m", module, *arguments), {"PYTHONPATH": path})
    with (
        tempfile.TemporaryDirectory() as directory,
        running(command, core=SERVER_CORE, directory=Path(directory)) as child,
    ):
        wait_for(port, child)
        results = {
            label: measure_echo(port, child, size, clients, seconds) for label, (size, clients) in WORKLOADS.items()
        }
        if idle:
            results["idle"] = measure_idle(port, child, idle)
    with (
        tempfile.TemporaryDirectory() as directory,
        running(command, core=SERVER_CORE, directory=Path(directory)) as child,
    ):
        if idle:
            wait_for(port, child)
            results["compressed"] = measure_idle(
                port, child, idle, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
            )
    return results


def table(samples: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    """The medians, and what the first server has of each other one's processor time, within the rounds."""
    first = next(iter(samples))
    rows = [["workload", "server", "messages/s", "cpu us", f"cpu, times {first}"]]
    for label in WORKLOADS:
        for name, rounds in samples.items():
            pairs = zip(samples[first], rounds, strict=True)
            ratios = [theirs[label]["cpu_us"] / ours[label]["cpu_us"] for ours, theirs in pairs]
            figures = [median(each[label][key] for each in rounds) for key in ("rate", "cpu_us")]
            rows.append([label, name, f"{figures[0]:,.0f}", f"{figures[1]:.1f}", f"{median(ratios):.2f}"])
    for label in ("idle", "compressed"):
        for name, rounds in samples.items():
            if label in rounds[0]:
                rows.append([label, name, f"{median(each[label]['bytes'] for each in rounds):,.0f} bytes", "", ""])
    return "\n".join(align(rows))


def main() -> None:
    """Runs the rounds, and prints a table."""
    parser = argparse.ArgumentParser(description="What an echo and an idle WebSocket cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--only", default=",".join(SERVERS), help="names, separated by commas")
    parser.add_argument("--json", type=Path, help="where to write all samples")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CLIENT_CORE})
    samples: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in options.only.split(",")}
    for _ in range(options.rounds):
        for name, rounds in samples.items():
            rounds.append(run(name, options.idle, options.seconds))
    print(table(samples))
    if options.json:
        options.json.write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    main()
