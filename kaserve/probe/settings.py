"""ProbeSettings: what every experiment needs, and the limits that keep each of them short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .client_connection import ClientConnection
from .target import Target
from .transport import Transport

__all__ = ["ProbeSettings"]


@dataclass(frozen=True)
class ProbeSettings:
    """What the experiments work with.

    Attributes:
        target: the server and the resource.
        connect: opens a connection to it.
        clock: returns seconds.
        response_timeout: seconds to wait for a response.
        settle_time: seconds to wait for an event that follows at once if it follows at all, such as a reset.
        max_wait: seconds to wait for the idle timeout; also the time that the request limit is searched for.
        max_requests: requests to send while the request limit is searched for.
    """

    target: Target
    connect: Callable[[], Transport]
    clock: Callable[[], float]
    response_timeout: float = 10.0
    settle_time: float = 0.5
    max_wait: float = 15.0
    max_requests: int = 1200

    def open_connection(self) -> ClientConnection:
        """Returns a new connection to the target."""
        return ClientConnection(self.connect(), self.clock, self.response_timeout)

    def get(self, *fields: str, path: str = "", version: str = "1.1") -> bytes:
        """Returns a GET request; see `Target.request`."""
        return self.target.request("GET", *fields, path=path, version=version)
