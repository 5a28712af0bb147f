"""Attacks, accidents and bad luck: does kaserve stay up, small and polite, and lose no request?

    python benchmarks/faults.py [ROW ...]

Each row starts a server of its own, does to it what the row says, bounded and over the loopback interface, and compares
what it sees with what is asked. The exit code is 0 when all of it was kept. Linux only.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from processes import clean_up_when_terminated, raise_descriptor_limit, resident_bytes, wait_until
from punctual import Clients

from kaserve import Request, Response

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MIB = 1 << 20
GRACE = 1.0
"""Seconds that a connection is kept beyond what was announced."""
WINDOW = 1.0
"""Seconds in which a draining server still expects requests of connections that were just busy."""


def app(request: Request) -> Response:
    """What the servers answer: a few bytes, or 100 MiB in pieces."""
    if request.path == "/large":
        return Response(200, (b"x" * 65536 for _ in range(1600)))
    return Response.text("hello")


# The server, and what can be seen of it from outside.


class Server:
    """`python -m kaserve`. options: of its command line; port: 0 for a free one; descriptors: how many it may have."""

    def __init__(self, *options: str, port: int = 0, descriptors: int = 0, stderr: int = subprocess.DEVNULL) -> None:
        what = () if "--directory" in options else ("--handler", "faults:app")

        def limit() -> None:
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaserve", str(port), *what, "--metrics", "/metrics", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=limit,
        )
        assert self.process.stdout is not None
        match = None
        while match is None:
            line = self.process.stdout.readline()
            assert line, "the server did not start"
            match = re.search(rb"http://127\.0\.0\.1:(\d+)/", line)
        self.address = ("127.0.0.1", int(match[1]))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def resident(self) -> int:
        return resident_bytes(self.process.pid)

    def cpu(self) -> float:
        """Seconds so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> int:
        """A counter of its own."""
        with self.connect() as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        return sum(int(float(line.split()[-1])) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def stop(self) -> int:
        """The exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def server(*options: str, port: int = 0, descriptors: int = 0, stderr: int = subprocess.DEVNULL) -> Iterator[Server]:
    serving = Server(*options, port=port, descriptors=descriptors, stderr=stderr)
    try:
        yield serving
    finally:
        serving.process.kill()
        serving.process.wait()
        assert serving.process.stdout is not None
        serving.process.stdout.close()


class Bystander(threading.Thread):
    """A normal client, in a process of its own: one request after the other over one connection, all the while."""

    PROGRAM = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
while True:
    start = time.monotonic()
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    answer = sock.recv(65536)
    if b"Connection: close" in answer:
        sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
    print(time.monotonic() - start, flush=True)
    time.sleep(0.005)
"""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.latencies: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(address[1])], stdout=subprocess.PIPE, text=True
        )
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.latencies.append(float(line))

    def p99(self) -> float:
        self._process.kill()
        self._process.wait()
        self.join()
        latencies = sorted(self.latencies)
        return latencies[int(len(latencies) * 0.99)] if latencies else float("inf")


# Rows.


@dataclass
class Report:
    """What one row shows."""

    findings: list[tuple[str, str, bool]] = field(default_factory=list)

    def add(self, measured: str, asked: str, kept: bool) -> None:
        self.findings.append((measured, asked, kept))
        print(f"  {'ok  ' if kept else 'NOT '} {measured}  (asked: {asked})", flush=True)


def descriptors(report: Report) -> None:
    """a descriptor limit of 256, and 400 clients that all stay"""
    with server("--no-access-log", descriptors=256) as serving:
        start = time.monotonic()
        crowd = Crowd(serving, 400)
        served = crowd.serve(60.0)
        report.add(
            f"{served} of 400 clients served, the last one after {time.monotonic() - start:.1f} s",
            "all, by evicting idle ones",
            served == 400,
        )
        before = serving.cpu()
        time.sleep(3)
        share = (serving.cpu() - before) / 3
        report.add(f"{share:.0%} of a core with all of them there", "no spinning: under 10 %", share < 0.1)
        crowd.close()
        bystander = Bystander(serving.address)
        time.sleep(2)
        p99 = bystander.p99()
        report.add(f"p99 of {p99 * 1000:.1f} ms when they are gone", "full service: under 50 ms", p99 < 0.05)


