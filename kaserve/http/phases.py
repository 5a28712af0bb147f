"""The phases of a connection.

Knows their names and their order. What a connection waits for in each phase, and for how long, is in the table `PHASES`
of `net.service`.
"""

from __future__ import annotations

import enum

__all__ = ["BODY", "CLOSED", "HANDLER", "HANDSHAKE", "HEAD", "IDLE", "LINGER", "SEND", "TUNNEL", "Phase"]


class Phase(enum.IntEnum):
    """Where a connection is, in the order in which it gets there. From SEND on no request is read; a connection that
    persists goes back to IDLE. `net.request_loop` compares phases by this order."""

    HANDSHAKE = 0  # with TLS only
    IDLE = 1
    HEAD = 2
    BODY = 3
    HANDLER = 4
    SEND = 5
    TUNNEL = 6  # after a 101 only
    LINGER = 7
    CLOSED = 8


HANDSHAKE, IDLE, HEAD, BODY, HANDLER, SEND, TUNNEL, LINGER, CLOSED = Phase
