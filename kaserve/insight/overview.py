"""The overview: everything that the status page shows, as data for JSON."""

from __future__ import annotations

from .._version import __version__
from ..http.wire import IMPLEMENTATION
from ..telemetry.advice import advise
from ..telemetry.snapshot import Snapshot

__all__ = ["overview"]


def overview(snapshot: Snapshot, timeline: list[dict[str, object]]) -> dict[str, object]:
    """Returns the figures, the advice that follows from them, the timeline and the build, for `json.dumps`.

    Args:
        snapshot: the present figures.
        timeline: what `Timeline.render` returned.
    """
    return {
        "version": __version__,
        "implementation": IMPLEMENTATION,
        "advice": [advice.text for advice in advise(snapshot)],
        "timeline": timeline,
        **snapshot.as_json(),
    }
