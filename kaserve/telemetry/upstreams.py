"""UpstreamFigures: what the connections to one server behind a proxy have done, at one moment.

Knows the figures, and who has them. Does not know what a proxy is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["UpstreamFigures", "UpstreamSource"]


@dataclass(frozen=True)
class UpstreamFigures:
    """The figures of one server behind a proxy. All but those of the present moment count from the server's start.

    Attributes:
        name: its URL.
        in_use: connections that carry a request or a tunnel now, or are being opened for one.
        idle: connections that are kept for the next request now.
        is_left_out: whether it has failed lately, so that others are preferred.
        requests: requests that were passed on to it, each attempt counted.
        opened: connections opened.
        reused: requests on a connection that had carried one before.
        races_avoided: kept connections that were found closed before a request was sent on them.
        races_lost: requests sent on a kept connection that was closed in the same moment.
        retried: requests that were sent again.
        failed: requests without a valid response.
        idle_limit: seconds after which it was seen to close idle connections; None if it was not, or not lately.
        received, sent: bytes from it and to it.
    """

    name: str
    in_use: int = 0
    idle: int = 0
    is_left_out: bool = False
    requests: int = 0
    opened: int = 0
    reused: int = 0
    races_avoided: int = 0
    races_lost: int = 0
    retried: int = 0
    failed: int = 0
    idle_limit: float | None = None
    received: int = 0
    sent: int = 0


class UpstreamSource(Protocol):
    """What has such figures."""

    def figures(self, now: float) -> UpstreamFigures:
        """Returns its figures at `now`, in reactor time."""
