"""Scenarios with more clients than descriptors, and with many clients at once."""

import select
import socket
import time
from contextlib import suppress

from lib.faults.scenario import GET, Bystander, Report, serve
from lib.kaserve_process import KaserveProcess


def descriptors(report: Report) -> None:
    """a descriptor limit of 256, and 400 clients that all stay"""
    with serve("--no-access-log", max_descriptors=256) as serving:
        start = time.monotonic()
        crowd = Crowd(serving, 400)
        served = crowd.wait_for_responses(60.0)
        report.add(
            f"{served} of 400 clients got a response, the last one after {time.monotonic() - start:.1f} s",
            "all, because idle ones are evicted",
            served == 400,
        )
        before = serving.cpu_seconds
        time.sleep(3)
        share = (serving.cpu_seconds - before) / 3
        report.add(f"{share:.0%} of a core while all of them are connected", "no busy loop: under 10 %", share < 0.1)
        crowd.close()
        bystander = Bystander(serving.address)
        time.sleep(2)
        p99 = bystander.p99()
        report.add(f"p99 of {p99 * 1000:.1f} ms after they have left", "full service: under 50 ms", p99 < 0.05)


class Crowd:
    """Clients that all connect at once. Each sends one request and stays; one that is evicted does not come back."""

    def __init__(self, serving: KaserveProcess, size: int) -> None:
        self._epoll = select.epoll()
        self._present: dict[int, socket.socket] = {}
        for _ in range(size):
            sock = socket.socket()
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(serving.address)
            self._present[sock.fileno()] = sock
            self._epoll.register(sock, select.EPOLLOUT)

    def wait_for_responses(self, seconds: float) -> int:
        """How many of them got a response, when all did or the time is over."""
        served, end = 0, time.monotonic() + seconds
        size = len(self._present)
        while served < size and time.monotonic() < end:
            for fd, events in self._epoll.poll(0.05):
                served += self._advance(fd, events)
        return served

    def _advance(self, fd: int, events: int) -> bool:
        """Whether its response has just arrived."""
        sock = self._present[fd]
        response = b""
        with suppress(ConnectionError):
            if not events & select.EPOLLIN:
                sock.send(GET)
                self._epoll.modify(fd, select.EPOLLIN)
                return False
            response = sock.recv(65536)
        if not response:
            del self._present[fd]
            sock.close()
        return b" 200 " in response

    def close(self) -> None:
        self._epoll.close()
        for sock in self._present.values():
            sock.close()


def burst(report: Report) -> None:
    """1,500 connections in one burst"""
    with serve("--no-access-log") as serving:
        for _ in range(3):
            start = time.monotonic()
            crowd = Crowd(serving, 1500)
            served = crowd.wait_for_responses(10.0)
            seconds = time.monotonic() - start
            report.add(
                f"{served} responses in {seconds:.2f} s", "all within a second", served == 1500 and seconds < 1.0
            )
            crowd.close()
            time.sleep(0.5)
