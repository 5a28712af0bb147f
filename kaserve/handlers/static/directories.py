"""What is in a directory, and in which order to show it; a few hundred entries at a time.

Knows descriptors, kinds of files and orders. Does not know requests, nor how entries are shown. Names are bytes, as
file systems have them.

A directory can have so many entries that reading or sorting them at once would hold up all other clients. So it is read
in runs, each of which is sorted by itself. The runs are then merged while the entries are used, which costs a little
for each entry and never much at once.
"""

from __future__ import annotations

import enum
import heapq
import os
import re
from collections.abc import Callable, Iterable, Iterator
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISLNK
from typing import Any, NamedTuple

from .paths import is_hidden_name

__all__ = ["Column", "Entry", "Follow", "Kind", "Order", "open_to_read", "read_runs", "sort_runs"]


class Kind(enum.Enum):
    """What an entry is. The value is the word for it in the JSON of a listing."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"  # that leads nowhere, or where nothing is served
    OTHER = "other"  # a FIFO, a socket, a device: never served


class Entry(NamedTuple):
    """A name in a directory. For a link that may be followed, all but the name describes what it leads to.

    Attributes:
        name: as the file system has it.
        kind: what it is.
        size: bytes; None if it is unknown, or not a file.
        modified: seconds since the epoch; None if it is unknown.
        is_link: whether a symbolic link has this name.
    """

    name: bytes
    kind: Kind
    size: int | None
    modified: float | None
    is_link: bool = False


class Column(enum.Enum):
    """What entries can be sorted by. The value is the word for it in a query."""

    NAME = "name"
    SIZE = "size"
    DATE = "date"


class Order(NamedTuple):
    """How entries are sorted. Directories come first in any case."""

    column: Column = Column.NAME
    descending: bool = False


# Returns the status of what a link leads to; raises OSError if nothing is served there.
Follow = Callable[[bytes], os.stat_result]

# A run has so many entries, which takes one or two milliseconds, or fewer if there are links: following one takes as
# long as looking at 16 entries.
_MAX_WORK = 256
_WORK_OF_LINK = 16


def open_to_read(directory: int) -> int:
    """Returns a descriptor that can read a directory, from one that can only search it. The caller closes both.

    Raises:
        PermissionError: the directory may be searched, but not read.
    """
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)


def read_runs(fd: int, follow: Follow, *, show_hidden: bool) -> Iterator[list[Entry]]:
    """Reads the entries of a directory in the order of the file system, a run at a time.

    Args:
        fd: of the directory; it must stay open until the last run.
        follow: finds out what a link leads to.
        show_hidden: whether hidden names are among them.
    """
    with os.scandir(fd) as found:
        run: list[Entry] = []
        work = 0
        for each in found:
            if show_hidden or not is_hidden_name(os.fsencode(each.name)):
                entry = _entry(each, follow)
                if entry is not None:
                    run.append(entry)
                    work += _WORK_OF_LINK if entry.is_link else 0
            work += 1
            if work >= _MAX_WORK:
                yield run
                run = []
                work = 0
        yield run


def sort_runs(runs: Iterable[list[Entry]], order: Order) -> Iterator[Entry | None]:
    """Sorts entries: yields None after each run that was read, as a pause for the caller, then all entries in order."""
    column, descending = order
    # Only names are sorted backwards. Numbers change their sign instead, so that entries with the same one keep the
    # order of their names.
    reverse = descending and column is Column.NAME
    key = _keys(column, descending)
    # Between reading and showing, an entry is one flat tuple, its key in front. The garbage collector does not look
    # into tuples of texts and numbers; hundreds of thousands of other objects would make it stop the server now and
    # then.
    sorted_runs = []
    for run in runs:
        sorted_runs.append(sorted([key(entry) + _flat(entry) for entry in run], reverse=not reverse))
        yield None
    for row in heapq.merge(*map(_drain, sorted_runs), reverse=reverse):
        name, kind, size, modified, is_link = row[-5:]
        yield Entry(name, _KIND_OF[kind], size, modified, is_link)


def _drain(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Pops from the end, so that memory is released gradually."""
    while rows:
        yield rows.pop()


def _flat(entry: Entry) -> tuple[Any, ...]:
    return entry.name, entry.kind.value, entry.size, entry.modified, entry.is_link


_KIND_OF = {kind.value: kind for kind in Kind}


def _entry(found: os.DirEntry[str], follow: Follow) -> Entry | None:
    """Makes an entry of what was found; None if it was deleted since the directory was read."""
    name = os.fsencode(found.name)
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # its status may not even be read
        return Entry(name, Kind.OTHER, None, None)
    is_link = S_ISLNK(status.st_mode)
    if is_link:
        try:
            status = follow(name)
        except OSError:  # clients must not see what it leads to
            return Entry(name, Kind.LINK, None, status.st_mtime, True)
    kind = _KINDS.get(S_IFMT(status.st_mode), Kind.OTHER)
    return Entry(name, kind, status.st_size if kind is Kind.FILE else None, status.st_mtime, is_link)


_KINDS = {S_IFDIR: Kind.DIRECTORY, S_IFREG: Kind.FILE}

_NUMBER = re.compile("0*([0-9]+)")


def _natural(name: bytes) -> str:
    """What names are compared by, so that a reader finds them: without case, and 9 before 10."""
    return _NUMBER.sub(_by_length, name.decode(errors="replace").casefold())


def _by_length(number: re.Match[str]) -> str:
    """A number as a text that sorts by length first; the digit in front has it sort before letters."""
    return f"0{chr(len(number[1]))}{number[1]}"


def _keys(column: Column, descending: bool) -> Callable[[Entry], tuple[Any, ...]]:
    """What entries are compared by, before the name itself decides."""
    if column is Column.NAME:  # it is sorted backwards as a whole, so the mark that puts directories first is reversed
        return lambda entry: ((entry.kind is not Kind.DIRECTORY) != descending, _natural(entry.name))
    sign = -1 if descending else 1

    def key(entry: Entry) -> tuple[Any, ...]:
        number = entry.size if column is Column.SIZE else entry.modified
        return entry.kind is not Kind.DIRECTORY, number is None, sign * (number or 0), _natural(entry.name)

    return key
