"""Representations: everything that is said of one version of a file, ready to be sent (RFC 9110 §8), and what of it is
kept in memory.

Knows headers, entity tags, and what the status of a file says of its content. Does not know requests, or how files are
found and opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ...http.dates import format_date
from ...http.messages import FieldLine
from .file_body import OpenFile
from .freshness import Signature, file_signature, is_racy
from .paths import Segments
from .site_headers import FileHeaders

__all__ = [
    "OpenFileCache",
    "Representation",
    "RepresentationCache",
    "describe",
    "entity_tag",
    "modification_date",
    "with_vary",
]

# 1990-01-01: no file of the web is older than the web. Tools that want the same build every time set one date for all
# files, mostly 0, 1 (Nix, OSTree), 1980 (zip) or 1985 (npm), and an edit or a new version keeps it. As a Last-Modified
# it would tell clients that nothing ever changes.
_FIRST_DATE = 631_152_000
_LAST_DATE = 253_402_300_799  # of the year 9999, the last one that HTTP can write


class Representation:
    """One version of a file in one coding (RFC 9110 §3.2).

    Attributes:
        segments: where the file is, below the directory that is served.
        status: of the file.
        signature: what identifies this version.
        coding: the value of Content-Encoding, "" for none.
        content_type: the value of Content-Type.
        etag: the entity tag, quoted; "" for a volatile file, whose versions cannot be told apart.
        modified: the time of Last-Modified, in seconds since the epoch; None without one.
        headers: of a 200, without Content-Length.
        not_modified_headers: of a 304 (§15.4.5).
        size: of the content in bytes, -1 while that is not known.
        content: all of it; None if it is not in memory.
    """

    __slots__ = (
        "coding",
        "content",
        "content_type",
        "etag",
        "headers",
        "modified",
        "not_modified_headers",
        "segments",
        "signature",
        "size",
        "status",
    )

    def __init__(
        self, segments: Segments, status: os.stat_result, etag: str, modified: int | None, coding: str = ""
    ) -> None:
        self.coding = coding
        self.segments = segments
        self.status = status
        self.signature = file_signature(status)
        self.etag = etag
        self.modified = modified
        self.content_type = ""
        self.headers: tuple[FieldLine, ...] = ()
        self.not_modified_headers: tuple[FieldLine, ...] = ()
        self.size = -1
        self.content: bytes | None = None

    @property
    def is_lasting(self) -> bool:
        """Whether the content is the same as long as the signature is.

        Not so for a volatile file, nor for one of size 0, which may be volatile and only happen to be empty.
        """
        return self.etag != "" and self.status.st_size > 0

    def varying(self) -> Representation:
        """Returns the same with `Vary: Accept-Encoding`, for a file that other clients get in a coding (§12.5.5)."""
        twin = Representation(self.segments, self.status, self.etag, self.modified, self.coding)
        twin.content_type, twin.size, twin.content = self.content_type, self.size, self.content
        twin.headers = with_vary(self.headers, "Accept-Encoding")
        twin.not_modified_headers = with_vary(self.not_modified_headers, "Accept-Encoding")
        return twin


def with_vary(headers: Iterable[FieldLine], names: str) -> tuple[FieldLine, ...]:
    """Returns `headers` with a Vary that has `names`, joined with one that is there already."""
    headers = tuple(headers)
    present = [value for name, value in headers if name.lower() == "vary"]
    others = (line for line in headers if line[0].lower() != "vary")
    return (*others, ("Vary", ", ".join((*present, names))))


def entity_tag(status: os.stat_result, coding: str = "") -> str:
    """Returns the entity tag of a version of a file in a coding, "" for none.

    It is made of the inode, the times to the nanosecond, and the size. A program that changes a file can set back its
    mtime, but not the ctime of the inode (RFC 9110 §8.8.1: a strong validator changes with every byte).
    """
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return f'"{version}-{coding}"' if coding else f'"{version}"'


def modification_date(status: os.stat_result, now: float) -> int | None:
    """Returns the time for Last-Modified, in whole seconds since the epoch; None if the date of the file says nothing.

    Args:
        status: of the file.
        now: replaces a date in the future, which must not be sent (RFC 9110 §8.8.2.1).
    """
    seconds = min(status.st_mtime_ns // 1_000_000_000, int(now))
    return seconds if _FIRST_DATE <= seconds <= _LAST_DATE else None


def describe(
    segments: Segments,
    status: os.stat_result,
    content_type: str,
    now: float,
    site_headers: FileHeaders,
    *,
    coding: str = "",
    is_derived: bool = False,
    is_volatile: bool = False,
) -> Representation:
    """Returns the representation of a file, without its content.

    Args:
        segments: where the file is.
        status: of the version that is described.
        content_type: the value of Content-Type.
        now: seconds since the epoch.
        site_headers: what the site adds for this file.
        coding: the content coding, "" for none.
        is_derived: whether the content is compressed on the fly. A compressor need not make the same bytes every time,
            so the tag is weak, and there are no ranges.
        is_volatile: whether the content is made when it is read, as in /proc. Then it has neither tag, date nor ranges,
            and its size is up to the caller.
    """
    headers = [("Content-Type", content_type), *site_headers.full]
    if is_volatile:
        representation = Representation(segments, status, "", None)
        representation.content_type = content_type
        representation.headers = tuple(headers)
        representation.not_modified_headers = site_headers.not_modified
        return representation
    etag = entity_tag(status, coding)
    if is_derived:
        etag = "W/" + etag
    headers.append(("ETag", etag))
    if coding:
        headers.append(("Content-Encoding", coding))
    modified = modification_date(status, now)
    if modified is not None:
        headers.append(("Last-Modified", format_date(modified)))
    if not is_derived:
        headers.append(("Accept-Ranges", "bytes"))
    representation = Representation(segments, status, etag, modified, coding)
    representation.content_type = content_type
    representation.headers = tuple(headers)
    representation.not_modified_headers = (("ETag", etag), *site_headers.not_modified)
    if not is_derived:
        representation.size = status.st_size
    return representation.varying() if coding else representation


Key = tuple[Segments, str]  # of the file, and the coding of what is made of it, if any


class RepresentationCache:
    """The representations that were used lately, with their contents.

    It is bounded in bytes and in number. When it is full it starts from empty, which costs less than any bookkeeping of
    what was used when: the files in use are back within a few requests.
    """

    def __init__(
        self,
        max_bytes: int = 32 * 1024 * 1024,
        max_entries: int = 4096,
        on_clear: Callable[[], object] = lambda: None,
    ) -> None:
        """Makes an empty cache.

        Args:
            max_bytes: of all contents together.
            max_entries: representations, with content or without.
            on_clear: called when the cache starts from empty, for others that hold the same contents.
        """
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._on_clear = on_clear
        self._size = 0
        self._entries: dict[Key, Representation] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, signature: Signature) -> Representation | None:
        """Returns the representation of the version with this signature, if it is here."""
        representation = self._entries.get(key)
        return representation if representation is not None and representation.signature == signature else None

    def put(self, key: Key, representation: Representation, now: float) -> bool:
        """Keeps a representation, unless it is volatile, racy or too large.

        Args:
            key: what it is found by.
            representation: replaces an earlier one of the same key.
            now: seconds since the epoch.

        Returns:
            Whether it was kept.
        """
        size = len(representation.content or b"")
        if not representation.is_lasting or is_racy(representation.status, now) or size > self._max_bytes:
            return False
        previous = self._entries.pop(key, None)
        if previous is not None:
            self._size -= len(previous.content or b"")
        if self._size + size > self._max_bytes or len(self._entries) >= self._max_entries:
            self.clear()
        self._entries[key] = representation
        self._size += size
        return True

    def clear(self) -> None:
        """Starts from empty."""
        self._entries.clear()
        self._size = 0
        self._on_clear()


class OpenFileCache:
    """The large files that are open, shared by the responses of this turn of the reactor and of the next one.

    After that, a file that is not used any more is closed, so that a cache is never the reason why a deleted file still
    fills its disk, or an unmounted disk stays busy.
    """

    _MAX_FILES = 32

    def __init__(self) -> None:
        self.used: dict[Segments, OpenFile] = {}  # in this turn
        self.unused: dict[Segments, OpenFile] = {}  # since the turn before

    def get(self, segments: Segments, signature: Signature) -> OpenFile | None:
        """Returns the open file of that version, if it is here. The caller shares it to use it beyond this turn."""
        file = self.used.get(segments)
        if file is None:
            file = self.unused.pop(segments, None)
            if file is None:
                return None
            self.used[segments] = file
        return file if file_signature(file.status) == signature else None

    def put(self, segments: Segments, file: OpenFile) -> None:
        """Takes over `file`, and closes another one in its place."""
        previous = self.used.pop(segments, None) or self.unused.pop(segments, None)
        if previous is not None:
            previous.close()
        while len(self.used) >= self._MAX_FILES:
            self.used.pop(next(iter(self.used))).close()
        self.used[segments] = file

    def end_of_turn(self) -> None:
        """Closes the files that were not used in this turn."""
        for file in self.unused.values():
            file.close()
        self.unused, self.used = self.used, {}

    def close(self) -> None:
        """Closes all of them."""
        self.end_of_turn()
        self.end_of_turn()
