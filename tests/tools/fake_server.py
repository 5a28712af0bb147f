"""Servers that misbehave in virtual time, for the tests of the probe.

`FakeServer` is a correct server, and each test switches one thing off. Nothing sleeps: a transport that waits moves the
clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kaserve.probe.report import Report, probe
from kaserve.probe.settings import ProbeSettings
from kaserve.probe.target import Target
from tests.tools.net import FakeClock

TARGET = Target("http", "h", 80, "h", "/")
DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
END, RESET = "end", "reset"
REQUEST = re.compile(rb"(GET|HEAD|POST) (\S+) HTTP/1\.([01])\r\n(.*?)\r\n\r\n", re.DOTALL)


@dataclass
class FakeServer:
    """A correct server in virtual time, unless a field says otherwise.

    Attributes:
        clock: the time, which a transport that waits moves.
        lines: field lines of every response.
        idle: seconds after which an idle connection is closed.
        announces: the Keep-Alive header of responses.
        limit: requests that one connection carries.
        says_close: whether the last response announces the end.
        keeps_1_0, closes_1_0: whether HTTP/1.0 connections persist with keep-alive, and end without it.
        keeps_1_1: whether HTTP/1.1 connections persist.
        pipelines: requests of one segment that get a response.
        shuffles: whether pipelined responses come in reverse order.
        body: what happens to request bodies: "drain", "misread", "close", "reset" or "ignore".
        heads_have_bodies: whether the response to HEAD has a body.
        lingers: whether bytes after the close are accepted.
        half_close: whether a client that half-closes gets its response.
        resets_idle: whether an idle connection ends with a reset.
        raw: the response to everything, after which the connection ends.
    """

    clock: FakeClock
    lines: tuple[str, ...] = ("Server: fake", DATE)
    idle: float = 5.0
    announces: str = "timeout=5, max=99"
    limit: int = 10**9
    says_close: bool = True
    keeps_1_0: bool = True
    closes_1_0: bool = True
    keeps_1_1: bool = True
    pipelines: int = 99
    shuffles: bool = False
    body: str = "drain"
    heads_have_bodies: bool = False
    lingers: bool = True
    half_close: bool = True
    resets_idle: bool = False
    raw: bytes | None = None

    def connect(self) -> FakeTransport:
        return FakeTransport(self)


@dataclass
class FakeTransport:
    """A connection to a fake server: a `Transport` in virtual time.

    Attributes:
        incoming: what will arrive, and when: bytes, `END` or `RESET`.
        served: requests that got a response.
        over: how the server has ended the connection, if it has.
        ended: whether the client has seen the end.
    """

    server: FakeServer
    incoming: list[tuple[float, bytes | str]] = field(default_factory=list)
    served: int = 0
    over: str = ""
    ended: bool = False

    def send(self, data: bytes) -> None:
        if self.ended:
            self.over = "" if self.server.lingers else RESET
            return
        if self.over:
            raise BrokenPipeError
        now = self.server.clock.now
        self.incoming = [event for event in self.incoming if event[0] <= now]  # without the end of an idle connection
        if self.server.raw is not None:
            self._enqueue(self.server.raw)
            self._enqueue(END)
            return
        responses = list(self._serve(data))
        if self.server.shuffles:
            responses.reverse()
        for response in responses:
            self._enqueue(response)
        over: str = self.over  # which _serve may have set
        if over:
            self._enqueue(over)
        else:
            last = RESET if self.server.resets_idle else END
            self.incoming.append((self.server.clock.now + self.server.idle, last))

    def _enqueue(self, event: bytes | str) -> None:
        self.incoming.append((self.server.clock.now, event))

    def _serve(self, data: bytes) -> Iterator[bytes]:
        server = self.server
        position = responses = 0
        while not self.over and responses < server.pipelines and (match := REQUEST.match(data, position)):
            method, path, minor, head = match.groups()
            position = match.end()
            fields = head.lower()
            has_body = b"content-length" in fields or b"chunked" in fields
            if has_body:
                position = position if server.body == "misread" else len(data)
                if server.body == "ignore":
                    return
                if server.body == "reset":
                    self.over = RESET
                    return
            self.served += 1
            responses += 1
            close = b"connection: close" in fields or not server.keeps_1_1 or self.served >= server.limit
            if minor == b"0":
                close = close or not (server.keeps_1_0 and b"keep-alive" in fields)
            header = "close" if close and server.says_close else "keep-alive" if minor == b"0" and not close else ""
            status = 404 if b"nothing-here" in path else 405 if has_body else 200
            lines = [f"HTTP/1.1 {status} x", *server.lines, "Content-Length: 5"]
            lines += [f"Connection: {header}"] if header else []
            lines += [f"Keep-Alive: {server.announces}"] if server.announces and not close else []
            yield (
                "\r\n".join(lines).encode()
                + b"\r\n\r\n"
                + (b"" if method == b"HEAD" and not server.heads_have_bodies else b"hello")
            )
            if (close and (minor == b"1" or server.closes_1_0)) or (has_body and server.body == "close"):
                self.over = END

    def receive(self, seconds: float) -> bytes:
        if self.ended:
            return b""
        if not self.incoming or self.incoming[0][0] > self.server.clock.now + seconds:
            self.server.clock.advance(seconds)
            raise TimeoutError
        at, event = self.incoming.pop(0)
        self.server.clock.now = max(self.server.clock.now, at)
        if event == RESET:
            raise ConnectionResetError
        self.ended = event == END
        return event if isinstance(event, bytes) else b""

    def was_reset(self, seconds: float) -> bool:
        self.server.clock.advance(seconds)
        return self.over == RESET

    def half_close(self) -> None:
        if not self.server.half_close:
            self.incoming = [(self.server.clock.now, END)]

    def close(self) -> None:
        self.incoming.clear()


def settings(**behaviour: Any) -> ProbeSettings:
    """Settings whose target is a fake server with this behaviour."""
    server = FakeServer(FakeClock(), **behaviour)
    return ProbeSettings(TARGET, server.connect, server.clock, max_requests=50)


def bad_report() -> Report:
    """The report on a server with a fault in every experiment."""
    faults = {
        "idle": 2.0,
        "limit": 7,
        "says_close": False,
        "lingers": False,
        "body": "misread",
        "closes_1_0": False,
        "heads_have_bodies": True,
    }
    return probe("http://h/", settings(lines=("Server: \x85\x9b31m",), **faults))
