"""Files: a handler that serves a directory.

Knows messages, and which answer a file, a directory or the absence of both makes. Does not know sockets or connections,
how a path is found (`paths`), what a condition means (`conditional`) or how a listing looks (`listing`).

Everything said about a file, its length, date and tag, is said of the open descriptor its content comes from, so that
an answer is always of one version, whatever happens to the file meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPMethod
from typing import NamedTuple

from ..http.body import Discard, Sink
from ..http.dates import format_date
from ..http.errors import HTTPError
from ..http.messages import FieldLine, FileSpan, Request, Response, error_response
from . import archive
from . import listing as listings
from .conditional import conditions, evaluate
from .contents import Contents
from .fields import Addition, Additions
from .media_types import media_type
from .paths import MalformedPath, Opened, Tree, decode_path, encode_name

__all__ = ["Files", "entity_tag"]

log = logging.getLogger("kaserve")

_SMALL = 16 * 1024  # up to here a file is read and leaves together with its head; a larger one is left to the kernel
_MOST_READS = 4  # of one file that changes each time it is read
_MOST_DESCRIBED = 1024
_THREADS = 4  # for large directories and archives
_INDEXES = (b"index.html", b"index.htm")

_ALLOW: FieldLine = ("Allow", "GET, HEAD, OPTIONS")
_ALLOWED = frozenset(("GET", "HEAD", "OPTIONS"))
_KNOWN = frozenset(method.value for method in HTTPMethod)

_REASONS = {
    400: "the path is malformed",
    403: "this may not be read",
    404: "there is nothing here",
    500: "this could not be read",
    503: "this cannot be read just now",
}
# What went wrong on the disk, as a status; whatever is not here is the server's fault.
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    errno.EILSEQ: 404,  # some file systems take names in UTF-8 only,
    errno.EINVAL: 404,  # others none with a colon
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.EAGAIN: 503,  # somebody has a lease on it, or it changes all the time
}


class _Representation(NamedTuple):
    """All that is said of one version of a file, ready to be sent (RFC 9110 §8)."""

    etag: str
    modified: int | None
    fields: list[FieldLine]
    unmodified_fields: list[FieldLine]  # those that a 304 has too (§15.4.5)


class Files:
    """Serves the files below `directory`, read-only, and nothing outside of it.

    A directory is answered with its index.html or index.htm, or else a listing. Symbolic links are followed as long as
    they stay inside. It keeps the directory open until close().

    listing: show what is in a directory; otherwise one without an index is not found. zip: answer `?zip` with all that
    is in a directory. additions: fields that every answer gets. form: HTML at the end of every listing. clock: seconds
    since the epoch.
    """

    def __init__(
        self,
        directory: str | bytes | os.PathLike[str],
        *,
        listing: bool = True,
        zip: bool = False,
        additions: Additions | None = None,
        form: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises FileNotFoundError, NotADirectoryError or another OSError when there is no such directory."""
        self._tree = Tree(directory)
        self._listing = listing
        self._zip = zip
        self._executor = ThreadPoolExecutor(_THREADS, "kaserve-files")  # which it starts when they are needed
        self._additions = additions or Additions()
        self._form = form
        self._clock = clock
        self._contents = Contents()
        self._described: dict[tuple[int, int, int, tuple[bytes, ...]], _Representation] = {}

    @property
    def directory(self) -> str:
        """The directory that is served, without symbolic links."""
        return os.fsdecode(self._tree.path)

    def close(self) -> None:
        """Lets go of the directory; no request can be answered any more."""
        self._executor.shutdown()
        self._tree.close()

    def refuse(self, request: Request) -> None:
        """Raises HTTPError for a method not served here: 405, or 501 if nobody knows it (RFC 9110 §15.5.6, §15.6.2).

        The server asks before it receives the body of a request, so that nobody uploads one in vain.
        """
        if request.method not in _ALLOWED:
            if request.method in _KNOWN:
                raise HTTPError(405, "files are only read here", (_ALLOW, *self._additions.always))
            raise HTTPError(501, "the method is not known", self._additions.always)

    def sink(self, request: Request) -> Sink:
        """Where the body of a request goes that `refuse` let pass: nothing here reads it."""
        return Discard()

    def __call__(self, request: Request) -> Response:
        """The answer to `request`. Raises HTTPError as `refuse` does; everything else is an ordinary Response."""
        self.refuse(request)
        if request.method == "OPTIONS":
            return Response(204, b"", (_ALLOW, *self._additions.always))
        try:
            path = decode_path(request.raw_path)
            if path.is_directory:
                return self._answer_directory(request, path.names)
            opened = self._tree.open(path.names, self._contents.has)
            if opened.is_directory:
                os.close(opened.fd)
                response = _redirect(request, path.names)
            else:
                return self._answer_file(request, path.names, opened)
        except MalformedPath:
            response = _error(400)
        except OSError as error:
            response = _failure(request, error)
        response.fields += self._additions.always
        return response

    # Files.

    def _answer_file(self, request: Request, names: tuple[bytes, ...], opened: Opened) -> Response:
        """The file itself, or that it has not been modified. Owns `opened`, unless its descriptor is the body."""
        fd, status, _ = opened
        response = None
        try:
            response = self._select(request, names, fd, status)
        finally:
            if fd >= 0 and (response is None or not isinstance(response.body, FileSpan)):
                os.close(fd)
        return response

    def _select(self, request: Request, names: tuple[bytes, ...], fd: int, status: os.stat_result) -> Response:
        """The answer from one version of the file: conditions first (RFC 9110 §13.2.1), then the content, if any."""
        conditional = conditions(request.fields)
        for _ in range(_MOST_READS):
            now = self._clock()
            representation = self._describe(status, names, now)
            if conditional:
                etag, modified, _, unmodified_fields = representation
                if evaluate(request.method, conditional, etag, modified, now) == 304:
                    return Response(304, b"", unmodified_fields)
            size = status.st_size
            if size > _SMALL or request.method == "HEAD":  # a span that is not sent costs no reading
                return Response(200, FileSpan(fd, 0, size), representation.fields)
            if fd < 0:
                return Response(200, self._contents.get(status) or b"", representation.fields)
            content = os.pread(fd, size, 0)
            before, status = status, os.fstat(fd)
            if len(content) == size == status.st_size and before.st_mtime_ns == status.st_mtime_ns:
                self._contents.add(status, content, now)
                return Response(200, content, representation.fields)
        raise BlockingIOError(errno.EAGAIN, "the file changes all the time")

    def _describe(self, status: os.stat_result, names: tuple[bytes, ...], now: float) -> _Representation:
        """What to say of a version of a file. Versions repeat, so they are remembered."""
        if status.st_mtime > now:
            return self._represent(status, names, now)  # its date changes with the time, until that has come
        key = (status.st_ino, status.st_mtime_ns, status.st_size, names)
        known = self._described.get(key)
        if known is None:
            known = self._represent(status, names, now)
            if len(self._described) >= _MOST_DESCRIBED:  # starting anew costs less than any bookkeeping
                self._described.clear()
            self._described[key] = known
        return known

    def _represent(self, status: os.stat_result, names: tuple[bytes, ...], now: float) -> _Representation:
        return _represent(status, media_type(names[-1]), self._additions.of_file(b"/".join(names)), now)

    # Directories.

    def _answer_directory(self, request: Request, names: tuple[bytes, ...]) -> Response:
        """A directory as an archive, or its index, or its listing."""
        if self._zip and archive.is_wanted(request):
            return self._add(archive.answer(self._tree, names, self._executor), names)
        for index in _INDEXES:
            try:
                opened = self._tree.open((*names, index), self._contents.has)
            except FileNotFoundError:
                continue
            if not opened.is_directory:
                return self._answer_file(request, (*names, index), opened)
            os.close(opened.fd)
        if not self._listing:
            raise FileNotFoundError(errno.ENOENT, "directories are not listed")
        response = listings.answer(request, self._tree, names, self._executor, offer_zip=self._zip, form=self._form)
        return self._add(response, names)

    def _add(self, response: Response, names: tuple[bytes, ...]) -> Response:
        """Adds to the answer for a directory what the site wants added, which wins; but Vary is true in any case."""
        added = self._additions.of_file(b"".join(name + b"/" for name in names)).whole
        replaced = {name.lower() for name, _ in added} - {"vary"}
        response.fields = [line for line in response.fields if line[0].lower() not in replaced]
        response.fields.extend(added)
        return response


