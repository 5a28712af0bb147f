"""The metrics of a server: which figures of a snapshot have which names on the page of `--metrics`.

Names follow the conventions of Prometheus: a prefix, base units in the name, `_total` at the end of counters (which the
format appends). Does not know the formats; see `metrics`. docs/statistics.md lists all names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .._version import __version__
from ..http.phases import Phase
from ..http.wire import IMPLEMENTATION
from ..telemetry.endings import UNSOLICITED, Ending
from ..telemetry.snapshot import Distribution, Snapshot
from ..telemetry.upstreams import UpstreamFigures
from .metrics import Family, Sample, counter, gauge, histogram

__all__ = ["metric_families"]

# Every phase and every reason is there from the beginning, with the value 0. A series that appears with its first event
# hides that event from `rate()`, which sees a series that begins at 1.
_NONE_OPEN = {phase.name: 0 for phase in Phase if phase != Phase.CLOSED}
_NONE_CLOSED = dict.fromkeys(Ending, 0)
_NONE_LOST = dict.fromkeys(sorted(UNSOLICITED), 0)


def metric_families(snapshot: Snapshot) -> Iterator[Family]:
    """Yields all metrics of a server.

    Addresses of clients are not among them: each value of a label is a series of its own, so Prometheus advises against
    labels with unbounded values; and addresses are private.
    """
    build = {"version": __version__, "implementation": IMPLEMENTATION}
    yield Family("kaserve_build_info", "gauge", "Always 1; the labels say which build runs.", [Sample(1, build)])
    yield gauge("kaserve_uptime_seconds", "Time since the server started.", snapshot.uptime)
    yield gauge("kaserve_keep_alive_seconds", "The setting --keep-alive.", snapshot.settings.keep_alive)
    yield from _connections(snapshot)
    yield from _requests(snapshot)
    yield from _distributions(snapshot)
    yield from _upstreams(snapshot)


def _connections(snapshot: Snapshot) -> Iterator[Family]:
    yield counter("kaserve_connections_accepted", "Connections accepted.", snapshot.accepted)
    yield counter("kaserve_connections_used", "Connections that carried at least one request.", snapshot.used)
    still_open = {**_NONE_OPEN, **snapshot.open}
    yield gauge("kaserve_connections_open", "Open connections by phase.", still_open, "phase")
    closed = _by_reason(_NONE_CLOSED | snapshot.closed)
    yield counter("kaserve_connections_closed", "Connections that have ended, by the reason.", closed, "reason")
    yield counter("kaserve_handshakes_saved", "Requests that found their connection open.", snapshot.handshakes_saved)
    yield counter(
        "kaserve_races_lost",
        "Requests that arrived just after an idle connection had been closed, by the reason of that close.",
        _by_reason(_NONE_LOST | snapshot.races_lost),
        "reason",
    )


def _requests(snapshot: Snapshot) -> Iterator[Family]:
    yield counter("kaserve_requests", "Responses started, error responses included.", snapshot.requests)
    yield counter("kaserve_responses", "Responses started, by the class of their status.", snapshot.statuses, "class")
    refused = {str(status): count for status, count in sorted(snapshot.refused.items())}
    yield counter("kaserve_requests_refused", "Requests refused, by status.", refused, "status")
    yield counter(
        "kaserve_handler_failures", "Responses that a fault of the handler replaced or cut off.", snapshot.failed
    )
    yield counter("kaserve_received_bytes", "Bytes received, headers included.", snapshot.received)
    yield counter("kaserve_sent_bytes", "Bytes sent, headers included.", snapshot.sent)


def _distributions(snapshot: Snapshot) -> Iterator[Family]:
    yield _histogram(
        "kaserve_request_duration_seconds",
        "From the first byte of a request to the last byte of its response.",
        snapshot.latency,
    )
    yield _histogram(
        "kaserve_idle_gap_seconds", "From a response to the next request on its connection.", snapshot.gaps
    )
    yield _histogram(
        "kaserve_connection_requests", "Requests on connections that were used and have ended.", snapshot.per_connection
    )
    yield _histogram(
        "kaserve_client_closed_idle_seconds",
        "How long a connection had been idle when its client closed it.",
        snapshot.client_closed,
    )


def _upstreams(snapshot: Snapshot) -> Iterator[Family]:
    """What a proxy has done; nothing for a server without one."""
    upstreams = snapshot.upstreams
    if not upstreams:
        return
    in_use = _summed(upstreams, "in_use")
    idle = _summed(upstreams, "idle")
    samples = [
        Sample(values[name], {"upstream": name, "state": state})
        for state, values in (("in use", in_use), ("idle", idle))
        for name in values
    ]
    yield Family("kaserve_upstream_connections", "gauge", "Open connections to servers behind the proxy.", samples)
    left_out = {each.name: float(each.is_left_out) for each in upstreams}
    yield gauge("kaserve_upstream_left_out", "1 for a server that has failed lately.", left_out, "upstream")
    limits = {each.name: each.idle_limit for each in upstreams if each.idle_limit is not None}
    yield gauge(
        "kaserve_upstream_idle_limit_seconds",
        "After how long a server was seen to close idle connections; nothing for one that was not.",
        limits,
        "upstream",
    )
    for name, attribute, text in _UPSTREAM_COUNTERS:
        yield counter(f"kaserve_upstream_{name}", text, _summed(upstreams, attribute), "upstream")


_UPSTREAM_COUNTERS = (
    ("requests", "requests", "Requests passed on, each attempt counted."),
    ("connections_opened", "opened", "Connections opened to servers behind the proxy."),
    ("requests_reused", "reused", "Requests on a connection that had carried one before."),
    ("races_avoided", "races_avoided", "Kept connections found closed before a request was sent on them."),
    ("races_lost", "races_lost", "Requests sent on a kept connection that was closed in the same moment."),
    ("requests_retried", "retried", "Requests sent again."),
    ("requests_failed", "failed", "Requests without a valid response."),
    ("received_bytes", "received", "Bytes received from servers behind the proxy."),
    ("sent_bytes", "sent", "Bytes sent to servers behind the proxy."),
)


def _summed(upstreams: Iterable[UpstreamFigures], attribute: str) -> dict[str, float]:
    """Returns a figure by the name of the upstream, which may be behind several paths."""
    sums: dict[str, float] = {}
    for each in upstreams:
        sums[each.name] = sums.get(each.name, 0) + getattr(each, attribute)
    return sums


def _by_reason(counts: Mapping[Ending, int]) -> dict[str, float]:
    """Returns `counts` with plain strings as keys, for a label."""
    return {ending.value: count for ending, count in counts.items()}


def _histogram(name: str, help: str, values: Distribution) -> Family:
    return histogram(name, help, values.bounds, values.counts, values.total)
