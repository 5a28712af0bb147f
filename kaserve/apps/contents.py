"""Contents: the small files that were asked for lately, in memory.

Knows versions: what the status of a file says of its content without a look at it. Does not know names or requests. A
file is found anew for every request; what this saves is to open, read and close it once more when its status tells that
nothing has changed.
"""

from __future__ import annotations

import os

__all__ = ["Contents"]

_Version = tuple[int, int, int, int, int]

# Two changes within one tick of the file system's clock leave the same times behind. Only what has been left alone for
# longer than any such tick is known by its times.
_SETTLED = 2.0


class Contents:
    """Bounded: what does not fit starts anew, which costs less than any bookkeeping."""

    def __init__(self, most: int = 16 * 1024 * 1024) -> None:
        """most: bytes of content in all."""
        self._most = most
        self._held = 0
        self._contents: dict[_Version, bytes] = {}

    def has(self, status: os.stat_result) -> bool:
        return _version(status) in self._contents

    def get(self, status: os.stat_result) -> bytes | None:
        """The content of the version that `status` describes."""
        return self._contents.get(_version(status))

    def add(self, status: os.stat_result, content: bytes, now: float) -> None:
        """Keeps what was read of the version that `status` describes. now: seconds since the epoch."""
        if now - max(status.st_mtime, status.st_ctime) < _SETTLED or len(content) > self._most:
            return
        if self._held + len(content) > self._most:
            self._contents.clear()
            self._held = 0
        self._contents[_version(status)] = content
        self._held += len(content)


def _version(status: os.stat_result) -> _Version:
    """ctime is the kernel's own, and cannot be set back as mtime can."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
