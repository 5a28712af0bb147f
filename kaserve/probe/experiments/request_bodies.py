"""What happens to the body of a request, which the target most likely does not want."""

from __future__ import annotations

from dataclasses import dataclass

from ...http.headers import TRANSFER_ENCODING
from ...http.response_reader import ReceivedResponse
from ..client_connection import CLOSED, RESET, ClientConnection, NoResponse
from ..finding import Finding
from ..settings import ProbeSettings

__all__ = ["PARSES_BODY", "ChunkedRequest", "RequestBody", "chunked_request", "unread_body"]

_BODY_SIZE = 128 * 1024  # more than any server reads together with the head

PERSISTS = "keeps the connection"
CLOSES = "closes"
PARSES_BODY = "parses the body as requests"


@dataclass(frozen=True)
class RequestBody(Finding):
    """A POST with a body.

    Attributes:
        status: of the response; 0 if there was none.
        outcome: what the server did with the connection, in words.
    """

    status: int
    outcome: str

    @property
    def good(self) -> bool | None:
        return self.status != 0 and self.outcome in (PERSISTS, CLOSES)

    def __str__(self) -> str:
        return f"{self.status or 'no response'}, {self.outcome}"


def unread_body(settings: ProbeSettings) -> RequestBody:
    """Sends a body that consists of requests: a server that does not skip it responds to them."""
    inner = settings.get()
    body = inner * (_BODY_SIZE // len(inner))
    fields = ("Content-Type: application/octet-stream", f"Content-Length: {len(body)}")
    return _post(settings, settings.target.request("POST", *fields, body=body))


@dataclass(frozen=True)
class ChunkedRequest(Finding):
    """A chunked POST with a trailer.

    Attributes:
        status: of the response; 0 if there was none.
        outcome: what the server did with the connection, in words.
        chunked_response: whether the response to a GET was chunked.
    """

    status: int
    outcome: str
    chunked_response: bool

    @property
    def good(self) -> bool | None:
        return self.status not in (0, 400, 501) and self.outcome in (PERSISTS, CLOSES)

    def __str__(self) -> str:
        return f"{self.status or 'no response'}, {self.outcome}"


def chunked_request(settings: ProbeSettings) -> ChunkedRequest:
    """Sends a chunked body with a chunk extension and a trailer (RFC 9112 §7.1)."""
    body = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX-Probe: trailer\r\n\r\n"
    fields = ("Content-Type: application/octet-stream", "Transfer-Encoding: chunked", "Trailer: X-Probe")
    posted = _post(settings, settings.target.request("POST", *fields, body=body))
    with settings.open_connection() as connection:
        response = connection.exchange("GET", settings.get("TE: trailers"))
    return ChunkedRequest(posted.status, posted.outcome, response.head.flags & TRANSFER_ENCODING != 0)


def _post(settings: ProbeSettings, request: bytes) -> RequestBody:
    """Sends a POST, and observes its connection."""
    with settings.open_connection() as connection:
        try:
            response = connection.exchange("POST", request)
        except NoResponse as error:
            return RequestBody(0, "resets" if connection.ended == RESET else str(error))
        return RequestBody(response.status, _outcome(settings, connection, response))


def _outcome(settings: ProbeSettings, connection: ClientConnection, response: ReceivedResponse) -> str:
    """Returns what a server does with a connection after its response to a request with a body."""
    if connection.receives_more(settings.settle_time):
        return PARSES_BODY
    if not response.persists:
        connection.wait_for_end(settings.settle_time)
        return {RESET: "resets", CLOSED: CLOSES}.get(connection.ended, "should close, but stays open")
    if not connection.ended:
        try:
            connection.exchange("GET", settings.get())
            return PERSISTS
        except NoResponse as error:
            if not connection.ended:
                return f"does not respond any more ({error})"
    return "resets" if connection.ended == RESET else "closes unannounced"
