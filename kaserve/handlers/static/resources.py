"""Resources: what a path leads to, and its representation that suits a client best.

Knows paths, files, versions and codings. Does not know requests or answers. A resource is remembered, and looked at
again before it is used: once a turn, by one look at its path, which tells whether there is still the very same version.
Only when there is not, the path is walked and the file opened anew.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from stat import S_IFMT, S_IFREG
from typing import NamedTuple

from ...http.negotiation import CODINGS, IDENTITY, choose
from ..middleware.headers import SiteHeaders
from .compress import available, compress, is_compressible
from .file_body import OpenFile
from .media_types import media_type
from .paths import Links, Opened, Tree, URLPath, decode_path, is_hidden
from .representations import RACY_WINDOW, Cache, Names, OpenFileCache, Representation, Version, describe, file_signature

__all__ = ["IsDirectory", "Policy", "Resource", "Resources", "StaleFile"]

# Up to here a file is read, and leaves together with its head; a larger one is left to the kernel. It takes a
# millisecond or two to compress as much, so up to here that is done at once.
_SMALL = 64 * 1024
_MAX_READS = 4  # of one file that changes each time it is read
_MAX_REMEMBERED = 4096
_LONGEST_REMEMBERED = 256  # characters of a path
_BRIEF = 1.0  # seconds for which a Vary may be missing
# A file beside another one, in a coding, is out of date when it is older than that by more seconds than a build takes
# to write both.
_STALE = 2.0
_INDEXES = (b"index.html", b"index.htm")


class StaleFile(Exception):
    """A file is not the one any more that was found a moment ago."""


class IsDirectory(Exception):
    """A path without a slash at its end leads to a directory."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self.names = names


class Policy(NamedTuple):
    """What is served how.

    links: the symbolic links that are followed. hidden: whether names that begin with a dot are served. clean_urls:
    whether /about is about.html. compress: whether files are compressed on the fly. additions: fields that files have
    beside those that describe them.
    """

    links: Links = Links.INSIDE
    hidden: bool = False
    clean_urls: bool = False
    compress: bool = False
    additions: SiteHeaders = SiteHeaders()


class Resource:
    """A file, as it was found last.

    path: where it can be looked at. is_direct: it was found at the first place where it was looked for, so one look at
    `path` tells that it still is what the request means. plain: its representation without a coding; identity: the
    same, as it is sent. turn: when it was last looked at; selected: what was selected since, by Accept-Encoding.

    siblings: the codings of files beside it. beside: the version of the directory in which they were looked for, None
    if that has to be done again; looked, looked_at: the turn and the time of that.
    """

    __slots__ = (
        "beside",
        "identity",
        "is_direct",
        "looked",
        "looked_at",
        "path",
        "plain",
        "selected",
        "siblings",
        "turn",
    )

    def __init__(self, path: bytes, plain: Representation, is_direct: bool) -> None:
        self.path = path
        self.is_direct = is_direct
        self.plain = self.identity = plain
        self.turn = -1
        self.selected: dict[str, Representation] = {}
        self.siblings: tuple[str, ...] = ()
        self.beside: Version | None = None
        self.looked = -1
        self.looked_at = 0.0


