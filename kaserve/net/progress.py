"""Progress: how far a writer has come with what it sends.

Not in `writer`, which is compiled: the names are Python objects here, and C integers in the modules that compare them.
"""

from __future__ import annotations

import enum

__all__ = ["AWAITING", "BLOCKED", "BROKEN", "ENCODED", "LOST", "SENT", "Progress"]


class Progress(enum.IntEnum):
    """How far a writer has come."""

    SENT = 0  # the kernel has accepted all that `flush` was to send
    ENCODED = 1  # `pump` has come to the end of the body; some of it may still be in the buffer, for `flush`
    BLOCKED = 2  # the kernel accepts no more for now, or the turn is over
    AWAITING = 3  # the next piece is a Future that is not done
    LOST = 4  # the client has reset the connection
    BROKEN = 5  # the response cannot be completed


SENT, ENCODED, BLOCKED, AWAITING, LOST, BROKEN = Progress
