"""Whether connections persist, for how many requests, and how long an idle one stays open."""

from __future__ import annotations

from dataclasses import dataclass

from ...http.headers import CLOSE, KEEP_ALIVE
from ...http.keep_alive import read_timeout
from ...http.response_reader import ReceivedResponse
from ..client_connection import CLOSED, RESET, ClientConnection, NoResponse
from ..finding import Finding
from ..settings import ProbeSettings

__all__ = ["IdleTimeout", "Persistence", "RequestLimit", "how_it_ends", "idle_timeout", "persistence", "request_limit"]

_CROSSING_TIME = 0.1  # seconds that a request may be on its way while the server closes


@dataclass(frozen=True)
class Persistence(Finding):
    """Whether a second request got a response.

    Attributes:
        persists: whether it did.
        connection_header: the Connection header of the first response.
        ended: how the server ended the connection; "" if it did not.
        version: of the requests, such as "1.1".
    """

    persists: bool
    connection_header: str
    ended: str
    version: str

    @property
    def good(self) -> bool | None:
        """HTTP/1.1 is meant to persist; HTTP/1.0 may do as it likes, as long as the client can tell."""
        if not self.persists and (self.version == "1.1" or not self.ended):
            return False
        return True if self.version == "1.1" else None

    def __str__(self) -> str:
        header = f"Connection: {self.connection_header}" if self.connection_header else "no Connection header"
        if self.persists:
            return f"yes ({header})"
        return f"no ({header}{'' if self.ended else ', but stays open'})"


def persistence(settings: ProbeSettings, version: str, *fields: str) -> Persistence:
    """Sends up to two requests with this HTTP version and these field lines over one connection."""
    with settings.open_connection() as connection:
        request = settings.get(*fields, version=version)
        response = connection.exchange("GET", request)
        header = response.headers.combined("connection") or ""
        # An HTTP/1.0 client may send another request only if the response says keep-alive, whatever the version of the
        # response (RFC 9112 §9.3).
        persists = response.persists and (version != "1.0" or response.head.flags & KEEP_ALIVE != 0)
        if persists and not connection.ended:
            try:
                connection.exchange("GET", request)
            except NoResponse:
                persists = False
        if not persists:
            connection.wait_for_end(settings.settle_time)
        return Persistence(persists, header, connection.ended, version)


@dataclass(frozen=True)
class RequestLimit(Finding):
    """How many requests one connection carries.

    Attributes:
        requests: those that got a response.
        ended: how the connection ended; "" if it was still open after the last of them.
        announced: how a client could tell from the last response that it was the last; "" if it could not.
        why: why the experiment stopped before the limit was found.
    """

    requests: int
    ended: str
    announced: str
    why: str = ""

    @property
    def good(self) -> bool | None:
        """Whether the end was announced. None without a limit, and without persistence, which has a row of its own."""
        if not self.ended or (self.requests == 1 and self.announced):
            return None
        return bool(self.announced)

    def __str__(self) -> str:
        if not self.ended:
            return f"more than {self.requests} ({self.why})"
        return f"{self.requests}, {self.announced or f'{self.ended} unannounced'}"


def request_limit(settings: ProbeSettings) -> RequestLimit:
    """Sends one request after the other over one connection, until it ends or one of the two limits is reached."""
    end = settings.clock() + settings.max_wait
    count = 0
    with settings.open_connection() as connection:
        while count < settings.max_requests and settings.clock() < end:
            try:
                response = connection.exchange("GET", settings.get())
            except NoResponse as error:
                return RequestLimit(count, connection.ended or str(error), "")
            count += 1
            if not response.persists:
                connection.wait_for_end(settings.settle_time)
                return RequestLimit(count, connection.ended or CLOSED, how_it_ends(response))
    why = "the probe stopped there" if count == settings.max_requests else f"in {settings.max_wait:g} s"
    return RequestLimit(count, "", "", why)


def how_it_ends(response: ReceivedResponse) -> str:
    """Returns how a client can tell that `response` is the last one on its connection (RFC 9112 §9.3)."""
    if response.head.flags & CLOSE:
        return "the last response says close"
    if response.head.minor == 0:
        return "HTTP/1.0 without keep-alive"
    return "the last response has no length, and ends with the connection"


@dataclass(frozen=True)
class IdleTimeout(Finding):
    """How long an idle connection stays open.

    Attributes:
        seconds: until the server ended it; None if it was still open after `waited`.
        waited: seconds.
        announced: seconds that the Keep-Alive header announces, or None.
        ended: how the connection ended.
        late_request: what happens to a request that is sent after the end, as one that crosses the close on its way:
            "reset" or "ignored"; "" if none was sent.
    """

    seconds: float | None
    waited: float
    announced: int | None
    ended: str = ""
    late_request: str = ""

    @property
    def good(self) -> bool | None:
        if self.announced is None or self.seconds is None:
            return None
        return self.seconds > self.announced + _CROSSING_TIME

    def __str__(self) -> str:
        if self.waited == 0:
            return "at once: no connection persists"
        if self.seconds is None:
            return f"longer than {self.waited:g} s"
        text = f"{self.seconds:.1f} s"
        if self.announced is not None and self.good is False:
            sooner = self.seconds < self.announced - _CROSSING_TIME
            text += f", {'SOONER than' if sooner else 'no later than'} announced ({self.announced} s)"
        return text if self.ended == CLOSED else f"{text}, by a reset"


def idle_timeout(settings: ProbeSettings) -> IdleTimeout:
    """Sends one request, waits for the connection to end, and sends a late one."""
    with settings.open_connection() as connection:
        response = connection.exchange("GET", settings.get())
        announced = read_timeout(response.headers.combined("keep-alive") or "")
        if not response.persists:
            return IdleTimeout(0.0, 0.0, announced, CLOSED)
        seconds = connection.wait_for_end(settings.max_wait)
        if seconds is None:
            return IdleTimeout(None, settings.max_wait, announced)
        return IdleTimeout(seconds, seconds, announced, connection.ended, _late_request(settings, connection))


def _late_request(settings: ProbeSettings, connection: ClientConnection) -> str:
    """Sends a request over a connection that the server has closed, and returns what happens to it."""
    if connection.ended == RESET:
        return ""
    connection.send(settings.get(), "GET")
    return "reset" if connection.was_reset(settings.settle_time) else "ignored"
