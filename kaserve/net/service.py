"""Service: what all the connections of a server share, and the table of what they do in each phase.

Knows the settings as connections need them. Does not know how a connection goes about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from random import random
from typing import Any, NamedTuple, Protocol

from ..http.address import AnyAddress
from ..http.errors import HTTPError
from ..http.handler import BaseHandler, FunctionHandler, HandlerResult
from ..http.keep_alive import KeepAlive
from ..http.limits import Limits
from ..http.messages import Request, Response
from ..http.phases import BODY, HANDSHAKE, HEAD, Phase
from ..telemetry.counters import Stats
from ..telemetry.endings import Ending
from ..telemetry.timeline import Timeline
from ..telemetry.upstreams import UpstreamSource
from .blocking import BlockingLog
from .poller import HALF_CLOSE, HANGUP, READ, WRITE
from .reactor import Reactor
from .socket_tunnel import SocketTunnel

__all__ = [
    "CLIENT_LEAVES",
    "INCOMPLETE_REQUEST_GRACE",
    "PHASES",
    "RECENT_USE_GRACE",
    "AccessLog",
    "Deadlines",
    "Host",
    "Lifespan",
    "OpenConnection",
    "PhaseSpec",
    "PhaseTimeout",
    "Service",
    "StartupFailed",
]


class PhaseSpec(NamedTuple):
    """What a connection waits for in one phase, and for how long. What happens when that time is over is in
    `Connection._expire`.

    Attributes:
        waits_for: `READ` or `WRITE`; or `CLIENT_LEAVES`, while nothing is to be read or written.
        deadline: the field of `Deadlines`.
        progress_extends: whether the deadline is extended when enough bytes have moved to satisfy `Deadlines.min_rate`.
            A byte now and then is not enough: a client that sends one a minute would hold its connection for ever.
    """

    waits_for: int
    deadline: str
    progress_extends: bool = False


# A handler that streams a body waits for bytes in BODY. In HANDLER nothing is read, so that a client cannot fill our
# memory with requests while it waits for a response. But a client that leaves must be noticed, since its handler may
# wait for an event that never comes.
CLIENT_LEAVES = HALF_CLOSE | HANGUP

# The first columns of the table in docs/architecture.md, with which a test compares it. CLOSED has no row: there is no
# socket.
PHASES: dict[Phase, PhaseSpec] = {
    Phase.HANDSHAKE: PhaseSpec(READ, "header_timeout"),
    Phase.IDLE: PhaseSpec(READ, "keep_alive"),
    Phase.HEAD: PhaseSpec(READ, "header_timeout"),
    Phase.BODY: PhaseSpec(READ, "body_timeout", progress_extends=True),
    Phase.HANDLER: PhaseSpec(CLIENT_LEAVES, "half_close_timeout"),
    Phase.SEND: PhaseSpec(WRITE, "send_timeout", progress_extends=True),
    Phase.TUNNEL: PhaseSpec(READ, "tunnel_timeout"),  # and what `OpenTunnel.interest` makes of it
    Phase.LINGER: PhaseSpec(READ, "linger"),
}

# Seconds. A client that is told it may wait for T seconds gets one more, so that a request which it sends at the last
# moment is still on time when it arrives.
_ANNOUNCED_GRACE = 1.0
# Seconds. A connection that was busy less than this ago may have a request on its way to us, or our last response on
# its way to the client: neither graceful shutdown nor eviction closes it.
RECENT_USE_GRACE = 1.0
# Seconds. While the server shuts down, the rest of a request that has begun is waited for only this long, and a body
# this long after each progress: a client that stalls would hold the shutdown for all of its timeout, and it gets no
# response in the end. A client that is still sending is done in less.
INCOMPLETE_REQUEST_GRACE = 5.0


class Deadlines(NamedTuple):
    """The limits on how long a connection may stay in a phase, by the names of `PHASES`.

    Attributes:
        keep_alive, header_timeout, body_timeout, half_close_timeout, send_timeout, tunnel_timeout, linger: seconds.
        age: seconds after which a connection gets its last response; inf for no limit.
        min_rate: bytes per second, on average over body_timeout and send_timeout, below which there is no progress.
    """

    keep_alive: float = 120.0
    header_timeout: float = 30.0
    body_timeout: float = 60.0
    half_close_timeout: float = 30.0
    send_timeout: float = 60.0
    tunnel_timeout: float = 3600.0
    linger: float = 5.0
    age: float = 3600.0
    min_rate: int = 500


class AccessLog(Protocol):
    """What logs responses.

    Attributes:
        timed: whether it wants the times of an exchange, which cost two more looks at the clock.
    """

    timed: bool

    def log(self, exchange: Any) -> None:
        """Logs the response of an `Exchange`, complete or not."""


class Host(Protocol):
    """An event loop of another library that runs the reactor, so that both share one thread (`asgi.host`)."""

    def run(self) -> None:
        """Runs both until `stop`."""

    def stop(self) -> None:
        """Has `run` return soon. Called in its thread."""

    def step(self, timeout: float | None) -> None:
        """Makes one turn of both, as `Reactor.step`."""

    def timeout(self) -> float | None:
        """As `Reactor.timeout`, for both."""

    def coroutines(self, service: Service) -> Callable[[Coroutine[Any, Any, Response], Request], HandlerResult]:
        """Returns what runs the coroutines of handlers of `service`: a function of a coroutine and the request that it
        responds to, which returns the response, or a Future of it."""

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        """Waits for a Future that is completed in the reactor's thread, in a coroutine of this loop."""

    def close(self) -> None:
        """Ends what still runs in the loop. It may not be running."""


