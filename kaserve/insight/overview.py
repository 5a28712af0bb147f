"""The overview: everything that the status page shows, as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence

from .._version import __version__
from ..http.wire import IMPLEMENTATION
from ..telemetry.advice import advise
from ..telemetry.history import FIELDS
from ..telemetry.snapshot import Snapshot

__all__ = ["overview"]


def overview(
    snapshot: Snapshot, timeline: list[dict[str, object]], history: list[Sequence[float | None]]
) -> dict[str, object]:
    """Returns the figures, the advice that follows from them, the history, the timeline and the build, for
    `json.dumps`.

    Args:
        snapshot: the present figures.
        timeline: what `Timeline.render` returned.
        history: what `History.render` returned.
    """
    return {
        "version": __version__,
        "implementation": IMPLEMENTATION,
        "advice": [advice.text for advice in advise(snapshot)],
        "history": {"fields": FIELDS, "intervals": history},
        "timeline": timeline,
        **snapshot.as_json(),
    }
