"""Scenarios with clients that send or read too slowly, or not at all."""

import select
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lib.faults.scenario import GET, MIB, Bystander, Report, serve
from lib.processes import wait_until


def slowloris(report: Report) -> None:
    """1,000 connections that send a byte of a head every 0.5 s"""
    timeout = 10.0
    with serve("--no-access-log", "--header-timeout", f"{timeout:g}") as serving:
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
            if position % 2 and time.monotonic() > start + timeout - 1 and wait_until(lambda: are_closed(socks), 0.0):
                break
        wait_until(lambda: are_closed(socks), 5.0)
        seconds = time.monotonic() - begun
        report.add(
            f"all closed after {seconds:.1f} s", f"header_timeout + 1 s: {timeout + 1:g} s", seconds <= timeout + 1
        )
        p99 = bystander.p99()
        report.add(
            f"p99 of a normal client meanwhile {p99 * 1000:.1f} ms, {before * 1000:.1f} ms before them",
            "under 50 ms",
            p99 < 0.05,
        )
        responses = [sock.recv(65536) for sock in socks]
        rejected = sum(response.startswith(b"HTTP/1.1 408 ") for response in responses)
        report.add(f"{rejected} of 1000 got a 408", "all", rejected == 1000)
        for sock in socks:
            sock.close()


def are_closed(socks: Sequence[socket.socket]) -> bool:
    """Whether the server has closed all of them."""
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
    with serve("--no-access-log", "--send-timeout", f"{timeout:g}", *options) as serving:
        with serving.connect() as sock:  # so that modules that are imported late are there
            sock.sendall(GET)
            sock.recv(65536)
        before = serving.resident_bytes
        socks = [serving.connect() for _ in range(50)]
        start = time.monotonic()
        for sock in socks:
            sock.sendall(GET.replace(b"/ ", b"/large ", 1))
        most = 0
        while time.monotonic() < start + timeout - 0.5:
            most = max(most, serving.resident_bytes - before)
            time.sleep(0.2)
        report.add(f"{what}: {most / MIB:.1f} MiB more of resident memory", "under 20 MiB", most < 20 * MIB)
        wait_until(lambda: were_reset(socks), timeout)
        seconds = time.monotonic() - start
        reset = sum(were_reset([sock]) for sock in socks)
        report.add(
            f"{what}: {reset} of 50 aborted after {seconds:.1f} s",
            f"all, by the send deadline of {timeout:g} s",
            reset == 50 and seconds < 1.5 * timeout,
        )
        for sock in socks:
            sock.close()


def were_reset(socks: Sequence[socket.socket]) -> bool:
    """Whether the server has reset all of them."""
    poller = select.poll()
    for sock in socks:
        poller.register(sock, 0)
    return sum(bool(events & select.POLLERR) for _, events in poller.poll(0)) == len(socks)


def pipeline(report: Report) -> None:
    """50,000 pipelined requests of a client that never reads"""
    timeout = 4.0
    with serve("--no-access-log", "--send-timeout", f"{timeout:g}", "--keep-alive-requests", "0") as serving:
        with serving.connect() as sock:
            sock.sendall(GET)
            sock.recv(65536)
        before = serving.resident_bytes
        with serving.connect() as sock:
            sock.setblocking(False)
            data = memoryview(GET * 50_000)
            start, most = time.monotonic(), 0
            while time.monotonic() < start + timeout - 0.5:
                with suppress(BlockingIOError):
                    data = data[sock.send(data[:65536]) :] if data else data
                most = max(most, serving.resident_bytes - before)
                time.sleep(0.005)
            report.add(f"{most / MIB:.1f} MiB more of resident memory", "under 5 MiB", most < 5 * MIB)
            aborted = wait_until(lambda: were_reset([sock]), timeout + 5)
            seconds = time.monotonic() - start
            report.add(f"aborted after {seconds:.1f} s", f"by the send deadline of {timeout:g} s", aborted)
