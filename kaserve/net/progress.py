"""Progress: how far a writer has come with what it sends.

Not in `writer`, which is compiled: the names are Python objects here, and C integers in the modules that compare them.
"""

from __future__ import annotations

import enum

__all__ = ["AWAITING", "BLOCKED", "BROKEN", "DONE", "LOST", "Progress"]


class Progress(enum.IntEnum):
    """How far a writer has come."""

    DONE = 0  # of `flush`: the kernel has accepted all; of `pump`: the body is encoded to its end, as `flush` sends it
    BLOCKED = 1  # the kernel accepts no more for now, or the turn is over
    AWAITING = 2  # the next piece is a Future that is not done
    LOST = 3  # the client has reset the connection
    BROKEN = 4  # the response cannot be completed


DONE, BLOCKED, AWAITING, LOST, BROKEN = Progress
