"""From the path of a URL to an open file below one directory, and never to anything outside of it.

Knows percent-encoding, dot segments, descriptors and symbolic links. Does not know requests, nor what is answered: a
path that leads nowhere is an OSError as the system itself would raise it, with the number that says why.

Nothing here checks a path first and opens it afterwards, which would leave a gap for whoever can rename files. The
directory is opened once; from there every name is opened relative to the descriptor of the one before, and the kernel
is told to follow no symbolic link. One that is met is resolved as text, must lead to a place inside, and that place is
then walked to in the same manner, so a link put there in the meantime makes the walk fail rather than escape.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from functools import lru_cache
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

__all__ = ["MalformedPath", "Opened", "Tree", "URLPath", "decode_path", "encode_name"]


class MalformedPath(ValueError):
    """Not the path of a URL (RFC 3986 §2.1, §3.3)."""


class URLPath(NamedTuple):
    """A path, decoded.

    names: from the root on; none of them is empty, `.` or `..`, or has a slash, a backslash or a NUL. is_directory: the
    path ends in a slash, or a dot segment.
    """

    names: tuple[bytes, ...]
    is_directory: bool


_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# No name holds a slash or a NUL; what decodes to one is an attempt at something. Backslashes are separators to some
# clients and proxies, so a name with one would mean different things along the way.
_NEVER_IN_NAMES = re.compile(rb"[/\\\0]")

_LONGEST_REMEMBERED = 256  # bounds the memory, together with the number of paths


def decode_path(raw_path: str) -> URLPath:
    """The names in an absolute path as it was sent: percent-decoded exactly once, dot segments resolved.

    A dot segment counts also when it is encoded, since `%2e` and `.` are equivalent (RFC 3986 §6.2.2.2); one that would
    climb above the root leads nowhere. Empty segments are skipped, as file systems do. Raises MalformedPath for what is
    no path, FileNotFoundError for one that no file can have.
    """
    if len(raw_path) <= _LONGEST_REMEMBERED:
        return _decode_remembered(raw_path)
    return _decode(raw_path)


def _decode(raw_path: str) -> URLPath:
    if raw_path[:1] != "/" or not raw_path.isascii() or _BROKEN_ESCAPE.search(raw_path.encode("ascii")) is not None:
        raise MalformedPath(raw_path)
    names: list[bytes] = []
    name = b""
    for segment in raw_path.split("/")[1:]:
        name = unquote_to_bytes(segment)
        if _NEVER_IN_NAMES.search(name) is not None:
            raise FileNotFoundError(errno.ENOENT, "no name of a file")
        if name == b"..":
            if not names:
                raise FileNotFoundError(errno.ENOENT, "above the root")
            names.pop()
        elif name not in (b"", b"."):
            names.append(name)
    return URLPath(tuple(names), name in (b"", b".", b".."))


_decode_remembered = lru_cache(maxsize=1024)(_decode)


def encode_name(name: bytes) -> str:
    """`name` as one segment of a URL, whatever its bytes are.

    All but the unreserved characters are encoded, so that it may also stand in an attribute of HTML, and alone as a
    relative reference, where a colon would otherwise end a scheme (RFC 3986 §4.2).
    """
    return quote(name, safe="")


class Opened(NamedTuple):
    """A regular file open for reading, or a directory from which names can be opened; owned by whoever asked for it."""

    fd: int  # -1 for a file that was known already, and not opened
    status: os.stat_result  # of that descriptor, and so of what it reads
    is_directory: bool


# Whether a regular file need not be opened, since its status tells all there is to know.
Known = Callable[[os.stat_result], bool]

# To open names below a directory takes the permission to search it only, which is all that these ask for.
_SEARCH: int = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY))
_SEARCH_BELOW = _SEARCH | os.O_NOFOLLOW
# Should a FIFO or a terminal take the place of a file at the last moment, opening it neither blocks nor adopts it.
_READ_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MOST_LINKS = 40  # as many as Linux follows in one path


class Tree:
    """A directory, open for as long as this lives, and what is below it. `path` is where it is."""

    def __init__(self, directory: str | bytes | os.PathLike[str]) -> None:
        """Raises FileNotFoundError, NotADirectoryError, or another OSError when there is no such directory."""
        self._fd = -1
        self.path = os.path.realpath(os.fsencode(directory))
        self._names = _names_in(self.path)
        self._fd = os.open(self.path, _SEARCH)

    def close(self) -> None:
        """Lets go of the directory; nothing can be opened any more. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def open(self, names: tuple[bytes, ...], known: Known | None = None) -> Opened:
        """The file or directory at `names`, which are as in `URLPath`. Links are followed as long as they stay inside.

        known: is asked about a regular file before it is opened, and may spare that. Otherwise the answer's status is
        that of the descriptor.

        Raises OSError: ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG where nothing is to be found; EACCES for what may not be
        read, leads out of the directory, or is neither a file nor a directory; and whatever else the system says.
        """
        if self._fd < 0:
            raise ValueError("the directory is closed")
        for _ in range(_MOST_LINKS):
            found = self._walk(names, known)
            if isinstance(found, Opened):
                return found
            names = self._behind_link(names[:found]) + names[found:]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _walk(self, names: tuple[bytes, ...], known: Known | None) -> Opened | int:
        """Opens one name after the other, following no link; at a link, how many names lead to it, itself included."""
        names = names or (b".",)
        fd = self._fd
        last = len(names) - 1
        try:
            for depth in range(last):
                below = _open_search(fd, names[depth])
                if below is None:
                    return depth + 1
                if fd != self._fd:
                    os.close(fd)
                fd = below
            return _open_last(fd, names[last], known) or last + 1
        finally:
            if fd != self._fd:
                os.close(fd)

    def _behind_link(self, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Where the link at `names` leads, as names below this directory. Raises PermissionError if that is outside."""
        target = _names_in(os.path.realpath(b"/".join((self.path, *names)), strict=True))
        if target[: len(self._names)] != self._names:  # name by name: /srv/site-old is not inside /srv/site
            raise PermissionError(errno.EACCES, "the link leads out of the directory")
        return target[len(self._names) :]


def _names_in(path: bytes) -> tuple[bytes, ...]:
    return tuple(name for name in path.split(b"/") if name)


def _open_search(parent: int, name: bytes) -> int | None:
    """Opens a directory on the way to something below it; None for a link."""
    try:
        return os.open(name, _SEARCH_BELOW, dir_fd=parent)
    except OSError:  # systems differ in the number they give for a link
        if S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode) == S_IFLNK:
            return None
        raise


def _open_last(parent: int, name: bytes, known: Known | None) -> Opened | None:
    """Opens what stands at the end of a path, unless it is `known`; None for a link.

    The look at its kind comes first because to open a FIFO or a device can already do something: wake a writer, rewind
    a tape. What is reported of a file is always asked of its descriptor.
    """
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    kind = S_IFMT(status.st_mode)
    if kind == S_IFREG:
        if known is not None and known(status):
            return Opened(-1, status, False)
        fd = os.open(name, _READ_BELOW, dir_fd=parent)
    elif kind == S_IFDIR:
        fd = os.open(name, _SEARCH_BELOW, dir_fd=parent)
    elif kind == S_IFLNK:
        return None
    else:
        raise PermissionError(errno.EACCES, "neither a file nor a directory")
    try:
        status = os.fstat(fd)
        if S_IFMT(status.st_mode) != kind:
            raise FileNotFoundError(errno.ENOENT, "replaced while it was opened")
    except BaseException:
        os.close(fd)
        raise
    return Opened(fd, status, kind == S_IFDIR)
