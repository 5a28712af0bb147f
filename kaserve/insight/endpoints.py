"""StatusEndpoints: the paths on which a server shows what it does, `--status` and `--metrics`.

Knows which page belongs to which path. The figures come from functions, so that the pages can be made before the
service whose figures they show: a server needs its handler first. All of it runs in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from ..http.handler import BaseHandler
from ..telemetry.history import History, Sample
from ..telemetry.snapshot import Snapshot
from .event_feed import CallLater
from .metric_families import metric_families
from .metrics import MetricsPage
from .overview import overview
from .status_page import OwnTraffic, StatusPage

__all__ = ["INTERVAL", "StatusEndpoints"]

INTERVAL = 2.0
"""Seconds from one point of the live page's history to the next."""


class StatusEndpoints:
    """The pages of one server.

    Attributes:
        pages: the handlers by their path, as in `Request.raw_path`; empty if no path is set. None of them asks for a
            password: the server puts each through `BaseHandler.protect` of its handler.
    """

    def __init__(
        self,
        *,
        status: str | None,
        status_public: bool,
        metrics: str | None,
        snapshot: Callable[[], Snapshot],
        visitors: Callable[[], Snapshot],
        sample: Callable[[], Sample],
        timeline: Callable[[], list[dict[str, object]]],
        own: OwnTraffic,
        call_later: CallLater,
    ) -> None:
        """Makes the pages; calls none of the functions yet.

        Args:
            status: the path of the live page; None for no page.
            status_public: whether clients on other machines may see it.
            metrics: the path of the metrics; None for no page.
            snapshot: returns the present figures, for the metrics.
            visitors: returns them without the requests for the live page, for the live page.
            sample: returns those for the history of the live page.
            timeline: returns the traces of the timeline, and keeps it recording; see `Timeline.render`.
            own: is told which requests and bytes are those of the live page.
            call_later: calls a function after some seconds, in the reactor's thread.
        """
        self.pages: dict[str, BaseHandler] = {}
        self._history = History()
        self._take_sample = sample
        self._call_later = call_later
        self._closed = False
        self._status_page: StatusPage | None = None
        if status is not None:
            self._status_page = StatusPage(
                lambda most: overview(visitors(), timeline(), self._history.render(most)),
                call_later,
                public=status_public,
                own=own,
            )
            self.pages[status] = self._status_page
        if metrics is not None:
            self.pages[metrics] = MetricsPage(lambda: metric_families(snapshot()))

    def open(self) -> None:
        """Begins to record the history of the live page, if there is one: a sample every few seconds, whether or not
        the page is open, so that it can show what happened before."""
        if self._status_page is not None:
            self._sample()

    def _sample(self) -> None:
        if not self._closed:
            self._history.add(self._take_sample())
            self._call_later(INTERVAL, self._sample)

    def close(self) -> None:
        """Ends the streams of events, which would otherwise keep a server that shuts down waiting for ever."""
        self._closed = True
        if self._status_page is not None:
            self._status_page.close()