class Crowd:
    """Clients that all come at once. Each asks once and stays; whoever is evicted goes, and does not come back."""

    def __init__(self, serving: Server, size: int) -> None:
        self._epoll = select.epoll()
        self._present: dict[int, socket.socket] = {}
        for _ in range(size):
            sock = socket.socket()
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(serving.address)
            self._present[sock.fileno()] = sock
            self._epoll.register(sock, select.EPOLLOUT)

    def serve(self, seconds: float) -> int:
        """How many of them have had their answers, when all have or the time is over."""
        served, end = 0, time.monotonic() + seconds
        size = len(self._present)
        while served < size and time.monotonic() < end:
            for fd, events in self._epoll.poll(0.05):
                served += self._advance(fd, events)
        return served

    def _advance(self, fd: int, events: int) -> bool:
        """Whether it has just had its answer."""
        sock = self._present[fd]
        answer = b""
        with suppress(ConnectionError):
            if not events & select.EPOLLIN:
                sock.send(GET)
                self._epoll.modify(fd, select.EPOLLIN)
                return False
            answer = sock.recv(65536)
        if not answer:
            del self._present[fd]
            sock.close()
        return b" 200 " in answer

    def close(self) -> None:
        self._epoll.close()
        for sock in self._present.values():
            sock.close()


def slowloris(report: Report) -> None:
    """1,000 connections that send a byte of a head every 0.5 s"""
    timeout = 10.0
    with server("--no-access-log", "--header-timeout", f"{timeout:g}") as serving:
        bystander = Bystander(serving.address)
        time.sleep(3.0)
        before = bystander.p99()
        bystander = Bystander(serving.address)
        socks = [serving.connect() for _ in range(1000)]
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 1000
        start = time.monotonic()
        for position in range(2 * int(timeout) + 10):
            for sock in socks:
                with suppress(OSError):
                    sock.send(head[position : position + 1])
            if position == 0:
                begun = time.monotonic()
            time.sleep(max(0.0, start + (position + 1) * 0.5 - time.monotonic()))
            if position % 2 and time.monotonic() > start + timeout - 1 and wait_until(lambda: gone(socks), 0.0):
                break
        wait_until(lambda: gone(socks), 5.0)
        seconds = time.monotonic() - begun
        report.add(
            f"all gone after {seconds:.1f} s", f"header_timeout + 1 s: {timeout + 1:g} s", seconds <= timeout + 1
        )
        p99 = bystander.p99()
        report.add(
            f"p99 of a normal client meanwhile {p99 * 1000:.1f} ms, {before * 1000:.1f} ms before them",
            "under 50 ms",
            p99 < 0.05,
        )
        answers = [sock.recv(65536) for sock in socks]
        refused = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        report.add(f"{refused} of 1000 were told 408", "all", refused == 1000)
        for sock in socks:
            sock.close()


def gone(socks: Sequence[socket.socket]) -> bool:
    """Whether the server has answered, and closed, all of them."""
    poller = select.poll()
    for sock in socks:
        poller.register(sock, select.POLLRDHUP)
    return len(poller.poll(0)) == len(socks)


def unread(report: Report) -> None:
    """50 clients that ask for 100 MiB and read nothing"""
    with tempfile.TemporaryDirectory() as directory:
        with open(Path(directory, "large"), "wb") as file:
            file.truncate(100 * MIB)
        for what, options in (("pieces", ()), ("a file", ("--directory", directory))):
            _unread(report, what, options)


def _unread(report: Report, what: str, options: tuple[str, ...]) -> None:
    timeout = 4.0
    with server("--no-access-log", "--send-timeout", f"{timeout:g}", *options) as serving:
        with serving.connect() as sock:  # whatever is imported late
            sock.sendall(GET)
            sock.recv(65536)
        before = serving.resident()
        socks = [serving.connect() for _ in range(50)]
        start = time.monotonic()
        for sock in socks:
            sock.sendall(GET.replace(b"/ ", b"/large ", 1))
        most = 0
        while time.monotonic() < start + timeout - 0.5:
            most = max(most, serving.resident() - before)
            time.sleep(0.2)
        report.add(f"{what}: {most / MIB:.1f} MiB more of resident memory", "under 20 MiB", most < 20 * MIB)
        wait_until(lambda: was_reset(socks), timeout)
        seconds = time.monotonic() - start
        reset = sum(was_reset([sock]) for sock in socks)
        report.add(
            f"{what}: {reset} of 50 aborted after {seconds:.1f} s",
            f"all, by the send deadline of {timeout:g} s",
            reset == 50 and seconds < 1.5 * timeout,
        )
        for sock in socks:
            sock.close()


