"""The phases of a connection, and nothing else. What each one waits for is the table `PHASES` of `net.connection`."""

from __future__ import annotations

import enum

__all__ = ["BODY", "CLOSED", "HANDLER", "HANDSHAKE", "HEAD", "IDLE", "LINGER", "SEND", "Phase"]


class Phase(enum.IntEnum):
    """Where a connection is, in the order in which it gets there; what comes after SEND never reads a request again."""

    HANDSHAKE = 0  # with TLS alone
    IDLE = 1
    HEAD = 2
    BODY = 3
    HANDLER = 4
    SEND = 5
    LINGER = 6
    CLOSED = 7


HANDSHAKE, IDLE, HEAD, BODY, HANDLER, SEND, LINGER, CLOSED = Phase
