"""The experiments: each asks a server one question over lines of its own, and returns a finding.

A finding is data (for JSON) that can say itself in a few words (for the table). Knows what the RFCs expect, as far as
the words need it; how a line works is `line`'s affair. No experiment takes for ever: see `ProbeSettings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..http.dates import format_date, parse_date
from ..http.keep_alive import read_max, read_timeout
from ..http.messages import KEEP_ALIVE, TRANSFER_ENCODING
from ..http.responses import ReceivedResponse
from .line import ClientConnection, NoAnswer, Target, Transport

__all__ = [
    "Basics",
    "Body",
    "Chunks",
    "Closing",
    "Finding",
    "HalfClose",
    "Idle",
    "Limit",
    "Persistence",
    "Pipeline",
    "ProbeSettings",
    "chunked_request",
    "closing",
    "first_answer",
    "half_closed_client",
    "idle",
    "persistence",
    "pipelining",
    "request_limit",
    "unread_body",
]

_CROSSING = 0.1  # seconds that a request may be on its way when the server closes
_MISSING = "/kaserve-probe-finds-nothing-here"
_BODY_SIZE = 128 * 1024  # more than any server reads by the way


@dataclass(frozen=True)
class ProbeSettings:
    """What the experiments are made with.

    patience: seconds for an answer. settle: for what should come at once, if it comes. most_wait: for the idle
    time-out, and for the requests of `request_limit` altogether. most_requests: of those.
    """

    target: Target
    connect: Callable[[], Transport]
    clock: Callable[[], float]
    patience: float = 10.0
    settle: float = 0.5
    most_wait: float = 15.0
    most_requests: int = 1200

    def line(self) -> ClientConnection:
        return ClientConnection(self.connect(), self.clock, self.patience)

    def get(self, *fields: str, path: str = "", version: str = "1.1") -> bytes:
        return self.target.request("GET", *fields, path=path, version=version)


@dataclass(frozen=True)
class Finding:
    """Says itself in a few words. good: as a client would wish; None where it is a matter of taste."""

    @property
    def good(self) -> bool | None:
        return None


@dataclass(frozen=True)
class Basics(Finding):
    """One request. date: "there", "missing" or "malformed". timeout, max: what its Keep-Alive announces."""

    status: int
    version: str
    server: str
    date: str
    timeout: int | None
    max: int | None

    @property
    def good(self) -> bool | None:
        return self.date == "there"

    def __str__(self) -> str:
        return f"{self.version}, status {self.status}, {self.server or 'no Server field'}"

    @property
    def announced(self) -> str:
        figures = {"timeout": self.timeout, "max": self.max}
        return ", ".join(f"{name}={value}" for name, value in figures.items() if value is not None) or "nothing"


def first_answer(lab: ProbeSettings) -> Basics:
    """Raises NoAnswer."""
    with lab.line() as line:
        answer = line.ask("GET", lab.get("Connection: keep-alive"))
    date = answer.headers.get("date")
    announced = answer.headers.combined("keep-alive") or ""
    return Basics(
        answer.status,
        f"HTTP/1.{answer.head.minor}",
        answer.headers.get("server") or "",
        "missing" if date is None else "there" if _is_date(date) else "malformed",
        read_timeout(announced),
        read_max(announced),
    )


def _is_date(text: str) -> bool:
    """Of the three forms only IMF-fixdate may be sent (RFC 9110 §5.6.7)."""
    seconds = parse_date(text, 0.0)
    return seconds is not None and format_date(seconds) == text


@dataclass(frozen=True)
class Persistence(Finding):
    """Whether a second request was answered. said: Connection of the first answer. ended: how the line ended, if so."""

    persists: bool
    said: str
    ended: str

    def __str__(self) -> str:
        said = f"says {self.said!r}" if self.said else "says nothing"
        if self.persists:
            return f"yes ({said})"
        return f"no ({said}{'' if self.ended else ', yet does not close'})"


def persistence(lab: ProbeSettings, version: str, *fields: str) -> Persistence:
    with lab.line() as line:
        answer = line.ask("GET", lab.get(*fields, version=version))
        said = answer.headers.combined("connection") or ""
        # To an HTTP/1.0 client only a word means that the connection goes on, whatever version answers (RFC 9112 §9.3).
        agreed = answer.persists and (version != "1.0" or answer.head.flags & KEEP_ALIVE != 0)
        if agreed and not line.ended:
            try:
                line.ask("GET", lab.get(*fields, version=version))
            except NoAnswer:
                agreed = False
        if not agreed:
            line.wait_for_end(lab.settle)
        return Persistence(agreed, said, line.ended)


@dataclass(frozen=True)
class Pipeline(Finding):
    """Requests in one segment. answered: of `sent`. in_order: as far as they can be told apart. why: it was not all of
    them. heads_have_bodies: HEAD is answered with a body, and so was left out."""

    sent: int
    answered: int
    in_order: bool
    why: str
    heads_have_bodies: bool

    @property
    def good(self) -> bool | None:
        return self.answered == self.sent and self.in_order and not self.heads_have_bodies

    def __str__(self) -> str:
        if self.answered == self.sent:
            return f"all {self.sent} answered, {'in order' if self.in_order else 'NOT in order'}"
        return f"{self.answered} of {self.sent} answered, then {self.why}"


def pipelining(lab: ProbeSettings) -> Pipeline:
    """A resource, the head of it, one that is missing, in turns: answers in another order would show, by their status
    or by a body where there is none."""
    requests = [("GET", ""), ("HEAD", ""), ("GET", _MISSING), ("GET", ""), ("HEAD", _MISSING), ("GET", "")]
    alone: dict[tuple[str, str], int] = {}
    heads_have_bodies = False
    for method, path in dict.fromkeys(requests):
        with lab.line() as line:
            alone[method, path] = line.ask(method, lab.target.request(method, path=path)).status
            heads_have_bodies |= method == "HEAD" and line.hears_more(lab.settle)
    if heads_have_bodies:  # then nobody could say where the next answer begins
        requests = [request for request in requests if request[0] != "HEAD"]
    statuses: list[int] = []
    why = ""
    with lab.line() as line:
        segment = b"".join(lab.target.request(method, path=path) for method, path in requests)
        line.send(segment, *(method for method, _ in requests))
        try:
            while len(statuses) < len(requests):
                answer = line.answer()
                statuses.append(answer.status)
                if not answer.persists and len(statuses) < len(requests):
                    why = f"closed ({_said(answer)})"
                    break
        except NoAnswer as error:
            why = str(error)
    expected = [alone[request] for request in requests[: len(statuses)]]
    return Pipeline(len(requests), len(statuses), statuses == expected, why, heads_have_bodies)


def _said(answer: ReceivedResponse) -> str:
    connection = answer.headers.combined("connection")
    return f"says {connection!r}" if connection else "without a word"


@dataclass(frozen=True)
class Body(Finding):
    """A POST with a body. then: "goes on", "closes" (and said so), "closes without a word", "resets", "takes the body
    for requests" or "falls silent". status: 0 when the answer was lost."""

    status: int
    then: str

    @property
    def good(self) -> bool | None:
        return self.status != 0 and self.then in ("goes on", "closes")

    def __str__(self) -> str:
        return f"{self.status or 'answer lost'}, {self.then}"


