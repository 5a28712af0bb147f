"""Freshness: how long a look at the disk holds, and how two versions of a file are distinguished.

Knows the times in the status of a file, and turns of the reactor. Does not know what is looked at, nor reads any clock.
"""

from __future__ import annotations

import os

__all__ = ["NO_TURN", "RACY_WINDOW", "Freshness", "Signature", "file_signature", "is_racy"]

Signature = tuple[int, int, int, int, int]
"""What identifies one version of a file or directory: the device, the inode, the size and the two times."""

# Two changes within one tick of the file system's clock leave the same times (git calls such a file racily clean). Only
# what has not changed for longer than any such tick, in seconds, is known by its times: FAT has ticks of two seconds.
RACY_WINDOW = 2.0

NO_TURN = -1
"""The turn of a look that holds for nothing."""


def file_signature(status: os.stat_result) -> Signature:
    """Returns what identifies the version that has this status; ctime is the kernel's own, and cannot be set back."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_racy(status: os.stat_result, now: float) -> bool:
    """Whether the last change is so recent that another one could leave the same signature.

    Args:
        status: of a file or directory.
        now: seconds since the epoch.
    """
    return now < max(status.st_mtime, status.st_ctime) + RACY_WINDOW


class Freshness:
    """When something on the disk was last looked at, and what was seen.

    A look holds for the rest of its turn of the reactor: a turn is over in milliseconds, and requests that are handled
    in the same turn arrived at the same time, so none of them can notice. If turns are not counted (turn 0), it holds
    for nothing but the request that made it.

    Attributes:
        turn: of the last look.
        signature: what was seen; None if the next look has to go into the details again, even if it sees the same.
    """

    __slots__ = ("_time", "signature", "turn")

    def __init__(self) -> None:
        self.signature: Signature | None = None
        self.turn = NO_TURN
        self._time = float("-inf")

    def renew(self, turn: int, now: float, signature: Signature | None) -> None:
        """Notes a look and what was seen. The arguments are those of `is_fresh`."""
        self.signature = signature
        self.turn = turn or NO_TURN
        self._time = now

    def is_fresh(self, turn: int, now: float = 0.0, max_age: float = 0.0) -> bool:
        """Whether the last look still holds.

        Args:
            turn: the number of the turn; 0 if turns are not counted.
            now: seconds since the epoch; matters only with `max_age`.
            max_age: seconds for which a look holds beyond its turn, where a change that is noticed late does no harm.
        """
        return turn == self.turn or 0.0 <= now - self._time < max_age
