"""Tools for tests of the access log: connections that are logged, and what a line must look like."""

from __future__ import annotations

import re
from collections.abc import Callable

from kaserve import HTTPError, Request, Response
from kaserve.logs.access import AccessLog
from kaserve.net.service import Deadlines
from tests.tools.net import Net

# https://httpd.apache.org/docs/current/logs.html#common, to the letter.
TIME = r"\[(\d{2})/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-]\d{4})\]"
COMMON = re.compile(rf'([0-9a-f.:]+|unix) - - {TIME} "((?:[^"\\]|\\x[0-9a-f]{{2}})*)" ([2-5]\d{{2}}) (\d+|-)')
COMBINED = re.compile(COMMON.pattern + r' "((?:[^"\\]|\\x[0-9a-f]{2})*)" "((?:[^"\\]|\\x[0-9a-f]{2})*)"')


class Written:
    """The `write` of an access log: keeps the lines of each write."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []

    def __call__(self, data: bytes) -> None:
        text = data.decode("ascii")
        assert text.endswith("\n")
        self.writes.append(text.splitlines())

    @property
    def lines(self) -> list[str]:
        return [line for write in self.writes for line in write]


class LoggedNet(Net):
    """A reactor whose connections write an access log."""

    def __init__(
        self,
        log_format: str = "common",
        *,
        color: bool = False,
        handler: Callable[[Request], Response] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.written = Written()
        self.log = AccessLog(self.written, log_format=log_format, color=color, time=lambda: self.wall())
        super().__init__(handler or respond, access_log=self.log, deadlines=deadlines)
        self.reactor.after_turn.append(self.log.flush)


def respond(request: Request) -> Response:
    """The default handler: one kind of response per path."""
    if request.path == "/refused":
        raise HTTPError(403, "no")
    if request.path == "/empty":
        return Response(204)
    if request.path == "/pieces":
        return Response(200, iter([b"123", b"45678"]))
    if request.path == "/breaks":
        return Response(200, iter([b"123"]), [("Content-Length", "9")])
    return Response.text("hello")


def request_line(line: str) -> tuple[str, str, str]:
    """The quoted request, the status and the size of a line; fails unless it is in the Common Log Format."""
    match = COMMON.fullmatch(line)
    assert match is not None, line
    return match[9], match[10], match[11]
