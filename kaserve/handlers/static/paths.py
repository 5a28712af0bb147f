"""From the path of a URL to an open file below one directory, and never to anything outside of it.

Knows percent-encoding, dot segments, descriptors and symbolic links. Does not know requests, nor what is answered: a
path that leads nowhere is an OSError as the system itself would raise it, with the number that says why.

Nothing here checks a path first and opens it afterwards, which would leave a gap for whoever can rename files. The
directory is open; from there every name is opened relative to the descriptor of the one before, and the kernel is told
to follow no symbolic link. One that is met is resolved as text, must lead to where links may lead (`Links`), and that
place is then walked to in the same manner, so a link put there in the meantime makes the walk fail rather than escape.
"""

from __future__ import annotations

import enum
import errno
import os
import re
from collections.abc import Callable
from functools import lru_cache
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

__all__ = [
    "Links",
    "MalformedPath",
    "Opened",
    "Tree",
    "URLPath",
    "decode_path",
    "encode_name",
    "is_hidden",
    "is_hidden_name",
]


class MalformedPath(ValueError):
    """Not the path of a URL (RFC 3986 §2.1, §3.3)."""


class URLPath(NamedTuple):
    """A path, decoded.

    names: from the root on; none of them is empty, `.` or `..`, or has a slash or a NUL. is_directory: the path ends in
    a slash, or a dot segment.
    """

    names: tuple[bytes, ...]
    is_directory: bool


_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# No name holds a slash or a NUL; what decodes to one is an attempt at something.
_NEVER_IN_NAMES = re.compile(rb"[/\0]")

_LONGEST_REMEMBERED = 256  # bounds the memory, together with the number of paths


def decode_path(raw_path: str) -> URLPath:
    """The names in an absolute path as it was sent: percent-decoded exactly once, dot segments resolved.

    A dot segment counts also when it is encoded, since `%2e` and `.` are equivalent (RFC 3986 §6.2.2.2); one that would
    climb above the root leads nowhere. Empty segments are skipped, as file systems do. A backslash may be part of a
    name, if it is encoded; bare ones are separators to some clients and proxies, so a path with one means different
    things along the way. Raises MalformedPath for what is no path, FileNotFoundError for one that no file can have.
    """
    if len(raw_path) <= _LONGEST_REMEMBERED:
        return _decode_remembered(raw_path)
    return _decode(raw_path)


def _decode(raw_path: str) -> URLPath:
    if raw_path[:1] != "/" or not raw_path.isascii() or _BROKEN_ESCAPE.search(raw_path.encode("ascii")) is not None:
        raise MalformedPath(raw_path)
    if "\\" in raw_path:
        raise FileNotFoundError(errno.ENOENT, "a bare backslash")
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


def is_hidden_name(name: bytes) -> bool:
    """Whether a name is for the owner of the directory only: it is neither listed nor put into archives."""
    return name[:1] == b"."


def is_hidden(names: tuple[bytes, ...]) -> bool:
    """Whether one of `names` is hidden, so that nobody may ask for it; `.well-known` at the root is not (RFC 8615)."""
    return any(map(is_hidden_name, names[1:] if names[:1] == (b".well-known",) else names))


class Links(enum.Enum):
    """Which symbolic links are followed, by where they lead; a link that is not is refused."""

    INSIDE = "inside"  # of the directory
    ALL = "all"
    NONE = "none"


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

_MAX_LINKS = 40  # as many as Linux follows in one path


class Tree:
    """A directory, open for as long as this lives, and what is below it. `path` is where it really is."""

    def __init__(self, directory: str | bytes | os.PathLike[str], links: Links = Links.INSIDE) -> None:
        """Raises FileNotFoundError, NotADirectoryError, or another OSError when there is no such directory."""
        self._fd = self._retired = -1
        self._system = -1  # the root of all, once a link has led out
        self.given = os.path.abspath(os.fsencode(directory))  # which a link in it may lead elsewhere tomorrow
        self.links = links
        self._adopt(*_open_root(self.given))

    def _adopt(self, path: bytes, fd: int) -> None:
        self.path = path
        self._names = _names_in(path)
        # Another thread may just be walking from the directory that was there before, but not from one before that.
        expired, self._retired, self._fd = self._retired, self._fd, fd
        if expired >= 0:
            os.close(expired)

    def close(self) -> None:
        """Lets go of the directory; nothing can be opened any more. May be called twice."""
        for fd in (self._fd, self._retired, self._system):
            if fd >= 0:
                os.close(fd)
        self._fd = self._retired = self._system = -1

    def __del__(self) -> None:
        self.close()

    def renew(self) -> bool:
        """Goes over to the directory that is now at the path once given, if it is another one: a site is often deployed
        by switching a link. Whether it was; as long as there is none, the old one stays."""
        try:
            status = os.stat(self.given)
            if os.path.samestat(status, os.fstat(self._fd)):
                return False
            self._adopt(*_open_root(self.given))
        except OSError:
            return False
        return True

    def open(self, names: tuple[bytes, ...], known: Known | None = None) -> Opened:
        """The file or directory at `names`, which are as in `URLPath`. Links are followed as `links` says.

        known: is asked about a regular file before it is opened, and may spare that. Otherwise the answer's status is
        that of the descriptor.

        Raises OSError: ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG where nothing is to be found; EACCES for what may not be
        read, is behind a link that may not be followed, or is neither a file nor a directory; and whatever else the
        system says.
        """
        if self._fd < 0:
            raise ValueError("the directory is closed")
        root, path = self._fd, self.path
        for _ in range(_MAX_LINKS):
            found = _walk(root, names, known)
            if isinstance(found, Opened):
                return found
            root, path, target = self._behind_link(b"/".join((path, *names[:found])))
            names = target + names[found:]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _behind_link(self, link: bytes) -> tuple[int, bytes, tuple[bytes, ...]]:
        """Where `link` leads: a directory to start from, open, its path, and the names below it.

        Raises PermissionError where it may not be followed.
        """
        if self.links is Links.NONE:
            raise PermissionError(errno.EACCES, "links are not followed")
        target = _names_in(os.path.realpath(link, strict=True))
        count = len(self._names)
        if target[:count] == self._names:  # name by name: /srv/site-old is not inside /srv/site
            return self._fd, self.path, target[count:]
        if self.links is Links.INSIDE:
            raise PermissionError(errno.EACCES, "the link leads out of the directory")
        if self._system < 0:
            self._system = os.open(b"/", _SEARCH)
        return self._system, b"", target


def _open_root(directory: bytes) -> tuple[bytes, int]:
    """Where `directory` really is, and a descriptor of it."""
    path = os.path.realpath(directory)
    return path, os.open(path, _SEARCH)


def _walk(root: int, names: tuple[bytes, ...], known: Known | None) -> Opened | int:
    """Opens one name after the other, following no link; at a link, how many names lead to it, itself included."""
    names = names or (b".",)
    fd = root
    last = len(names) - 1
    try:
        for depth in range(last):
            below = _open_search(fd, names[depth])
            if below is None:
                return depth + 1
            if fd != root:
                os.close(fd)
            fd = below
        return _open_last(fd, names[last], known) or last + 1
    finally:
        if fd != root:
            os.close(fd)


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