def entity_tag(status: os.stat_result) -> str:
    """A version of a file: its inode, its time to the nanosecond, and its size."""
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def _represent(status: os.stat_result, content_type: str, addition: Addition, now: float) -> _Representation:
    """Describes a version of a file."""
    mtime_ns = status.st_mtime_ns
    etag = entity_tag(status)
    unmodified_fields = [("ETag", etag), *addition.unmodified]
    fields = [("Content-Type", content_type), *addition.whole, ("ETag", etag)]
    # HTTP dates are whole seconds; one in the future is not sent, but the present instead (RFC 9110 §8.8.2.1).
    modified = min(mtime_ns // 1_000_000_000, int(now))
    try:
        fields.append(("Last-Modified", format_date(modified)))
    except (ValueError, OverflowError, OSError):  # a year that HTTP cannot write
        return _Representation(etag, None, fields, unmodified_fields)
    return _Representation(etag, modified, fields, unmodified_fields)


def _redirect(request: Request, names: tuple[bytes, ...]) -> Response:
    """To the directory's own URL, against which what it refers to can be resolved; the query goes along.

    It is made from names that are not empty and all encoded, so it starts with one slash and cannot be taken for
    another host (`//host`, `/\\host`), whatever was asked for.
    """
    location = "/" + "".join(encode_name(name) + "/" for name in names)
    return Response.redirect(f"{location}?{request.query}" if request.query else location, 301)


def _failure(request: Request, error: OSError) -> Response:
    """The answer to what the disk said; what is not the client's doing is also told to the log."""
    status = _STATUSES.get(error.errno or 0, 500)
    if status >= 500:
        log.error("%s could not be served: %s", request.raw_path, error)
    return _error(status)


def _error(status: int) -> Response:
    """A refusal that keeps the connection: the request was good, only that it asked for the wrong thing."""
    return error_response(HTTPError(status, _REASONS[status]))
