"""Uploads: a handler that takes files into a directory, in front of the one that serves them.

Knows PUT (RFC 9110 §9.3.4), forms, and how a file appears at once or not at all. Does not know how paths are found
(`paths`), what a form is made of (`multipart`), or how files are served.

What arrives goes straight to a file that has no name, or a hidden one, in the directory where it belongs; it gets its
name when it is complete, and goes away by itself when it never is. It is not forced to the disk (fsync), which could
take seconds: readers never see a part of it, but a power failure may lose it.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import time
from collections.abc import Callable
from http import HTTPMethod
from stat import S_ISREG

from ...http.conditional import entity_tags, matches_weakly
from ...http.dates import parse_date
from ...http.errors import HTTPError
from ...http.handler import BaseHandler
from ...http.messages import FieldLine, Request, Response, error_response
from ...http.sinks import DrainSink, Sink
from ..static.files import Files
from ..static.paths import Links, MalformedPath, Tree, decode_path, encode_name, is_hidden
from ..static.representations import Names, entity_tag
from .multipart import FormReader, Part, boundary_of, file_name

__all__ = ["FORM", "Uploads"]

log = logging.getLogger("kaserve")

FORM = """\
<form class="upload" method="post" enctype="multipart/form-data">
<label>Upload <input type="file" name="file" multiple required></label>
<button>Send</button>
</form>
"""

_ALLOW: FieldLine = ("Allow", "GET, HEAD, OPTIONS, PUT, POST")
_READING = frozenset(("GET", "HEAD"))
_KNOWN = frozenset(method.value for method in HTTPMethod)

_REFUSALS = {
    400: "this cannot be the name of a file",
    403: "nothing may be stored here",
    409: "this cannot be stored here: something is in the way, or the directory is not there",
    503: "nothing can be stored just now",
    507: "there is no room for it",
}
_STATUSES = {
    errno.ENOENT: 409,
    errno.ENOTDIR: 409,
    errno.ELOOP: 409,
    errno.EEXIST: 409,
    errno.EISDIR: 409,
    errno.ENAMETOOLONG: 400,
    errno.EILSEQ: 400,
    errno.EINVAL: 400,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EFBIG: 507,
}


class Uploads(BaseHandler):
    """Stores what comes by PUT or in a form below `directory`; everything else is for `handler`.

    No name outside of the directory, no hidden one and no directory is ever written; a file that is there already only
    with `overwrite`.
    """

    def __init__(
        self,
        handler: Files,
        directory: str | bytes | os.PathLike[str],
        *,
        overwrite: bool = False,
        symlinks: str = "inside",
        hidden: bool = False,
        fields: tuple[FieldLine, ...] = (),
    ) -> None:
        """symlinks, hidden: as for `Files`, of the directories on the way and the names that are written. fields: are
        added to every answer."""
        self._handler = handler
        self._tree = Tree(directory, Links(symlinks))
        self._overwrite = overwrite
        self._hidden = hidden
        self._fields = fields

    def close(self) -> None:
        self._tree.close()
        self._handler.close()

    # The hooks of a handler.

    def end_of_turn(self) -> None:
        self._handler.end_of_turn()

    def body_sink(self, request: Request) -> Sink | None:
        """Where a body goes. Raises HTTPError for one that nobody wants."""
        if request.method in _READING:
            self._handler.before_body(request)
            return self._handler.body_sink(request)
        try:
            return self._receive(request)
        except HTTPError as error:
            raise HTTPError(error.status, error.reason, (*error.fields, *self._fields)) from None

    def __call__(self, request: Request) -> Response:
        if request.method in _READING:
            return self._handler(request)
        if request.method == "OPTIONS":
            return Response(204, b"", (_ALLOW, *self._fields))
        try:
            if request.received is None:
                request.received = self._receive(request).finish()  # it had no content
            response: Response = request.received.answer()
        except HTTPError as error:
            response = error_response(error)
        self._handler.look_again()
        response.fields += self._fields
        return response

    # Receiving.

    def _receive(self, request: Request) -> Sink:
        """What takes the content of `request`. Raises HTTPError."""
        if request.method not in ("PUT", "POST"):
            if request.method in _KNOWN:
                raise HTTPError(405, "files are read and stored here", (_ALLOW,))
            raise HTTPError(501, "the method is not known")
        if _is_foreign(request):
            raise HTTPError(403, "nothing is stored for the pages of others")
        try:
            path = decode_path(request.raw_path)
            if any(b"\\" in name for name in path.names):  # which is a separator to whoever may copy it elsewhere
                raise FileNotFoundError(errno.ENOENT, "a name with a backslash")
            if not self._hidden and is_hidden(path.names):
                raise HTTPError(403, "hidden files are not stored")
            if request.method == "POST":
                return self._receive_form(request, path.names)
            if path.is_directory:
                raise HTTPError(409, "a file needs a name, which does not end in a slash")
            return self._receive_file(request, path.names)
        except MalformedPath:
            raise HTTPError(400, "the path is malformed") from None
        except OSError as error:
            raise _refusal(error) from None

    def _receive_file(self, request: Request, names: tuple[bytes, ...]) -> Sink:
        if request.values("content-range"):  # RFC 9110 §14.5: or a part would be taken for the whole
            raise HTTPError(400, "a part of a file cannot be stored")
        location = f"{request.mount}/" + "/".join(map(encode_name, names))
        file = _Incoming(self._open_directory(names[:-1]), names[-1], lambda status: self._check(request, status))
        return _ReceivedFile(file, location)

    def _receive_form(self, request: Request, names: tuple[bytes, ...]) -> Sink:
        boundary = boundary_of(", ".join(request.values("content-type")))
        location = f"{request.mount}/" + "".join(encode_name(name) + "/" for name in names)
        return _ReceivedForm(boundary, self._open_directory(names), names, location, self._check_part, self._hidden)

    def _open_directory(self, names: tuple[bytes, ...]) -> int:
        self._tree.renew()
        opened = self._tree.open(names)
        if not opened.is_directory:
            os.close(opened.fd)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return opened.fd

    def _check(self, request: Request, status: os.stat_result | None) -> None:
        """Raises HTTPError unless the file that is there, of `status`, may be replaced."""
        if not _is_as_expected(request, status):
            raise HTTPError(412, "the file is not as the request expects it")
        self._check_part(status)

    def _check_part(self, status: os.stat_result | None) -> None:
        if status is not None and not (self._overwrite and S_ISREG(status.st_mode)):
            raise HTTPError(409, "something of this name is there already")


def _is_foreign(request: Request) -> bool:
    """Whether a browser sent this for a page of another site, which it does with forms without asking anybody.

    What is no browser sends neither field.
    """
    sites = request.values("sec-fetch-site")
    if sites:
        return sites[0] not in ("same-origin", "none")
    origins = request.values("origin")
    return bool(origins) and origins[0].partition("://")[2].lower() != request.authority.lower()


def _is_as_expected(request: Request, status: os.stat_result | None) -> bool:
    """What the conditions of a writer ask (RFC 9110 §13.1, in the order of §13.2.2); status: None for no file."""
    etag = "" if status is None else entity_tag(status)
    match = request.values("if-match")
    unmodified_since = request.values("if-unmodified-since")
    if match:
        if status is None or not (match == ["*"] or etag in entity_tags(", ".join(match))):
            return False
    elif len(unmodified_since) == 1 and status is not None:
        since = parse_date(unmodified_since[0], time.time())
        if since is not None and int(status.st_mtime) > since:
            return False
    none_match = request.values("if-none-match")
    if none_match and status is not None:
        return none_match != ["*"] and not any(matches_weakly(tag, etag) for tag in entity_tags(", ".join(none_match)))
    return True


def _refusal(error: OSError) -> HTTPError:
    """What the disk said, for the client; what is not its doing is told to the log too."""
    status = _STATUSES.get(error.errno or 0, 500)
    if status >= 500:
        log.error("a file could not be stored: %s", error)
    return HTTPError(status, _REFUSALS.get(status, "this could not be stored"))


# A file that is not there before it is complete.

# Without a name, where the system can give it one later; then not even a crash leaves anything behind.
_UNNAMED: int = getattr(os, "O_TMPFILE", 0) if os.path.isdir("/proc/self/fd") else 0
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_NOT_SUPPORTED = frozenset((errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.EINVAL, errno.EPERM, errno.ENOSYS))

_Check = Callable[[os.stat_result | None], None]


class _Incoming:
    """A new file `name` in the open directory `parent`, which belongs to it. Raises OSError or HTTPError throughout.

    check: raises HTTPError unless the file that is there already, or none, may be replaced. It is asked at the
    beginning, for the client's sake, and at the end, when it counts.
    """

    def __init__(self, parent: int, name: bytes, check: _Check) -> None:
        self._parent = parent
        self._name = name
        self._check = check
        self._fd = -1
        self._temporary: bytes | None = None  # the name it has meanwhile
        try:
            check(self._status())
            self._create()
        except BaseException:
            self.close()
            raise

    def _status(self) -> os.stat_result | None:
        """Of what has the name now; a link is what it is, whatever is behind it."""
        try:
            return os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _create(self) -> None:
        """Its permissions are those that the umask leaves."""
        if _UNNAMED:
            try:
                self._fd = os.open(b".", _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=self._parent)
                return
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
        self._temporary = _temporary_name()
        self._fd = os.open(self._temporary, _WRITE | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._parent)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self) -> tuple[bool, str]:
        """Gives it its name; whether another file had it before, and its tag."""
        before = self._status()
        self._check(before)
        if before is None:
            self._appear()
        else:
            self._replace()
        self._remove_temporary()  # now, since that is a change which the tag shows
        return before is not None, entity_tag(os.fstat(self._fd))

    def _appear(self) -> None:
        """Never takes the place of another file, however late that came."""
        source = self._temporary or f"/proc/self/fd/{self._fd}".encode()
        try:
            os.link(source, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError as error:
            if self._temporary is None or error.errno not in _NOT_SUPPORTED:
                raise
            # A file system without hard links: takes the name first, and then its own place.
            os.close(os.open(self._name, _WRITE | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._parent))
            self._replace()

    def _replace(self) -> None:
        """Takes the place of the other file: at any moment a reader finds either the one or the other."""
        if self._temporary is None:
            temporary = _temporary_name()
            os.link(f"/proc/self/fd/{self._fd}".encode(), temporary, dst_dir_fd=self._parent)
            self._temporary = temporary
        os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._temporary = None

    def close(self) -> None:
        """Lets go of what it holds; what is not committed is gone. May be called twice."""
        self._remove_temporary()
        for fd in (self._fd, self._parent):
            if fd >= 0:
                os.close(fd)
        self._fd = self._parent = -1

    def _remove_temporary(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            try:
                os.unlink(temporary, dir_fd=self._parent)
            except OSError:  # never created, or removed by somebody else
                pass


def _temporary_name() -> bytes:
    return f".kaserve-{secrets.token_hex(8)}".encode()


# Sinks, and what they make of a body.


class _Received(io.BytesIO):
    """In place of a body that was received: the answer to it, and how to let go of it."""

    def __init__(self, answer: Callable[[], Response], abandon: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.answer = answer
        self._abandon = abandon

    def close(self) -> None:
        if self._abandon is not None:
            self._abandon()
        super().close()


class _ReceivedFile:
    """The sink of a PUT."""

    def __init__(self, file: _Incoming, location: str) -> None:
        self._file = file
        self._location = location

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _refusal(error) from None

    def finish(self) -> _Received:
        return _Received(self._answer, self.abandon)

    def abandon(self) -> None:
        self._file.close()

    def _answer(self) -> Response:
        """RFC 9110 §9.3.4: 201 for a new one, 204 for one that was replaced."""
        try:
            replaced, etag = self._file.commit()
        except OSError as error:
            raise _refusal(error) from None
        if replaced:
            return Response(204, b"", (("ETag", etag),))
        response = Response.text("stored\n", 201)
        response.fields += [("Location", self._location), ("ETag", etag)]
        return response


class _Ignored:
    """A part that is no file, or not wanted."""

    def write(self, data: bytes) -> None:
        pass

    def finish(self) -> None:
        pass


class _ReceivedForm:
    """The sink of a form: stores each file as soon as it is complete, and tells in the end what came of it."""

    def __init__(
        self, boundary: bytes, directory: int, names: Names, location: str, check: _Check, hidden: bool
    ) -> None:
        """directory: open, and where it is by `names`."""
        self._reader = FormReader(boundary, self)
        self._directory = directory
        self._names = names
        self._location = location
        self._check = check
        self._hidden = hidden
        self._file: _Incoming | None = None
        self._stored = 0
        self._refused: list[HTTPError] = []
        self._malformed: HTTPError | None = None
        self._rest = DrainSink()

    def write(self, data: bytes) -> None:
        if self._malformed is not None:
            self._rest.write(data)
            return
        try:
            self._reader.write(data)
        except HTTPError as error:
            self._malformed = error
        except OSError as error:
            raise _refusal(error) from None

    def open_part(self, name: bytes | None) -> Part:
        if not name:  # also where a browser had no file to send
            return _Ignored()
        try:
            name = file_name(name)
            if not self._hidden and is_hidden((*self._names, name)):
                raise HTTPError(403, "hidden files are not stored")
            self._file = _Incoming(os.dup(self._directory), name, self._check)
        except HTTPError as error:
            self._refused.append(error)
            return _Ignored()
        except OSError as error:
            self._refused.append(_refusal(error))
            return _Ignored()
        return _FilePart(self, self._file)

    def store(self, file: _Incoming) -> None:
        """A part is complete."""
        try:
            file.commit()
            self._stored += 1
        except HTTPError as error:
            self._refused.append(error)
        except OSError as error:
            self._refused.append(_refusal(error))
        finally:
            file.close()
            self._file = None

    def finish(self) -> _Received:
        return _Received(self._answer, self.abandon)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def _answer(self) -> Response:
        """Back to the directory, where a browser shows what is there now (RFC 9110 §15.4.4)."""
        if self._malformed is not None:
            raise self._malformed
        self._reader.finish()
        if self._refused:
            first = self._refused[0]
            counts = f"{self._stored} files were stored, {len(self._refused)} were not"
            raise HTTPError(first.status, f"{first.reason}; {counts}")
        if not self._stored:
            raise HTTPError(400, "there is no file in the form")
        return Response.redirect(self._location)


class _FilePart:
    def __init__(self, form: _ReceivedForm, file: _Incoming) -> None:
        self._form = form
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        self._form.store(self._file)
