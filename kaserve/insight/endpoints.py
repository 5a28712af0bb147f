"""StatusEndpoints: the paths on which a server shows what it does, `--status` and `--metrics`.

Knows which page belongs to which path. The figures come from functions, so that the pages can be made before the
service whose figures they show: a server needs its handler first. All of it runs in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from ..http.handler import BaseHandler
from ..telemetry.snapshot import Snapshot
from .event_feed import CallLater
from .metric_families import metric_families
from .metrics import MetricsPage
from .overview import overview
from .status_page import StatusPage

__all__ = ["StatusEndpoints"]


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
        timeline: Callable[[], list[dict[str, object]]],
        call_later: CallLater,
    ) -> None:
        """Makes the pages; calls none of the functions yet.

        Args:
            status: the path of the live page; None for no page.
            status_public: whether clients on other machines may see it.
            metrics: the path of the metrics; None for no page.
            snapshot: returns the present figures.
            timeline: returns the traces of the timeline, and keeps it recording; see `Timeline.render`.
            call_later: calls a function after some seconds, in the reactor's thread.
        """
        self.pages: dict[str, BaseHandler] = {}
        self._status_page: StatusPage | None = None
        if status is not None:
            self._status_page = StatusPage(lambda: overview(snapshot(), timeline()), call_later, public=status_public)
            self.pages[status] = self._status_page
        if metrics is not None:
            self.pages[metrics] = MetricsPage(lambda: metric_families(snapshot()))

    def close(self) -> None:
        """Ends the streams of events, which would otherwise keep a server that shuts down waiting for ever."""
        if self._status_page is not None:
            self._status_page.close()
