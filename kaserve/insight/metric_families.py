"""Which figures of a snapshot become which metrics: the names that `--metrics` shows.

Names follow the conventions of Prometheus: a prefix, base units in the name, `_total` behind counters (which the format
adds). Does not know the formats (`apps.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._version import __version__
from ..http.phases import Phase
from ..http.wire import IMPLEMENTATION
from ..telemetry.counters import REASONS
from ..telemetry.snapshot import Distribution, Snapshot
from .metrics import Family, Sample, counter, gauge, histogram

__all__ = ["metric_families"]

# What may come is there from the beginning, as 0: a series that appears with its first event hides that from `rate`.
_NONE_OPEN = {phase.name: 0 for phase in Phase if phase != Phase.CLOSED}
_NONE_CLOSED = dict.fromkeys(REASONS, 0)


def metric_families(snapshot: Snapshot) -> Iterator[Family]:
    """Addresses of clients are not among them: a label of unbounded values is a burden, and theirs are private."""
    build = {"version": __version__, "implementation": IMPLEMENTATION}
    yield Family("kaserve_build_info", "gauge", "Always 1; the labels say what runs.", [Sample(1, build)])
    yield gauge("kaserve_uptime_seconds", "Time since the server started.", snapshot.uptime)
    yield counter("kaserve_connections_accepted", "Connections taken.", snapshot.accepted)
    yield counter("kaserve_connections_used", "Connections that carried at least one request.", snapshot.used)
    still_open = {**_NONE_OPEN, **snapshot.open}
    yield gauge("kaserve_connections_open", "Open connections by phase.", still_open, "phase")
    closed = {**_NONE_CLOSED, **snapshot.closed}
    yield counter("kaserve_connections_closed", "Connections by the reason of their end.", closed, "reason")
    yield counter("kaserve_requests", "Answers begun, refusals included.", snapshot.requests)
    yield counter("kaserve_responses", "Answers begun, by the class of their status.", dict(snapshot.statuses), "class")
    refused = {str(status): count for status, count in sorted(snapshot.refused.items())}
    yield counter("kaserve_requests_refused", "Requests refused, by status.", refused, "status")
    yield counter("kaserve_handler_failures", "Answers that a fault of the handler spoiled.", snapshot.failed)
    yield counter("kaserve_handshakes_saved", "Requests that found their connection open.", snapshot.handshakes_saved)
    yield counter(
        "kaserve_races_lost", "Requests that came when an idle connection had just been closed.", snapshot.races_lost
    )
    yield counter("kaserve_received_bytes", "Bytes received, heads included.", snapshot.received)
    yield counter("kaserve_sent_bytes", "Bytes sent, heads included.", snapshot.sent)
    yield _histogram(
        "kaserve_request_duration_seconds",
        "From the first byte of a request to the last byte of its answer.",
        snapshot.latency,
    )
    yield _histogram("kaserve_idle_gap_seconds", "From an answer to the next request on its connection.", snapshot.gaps)
    yield _histogram(
        "kaserve_connection_requests", "Requests on connections that were used and have ended.", snapshot.per_connection
    )
    yield _histogram(
        "kaserve_client_closed_idle_seconds",
        "How long a connection had been idle when its client closed it.",
        snapshot.client_closed,
    )
    settings = snapshot.settings
    yield gauge("kaserve_keep_alive_seconds", "The setting --keep-alive.", settings.keep_alive)


def _histogram(name: str, help: str, values: Distribution) -> Family:
    return histogram(name, help, values.bounds, values.counts, values.total)