def was_reset(socks: Sequence[socket.socket]) -> bool:
    poller = select.poll()
    for sock in socks:
        poller.register(sock, 0)
    return sum(bool(events & select.POLLERR) for _, events in poller.poll(0)) == len(socks)


def pipeline(report: Report) -> None:
    """50,000 pipelined requests of a client that never reads"""
    timeout = 4.0
    with server("--no-access-log", "--send-timeout", f"{timeout:g}", "--keep-alive-requests", "0") as serving:
        with serving.connect() as sock:
            sock.sendall(GET)
            sock.recv(65536)
        before = serving.resident()
        with serving.connect() as sock:
            sock.setblocking(False)
            data = memoryview(GET * 50_000)
            start, most = time.monotonic(), 0
            while time.monotonic() < start + timeout - 0.5:
                with suppress(BlockingIOError):
                    data = data[sock.send(data[:65536]) :] if data else data
                most = max(most, serving.resident() - before)
                time.sleep(0.005)
            report.add(f"{most / MIB:.1f} MiB more of resident memory", "under 5 MiB", most < 5 * MIB)
            aborted = wait_until(lambda: was_reset([sock]), timeout + 5)
            seconds = time.monotonic() - start
            report.add(f"aborted after {seconds:.1f} s", f"by the send deadline of {timeout:g} s", aborted)


def drain(report: Report) -> None:
    """1,000 idle connections at SIGTERM"""
    for what, pause, polite in (
        ("idle for 2 s", 2.0, True),
        ("just busy", 0.0, True),
        ("just busy, and deaf to our close", 0.0, False),
    ):
        with server("--no-access-log") as serving:
            socks = [serving.connect() for _ in range(1000)]
            for sock in socks:
                sock.sendall(GET)
            for sock in socks:
                assert b" 200 " in sock.recv(65536)
            time.sleep(pause)
            start = time.monotonic()
            serving.process.send_signal(signal.SIGTERM)
            if polite:
                closer = threading.Thread(target=close_when_closed, args=(socks,), daemon=True)
                closer.start()
            code = serving.process.wait(30)
            seconds = time.monotonic() - start
            after = max(0.0, seconds - (WINDOW if pause < WINDOW else 0.0))
            report.add(
                f"{what}: exit {code} after {seconds:.2f} s, {after:.2f} s after the drain window",
                "exit 0, under 1 s after the window",
                code == 0 and after < 1.0,
            )
            for sock in socks:
                sock.close()


def close_when_closed(socks: Sequence[socket.socket]) -> None:
    """What a client does that keeps an eye on its connections."""
    poller = select.poll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    while by_fd:
        for fd, _ in poller.poll(5000):
            poller.unregister(fd)
            by_fd.pop(fd).close()


def expiry(report: Report) -> None:
    """requests within 5 ms of the announced expiry, 10,000 samples"""
    tolerance = 0.005
    with server("--no-access-log", "--keep-alive", "1", "--keep-alive-requests", "0") as serving:
        clients = Clients(serving.address, 1.0, (-tolerance, tolerance), tolerance)
        clients.run(250, enough=10_000, seconds=240.0)
        counted = serving.metric("kaserve_races_lost_total")
    near, late = clients.in_time, clients.late
    report.add(
        f"{near.total} within 5 ms of the expiry: {near.answered} answered, {near.refused} refused before they were "
        f"sent, {near.lost} lost; {late.total} more were late, {late.lost} of them lost; the server counts {counted}",
        "none lost of 10,000",
        near.total >= 10_000 and near.lost == late.lost == counted == 0,
    )


def race(report: Report) -> None:
    """clients that ignore the announcement and send around the real close: watchful ones, then blind ones"""
    _race(report, "watchful", True)
    _race(report, "blind", False)


