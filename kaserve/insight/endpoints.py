"""Insight: the paths on which a server shows what it does, as the settings say, and the adviser's lines in the log.

Knows where figures come from and which handler shows them. All of it runs in the reactor's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..config import Config
from ..handlers.middleware.own_paths import OwnPaths
from ..http.handler import BaseHandler
from ..http.phases import Phase
from ..net.service import Service
from ..net.timerwheel import Timer
from ..telemetry.advice import RateLimitedAdvice, advise
from ..telemetry.snapshot import Settings, Snapshot, take_snapshot
from .metric_families import metric_families
from .metrics import Metrics
from .overview import overview
from .status_page import Status

__all__ = ["StatusEndpoints"]

log = logging.getLogger("kaserve")

_ADVICE_EVERY = 60.0  # seconds at least between two looks of the adviser, which cost more than a request does


class StatusEndpoints:
    """What is to be seen of one server. `attach` gives it the service, which cannot be there before its handler."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._service: Service | None = None
        self._started = 0.0
        self._most_connections = 0
        self._status: Status | None = None
        self._news = RateLimitedAdvice()
        self._next_advice = 0.0

    def in_front_of(self, handler: BaseHandler) -> BaseHandler:
        """Returns `handler` with the pages of the settings in front, protected as `handler` protects their paths."""
        config = self._config
        paths: dict[str, BaseHandler] = {}
        if config.status is not None:
            self._status = Status(self._overview, self._later, public=config.status_public)
            paths[config.status] = self._status
        if config.metrics is not None:
            paths[config.metrics] = Metrics(lambda: metric_families(self.snapshot()))
        pages = {path: handler.protect(path, page) for path, page in paths.items()}
        return OwnPaths(handler, pages) if pages else handler

    def attach(self, service: Service, most_connections: int) -> None:
        self._service = service
        self._started = service.reactor.now
        self._next_advice = self._started + _ADVICE_EVERY
        self._most_connections = most_connections

    def connection_closed(self) -> None:
        """Gives the adviser a look now and then: no timer of its own would let an idle server sleep."""
        assert self._service is not None
        now = self._service.reactor.now
        if now >= self._next_advice:
            self._next_advice = now + _ADVICE_EVERY
            for advice in self._news.of(advise(self.snapshot()), now):
                log.info("advice: %s", advice.text)

    def end(self) -> None:
        """The server is leaving: its pages get no more events."""
        if self._status is not None:
            self._status.end()

    def snapshot(self) -> Snapshot:
        service, config = self._service, self._config
        assert service is not None
        settings = Settings(
            keep_alive=config.keep_alive if service.keep_alive.enabled else 0.0,
            keep_alive_requests=config.keep_alive_requests,
            keep_alive_time=config.keep_alive_time,
            header_timeout=config.header_timeout,
            send_timeout=config.send_timeout,
            max_connections=self._most_connections,
        )
        phases = (Phase(connection.phase).name for connection in service.connections)
        return take_snapshot(service.stats, phases, settings, service.reactor.now - self._started)

    def _overview(self) -> dict[str, object]:
        service = self._service
        assert service is not None
        return overview(self.snapshot(), service.timeline.look(service.reactor.now))

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        assert self._service is not None
        reactor = self._service.reactor
        reactor.wheel.schedule(_Call(call), reactor.read_clock() + seconds)


class _Call(Timer):
    """A function that is called when its time has come."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function

    def expired(self, now: float) -> None:
        self._function()
