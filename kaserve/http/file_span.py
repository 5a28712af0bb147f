"""FileSpan: part of an open file, as a body or a piece of one, that the kernel sends without a copy in memory.

Knows descriptors. Does not know how they are sent (`net.writer`).
"""

from __future__ import annotations

import os
from typing import Protocol

__all__ = ["FileSpan", "Owner", "Piece"]


class Owner(Protocol):
    """The owner of a descriptor that several responses share, such as a cache of open files."""

    def close(self) -> None:
        """Called when one of the responses no longer needs the descriptor."""


class FileSpan:
    """Part of an open file, as the body of a response or a piece of it. It is sent without being read into memory.

    Attributes:
        fd: the descriptor of a regular file; -1 after `close`.
        offset: position of the first byte in the file.
        length: number of bytes, which the file must have. A response from a file that has become shorter ends with a
            reset, so that the client does not take it for complete.
    """

    __slots__ = ("_owner", "fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int, owner: Owner | None = None) -> None:
        """Takes over the descriptor, unless it has an owner.

        Args:
            fd: a descriptor of a regular file.
            offset: position of the first byte.
            length: number of bytes.
            owner: `close` calls its close() instead of closing the descriptor.
        """
        self.fd = fd
        self.offset = offset
        self.length = length
        self._owner = owner

    def close(self) -> None:
        """Closes the descriptor, or tells its owner; only the first call does anything."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self._owner is not None:
                self._owner.close()
            else:
                os.close(fd)

    def __repr__(self) -> str:
        return f"<FileSpan fd {self.fd}, {self.length} bytes from {self.offset}>"


Piece = bytes | FileSpan
"""A piece of the body of a response."""
