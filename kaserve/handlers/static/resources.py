"""Resources: what a path leads to, and the representation of it that suits a client best.

Knows paths, files, versions and codings. Does not know requests.

A resource is remembered under its path, together with the responses that can be repeated as they are (its plans).
Before it is used in another turn of the reactor it is looked at again: one look at its path says whether there is still
the very same version. Only if there is not, the path is walked and the file opened again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from stat import S_IFMT, S_IFREG
from typing import NamedTuple

from ...http.memo import remember
from ...http.messages import FieldLine
from ...http.negotiation import CODINGS, IDENTITY, choose_coding
from .compress import available_codings, compress, is_compressible
from .file_body import OpenFile
from .freshness import NO_TURN, Freshness, file_signature, is_racy
from .media_types import SAMPLE_SIZE, MediaTypes, own_coding
from .paths import Links, Opened, Segments, Tree, URLPath, decode_path, is_hidden
from .representations import OpenFileCache, Representation, RepresentationCache, describe
from .site_headers import SiteHeaders

__all__ = ["IsDirectory", "Plan", "PlanKey", "Policy", "Resource", "Resources", "StaleFile"]

# A file up to this size, in bytes, is read, and leaves together with its head; a larger one is left to the kernel. It
# takes a millisecond or two to compress as much, so up to this size that is done at once.
_MAX_IN_MEMORY = 64 * 1024
_MAX_READS = 4  # of one file that changes each time it is read
_MAX_VOLATILE = 4 * 1024 * 1024  # bytes of a file whose size is not known before it is read, as in /proc
_MAX_REMEMBERED = 4096  # resources
_MAX_REMEMBERED_PATH = 256  # characters
_MAX_PLANS = 16  # of one resource; browsers have about three values of Accept-Encoding between them
_MAX_PLAN_KEY = 512  # characters
# Seconds for which a client that accepts no coding may miss a Vary, or get one too many: only caches look at it.
_VARY_DELAY = 1.0
# A precompressed file is out of date when it is older than the file itself by more seconds than a build takes to write
# both.
_MAX_BUILD_TIME = 2.0
_INDEXES = (b"index.html", b"index.htm")
_SUFFIXES = tuple(CODINGS.values())
_CODED = (*_SUFFIXES, b".svgz")
_UNKNOWN_TYPE = "application/octet-stream"


class StaleFile(Exception):
    """Raised when a file is not the version any more that was found a moment ago. Another try is worth it."""


class IsDirectory(Exception):
    """Raised when a path without a slash at its end leads to a directory.

    Attributes:
        segments: where the directory is.
    """

    def __init__(self, segments: Segments) -> None:
        super().__init__(segments)
        self.segments = segments


class Policy(NamedTuple):
    """What of a directory is served, and how.

    Attributes:
        links: the symbolic links that are followed.
        hidden: whether names that begin with a dot are served.
        clean_urls: whether /about is about.html.
        compress: whether files are compressed on the fly.
        headers: what is added to the headers of files.
        types: their media types.
    """

    links: Links = Links.INSIDE
    hidden: bool = False
    clean_urls: bool = False
    compress: bool = False
    headers: SiteHeaders = SiteHeaders()
    types: MediaTypes = MediaTypes()


PlanKey = tuple[str | None, str | None]
"""What decides about the response to a GET of a path: the values of Accept-Encoding and If-None-Match, or None."""


class Plan(NamedTuple):
    """A response that can be repeated as it is, as long as its resource is fresh.

    Attributes:
        status: 200 or 304.
        content: the whole body.
        headers: all of them but those that the connection adds.
    """

    status: int
    content: bytes
    headers: tuple[FieldLine, ...]


class Resource:
    """A file, as it was found last.

    Attributes:
        path: where it can be looked at.
        is_direct: whether it was found at the first place where it was looked for. Then one look at `path` says that it
            is still what the path of the URL means; otherwise a file may have appeared at a place that comes first.
        plain: its representation without a coding.
        identity: the same, as it is sent.
        precompressed: the codings in which it is there as another file (`app.js.br`).
        own_coding: the coding that its own content is in (`/app.js.br` itself), "" for none that a client should know.
        file: when its path was looked at, and the version that was there.
        directory: when precompressed files were looked for, and the version of the directory that held them.
        plans: the responses that can be repeated as long as the file is unchanged.
        plans_of_turn: those that can be repeated for the rest of this turn, as a precompressed file may appear or
        change.
    """

    __slots__ = (
        "directory",
        "file",
        "identity",
        "is_direct",
        "own_coding",
        "path",
        "plain",
        "plans",
        "plans_of_turn",
        "precompressed",
    )

    def __init__(self, path: bytes, plain: Representation, is_direct: bool) -> None:
        self.path = path
        self.is_direct = is_direct
        self.plain = self.identity = plain
        self.precompressed: tuple[str, ...] = ()
        self.own_coding = ""
        self.file = Freshness()
        self.directory = Freshness()
        self.plans: dict[PlanKey | None, Plan] = {}
        self.plans_of_turn: dict[PlanKey | None, Plan] = {}

    def remember(self, key: PlanKey, plan: Plan) -> None:
        """Keeps a plan, unless the client has sent very long headers: they are not the ones that come again."""
        accept_encoding, if_none_match = key
        if len(accept_encoding or "") + len(if_none_match or "") > _MAX_PLAN_KEY:
            return
        # A client that accepts no coding, or has the current version of a file with no precompressed ones, gets the
        # same response whatever appears beside the file.
        is_lasting = accept_encoding is None or (if_none_match is not None and not self.precompressed)
        plans = self.plans if is_lasting else self.plans_of_turn
        remember(plans, key, plan, _MAX_PLANS)

    def forget_plans(self) -> None:
        """Has every response made again."""
        self.plans.clear()
        self.plans_of_turn.clear()


class Resources:
    """The files below a directory.

    Attributes:
        tree: the directory.
        turn: the number of the turn of the reactor; 0 as long as nobody counts them, and each request looks for itself.
    """

    def __init__(self, directory: str | bytes | os.PathLike[str], policy: Policy, clock: Callable[[], float]) -> None:
        """Opens the directory.

        Args:
            directory: its path.
            policy: what is served.
            clock: returns seconds since the epoch.

        Raises:
            OSError: there is no such directory.
        """
        self.tree = Tree(directory, policy.links)
        self.turn = 0
        self._policy = policy
        self._codings = available_codings() if policy.compress else ()
        self._clock = clock
        self._remembered: dict[str, Resource] = {}  # by raw path
        # A remembered resource holds the contents of its representations, so the two are bounded together.
        self._cache = RepresentationCache(on_clear=self._remembered.clear)
        self._open_files = OpenFileCache()

    def use_headers(self, headers: SiteHeaders) -> None:
        """Has every file described again, with `headers` instead of those of the policy."""
        self._policy = self._policy._replace(headers=headers)
        self._cache.clear()

    def end_of_turn(self) -> None:
        """Counts a turn: time has passed, in which anything may have changed."""
        self.turn += 1
        if self._open_files.used or self._open_files.unused:  # an idle server should not pay for what it does not do
            self._open_files.end_of_turn()

    def end_request(self) -> None:
        """Closes all files if nobody counts turns: then nothing stays open from one request to the next."""
        if self.turn == 0:
            self._open_files.close()

    def close(self) -> None:
        """Closes all files and the directory."""
        self._open_files.close()
        self.tree.close()

    # Finding.

    def recall(self, raw_path: str) -> Resource | None:
        """Returns the resource that is remembered for a path, if the path still leads to the very same version.

        The first call in a turn looks. The look follows links as the system does, and so may see a file that must not
        be served; but then it is not the version that was found by walking.
        """
        resource = self._remembered.get(raw_path)
        # `is_fresh`, written out: as a call it would be 2 % of the instructions of a request for a small file.
        if resource is None or resource.file.turn == self.turn:
            return resource
        try:
            signature = file_signature(os.stat(resource.path)) if resource.is_direct else None
        except OSError:
            signature = None
        if signature is None or signature != resource.file.signature:
            self.forget(raw_path)
            return None
        resource.file.turn = self.turn or NO_TURN
        if resource.plans_of_turn:
            resource.plans_of_turn.clear()
        # Clients that accept codings look for precompressed files in every turn (`select`); for all others they decide
        # about nothing but Vary.
        now = self._clock()
        if not resource.directory.is_fresh(self.turn, now, _VARY_DELAY):
            self._find_precompressed(resource, now)
        return resource

    def forget(self, raw_path: str) -> None:
        """Has a path walked again by the next request for it."""
        self._remembered.pop(raw_path, None)

    def find(self, raw_path: str) -> Resource | Segments:
        """Finds what a path leads to.

        Returns:
            A file, or the segments of a directory that has no index.

        Raises:
            OSError: there is nothing, or it may not be served.
            MalformedPath: it is not the path of a URL.
            IsDirectory: it is a directory, and the path has no slash at its end.
        """
        resource = self.recall(raw_path)
        if resource is not None:
            return resource
        segments, is_directory = self._decode(raw_path)
        resource = self._find_index(segments) if is_directory else self._find_file(segments)
        if resource is None:
            return segments
        now = self._clock()
        resource.file.renew(self.turn, now, resource.plain.signature)
        self._find_precompressed(resource, now)
        plain = resource.plain
        if plain.is_lasting and not is_racy(plain.status, now) and len(raw_path) <= _MAX_REMEMBERED_PATH:
            remember(self._remembered, raw_path, resource, _MAX_REMEMBERED)
        return resource

    def decode_directory(self, raw_path: str) -> Segments | None:
        """Decodes the URL of a directory; returns None if `raw_path` has no slash at its end. Nothing is looked for.

        Raises:
            OSError: it may not be served, since a name in it is hidden.
            MalformedPath: it is not the path of a URL.
        """
        segments, is_directory = self._decode(raw_path)
        return segments if is_directory else None

    def _decode(self, raw_path: str) -> URLPath:
        """Decodes a path, to walk through the directories as they are now."""
        self.tree.renew()
        path = decode_path(raw_path)
        if not self._policy.hidden and is_hidden(path.segments):
            raise FileNotFoundError(errno.ENOENT, "a hidden name")
        return path

    def _find_index(self, segments: Segments) -> Resource | None:
        for index in _INDEXES:
            try:
                return self._resource((*segments, index), index == _INDEXES[0])
            except (FileNotFoundError, IsDirectory):
                continue
        return None

    def _find_file(self, segments: Segments) -> Resource:
        try:
            return self._resource(segments, True)
        except (FileNotFoundError, IsDirectory) as error:
            if not self._policy.clean_urls:
                raise
            try:
                return self._resource((*segments[:-1], segments[-1] + b".html"), False)
            except (FileNotFoundError, IsDirectory):
                raise error from None

    def _resource(self, segments: Segments, is_first: bool) -> Resource:
        plain = self.load(segments)
        path = b"/".join((self.tree.given_path, *segments))
        # The look at the path follows links, so it cannot notice a link where none may be followed.
        resource = Resource(path, plain, is_first and self._policy.links is not Links.NONE)
        if segments[-1].endswith(_CODED) and self._policy.types.by_rule(segments) is None:
            resource.own_coding = self._own_coding(segments, path)
        return resource

    def _own_coding(self, segments: Segments, path: bytes) -> str:
        """The coding in which a page wants a compressed file that it asks for by its own name, "" for none.

        A gzip file beside the one that it was made of is asked for by its own name by people who want to keep it. br
        files are not kept by anybody.
        """
        coding = own_coding(segments)
        return "" if coding == "gzip" and os.path.exists(path.rpartition(b".")[0]) else coding

    # Looking again.

    def _find_precompressed(self, resource: Resource, now: float) -> None:
        """Looks for files that are the same in a coding (`app.js.br`), if the directory has changed since last time."""
        if not resource.plain.segments[-1].endswith(_SUFFIXES):
            try:
                status = os.stat(os.path.dirname(resource.path))
            except OSError:  # the directory is about to disappear; the next look at the file will tell
                return
            signature = file_signature(status)
            if signature == resource.directory.signature:
                resource.directory.renew(self.turn, now, signature)
                return
            oldest = resource.plain.status.st_mtime - _MAX_BUILD_TIME
            found, has_stale = _precompressed_codings(resource.path, oldest)
            # Writing to a stale file in place changes nothing in its directory, and a racy directory may change again
            # without another signature: then the next look must not be satisfied with the same signature.
            is_certain = not has_stale and not is_racy(status, now)
            resource.directory.renew(self.turn, now, signature if is_certain else None)
            if found != resource.precompressed:
                resource.precompressed = found
                resource.forget_plans()
        varies = bool(resource.precompressed or resource.own_coding or self._derivable_codings(resource))
        if varies != (resource.identity is not resource.plain):
            resource.identity = resource.plain.varying() if varies else resource.plain
            resource.forget_plans()

    # Loading.

    def load(
        self, segments: Segments, coding: str = "", content_type: str = "", named: Segments | None = None
    ) -> Representation:
        """Returns the representation of a file.

        Args:
            segments: where it is.
            coding: the coding that its content is in.
            content_type: "" to go by its name.
            named: the file that was asked for, to which the rules of the site apply, if this one is sent in its place.

        Raises:
            OSError: there is no such file, or it may not be served.
            IsDirectory: it is a directory.
        """
        named = named or segments
        key = named, coding
        opened = self.tree.open(segments, lambda status: self._cache.get(key, file_signature(status)) is not None)
        known = self._cache.get(key, file_signature(opened.status))
        if opened.is_directory:
            os.close(opened.fd)
            raise IsDirectory(segments)
        if opened.fd < 0 and known is not None:
            return known
        representation = self._read(segments, opened, coding, content_type, named)
        self._cache.put(key, representation, self._clock())
        return representation

    def _read(
        self, segments: Segments, opened: Opened, coding: str, content_type: str, named: Segments
    ) -> Representation:
        """Describes an open file, with its content if it is small; again, until both are of the same version."""
        file = OpenFile(opened.fd, opened.status)
        policy = self._policy
        headers = policy.headers.for_file(b"/".join(named))
        content_type = content_type or policy.types.by_name(segments) or ""
        try:
            for _ in range(_MAX_READS):
                status = file.status
                is_small = status.st_size <= _MAX_IN_MEMORY
                start = b""
                if is_small or not content_type:
                    start = os.pread(file.fd, _MAX_IN_MEMORY + 1 if is_small else SAMPLE_SIZE, 0)
                file.status = os.fstat(file.fd)
                if file_signature(file.status) != file_signature(status):
                    continue
                is_volatile = is_small and len(start) != status.st_size and _is_virtual(status)
                representation = describe(
                    segments,
                    status,
                    content_type or policy.types.by_content(segments, start),
                    self._clock(),
                    headers,
                    coding=coding,
                    is_volatile=is_volatile,
                )
                if not is_small:
                    self._open_files.put(segments, file.share())
                    return representation
                if is_volatile:
                    start = _read_to_end(file.fd, start)
                    representation.size = len(start)
                if len(start) == representation.size:
                    representation.content = start
                    return representation
            raise BlockingIOError(errno.EAGAIN, "the file changes all the time")
        finally:
            file.close()

    def open(self, representation: Representation) -> OpenFile:
        """Returns the file of a representation, open; the caller shares it to use it beyond this turn.

        Raises:
            OSError: it cannot be opened.
            StaleFile: it is another version now.
        """
        segments, signature = representation.segments, representation.signature
        file = self._open_files.get(segments, signature)
        if file is None:
            opened = self.tree.open(segments)
            file = OpenFile(opened.fd, opened.status)
            self._open_files.put(segments, file)
            if opened.is_directory or file_signature(opened.status) != signature:
                raise StaleFile
        return file

    # Selecting (RFC 9110 §12.5.3).

    def select(self, resource: Resource, accept_encoding: str | None, *, wants_all: bool) -> Representation | None:
        """Returns the representation that a client likes best; None if it accepts none.

        Args:
            resource: as found in this turn.
            accept_encoding: the value of that header, None without.
            wants_all: whether the client wants all of it. What is compressed on the fly has no ranges.
        """
        if accept_encoding is None:
            if not resource.own_coding:
                return resource.identity
            accept_encoding = resource.own_coding  # without the header any coding is accepted
        if not resource.directory.is_fresh(self.turn):
            self._find_precompressed(resource, self._clock())
        codings = (resource.own_coding,) if resource.own_coding else resource.precompressed
        if wants_all:
            codings += tuple(coding for coding in self._derivable_codings(resource) if coding not in codings)
        while True:
            coding = choose_coding(accept_encoding, codings)
            if coding is None:
                return None
            if coding == IDENTITY:
                return resource.identity
            try:
                return self._load_coded(resource, coding)
            except (OSError, IsDirectory):  # gone, or not to be served
                codings = tuple(other for other in codings if other != coding)

    def _load_coded(self, resource: Resource, coding: str) -> Representation:
        """The representation in a coding: a precompressed file if there is one, otherwise compressed on the fly."""
        plain = resource.plain
        if coding == resource.own_coding:
            *above, name = plain.segments
            inner = name.removesuffix(b"z") if name.endswith(b".svgz") else name.rpartition(b".")[0]
            content_type = self._policy.types.by_name((*above, inner)) or _UNKNOWN_TYPE
            return self.load(plain.segments, coding, content_type)
        if coding not in resource.precompressed:
            return self._derive(plain, coding)
        *above, name = plain.segments
        return self.load((*above, name + CODINGS[coding]), coding, plain.content_type, plain.segments)

    def _derivable_codings(self, resource: Resource) -> tuple[str, ...]:
        """The codings into which it is compressed on the fly."""
        plain = resource.plain
        is_worth_it = (
            self._codings
            and not resource.own_coding
            and plain.is_lasting
            and is_compressible(plain.content_type, plain.size)
        )
        return self._codings if is_worth_it else ()

    def _derive(self, plain: Representation, coding: str) -> Representation:
        """`plain`, compressed on the fly. A large one is compressed while it is sent."""
        known = self._cache.get((plain.segments, coding), plain.signature)
        if known is not None:
            return known
        now = self._clock()
        headers = self._policy.headers.for_file(b"/".join(plain.segments))
        derived = describe(
            plain.segments, plain.status, plain.content_type, now, headers, coding=coding, is_derived=True
        )
        if plain.content is not None:
            self.complete(derived, compress(plain.content, coding))
        return derived

    def complete(self, derived: Representation, content: bytes) -> None:
        """Keeps what was compressed on the fly, for the next client."""
        derived.content = content
        derived.size = len(content)
        self._cache.put((derived.segments, derived.coding), derived, self._clock())


def _precompressed_codings(path: bytes, oldest: float) -> tuple[tuple[str, ...], bool]:
    """The codings of the precompressed files of the file at `path`, and whether there are some from before `oldest`."""
    current: Iterable[str] = ()
    has_stale = False
    for coding, suffix in CODINGS.items():
        try:
            status = os.stat(path + suffix)
        except OSError:
            continue
        if S_IFMT(status.st_mode) == S_IFREG:
            if status.st_mtime < oldest:
                has_stale = True
            else:
                current = (*current, coding)
    return tuple(current), has_stale


def _is_virtual(status: os.stat_result) -> bool:
    """Whether the size of a file may be untrue because its content is made when it is read, as in /proc and /sys."""
    return status.st_size == 0 or getattr(status, "st_blocks", 1) == 0


def _read_to_end(fd: int, start: bytes) -> bytes:
    """Reads a file whose size is not known, of which `start` has been read.

    Raises:
        OSError: it is larger than a response from memory should be.
    """
    content = bytearray(start)
    while piece := os.pread(fd, _MAX_IN_MEMORY, len(content)):
        content += piece
        if len(content) > _MAX_VOLATILE:
            raise OSError(errno.EFBIG, f"its size is not known, and it has more than {_MAX_VOLATILE} bytes")
    return bytes(content)
