"""How a server closes a connection, and how it treats a client that closes its side first."""

from __future__ import annotations

from dataclasses import dataclass

from ..client_connection import CLOSED, RESET, NoResponse
from ..finding import Finding
from ..settings import ProbeSettings

__all__ = ["Closing", "HalfClose", "closing", "half_closed_client"]


@dataclass(frozen=True)
class Closing(Finding):
    """The end of a connection after a response with `Connection: close`.

    Attributes:
        ended: how it ended.
        lingers: whether bytes that arrive too late are accepted. A reset in return could destroy the response on its
            way to the client (RFC 9112 §9.6). None if that could not be observed.
    """

    ended: str
    lingers: bool | None

    @property
    def good(self) -> bool | None:
        return self.ended == CLOSED and self.lingers

    def __str__(self) -> str:
        if not self.ended:
            return "does not close"
        how = {True: "half-closes, and lingers", False: "closes at once (late bytes are reset)", None: "closes"}
        return "resets" if self.ended == RESET else how[self.lingers]


def closing(settings: ProbeSettings) -> Closing:
    """Sends a request with `Connection: close`, and bytes after the server has closed."""
    with settings.open_connection() as connection:
        connection.exchange("GET", settings.get("Connection: close"))
        connection.wait_for_end(settings.response_timeout)
        if connection.ended != CLOSED:
            return Closing(connection.ended, None)
        connection.send(b"late")
        return Closing(connection.ended, not connection.was_reset(settings.settle_time))


@dataclass(frozen=True)
class HalfClose(Finding):
    """A client that closes its side after its request.

    Attributes:
        responds: whether the client still gets its response.
    """

    responds: bool

    @property
    def good(self) -> bool | None:
        return self.responds

    def __str__(self) -> str:
        return "gets its response" if self.responds else "gets no response"


def half_closed_client(settings: ProbeSettings) -> HalfClose | None:
    """Sends a request and a FIN. Returns None for TLS, in which a client that closes its side ends the connection."""
    if settings.target.scheme == "https":
        return None
    with settings.open_connection() as connection:
        connection.send(settings.get(), "GET")
        connection.half_close()
        try:
            connection.read_response()
        except NoResponse:
            return HalfClose(False)
        return HalfClose(True)
