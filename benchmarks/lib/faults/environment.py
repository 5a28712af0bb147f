"""Scenarios of the system around the server: its port, and an access log that cannot be written."""

import math
import os
import subprocess
import sys
import time

from lib.environment import kaserve_environment
from lib.faults.scenario import GET, Report, serve
from lib.kaserve_process import KaserveProcess


def port(report: Report) -> None:
    """a second server on the same port, and a third one as soon as the first has stopped"""
    with serve("--no-access-log") as serving:
        _, number = serving.address
        command = [sys.executable, "-m", "kaserve", str(number), "--directory", "."]
        second = subprocess.run(
            command,
            env=os.environ | kaserve_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        report.add(
            f"the second ends with {second.returncode} and {second.stderr.decode().strip()!r}",
            "exit code 3",
            second.returncode == 3,
        )
        for _ in range(100):  # closed by the server first, so that its side stays in TIME_WAIT
            serving.metric("kaserve_requests_total")
        stopped = _stop(serving)
        with serve("--no-access-log", port=number) as third, third.connect() as sock:
            sock.sendall(GET)
            response = sock.recv(65536)
        report.add(
            f"the first ends with {stopped}, the third takes its port and responds {response[9:15].decode()}",
            "the port can be used again immediately",
            stopped == 0 and b" 200 " in response,
        )


def _stop(serving: KaserveProcess) -> int:
    serving.drain()
    return serving.wait()


def logs(report: Report) -> None:
    """an access log on a full disk, on a closed pipe, on a pipe that is never read"""
    fastest = dict.fromkeys(("no trouble", "a full disk", "a closed pipe", "a pipe that is never read"), math.inf)
    for _ in range(3):  # interleaved, so that a busy moment of the machine slows all of them
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
    if what == "a pipe that is never read":
        return [writer, reader]
    os.close(reader)
    return [writer]


def _seconds_with_log(stderr: int) -> float:
    with serve("--keep-alive-requests", "0", stderr=stderr) as serving, serving.connect() as sock:
        start = time.monotonic()
        for _ in range(10_000):
            sock.sendall(GET)
            assert b" 200 " in sock.recv(65536)
        return time.monotonic() - start
