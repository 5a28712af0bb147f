"""Representations: all that is said of one version of a file, ready to be sent (RFC 9110 §8), and those kept in memory.

Knows versions: what the status of a file says of its content without a look at it. Does not know names, requests, or
how files are found and opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ...http.dates import format_date
from ...http.messages import FieldLine
from ..middleware.headers import FileHeaders
from .file_body import OpenFile

__all__ = [
    "RACY_WINDOW",
    "Cache",
    "Names",
    "OpenFileCache",
    "Representation",
    "Version",
    "describe",
    "entity_tag",
    "file_signature",
    "with_vary",
]

Names = tuple[bytes, ...]
Version = tuple[int, int, int, int, int]

# Two changes within one tick of the file system's clock leave the same times behind. Only what has been left alone for
# longer than any such tick, in seconds, is known by its times.
RACY_WINDOW = 2.0


def file_signature(status: os.stat_result) -> Version:
    """ctime is the kernel's own, and cannot be set back as mtime can."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Representation:
    """One version of a file in one coding.

    names: where the file is. status: of the file; version: what of it stands for the content. etag, modified: its
    validators; modified is None for a year that HTTP cannot write. fields, unmodified_fields: of a 200 and of a 304.
    size: of the content, -1 while that is not known. content: all of it, or None when it is not in memory.
    """

    __slots__ = (
        "content",
        "content_type",
        "etag",
        "fields",
        "modified",
        "names",
        "size",
        "status",
        "unmodified_fields",
        "version",
    )

    def __init__(self, names: Names, status: os.stat_result, etag: str, modified: int | None) -> None:
        self.names = names
        self.status = status
        self.version = file_signature(status)
        self.etag = etag
        self.modified = modified
        self.content_type = ""
        self.fields: tuple[FieldLine, ...] = ()
        self.unmodified_fields: tuple[FieldLine, ...] = ()
        self.size = -1
        self.content: bytes | None = None

    def is_settled(self, now: float) -> bool:
        """Whether the file has been left alone for long enough to be known by its times."""
        return now >= max(self.status.st_mtime, self.status.st_ctime) + RACY_WINDOW

    def varying(self) -> Representation:
        """The same, where others may get another coding (§12.5.5)."""
        twin = Representation(self.names, self.status, self.etag, self.modified)
        twin.content_type, twin.size, twin.content = self.content_type, self.size, self.content
        twin.fields = with_vary(self.fields, "Accept-Encoding")
        twin.unmodified_fields = with_vary(self.unmodified_fields, "Accept-Encoding")
        return twin


def with_vary(fields: Iterable[FieldLine], names: str) -> tuple[FieldLine, ...]:
    """`fields` with a Vary that has `names`, joined with the one that may be there already."""
    fields = tuple(fields)
    others = [value for name, value in fields if name.lower() == "vary"]
    kept = (line for line in fields if line[0].lower() != "vary")
    return (*kept, ("Vary", ", ".join((*others, names))))


def entity_tag(status: os.stat_result, coding: str = "") -> str:
    """A version of a file: its inode, its times to the nanosecond, and its size; and the coding it is in.

    Whoever changes a file can set back the time of it, but not that of the inode (RFC 9110 §8.8.1: a strong validator
    changes with every byte).
    """
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return f'"{version}-{coding}"' if coding else f'"{version}"'


def describe(
    names: Names,
    status: os.stat_result,
    content_type: str,
    now: float,
    addition: FileHeaders,
    *,
    coding: str = "",
    is_made: bool = False,
) -> Representation:
    """What is said of the version of the file at `names` that has `status`, in `coding` if it is in one.

    addition: the fields that it has beside. is_made: the content is made of the file, and not always in the same
    manner, so its tag is weak, and there are no ranges.
    """
    etag = entity_tag(status, coding)
    if is_made:
        etag = "W/" + etag
    fields = [("Content-Type", content_type), *addition.whole, ("ETag", etag)]
    if coding:
        fields.append(("Content-Encoding", coding))
    # HTTP dates are whole seconds; one in the future is not sent, but the present instead (§8.8.2.1).
    modified: int | None = min(status.st_mtime_ns // 1_000_000_000, int(now))
    try:
        fields.append(("Last-Modified", format_date(modified or 0)))
    except (ValueError, OverflowError, OSError):  # a year that HTTP cannot write
        modified = None
    if not is_made:
        fields.append(("Accept-Ranges", "bytes"))
    representation = Representation(names, status, etag, modified)
    representation.content_type = content_type
    representation.fields = tuple(fields)
    representation.unmodified_fields = (("ETag", etag), *addition.unmodified)
    if not is_made:
        representation.size = status.st_size
    return representation.varying() if coding else representation


Key = tuple[Names, str]  # the names that lead to a file, and the coding that is made of it, if any


class Cache:
    """The representations that were asked for lately.

    Bounded in bytes and in number: what does not fit starts anew, which costs less than any bookkeeping.
    """

    def __init__(self, most: int = 32 * 1024 * 1024, most_entries: int = 4096) -> None:
        """most: bytes of content in all."""
        self._most = most
        self._most_entries = most_entries
        self._held = 0
        self._kept: dict[Key, Representation] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, version: Version) -> Representation | None:
        representation = self._kept.get(key)
        return representation if representation is not None and representation.version == version else None

    def keep(self, key: Key, representation: Representation, now: float) -> bool:
        """Whether it is kept; not what has been changed a moment ago. now: seconds since the epoch."""
        size = len(representation.content or b"")
        if not representation.is_settled(now) or size > self._most:
            return False
        previous = self._kept.pop(key, None)
        if previous is not None:
            self._held -= len(previous.content or b"")
        if self._held + size > self._most or len(self._kept) >= self._most_entries:
            self._kept.clear()
            self._held = 0
        self._kept[key] = representation
        self._held += size
        return True


class OpenFileCache:
    """The large files that are open, to be shared by the answers of this turn and of the next one.

    One that nobody asks for any more is closed then, so that a deleted file does not fill its disk, nor an unmounted
    disk stay busy, for the sake of a cache.
    """

    _MOST = 32

    def __init__(self) -> None:
        self._now: dict[Names, OpenFile] = {}
        self._before: dict[Names, OpenFile] = {}

    def get(self, names: Names, version: Version) -> OpenFile | None:
        """To be used in this turn; who wants it for longer shares it."""
        file = self._now.get(names)
        if file is None:
            file = self._before.pop(names, None)
            if file is None:
                return None
            self._now[names] = file
        return file if file_signature(file.status) == version else None

    def put(self, names: Names, file: OpenFile) -> None:
        """Takes over `file`."""
        previous = self._now.pop(names, None) or self._before.pop(names, None)
        if previous is not None:
            previous.close()
        while len(self._now) >= self._MOST:
            self._now.pop(next(iter(self._now))).close()
        self._now[names] = file

    def turn(self) -> None:
        for file in self._before.values():
            file.close()
        self._before, self._now = self._now, {}

    def close(self) -> None:
        self.turn()
        self.turn()