def unread_body(lab: ProbeSettings) -> Body:
    """The body is made of requests, so that a server which does not skip it will show that it does not."""
    inner = lab.get()
    body = inner * (_BODY_SIZE // len(inner))
    fields = ("Content-Type: application/octet-stream", f"Content-Length: {len(body)}")
    return _body_taken(lab, lab.target.request("POST", *fields, body=body))


def _body_taken(lab: ProbeSettings, request: bytes) -> Body:
    with lab.line() as line:
        try:
            answer = line.ask("POST", request)
        except NoAnswer as error:
            return Body(0, "resets" if line.ended == "reset" else f"says nothing ({error})")
        return Body(answer.status, _what_follows(lab, line, answer))


def _what_follows(lab: ProbeSettings, line: ClientConnection, answer: ReceivedResponse) -> str:
    """What a line does after an answer to a request with a body."""
    if line.hears_more(lab.settle):
        return "takes the body for requests"
    if not answer.persists:
        line.wait_for_end(lab.settle)
        return {"reset": "resets", "closed": "closes"}.get(line.ended, "says it closes, and does not")
    if not line.ended:
        try:
            line.ask("GET", lab.get())
            return "goes on"
        except NoAnswer as error:
            if not line.ended:
                return f"falls silent ({error})"
    return "resets" if line.ended == "reset" else "closes without a word"


@dataclass(frozen=True)
class Chunks(Finding):
    """A chunked request with a trailer, and whether an answer came in chunks."""

    status: int
    then: str
    answers_in_chunks: bool

    @property
    def good(self) -> bool | None:
        return self.status not in (0, 400, 501) and self.then in ("goes on", "closes")

    def __str__(self) -> str:
        return f"{self.status or 'answer lost'}, {self.then}"


def chunked_request(lab: ProbeSettings) -> Chunks:
    body = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX-Probe: trailer\r\n\r\n"
    fields = ("Content-Type: application/octet-stream", "Transfer-Encoding: chunked", "Trailer: X-Probe")
    found = _body_taken(lab, lab.target.request("POST", *fields, body=body))
    with lab.line() as line:
        answer = line.ask("GET", lab.get("TE: trailers"))
    return Chunks(found.status, found.then, answer.head.flags & TRANSFER_ENCODING != 0)


@dataclass(frozen=True)
class Limit(Finding):
    """One request after the other. ended: how the line ended, "" when it was still open behind the last one. announced:
    the last answer said so. why: the bound that ended the experiment."""

    requests: int
    ended: str
    announced: bool
    why: str = ""

    @property
    def good(self) -> bool | None:
        return self.announced if self.ended else None

    def __str__(self) -> str:
        if not self.ended:
            return f"more than {self.requests} ({self.why})"
        how = "the last one says 'close'" if self.announced else f"{self.ended} without a word"
        return f"{self.requests}, {how}"


def request_limit(lab: ProbeSettings) -> Limit:
    end = lab.clock() + lab.most_wait
    count = 0
    with lab.line() as line:
        while count < lab.most_requests and lab.clock() < end:
            try:
                answer = line.ask("GET", lab.get())
            except NoAnswer as error:
                return Limit(count, line.ended or str(error), False)
            count += 1
            if not answer.persists:
                line.wait_for_end(lab.settle)
                return Limit(count, line.ended or "closed", True)
    return Limit(count, "", False, "none more tried" if count == lab.most_requests else f"in {lab.most_wait:g} s")


@dataclass(frozen=True)
class Closing(Finding):
    """After an answer with `Connection: close`. ended: how. lingers: bytes that come too late are taken, not answered
    with a reset, which could destroy the answer on its way (RFC 9112 §9.6); None when that could not be seen."""

    ended: str
    lingers: bool | None

    @property
    def good(self) -> bool | None:
        return self.ended == "closed" and self.lingers

    def __str__(self) -> str:
        if not self.ended:
            return "does not close"
        how = {True: "half-closes, and lingers", False: "closes at once (late bytes are reset)", None: "closes"}
        return "resets" if self.ended == "reset" else how[self.lingers]


def closing(lab: ProbeSettings) -> Closing:
    with lab.line() as line:
        line.ask("GET", lab.get("Connection: close"))
        line.wait_for_end(lab.patience)
        if line.ended != "closed":
            return Closing(line.ended, None)
        line.send(b"late")
        return Closing(line.ended, not line.was_reset(lab.settle))


@dataclass(frozen=True)
class Idle(Finding):
    """seconds: after which an idle line ended, None when it was open at `waited`. ended: how. late_request: what became
    of one that was sent afterwards, as happens when it crosses the close."""

    seconds: float | None
    waited: float
    announced: int | None
    ended: str = ""
    late_request: str = ""

    @property
    def good(self) -> bool | None:
        if self.announced is None or self.seconds is None:
            return None
        return self.seconds > self.announced + _CROSSING

    def __str__(self) -> str:
        if self.waited == 0:
            return "at once: nothing persists"
        if self.seconds is None:
            return f"longer than {self.waited:g} s"
        text = f"{self.seconds:.1f} s"
        if self.announced is not None and self.good is False:
            sooner = self.seconds < self.announced - _CROSSING
            text += f", {'SOONER than' if sooner else 'no later than'} announced ({self.announced} s)"
        return text if self.ended == "closed" else f"{text}, by a reset"


def idle(lab: ProbeSettings) -> Idle:
    with lab.line() as line:
        answer = line.ask("GET", lab.get())
        announced = read_timeout(answer.headers.combined("keep-alive") or "")
        if not answer.persists:
            return Idle(0.0, 0.0, announced, "closed")
        seconds = line.wait_for_end(lab.most_wait)
        if seconds is None:
            return Idle(None, lab.most_wait, announced)
        return Idle(seconds, seconds, announced, line.ended, _late_request(lab, line))


def _late_request(lab: ProbeSettings, line: ClientConnection) -> str:
    if line.ended == "reset":
        return ""
    line.send(lab.get(), "GET")
    return "reset" if line.was_reset(lab.settle) else "swallowed"


@dataclass(frozen=True)
class HalfClose(Finding):
    """Whether a client that sends nothing more (a FIN behind its request) still gets its answer."""

    answered: bool

    @property
    def good(self) -> bool | None:
        return self.answered

    def __str__(self) -> str:
        return "gets its answer" if self.answered else "gets no answer"


def half_closed_client(lab: ProbeSettings) -> HalfClose | None:
    """None with TLS, which has no half-close to speak of."""
    if lab.target.scheme == "https":
        return None
    with lab.line() as line:
        line.send(lab.get(), "GET")
        line.finish()
        try:
            line.answer()
        except NoAnswer:
            return HalfClose(False)
        return HalfClose(True)
