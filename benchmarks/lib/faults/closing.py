"""Scenarios of closing connections: a graceful shutdown, and requests around the end of the idle time."""

import select
import socket
import threading
import time
from collections.abc import Sequence

from lib.faults.scenario import GET, Report, serve
from lib.processes import wait_until
from lib.timed_clients import TimedClients

GRACE = 1.0
"""Seconds for which a connection is kept after the announced idle time."""
RECENT_USE_GRACE = 1.0
"""Seconds for which a draining server waits for requests on connections that were just busy."""


def drain(report: Report) -> None:
    """1,000 idle connections at SIGTERM"""
    for what, pause, closes in (
        ("idle for 2 s", 2.0, True),
        ("just busy", 0.0, True),
        ("just busy, and ignoring our close", 0.0, False),
    ):
        with serve("--no-access-log") as serving:
            socks = [serving.connect() for _ in range(1000)]
            for sock in socks:
                sock.sendall(GET)
            for sock in socks:
                assert b" 200 " in sock.recv(65536)
            time.sleep(pause)
            start = time.monotonic()
            serving.drain()
            if closes:
                closer = threading.Thread(target=close_when_closed, args=(socks,), daemon=True)
                closer.start()
            code = serving.wait()
            seconds = time.monotonic() - start
            after = max(0.0, seconds - (RECENT_USE_GRACE if pause < RECENT_USE_GRACE else 0.0))
            report.add(
                f"{what}: exit {code} after {seconds:.2f} s, {after:.2f} s after RECENT_USE_GRACE",
                "exit 0, under 1 s after the grace",
                code == 0 and after < 1.0,
            )
            for sock in socks:
                sock.close()


def close_when_closed(socks: Sequence[socket.socket]) -> None:
    """What a client does that watches its idle connections: it closes those that the server closes."""
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
    with serve("--no-access-log", "--keep-alive", "1", "--keep-alive-requests", "0") as serving:
        clients = TimedClients(serving.address, 1.0, (-tolerance, tolerance), tolerance)
        clients.run(250, enough=10_000, seconds=240.0)
        counted = serving.metric("kaserve_races_lost_total")
    near, late = clients.in_time, clients.late
    report.add(
        f"{near.total} within 5 ms of the expiry: {near.answered} got a response, {near.unsent} saw the close first "
        f"and were not sent, {near.lost} lost; {late.total} more were late, {late.lost} of them lost; "
        f"the server counts {counted}",
        "none lost of 10,000",
        near.total >= 10_000 and near.lost == late.lost == counted == 0,
    )


def race(report: Report) -> None:
    """clients that ignore the announced time and send around the real close: with and without a look for it"""
    _race(report, "with a look", True)
    _race(report, "without", False)


def _race(report: Report, what: str, looks_first: bool) -> None:
    with serve("--no-access-log", "--keep-alive", "1") as serving:
        clients = TimedClients(serving.address, 1.0 + GRACE, (-0.02, 0.14), looks_first=looks_first)
        clients.run(500, enough=3000, seconds=60.0)
        tally = clients.in_time
        wait_until(lambda: serving.metric("kaserve_races_lost_total") == tally.lost, 2.0)
        counted = serving.metric("kaserve_races_lost_total")
    report.add(
        f"{what}: {tally.answered} got a response, {tally.unsent} saw the close and were not sent, {tally.lost} lost; "
        f"the server counts {counted} lost",
        "both count the same",
        tally.lost == counted and tally.total >= 3000,
    )
