"""The figures of the visitors: a snapshot without the server's own requests.

Knows what is counted twice (`kaserve.net.own_requests`), and takes it away. Knows no requests.
"""

from __future__ import annotations

import dataclasses

from .counters import Stats
from .snapshot import Distribution, Snapshot

__all__ = ["leave_out"]


def leave_out(snapshot: Snapshot, own: Stats, sent: int) -> Snapshot:
    """Returns the figures without the server's own requests.

    Their responses are not among the figures in any case. This takes away what had been counted before: that they
    arrived, and the bytes.

    Args:
        snapshot: all figures.
        own: what these requests have been counted as.
        sent: bytes sent in response to them.
    """
    gaps = Distribution.of(own.gaps)
    counts = tuple(all_of_them - its for all_of_them, its in zip(snapshot.gaps.counts, gaps.counts, strict=True))
    return dataclasses.replace(
        snapshot,
        accepted=snapshot.accepted - own.accepted,
        used=snapshot.used - own.used,
        gaps=Distribution(gaps.bounds, counts, snapshot.gaps.total - gaps.total),
        received=max(0, snapshot.received - own.received),  # the size of requests is an estimate
        sent=max(0, snapshot.sent - sent),
    )