class Resources:
    """The files below a directory. clock: seconds since the epoch."""

    def __init__(self, directory: str | bytes | os.PathLike[str], policy: Policy, clock: Callable[[], float]) -> None:
        """Raises OSError when there is no such directory."""
        self.tree = Tree(directory, policy.links)
        self.turn = 0  # until somebody counts them, each request is a turn of its own
        self.remembered: dict[str, Resource] = {}  # by raw path; good for those whose `turn` is this one
        self._policy = policy
        self._compressors = available() if policy.compress else ()
        self._clock = clock
        self._cache = Cache()
        self._kept = OpenFileCache()

    def end_of_turn(self) -> None:
        """Time has passed, in which anything may have changed."""
        self.turn += 1
        self._kept.turn()

    def end_request(self) -> None:
        """Where nobody counts turns, nothing is kept open from one request to the next."""
        if self.turn == 0:
            self._kept.close()

    def close(self) -> None:
        self._kept.close()
        self.tree.close()

    # Finding.

    def find(self, raw_path: str) -> Resource | Names:
        """What `raw_path` leads to: a file, or the names of a directory that has no index.

        Raises OSError, MalformedPath, and IsDirectory for a directory whose slash is missing.
        """
        resource = self.remembered.get(raw_path)
        if resource is not None:
            if resource.turn == self.turn or self.is_current(resource):
                return resource
            del self.remembered[raw_path]
        names, is_directory = self._names(raw_path)
        found = self._find_index(names) if is_directory else self._find_file(names)
        if found is None:
            return names
        resource = found
        resource.turn = self.turn or -1
        self._look_beside(resource)
        if resource.plain.is_settled(self._clock()) and len(raw_path) <= _LONGEST_REMEMBERED:
            if len(self.remembered) >= _MAX_REMEMBERED:  # starting anew costs less than any bookkeeping
                self.remembered.clear()
            self.remembered[raw_path] = resource
        return resource

    def find_directory(self, raw_path: str) -> Names | None:
        """The names of the directory whose URL `raw_path` is, if there is one; None for what has no slash at its end.

        Raises OSError and MalformedPath.
        """
        names, is_directory = self._names(raw_path)
        return names if is_directory else None

    def _names(self, raw_path: str) -> URLPath:
        """The names in a path, for a walk through what is there now."""
        self.tree.renew()
        path = decode_path(raw_path)
        if not self._policy.hidden and is_hidden(path.names):
            raise FileNotFoundError(errno.ENOENT, "a hidden name")
        return path

    def forget(self, raw_path: str) -> None:
        self.remembered.pop(raw_path, None)

    def is_current(self, resource: Resource) -> bool:
        """Looks whether the path of the resource still leads to the very same version.

        The look follows links as the system does, and so may see a file that must not be served. But then it is not
        the version that was found by walking.
        """
        if not resource.is_direct:
            return False
        try:
            if file_signature(os.stat(resource.path)) != resource.plain.version:
                return False
        except OSError:
            return False
        resource.turn = self.turn or -1
        if resource.selected:
            resource.selected.clear()
        if self._clock() - resource.looked_at >= _BRIEF:  # nothing but Vary may have changed
            self._look_beside(resource)
        return True

    def _find_index(self, names: Names) -> Resource | None:
        for index in _INDEXES:
            try:
                return self._resource((*names, index), index == _INDEXES[0])
            except (FileNotFoundError, IsDirectory):
                continue
        return None

    def _find_file(self, names: Names) -> Resource:
        try:
            return self._resource(names, True)
        except (FileNotFoundError, IsDirectory) as error:
            if not self._policy.clean_urls:
                raise
            try:
                return self._resource((*names[:-1], names[-1] + b".html"), False)
            except (FileNotFoundError, IsDirectory):
                raise error from None

    def _resource(self, names: Names, is_first: bool) -> Resource:
        plain = self.load(names)
        path = b"/".join((self.tree.given, *names))
        return Resource(path, plain, is_first and self._policy.links is not Links.NONE)

    # Loading.

    def load(self, names: Names, coding: str = "", content_type: str = "") -> Representation:
        """The representation of the file at `names`, which is in `coding`. Raises OSError, and IsDirectory."""
        key = names, coding
        opened = self.tree.open(names, lambda status: self._cache.get(key, file_signature(status)) is not None)
        known = self._cache.get(key, file_signature(opened.status))
        if opened.is_directory:
            os.close(opened.fd)
            raise IsDirectory(names)
        if opened.fd < 0 and known is not None:
            return known
        return self._read(names, opened, coding, content_type or media_type(names[-1]))

    def _read(self, names: Names, opened: Opened, coding: str, content_type: str) -> Representation:
        """Describes an open file, with its content if it is small; until both are of the same version."""
        file = OpenFile(opened.fd, opened.status)
        try:
            for _ in range(_MAX_READS):
                now = self._clock()
                status = file.status
                addition = self._policy.additions.of_file(b"/".join(names))
                representation = describe(names, status, content_type, now, addition, coding=coding)
                if status.st_size > _SMALL:
                    self._kept.put(names, file.share())
                    break
                content = os.pread(file.fd, _SMALL + 1, 0)
                file.status = os.fstat(file.fd)
                if len(content) == status.st_size and file_signature(file.status) == representation.version:
                    representation.content = content
                    break
            else:
                raise BlockingIOError(errno.EAGAIN, "the file changes all the time")
        finally:
            file.close()
        self._cache.keep((names, coding), representation, now)
        return representation

    def open(self, representation: Representation) -> OpenFile:
        """The file behind a representation, to be shared by whoever keeps it. Raises OSError, and Changed."""
        names, version = representation.names, representation.version
        file = self._kept.get(names, version)
        if file is None:
            opened = self.tree.open(names)
            file = OpenFile(opened.fd, opened.status)
            self._kept.put(names, file)
            if opened.is_directory or file_signature(opened.status) != version:
                raise StaleFile
        return file

    # Selecting (RFC 9110 §12.5.3).

    def select(self, resource: Resource, accepted: str | None, is_whole: bool) -> Representation | None:
        """The representation that a client wants most; None if there is none that it takes.

        accepted: its Accept-Encoding, None without. is_whole: it wants all of it, not ranges, which what is compressed
        on the fly does not have.
        """
        if accepted is None:
            return resource.identity
        if is_whole and accepted in resource.selected:
            return resource.selected[accepted]
        if resource.looked != self.turn or self.turn == 0:
            self._look_beside(resource)
        representation = self._select(resource, accepted, is_whole)
        if is_whole and representation is not None and self.turn > 0:
            resource.selected[accepted] = representation
        return representation

    def _select(self, resource: Resource, accepted: str, is_whole: bool) -> Representation | None:
        codings = resource.siblings
        if is_whole:
            codings += tuple(coding for coding in self._makeable(resource) if coding not in codings)
        while True:
            coding = choose(accepted, codings)
            if coding is None:
                return None
            if coding == IDENTITY:
                return resource.identity
            try:
                if coding not in resource.siblings:
                    return self._make(resource.plain, coding)
                *above, name = resource.plain.names
                sibling = (*above, name + CODINGS[coding])
                return self.load(sibling, coding, resource.plain.content_type)
            except (OSError, IsDirectory):  # gone, or not to be served
                codings = tuple(other for other in codings if other != coding)

    def _makeable(self, resource: Resource) -> tuple[str, ...]:
        """The codings that can be made of it on the fly."""
        plain = resource.plain
        worth = self._compressors and is_compressible(plain.content_type, plain.size)
        return self._compressors if worth else ()

    def _look_beside(self, resource: Resource) -> None:
        """Finds the files beside it that are the same in a coding (`app.js.br`), if its directory has changed."""
        resource.looked = self.turn
        resource.looked_at = now = self._clock()
        name = resource.plain.names[-1]
        if not name.endswith(tuple(CODINGS.values())):
            try:
                directory = os.stat(os.path.dirname(resource.path))
            except OSError:
                return
            if file_signature(directory) == resource.beside:
                return
            settled = now >= max(directory.st_mtime, directory.st_ctime) + RACY_WINDOW
            current, stale = _siblings(resource.path, resource.plain.status.st_mtime - _STALE)
            resource.siblings = current
            # A stale one may be written anew in its place, which its directory would not tell.
            resource.beside = file_signature(directory) if settled and not stale else None
        varies = bool(resource.siblings or self._makeable(resource))
        if varies != (resource.identity is not resource.plain):
            resource.identity = resource.plain.varying() if varies else resource.plain

    def _make(self, plain: Representation, coding: str) -> Representation:
        """`plain` in `coding`. The content of a large one is only made while it is sent."""
        known = self._cache.get((plain.names, coding), plain.version)
        if known is not None:
            return known
        now = self._clock()
        addition = self._policy.additions.of_file(b"/".join(plain.names))
        made = describe(plain.names, plain.status, plain.content_type, now, addition, coding=coding, is_made=True)
        if plain.content is not None:
            self.complete(made, coding, compress(plain.content, coding))
        return made

    def complete(self, made: Representation, coding: str, content: bytes) -> None:
        """Keeps what was made on the fly."""
        made.content = content
        made.size = len(content)
        self._cache.keep((made.names, coding), made, self._clock())


def _siblings(path: bytes, oldest: float) -> tuple[tuple[str, ...], bool]:
    """The codings of the files beside `path`, and whether there are others from before `oldest`."""
    current: Iterable[str] = ()
    stale = False
    for coding, suffix in CODINGS.items():
        try:
            status = os.stat(path + suffix)
        except OSError:
            continue
        if S_IFMT(status.st_mode) == S_IFREG:
            if status.st_mtime < oldest:
                stale = True
            else:
                current = (*current, coding)
    return tuple(current), stale
