"""The probe on kaserve itself, whose time is the test's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kaserve.probe.experiments.first_response import first_response
from kaserve.probe.experiments.persistence import persistence
from kaserve.probe.report import is_good, probe, problems
from kaserve.probe.settings import ProbeSettings
from kaserve.probe.transport import SocketTransport
from tests.tools.fake_server import TARGET
from tests.tools.server import Driven, hello


class DrivenTransport:
    """A connection to a server in this thread. Waiting runs the server, and moves its clock to the next deadline."""

    def __init__(self, driven: Driven) -> None:
        self._driven = driven
        self._sock = driven.connect().sock

    def send(self, data: bytes) -> None:
        self._sock.settimeout(0)
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                pass
            self._driven.turn()

    def receive(self, seconds: float) -> bytes:
        self._sock.settimeout(0)
        clock = self._driven.clock
        end = clock.now + seconds
        while True:
            self._driven.settle()
            try:
                return self._sock.recv(65536)
            except BlockingIOError:
                wait = self._driven.server.timeout()
            if wait is None or clock.now + wait > end:
                clock.now = end
                raise TimeoutError
            clock.advance(max(wait, 1e-6))

    def was_reset(self, seconds: float) -> bool:
        self._driven.settle()
        return SocketTransport(self._sock, 0).was_reset(0)

    def half_close(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


@contextmanager
def kaserve(**settings: Any) -> Iterator[ProbeSettings]:
    with Driven(hello, **settings) as driven:
        yield ProbeSettings(TARGET, lambda: DrivenTransport(driven), driven.clock, max_wait=200.0, max_requests=20)


def test_kaserve() -> None:
    with kaserve(keep_alive=7.0, keep_alive_requests=12) as probed:
        report = probe("http://h/", probed)
    assert (report.basics.timeout, report.basics.max) == (7, 11)
    assert {name: str(finding) for name, finding in report.findings.items()} == {
        "persists_1_1": "yes (Connection: keep-alive)",
        "persists_1_0_keep_alive": "yes (Connection: keep-alive)",
        "persists_1_0": "no (Connection: close)",
        "pipelining": "all 6 responses, in order",
        "unread_body": "200, keeps the connection",
        "chunked_request": "200, keeps the connection",
        "closing": "half-closes, and lingers",
        "half_closed_client": "gets its response",
        "request_limit": "12, the last response says close",
        "idle": "8.0 s",
    }
    assert problems(report) == []
    assert is_good(report)


def test_kaserve_without_keep_alive() -> None:
    with kaserve(keep_alive=0.0) as probed:
        assert str(persistence(probed, "1.1")) == "no (Connection: close)"
        assert first_response(probed).announced == "none"
