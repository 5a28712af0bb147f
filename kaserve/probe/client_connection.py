"""ClientConnection: a connection to the server under test, which sends requests, reads responses and records its end.

Knows time limits, and when a response is complete. Does not know what any of it shows about the server. Everything that
waits does so for a limited time, by a clock that tests replace.
"""

from __future__ import annotations

from collections.abc import Callable

from ..http.limits import Limits
from ..http.response_reader import ReceivedResponse, ResponseReader
from ..http.responses import BadResponse, MissingResponse
from .transport import Transport

__all__ = ["CLOSED", "RESET", "ClientConnection", "NoResponse"]

CLOSED = "closed"
"""The server has ended the connection with a FIN."""
RESET = "reset"
"""The server has reset the connection."""

_LIMITS = Limits(body=16 << 20)


class NoResponse(Exception):
    """No response arrived, or none that is valid. The text says which, in a few words."""


class ClientConnection:
    """One connection. As a context manager it is closed at the end of the block.

    Attributes:
        ended: `CLOSED` or `RESET` after the server has ended the connection, "" before.
    """

    def __init__(self, transport: Transport, clock: Callable[[], float], response_timeout: float) -> None:
        """Takes over `transport`.

        Args:
            transport: the connected socket.
            clock: returns seconds.
            response_timeout: seconds for which `read_response` waits.
        """
        self._transport = transport
        self._clock = clock
        self._response_timeout = response_timeout
        self._reader = ResponseReader(_LIMITS)
        self.ended = ""

    def __enter__(self) -> ClientConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self._transport.close()

    def send(self, data: bytes, *methods: str) -> None:
        """Sends `data`, which contains requests with these `methods`.

        An error is ignored: that the server has gone shows in what can be read afterwards, and a response that it sent
        before can still be there.
        """
        for method in methods:
            self._reader.expect(method)
        try:
            self._transport.send(data)
        except OSError:
            pass

    def read_response(self) -> ReceivedResponse:
        """Returns the next response.

        Raises:
            NoResponse: there is none.
        """
        end = self._clock() + self._response_timeout
        silent = True
        try:
            while (response := self._reader.read()) is None:
                if self.ended:  # the reader knows of the end as well, and has nothing more
                    raise NoResponse(self.ended)
                if not self._receive(end - self._clock()):
                    what = "nothing for" if silent else "no complete response within"
                    raise NoResponse(f"{what} {self._response_timeout:g} s")
                silent = False
            return response
        except BadResponse as error:
            # An end without any bytes is an end, and how it came is the finding.
            raise NoResponse(self.ended if isinstance(error, MissingResponse) else str(error)) from None

    def exchange(self, method: str, request: bytes) -> ReceivedResponse:
        """Sends a request, and returns its response. Raises as `read_response` does."""
        self.send(request, method)
        return self.read_response()

    def wait_for_end(self, seconds: float) -> float | None:
        """Returns the seconds until the server ended the connection; None if it did not within `seconds`."""
        start = self._clock()
        while not self.ended:
            if not self._receive(start + seconds - self._clock()):
                return None
        return self._clock() - start

    def receives_more(self, seconds: float) -> bool:
        """Returns whether bytes have arrived, or do so within `seconds`, that belong to no response."""
        return self._reader.has_unread() or (not self.ended and self._receive(seconds) and not self.ended)

    def was_reset(self, seconds: float) -> bool:
        """Returns whether the server has reset the connection, or does so within `seconds`."""
        return self.ended == RESET or self._transport.was_reset(seconds)

    def half_close(self) -> None:
        """Sends a FIN. Responses can still be read."""
        try:
            self._transport.half_close()
        except OSError:
            pass

    def _receive(self, seconds: float) -> bool:
        """Receives once. Returns whether anything happened, which may be the end of the connection."""
        if seconds <= 0:
            return False
        try:
            data = self._transport.receive(seconds)
        except TimeoutError:
            return False
        except OSError:
            data = b""
            self.ended = RESET
        if not data:
            self.ended = self.ended or CLOSED
        self._reader.receive(data)
        return True