def _race(report: Report, what: str, watchful: bool) -> None:
    with server("--no-access-log", "--keep-alive", "1") as serving:
        clients = Clients(serving.address, 1.0 + GRACE, (-0.02, 0.14), watchful=watchful)
        clients.run(500, enough=3000, seconds=60.0)
        tally = clients.in_time
        wait_until(lambda: serving.metric("kaserve_races_lost_total") == tally.lost, 2.0)
        counted = serving.metric("kaserve_races_lost_total")
    report.add(
        f"{what}: {tally.answered} answered, {tally.refused} saw the close and did not send, {tally.lost} lost; "
        f"the server counts {counted} lost",
        "both count the same",
        tally.lost == counted and tally.total >= 3000,
    )


def burst(report: Report) -> None:
    """1,500 connections in one burst"""
    with server("--no-access-log") as serving:
        for _ in range(3):
            start = time.monotonic()
            crowd = Crowd(serving, 1500)
            served = crowd.serve(10.0)
            seconds = time.monotonic() - start
            report.add(f"{served} served in {seconds:.2f} s", "all within a second", served == 1500 and seconds < 1.0)
            crowd.close()
            time.sleep(0.5)


def port(report: Report) -> None:
    """a second server on the same port, and a third one as soon as the first has stopped"""
    with server("--no-access-log") as serving:
        _, number = serving.address
        command = [sys.executable, "-m", "kaserve", str(number), "--directory", "."]
        second = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        report.add(
            f"the second ends with {second.returncode} and {second.stderr.decode().strip()!r}",
            "exit code 3",
            second.returncode == 3,
        )
        for _ in range(100):  # closed by the server first: its side stays in TIME_WAIT
            serving.metric("kaserve_requests_total")
        stopped = serving.stop()
        with server("--no-access-log", port=number) as third, third.connect() as sock:
            sock.sendall(GET)
            answer = sock.recv(65536)
        report.add(
            f"the first ends with {stopped}, the third takes its port at once and answers {answer[9:15].decode()}",
            "the port can be taken again at once",
            stopped == 0 and b" 200 " in answer,
        )


def logs(report: Report) -> None:
    """an access log on a full disk, on a closed pipe, on one that nobody reads"""
    fastest = dict.fromkeys(("no trouble", "a full disk", "a closed pipe", "a pipe nobody reads"), math.inf)
    for _ in range(3):  # in turns, so that it is not decided by what else the machine has to do
        for what in fastest:
            stderr, *others = _open_log(what)
            fastest[what] = min(fastest[what], _seconds_with_log(stderr))
            for fd in (stderr, *others):
                os.close(fd)
    usual = fastest.pop("no trouble")
    for what, seconds in fastest.items():
        report.add(
            f"{what}: 10,000 requests in {seconds:.2f} s, {usual:.2f} s without trouble",
            "neither stops nor slows it (under 1.5 times)",
            seconds < 1.5 * usual,
        )


def _open_log(what: str) -> list[int]:
    """A descriptor to write to, and one that has to stay open meanwhile, if any."""
    if what in ("no trouble", "a full disk"):
        return [os.open("/dev/full" if what == "a full disk" else os.devnull, os.O_WRONLY)]
    reader, writer = os.pipe()
    if what == "a pipe nobody reads":
        return [writer, reader]
    os.close(reader)
    return [writer]


def _seconds_with_log(stderr: int) -> float:
    with server("--keep-alive-requests", "0", stderr=stderr) as serving, serving.connect() as sock:
        start = time.monotonic()
        for _ in range(10_000):
            sock.sendall(GET)
            assert b" 200 " in sock.recv(65536)
        return time.monotonic() - start


ROWS: dict[str, Callable[[Report], None]] = {
    function.__name__: function
    for function in (descriptors, slowloris, unread, pipeline, drain, expiry, race, burst, port, logs)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which ones: {', '.join(ROWS)} (default: all)")
    rows = parser.parse_args().rows or list(ROWS)
    clean_up_when_terminated()
    raise_descriptor_limit()
    kept = True
    for name in rows:
        print(f"{name}: {ROWS[name].__doc__}", flush=True)
        report = Report()
        ROWS[name](report)
        kept = kept and all(finding[2] for finding in report.findings)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