class StartupFailed(Exception):
    """An application cannot start, so the server does not serve. Its `__cause__` is the exception that the application
    raised, if it did."""


class Lifespan(Protocol):
    """A handler that has something to do before the first request and after the last one. It registers itself in
    `Service.lifespans` when it is attached. Both methods are called in the reactor's thread, once."""

    def start(self) -> Future[None]:
        """Begins; the Future is done when requests may come. What it raises, mostly `StartupFailed`, ends the
        server."""

    def stop(self, patience: float, seconds: float) -> Future[None]:
        """Ends. No connection is open any more.

        Args:
            patience: seconds for what still runs, which is cancelled afterwards.
            seconds: after which nobody waits for the Future any longer; not less than `patience`.
        """


class OpenConnection(Protocol):
    """What the rest of a server asks of a connection (`net.connection`)."""

    number: int
    phase: Phase
    client: AnyAddress
    ending: Ending | None

    @property
    def idle_since(self) -> float:
        """Reactor time since which it is idle or lingering; inf while it is in use."""

    @property
    def is_tunnel(self) -> bool:
        """Whether its protocol has been switched, so that it is not HTTP any more."""

    def drain(self) -> None:
        """Closes it if it is idle; the server shuts down."""

    def reject(self, error: HTTPError) -> None:
        """Responds with `error`, and closes it."""

    def evict(self) -> None:
        """Closes it, although it might be used again."""

    def abort(self) -> None:
        """Ends it now."""

    def set_aside(self, request: Request, uncounted: Service) -> Any:
        """Leaves `request` out of the figures if it is responding to it; see `own_requests`."""


