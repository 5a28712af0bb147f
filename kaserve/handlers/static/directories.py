"""What is in a directory, and in which order to show it; a few hundred entries at a time.

Knows descriptors, kinds of files and orders. Does not know requests, nor how entries are shown. Names are bytes, as
file systems have them.

A directory can be larger than what may be read, or sorted, in one go without holding up the other clients. So it is
read in runs, each of them sorted by itself; the runs are then merged as somebody takes from them, which costs a little
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
    """What an entry is; its value is a word for it."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"  # that leads nowhere, or where nobody may follow
    OTHER = "other"  # a FIFO, a socket, a device: never served


class Entry(NamedTuple):
    """A name in a directory. Of a link that may be followed, all but the name is of what it leads to.

    size: bytes; modified: seconds since the epoch; each None if it is unknown.
    """

    name: bytes
    kind: Kind
    size: int | None
    modified: float | None
    is_link: bool = False


class Column(enum.Enum):
    """What entries can be sorted by."""

    NAME = "name"
    SIZE = "size"
    DATE = "date"


class Order(NamedTuple):
    """How entries are sorted; directories come first in any case."""

    column: Column = Column.NAME
    descending: bool = False


# What a link leads to, or an OSError if nobody may follow it.
Follow = Callable[[bytes], os.stat_result]

_MAX_WORK = 256  # of a run: as many entries, which takes one or two milliseconds,
_WORK_OF_LINK = 16  # or fewer if there are links, since to follow one takes as long as to look at so many


def open_to_read(directory: int) -> int:
    """A descriptor that reads a directory of which there is one to search it; whoever asked owns it.

    Raises PermissionError if it may be searched, but not read.
    """
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)


def read_runs(fd: int, follow: Follow, *, show_hidden: bool) -> Iterator[list[Entry]]:
    """The entries of the directory open at `fd`, which must stay open meanwhile, as the system has them."""
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
    """All entries in their order, but first a None for each run, with which the caller may pause."""
    column, descending = order
    # Only names are sorted backwards. Numbers change their sign instead, so that those who share one keep their order.
    reverse = descending and column is Column.NAME
    key = _keys(column, descending)
    # Between reading and showing an entry is one flat tuple, its key in front. The garbage collector does not look
    # into tuples of texts and numbers; hundreds of thousands of objects would have it stop the server now and then.
    sorted_runs = []
    for run in runs:
        sorted_runs.append(sorted([key(entry) + _flat(entry) for entry in run], reverse=not reverse))
        yield None
    for row in heapq.merge(*map(_drain, sorted_runs), reverse=reverse):
        name, kind, size, modified, is_link = row[-5:]
        yield Entry(name, _KIND_OF[kind], size, modified, is_link)


def _drain(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """From the last to the first, none of them kept, so that there is nothing left to be freed all at once."""
    while rows:
        yield rows.pop()


def _flat(entry: Entry) -> tuple[Any, ...]:
    return entry.name, entry.kind.value, entry.size, entry.modified, entry.is_link


_KIND_OF = {kind.value: kind for kind in Kind}


def _entry(found: os.DirEntry[str], follow: Follow) -> Entry | None:
    """One of the entries; None if it is gone by now."""
    name = os.fsencode(found.name)
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # it may not even be looked at
        return Entry(name, Kind.OTHER, None, None)
    is_link = S_ISLNK(status.st_mode)
    if is_link:
        try:
            status = follow(name)
        except OSError:  # what is there is nobody's business
            return Entry(name, Kind.LINK, None, status.st_mtime, True)
    kind = _KINDS.get(S_IFMT(status.st_mode), Kind.OTHER)
    return Entry(name, kind, status.st_size if kind is Kind.FILE else None, status.st_mtime, is_link)


_KINDS = {S_IFDIR: Kind.DIRECTORY, S_IFREG: Kind.FILE}

_NUMBER = re.compile("0*([0-9]+)")


def _natural(name: bytes) -> str:
    """Sorts names as a reader would look for them: without case, and 9 before 10."""
    return _NUMBER.sub(_by_length, name.decode(errors="replace").casefold())


def _by_length(number: re.Match[str]) -> str:
    """A number among texts: in front of letters as digits are, and longer ones behind shorter ones."""
    return f"0{chr(len(number[1]))}{number[1]}"


def _keys(column: Column, descending: bool) -> Callable[[Entry], tuple[Any, ...]]:
    """What is compared before the name itself decides."""
    if column is Column.NAME:  # sorted backwards as a whole if at all, which must not apply to what comes first
        return lambda entry: ((entry.kind is not Kind.DIRECTORY) != descending, _natural(entry.name))
    sign = -1 if descending else 1

    def key(entry: Entry) -> tuple[Any, ...]:
        number = entry.size if column is Column.SIZE else entry.modified
        return entry.kind is not Kind.DIRECTORY, number is None, sign * (number or 0), _natural(entry.name)

    return key
