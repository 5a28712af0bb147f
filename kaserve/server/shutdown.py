"""GracefulShutdown: how a server stops without losing a request.

Knows the stages of a shutdown, their two alarms, and what happens in each stage to listening sockets, to PROXY headers
that are being read, and to idle and busy connections. Does not know signals, threads, or who asked for the shutdown.

The stages come in this order; GRACE and DRAINING may be skipped:

SERVING   No shutdown has begun. New connections are accepted, and responses invite the next request.
GRACE     The drain delay. Load balancers need time to notice that `Server.ready` is false, and send new clients here
          until they have: to refuse those would lose requests. So everything goes on, except that each response says
          `Connection: close` (RFC 9112 section 9.6). Clients leave one by one, while another server can accept them.
DRAINING  - Listening sockets: the connections in their backlog are accepted, since closing would reset them. Then the
            sockets are closed, so that a successor can listen on the address.
          - PROXY headers: a connection whose header has not arrived yet gets a second for it, and is then served.
          - Idle connections: closed. One that was used less than a second ago may have its next request on its way,
            and is closed after that second.
          - Busy connections: served until the response that the client waits for is complete. A response that begins
            now says `Connection: close`; one that has begun may have invited another request, which gets a second.
          - Incomplete requests: get five seconds for the rest, and a body five after each progress. Those that are
            not complete then get a 408: a client that stalls would otherwise hold the shutdown for the whole graceful
            timeout, and would get no response anyway.
          - TLS handshakes: get a second, too.
          - Tunnels (WebSocket and others): their owners are told after all the rest (`Tunnel.stopping`), and may end
            them in the words of their protocol.
          DRAINING ends when no connection is left, or at the graceful timeout, which resets those that are left. It
          resets them rather than closing them, so that no client takes a part of a response for the whole.
ENDING    No connection is open. Handlers that have something to do after the last request do it: applications that
still
          run for requests which have ended are waited for and then cancelled, and those with a lifespan are told to
          stop. Skipped if there are none. The last tenth of the graceful timeout, and 2 seconds at most, is theirs:
          connections are reset, and what runs is cancelled, so much earlier.
DONE      Nothing is served any more.

The graceful timeout counts from the end of GRACE. A second call may shorten both times but not extend them: a program
that is told to hurry after it was told to stop must hurry.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable

from ..http.phases import BODY, HANDLER, HEAD, SEND
from ..net.service import Service
from ..net.timerwheel import Alarm
from .acceptor import Acceptor

__all__ = ["GracefulShutdown", "Stage"]

log = logging.getLogger("kaserve")

_PROXY_HEADER_GRACE = 1.0  # seconds for PROXY headers that are on their way
_ENDING_SHARE = 0.1  # of the graceful timeout, for handlers to end; and so many seconds at most
_MAX_ENDING = 2.0
_INCOMPLETE = frozenset({HEAD, BODY, HANDLER, SEND})  # phases in which a client waits for a response


class Stage(enum.Enum):
    """How far a shutdown has come."""

    SERVING = "serving"
    GRACE = "grace"
    DRAINING = "draining"
    ENDING = "ending"
    DONE = "done"


class GracefulShutdown:
    """The shutdown of one server. Its methods are called in the reactor's thread, or while that is stopped.

    Attributes:
        stage: how far it has come. Only goes forward.
    """

    def __init__(
        self, service: Service, acceptor: Acceptor, *, on_drain: Callable[[], object], on_done: Callable[[], object]
    ) -> None:
        """Prepares the shutdown; nothing happens before `begin`.

        Args:
            service: whose connections are drained.
            acceptor: where they come from. Its `on_end` must call `finish_if_empty`.
            on_drain: called when DRAINING begins, before connections are closed.
            on_done: called once, when DONE is reached.
        """
        self.stage = Stage.SERVING
        self._service = service
        self._acceptor = acceptor
        self._on_drain = on_drain
        self._on_done = on_done
        self._drain_alarm = Alarm(self._drain)
        self._abort_alarm = Alarm(self._abort_connections)
        self._end_alarm = Alarm(self.finish)
        self._ending = 0  # lifespans that have not stopped yet

    def begin(self, timeout: float, delay: float) -> None:
        """SERVING -> GRACE or DRAINING. In a later stage it can only shorten the times.

        Args:
            timeout: seconds for running requests, after the delay.
            delay: seconds of GRACE; 0 skips it.
        """
        if self.stage is Stage.DONE:
            return
        if self.stage is Stage.SERVING:
            self.stage = Stage.GRACE
            self._service.stopping = True
            self._service.keep_alive.enabled = False
        reactor = self._service.reactor
        drain_at = reactor.now + delay
        if self._service.lifespans:
            self._end_alarm.advance(reactor.wheel, drain_at + timeout)
            timeout -= min(timeout * _ENDING_SHARE, _MAX_ENDING)
        self._abort_alarm.advance(reactor.wheel, drain_at + timeout)
        if self.stage is Stage.GRACE and delay > 0:
            self._drain_alarm.advance(reactor.wheel, drain_at)
        else:
            self._drain()

    def finish_if_empty(self) -> None:
        """DRAINING -> ENDING or DONE if no connection is left."""
        if self.stage is Stage.DRAINING and not self._acceptor.open_connections:
            self._end()

    def abort(self) -> None:
        """-> DONE, at once: resets the connections that are left, and leaves out ENDING."""
        if self.stage is not Stage.DONE:
            self._abort_connections()
            self.finish()

    def _abort_connections(self) -> None:
        """-> ENDING or DONE: resets the connections that are left. Logs how many lose a response by that, and how many
        are tunnels."""
        tunnels = [connection for connection in self._service.connections if connection.is_tunnel]
        lost = sum(connection.phase in _INCOMPLETE for connection in self._service.connections.difference(tunnels))
        self._acceptor.abort()
        self._end()
        if len(tunnels) == 1:
            log.warning("1 tunnel (WebSocket, for instance) was cut off")
        elif tunnels:
            log.warning("%d tunnels (WebSocket, for instance) were cut off", len(tunnels))
        if lost == 1:
            log.warning("1 connection was closed before its response was complete")
        elif lost:
            log.warning("%d connections were closed before their responses were complete", lost)

    def _end(self) -> None:
        """-> ENDING, or DONE if no handler has anything to do."""
        lifespans, reactor = self._service.lifespans, self._service.reactor
        if self.stage in (Stage.ENDING, Stage.DONE):
            return
        if not lifespans:
            self.finish()
            return
        self.stage = Stage.ENDING
        now = reactor.read_clock()
        patience = max(0.0, self._abort_alarm.deadline - now) if self._abort_alarm.deadline < math.inf else 0.0
        reactor.wheel.cancel(self._abort_alarm)
        seconds = max(patience, self._end_alarm.deadline - now)
        self._ending = len(lifespans)
        for lifespan in lifespans:
            lifespan.stop(patience, seconds).add_done_callback(lambda _: reactor.call(self._ended))

    def _ended(self) -> None:
        """A handler has ended. When all have: ENDING -> DONE."""
        self._ending -= 1
        if self._ending == 0:
            self.finish()

    def finish(self) -> None:
        """-> DONE. No connection may be open any more."""
        if self.stage is not Stage.DONE:
            self.stage = Stage.DONE
            wheel = self._service.reactor.wheel
            wheel.cancel(self._drain_alarm)
            wheel.cancel(self._abort_alarm)
            wheel.cancel(self._end_alarm)
            self._on_done()

    def _drain(self) -> None:
        """GRACE -> DRAINING."""
        self._service.reactor.wheel.cancel(self._drain_alarm)
        if self.stage is Stage.GRACE:
            self.stage = Stage.DRAINING
            self._acceptor.stop()
            self._on_drain()
            self._service.drain()
            self._acceptor.limit_proxy_headers(_PROXY_HEADER_GRACE)
        self.finish_if_empty()
