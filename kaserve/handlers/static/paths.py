"""From the path of a URL to an open file below one directory, and never to anything outside of it.

Knows percent-encoding, dot segments, descriptors and symbolic links. Does not know requests or responses: a path that
leads nowhere is an OSError as the system itself would raise it, with the number that says why.

No path is checked first and opened afterwards: that would leave a gap for anybody who can rename files. The directory
is open; from there every name is opened relative to the descriptor of the one before, and the kernel is told to follow
no symbolic link. A link on the way is resolved as text, must lead to where links may lead (`Links`), and that place is
then walked to in the same manner, so a link that is put there in the meantime makes the walk fail rather than escape.

Linux has openat2() with RESOLVE_BENEATH for this, but Python has no call for it, and other systems have nothing like
it.
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
    "Segments",
    "Tree",
    "URLPath",
    "decode_path",
    "encode_name",
    "encode_reference",
    "is_hidden",
    "is_hidden_name",
]

Segments = tuple[bytes, ...]
"""The decoded segments of a path, which are names of directories and, last, of a file."""


class MalformedPath(ValueError):
    """Raised for text that is not the path of a URL (RFC 3986 §2.1, §3.3)."""


class URLPath(NamedTuple):
    """A decoded path.

    Attributes:
        segments: the names from the root on. None of them is empty, `.` or `..`, or contains a slash or a NUL.
        is_directory: whether the path ends in a slash or a dot segment.
    """

    segments: Segments
    is_directory: bool


_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# No file name contains a slash or a NUL; a segment that decodes to one is an attack.
_NEVER_IN_NAMES = re.compile(rb"[/\0]")

_MAX_CACHED_PATH = 256  # characters; bounds the memory of the cache, together with the number of its entries


def decode_path(raw_path: str) -> URLPath:
    """Returns the segments of an absolute path: percent-decoded exactly once, dot segments resolved.

    A dot segment counts also when it is encoded, since `%2e` and `.` are equivalent (RFC 3986 §6.2.2.2); one that would
    climb above the root leads nowhere. Empty segments are skipped, as file systems do. A backslash may be part of a
    name if it is encoded; bare ones are separators to some clients and proxies, so a path with one means different
    things on its way.

    Args:
        raw_path: the path as it was sent.

    Raises:
        MalformedPath: it is not a path.
        FileNotFoundError: no file can have this path.
    """
    if len(raw_path) <= _MAX_CACHED_PATH:
        return _decode_cached(raw_path)
    return _decode(raw_path)


def _decode(raw_path: str) -> URLPath:
    if raw_path[:1] != "/" or not raw_path.isascii() or _BROKEN_ESCAPE.search(raw_path.encode("ascii")) is not None:
        raise MalformedPath(raw_path)
    if "\\" in raw_path:
        raise FileNotFoundError(errno.ENOENT, "a bare backslash")
    segments: list[bytes] = []
    segment = b""
    for raw_segment in raw_path.split("/")[1:]:
        segment = unquote_to_bytes(raw_segment)
        if _NEVER_IN_NAMES.search(segment) is not None:
            raise FileNotFoundError(errno.ENOENT, "no name of a file")
        if segment == b"..":
            if not segments:
                raise FileNotFoundError(errno.ENOENT, "above the root")
            segments.pop()
        elif segment not in (b"", b"."):
            segments.append(segment)
    return URLPath(tuple(segments), segment in (b"", b".", b".."))


_decode_cached = lru_cache(maxsize=1024)(_decode)


def encode_name(name: bytes) -> str:
    """Returns `name` as one segment of a URL, whatever its bytes are.

    All but the unreserved characters are encoded, so that it may also stand in an attribute of HTML, and alone as a
    relative reference, where a colon would otherwise end a scheme (RFC 3986 §4.2).
    """
    return quote(name, safe="")


def encode_reference(name: bytes, query: str = "", *, is_directory: bool = False) -> str:
    """Returns a relative reference to `name` next to the path that was asked for (RFC 3986 §4.2), for Location.

    It begins neither with a slash nor with a scheme, so it never leads to another host, and a proxy that has taken a
    prefix off the path need not change it.

    Args:
        name: the last name of the path that is meant.
        query: what follows its question mark, "" for none.
        is_directory: whether it ends in a slash.
    """
    # "%3A" is no colon, but a proxy that decodes it would make one.
    reference = f"{'./' if b':' in name else ''}{encode_name(name)}{'/' if is_directory else ''}"
    return f"{reference}?{query}" if query else reference


def is_hidden_name(name: bytes) -> bool:
    """Whether a name is for the owner of the directory only: it is neither listed nor put into archives."""
    return name[:1] == b"."


def is_hidden(segments: Segments) -> bool:
    """Whether one of the names is hidden, so that it is not served; `.well-known` at the root is not (RFC 8615)."""
    return any(map(is_hidden_name, segments[1:] if segments[:1] == (b".well-known",) else segments))


class Links(enum.Enum):
    """Which symbolic links are followed, by where they lead. Any other link is an error (EACCES)."""

    INSIDE = "inside"  # of the directory
    ALL = "all"
    NONE = "none"


class Opened(NamedTuple):
    """A regular file open for reading, or a directory from which names can be opened. The caller owns the descriptor.

    Attributes:
        fd: the descriptor; -1 for a file that the caller knew already, which was not opened.
        status: of that descriptor, and so of what it reads.
        is_directory: whether it is a directory.
    """

    fd: int
    status: os.stat_result
    is_directory: bool


# Whether a regular file need not be opened, since its status says all that the caller wants to know.
IsKnown = Callable[[os.stat_result], bool]

# Opening names below a directory takes only the permission to search it, so no more is asked for.
_SEARCH: int = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY))
_SEARCH_BELOW = _SEARCH | os.O_NOFOLLOW
# If a FIFO or a terminal takes the place of a file at the last moment, opening it neither blocks nor adopts it.
_READ_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MAX_LINKS = 40  # as many as Linux follows in one path


class Tree:
    """A directory, held open, and everything below it.

    Attributes:
        path: where the directory really is, without symbolic links.
        given_path: the absolute path that was given, in which a link may lead elsewhere tomorrow.
        links: which symbolic links are followed.
    """

    def __init__(self, directory: str | bytes | os.PathLike[str], links: Links = Links.INSIDE) -> None:
        """Opens the directory.

        Raises:
            OSError: there is no such directory (FileNotFoundError, NotADirectoryError), or it cannot be opened.
        """
        self._fd = self._previous_fd = -1
        self._system_fd = -1  # of "/", opened when the first link leads out of the directory
        self.given_path = os.path.abspath(os.fsencode(directory))
        self.links = links
        self._adopt(*_open_root(self.given_path))

    def _adopt(self, path: bytes, fd: int) -> None:
        """Makes an open directory the one that is served."""
        self.path = path
        self._segments = _split(path)
        # Another thread may still be walking from the directory that was served until now, but not from the one before.
        expired, self._previous_fd, self._fd = self._previous_fd, self._fd, fd
        if expired >= 0:
            os.close(expired)

    def close(self) -> None:
        """Closes the directory; nothing can be opened any more. May be called twice."""
        for fd in (self._fd, self._previous_fd, self._system_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._previous_fd = self._system_fd = -1

    def __del__(self) -> None:
        self.close()

    def renew(self) -> bool:
        """Switches to the directory that is now at the given path: a site is often deployed by changing a link.

        As long as there is none, the old one stays.

        Returns:
            Whether it is another one.
        """
        try:
            status = os.stat(self.given_path)
            if os.path.samestat(status, os.fstat(self._fd)):
                return False
            self._adopt(*_open_root(self.given_path))
        except OSError:
            return False
        return True

    def open(self, segments: Segments, is_known: IsKnown | None = None) -> Opened:
        """Opens the file or directory at `segments`. Links are followed as `links` says.

        Args:
            segments: as in `URLPath`.
            is_known: called with the status of a regular file before it is opened; if it returns True, the file is not
                opened, and the status is that of the path.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG if there is nothing; EACCES if it may not be read, is
                reached by a link that may not be followed, or is neither a file nor a directory; and any other error of
                the system.
        """
        if self._fd < 0:
            raise ValueError("the directory is closed")
        root, path = self._fd, self.path
        for _ in range(_MAX_LINKS):
            found = _walk(root, segments, is_known)
            if isinstance(found, Opened):
                return found
            root, path, target = self._resolve_link(b"/".join((path, *segments[:found])))
            segments = target + segments[found:]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _resolve_link(self, link: bytes) -> tuple[int, bytes, Segments]:
        """Where a link leads: a directory to start from (open), its path, and the segments below it.

        Raises PermissionError if it may not be followed.
        """
        if self.links is Links.NONE:
            raise PermissionError(errno.EACCES, "links are not followed")
        target = _split(os.path.realpath(link, strict=True))
        count = len(self._segments)
        if target[:count] == self._segments:  # name by name: /srv/site-old is not inside /srv/site
            return self._fd, self.path, target[count:]
        if self.links is Links.INSIDE:
            raise PermissionError(errno.EACCES, "the link leads out of the directory")
        if self._system_fd < 0:
            self._system_fd = os.open(b"/", _SEARCH)
        return self._system_fd, b"", target


def _open_root(directory: bytes) -> tuple[bytes, int]:
    """Where a directory really is, and a descriptor of it."""
    path = os.path.realpath(directory)
    return path, os.open(path, _SEARCH)


def _walk(root: int, segments: Segments, is_known: IsKnown | None) -> Opened | int:
    """Opens one name after the other without following links; at a link, how many names lead to it, itself included."""
    segments = segments or (b".",)
    fd = root
    last = len(segments) - 1
    try:
        for depth in range(last):
            below = _open_search(fd, segments[depth])
            if below is None:
                return depth + 1
            if fd != root:
                os.close(fd)
            fd = below
        return _open_last(fd, segments[last], is_known) or last + 1
    finally:
        if fd != root:
            os.close(fd)


def _split(path: bytes) -> Segments:
    return tuple(name for name in path.split(b"/") if name)


def _open_search(parent: int, name: bytes) -> int | None:
    """Opens a directory on the way to something below it; None for a link."""
    try:
        return os.open(name, _SEARCH_BELOW, dir_fd=parent)
    except OSError:  # systems differ in the number they give for a link
        if S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode) == S_IFLNK:
            return None
        raise


def _open_last(parent: int, name: bytes, is_known: IsKnown | None) -> Opened | None:
    """Opens what the last name of a path stands for, unless it `is_known`; None for a link.

    Its kind is looked at first, because to open a FIFO or a device can already do something: wake a writer, rewind a
    tape. What is reported of a file is always the status of its descriptor.
    """
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    kind = S_IFMT(status.st_mode)
    if kind == S_IFREG:
        if is_known is not None and is_known(status):
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
