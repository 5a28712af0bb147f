"""Service: what all the connections of a server share, and the table of what they do in each phase.

Knows the settings as connections need them. Does not know how a connection goes about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import random
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..http.handler import BaseHandler, FunctionHandler
from ..http.limits import Limits
from ..http.messages import Request, Response
from ..http.phases import HANDSHAKE, Phase
from ..http.protocol import KeepAlive
from ..telemetry.counters import Stats
from ..telemetry.timeline import Timeline
from .poller import NOTHING, READ, WRITE
from .reactor import Reactor

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["PHASES", "RECENT_USE_GRACE", "AccessLog", "Deadlines", "PhaseSpec", "PhaseTimeout", "Service"]


class PhaseSpec(NamedTuple):
    """How a connection behaves in one phase."""

    waits_for: int
    deadline: str  # the field of `Deadlines`, "" for none
    since: str  # what the deadline is counted from
    on_expiry: str


# As many bytes as `Deadlines.min_rate` makes of the deadline; a byte now and then is no progress.
_EACH_PROGRESS = "each progress"

# The picture of docs/architecture.md; a test holds the two against each other. CLOSED has no row: there is no socket.
PHASES: dict[Phase, PhaseSpec] = {
    Phase.HANDSHAKE: PhaseSpec(READ, "header_timeout", "accept", "close"),
    Phase.IDLE: PhaseSpec(READ, "keep_alive", "the last answer", "close silently (never 408)"),
    Phase.HEAD: PhaseSpec(READ, "header_timeout", "first byte", "408, close"),
    Phase.BODY: PhaseSpec(READ, "body_timeout", _EACH_PROGRESS, "408, close"),
    Phase.HANDLER: PhaseSpec(NOTHING, "", "", ""),
    Phase.SEND: PhaseSpec(WRITE, "send_timeout", _EACH_PROGRESS, "abort"),
    Phase.LINGER: PhaseSpec(READ, "linger", "total", "close"),
}

# A client that was told it may wait for T seconds gets one more, so that its last request never meets our close.
_GRACE = 1.0
# A connection that was busy less than this ago may have a request on its way to us, or our last answer to its client:
# neither a server that drains nor one that needs the room closes it.
RECENT_USE_GRACE = 1.0


class Deadlines(NamedTuple):
    """Seconds that a connection may stay in a phase, by the names of `PHASES`; and its `age`, spent on an answer.

    min_rate: bytes per second, on average over body_timeout and send_timeout, below which there is no progress.
    """

    keep_alive: float = 120.0
    header_timeout: float = 30.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    linger: float = 5.0
    age: float = 3600.0
    min_rate: int = 500


class AccessLog(Protocol):
    timed: bool  # whether it wants to know `Connection.times`, which cost two looks at the clock

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        """An answer with `size` bytes of content to `request`, which is None when it could not be read."""


class Service:
    """What all the connections of a server share."""

    __slots__ = (
        "access_log",
        "age",
        "chance",
        "connections",
        "handler",
        "idle",
        "keep_alive",
        "limits",
        "on_close",
        "reactor",
        "respond",
        "retired",
        "rows",
        "scheme",
        "stats",
        "timed",
        "timeline",
    )

    def __init__(
        self,
        reactor: Reactor,
        handler: BaseHandler,
        *,
        limits: Limits | None = None,
        keep_alive: KeepAlive | None = None,
        deadlines: Deadlines | None = None,
        access_log: AccessLog | None = None,
        scheme: str = "http",
        chance: Callable[[], float] = random,
    ) -> None:
        """chance: a number from 0 up to 1, at random."""
        deadlines = deadlines or Deadlines()
        self.reactor = reactor
        self.handler = handler
        self.respond = handler.function if type(handler) is FunctionHandler else handler
        self.limits = limits or Limits()
        self.keep_alive = keep_alive or KeepAlive(deadlines.keep_alive, 1000)
        self.age = deadlines.age
        self.chance = chance
        self.access_log = access_log
        self.timed = access_log is not None and access_log.timed
        self.scheme = scheme
        self.stats = Stats()
        self.timeline = Timeline()
        self.connections: set[Connection] = set()
        # Called after a connection has left `connections`.
        self.on_close: Callable[[Connection], object] | None = None
        self.rows = [PhaseTimeout(PHASES[phase], deadlines) for phase in sorted(PHASES)]
        # Seconds without a request that an answer given now leads to, which is more than it announces. Without
        # persistence no connection is idle but before its only request.
        self.idle = deadlines.keep_alive + _GRACE if deadlines.keep_alive > 0 else deadlines.header_timeout
        self.retired = False

    def announce(self, seconds: float) -> None:
        """Connections may be idle for `seconds` from their next answer on; what was announced before is kept."""
        self.keep_alive.announce(seconds)
        self.idle = seconds + _GRACE

    def retire(self) -> None:
        """The server is leaving: connections without a request end, soon, and so does each that comes to that point."""
        self.retired = True
        self.idle = self.rows[HANDSHAKE].seconds = RECENT_USE_GRACE
        for connection in list(self.connections):
            connection.retire()


class PhaseTimeout:
    """A row of `PHASES` with the figures of one server: for which events, how many seconds, and how many bytes start
    them anew (0: none do)."""

    __slots__ = ("events", "seconds", "share")

    def __init__(self, row: PhaseSpec, deadlines: Deadlines) -> None:
        self.events = row.waits_for
        self.seconds: float = getattr(deadlines, row.deadline) if row.deadline else math.inf
        self.share = max(1, int(deadlines.min_rate * self.seconds)) if row.since == _EACH_PROGRESS else 0