class Service:
    """What all the connections of a server share.

    Attributes:
        reactor: the loop that calls the connections.
        handler: what responds to requests; `respond` is what a connection calls for that.
        limits: on requests.
        keep_alive: what is announced.
        age: seconds after which a connection gets its last response.
        rng: a number from 0 up to 1, at random.
        access_log: what logs responses; None for nothing.
        timed: whether the access log shows times.
        scheme: "http" or "https".
        stats: the counters.
        blocking: warns of requests that block the reactor.
        timeline: the traces for the live page.
        connections: those that are open.
        on_close: called after a connection has left `connections`; None for nothing.
        timeouts: `PHASES` with this server's figures, by phase.
        idle: seconds without a request that a response given now leads to: more than it announces.
        draining: whether the server is shutting down.
        stopping: whether it has begun to, which with a drain delay is earlier: each response is the last one then.
        lifespans: what must start before the first request, and stop after the last one.
        host: what runs the reactor; None while it runs itself.
        upstreams: the servers behind the proxies among the handlers.
        new_host: makes it, when the first handler asks for it (`get_host`); None where no other loop can run.
    """

    __slots__ = (
        "access_log",
        "age",
        "blocking",
        "connections",
        "draining",
        "handler",
        "host",
        "idle",
        "keep_alive",
        "lifespans",
        "limits",
        "new_host",
        "on_close",
        "reactor",
        "respond",
        "rng",
        "scheme",
        "stats",
        "stopping",
        "timed",
        "timeline",
        "timeouts",
        "upstreams",
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
        rng: Callable[[], float] = random,
    ) -> None:
        """Makes a service without connections. What is not given has the defaults of its class."""
        deadlines = deadlines or Deadlines()
        self.reactor = reactor
        self.handler = handler
        # A plain function is called directly: its wrapper would cost every request another call.
        self.respond = handler.function if type(handler) is FunctionHandler else handler
        self.limits = limits or Limits()
        self.keep_alive = keep_alive or KeepAlive(deadlines.keep_alive, 1000)
        self.age = deadlines.age
        self.rng = rng
        self.access_log = access_log
        self.timed = access_log is not None and access_log.timed
        self.scheme = scheme
        self.stats = Stats()
        self.timeline = Timeline()
        self.blocking = BlockingLog()
        self.connections: set[OpenConnection] = set()
        self.on_close: Callable[[Any], object] | None = None
        self.timeouts = [PhaseTimeout(PHASES[phase], deadlines) for phase in sorted(PHASES)]
        # Without persistence no connection is idle but before its only request.
        self.idle = deadlines.keep_alive + _ANNOUNCED_GRACE if deadlines.keep_alive > 0 else deadlines.header_timeout
        self.draining = False
        self.stopping = False
        self.lifespans: list[Lifespan] = []
        self.upstreams: list[UpstreamSource] = []
        self.host: Host | None = None
        self.new_host: Callable[[Reactor], Host] | None = None

    def get_host(self) -> Host:
        """Returns the loop that runs the reactor, for a handler that needs it: makes it for the first one.

        Raises:
            RuntimeError: there can be none.
        """
        if self.host is None:
            if self.new_host is None:
                raise RuntimeError("this handler needs an asyncio event loop, and the server has none")
            self.host = self.new_host(self.reactor)
        return self.host

    def announce(self, seconds: float) -> None:
        """Lets connections be idle for `seconds` from their next response on; what was announced before is kept."""
        self.keep_alive.announce(seconds)
        self.idle = seconds + _ANNOUNCED_GRACE

    def new_socket_tunnel(self, on_begin: Callable[[], object]) -> SocketTunnel:
        """Makes a tunnel whose owner has a socket, for code in another thread. May be called in any thread.

        Args:
            on_begin: see `SocketTunnel`.

        Raises:
            OSError: the system has no descriptor left.
        """
        return SocketTunnel(self.reactor, on_begin)

    def drain(self) -> None:
        """Starts draining: idle connections close after RECENT_USE_GRACE, busy ones after their current response, and
        requests that are incomplete have INCOMPLETE_REQUEST_GRACE. The owners of tunnels are told last."""
        self.draining = self.stopping = True
        self.idle = self.timeouts[HANDSHAKE].seconds = RECENT_USE_GRACE
        self.timeouts[HEAD].shorten(INCOMPLETE_REQUEST_GRACE)
        self.timeouts[BODY].shorten(INCOMPLETE_REQUEST_GRACE)
        for connection in sorted(self.connections, key=_is_tunnel):
            connection.drain()


def _is_tunnel(connection: OpenConnection) -> bool:
    return connection.is_tunnel


class PhaseTimeout:
    """A `PhaseSpec` with the figures of one server.

    Attributes:
        events: what the socket is watched for.
        seconds: the deadline. Not used in IDLE, where each connection has its own (`Service.idle` when it responded).
        min_bytes: how many bytes must move before the deadline is extended; 0 if nothing extends it.
    """

    __slots__ = ("events", "min_bytes", "seconds")

    def __init__(self, spec: PhaseSpec, deadlines: Deadlines) -> None:
        self.events = spec.waits_for
        self.seconds: float = getattr(deadlines, spec.deadline)
        self.min_bytes = max(1, int(deadlines.min_rate * self.seconds)) if spec.progress_extends else 0

    def shorten(self, seconds: float) -> None:
        """Makes the deadline `seconds`, if it is later. The rate that progress must have stays the same."""
        if seconds < self.seconds:
            if self.min_bytes:
                self.min_bytes = max(1, int(self.min_bytes * seconds / self.seconds))
            self.seconds = seconds
