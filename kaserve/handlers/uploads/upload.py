"""Uploads: a handler that stores files into a directory, in front of the one that serves them.

Knows PUT (RFC 9110 §9.3.4), forms, and who may replace what. Does not know how paths are found (`static.paths`), how a
file gets its name (`incoming_file`), what a form is made of (`http.multipart`), or how files are served.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from http import HTTPMethod
from stat import S_ISREG
from typing import Any
from urllib.parse import unquote_to_bytes

from ...http.conditional import conditions, evaluate
from ...http.errors import HTTPError
from ...http.handler import BaseHandler, BodySink
from ...http.headers import FieldLine
from ...http.messages import Request, Response
from ...http.multipart import FormReader, Part, PartHeaders, parse_boundary, parse_file_name
from ...http.sinks import DrainSink
from ..static.files import Files
from ..static.paths import Links, MalformedPath, Segments, Tree, decode_path, encode_reference, is_hidden
from ..static.representations import entity_tag, modification_date
from .failure_page import respond_to_failed_form
from .incoming_file import Check, IncomingFile

__all__ = ["FORM", "Uploads"]

log = logging.getLogger("kaserve")

FORM = """\
<form class="upload" method="post" enctype="multipart/form-data">
<label>Upload <input type="file" name="file" multiple required></label>
<button>Send</button>
</form>
"""
"""HTML for a listing: a form that uploads files into the directory."""

_ALLOW: FieldLine = ("Allow", "GET, HEAD, OPTIONS, PUT, POST")
_READING = frozenset(("GET", "HEAD"))
_KNOWN = frozenset(method.value for method in HTTPMethod)

_REASONS = {
    400: "this cannot be the name of a file",
    403: "nothing may be stored here",
    409: "this cannot be stored here: something is in the way, or the directory is not there",
    503: "nothing can be stored at the moment",
    507: "the disk is full",
}
# Errors of the system as a status; any other is the fault of the server, a 500.
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
    """Stores what is sent with PUT or in a form below a directory; every other request goes to another handler.

    No name outside of the directory, no hidden one and no directory is ever written, and a file that is there already
    is replaced only with `overwrite`.
    """

    def __init__(
        self,
        handler: Files,
        directory: str | bytes | os.PathLike[str],
        *,
        overwrite: bool = False,
        symlinks: str = "inside",
        hidden: bool = False,
        headers: tuple[FieldLine, ...] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the directory, and keeps it open until `close`.

        Args:
            handler: serves the files. It is closed together with this one.
            directory: where files are stored.
            overwrite: whether a file that is there already may be replaced.
            symlinks: as for `Files`, of the directories on the way.
            hidden: as for `Files`, of the names that are written.
            headers: what is added to the headers of every response.
            clock: returns seconds since the epoch.

        Raises:
            OSError: there is no such directory, or it cannot be opened.
            ValueError: the headers of `handler` are `immutable`: clients would not see a file that is uploaded again.
        """
        if handler.is_immutable:
            raise ValueError("the Files of Uploads must not have SiteHeaders(immutable=True): uploads may change them")
        self._handler = handler
        self._tree = Tree(directory, Links(symlinks))
        self._overwrite = overwrite
        self._hidden = hidden
        self._headers = headers
        self._clock = clock

    def make_private(self) -> None:
        self._handler.make_private()

    def before_body(self, request: Request) -> None:
        """Asks the handler of the files, for a request that goes to it."""
        if request.method in _READING:
            self._handler.before_body(request)

    def body_sink(self, request: Request) -> BodySink:
        """Returns the sink that stores the body.

        Raises:
            HTTPError: nothing of it may be stored.
        """
        if request.method in _READING:
            return self._handler.body_sink(request)
        try:
            return self._start(request)
        except HTTPError as error:
            raise error.with_headers(self._headers) from None

    def attach(self, service: Any) -> None:
        self._handler.attach(service)

    def detach(self) -> None:
        self._handler.detach()

    def end_of_turn(self) -> None:
        """Passes the end of the turn on to the handler of the files."""
        self._handler.end_of_turn()

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        """Asks the handler of the files."""
        return self._handler.protect(path, page)

    def close(self) -> None:
        """Closes the directory, and the handler of the files."""
        self._tree.close()
        self._handler.close()

    def __call__(self, request: Request) -> Response:
        """Returns the response to `request`, after the body has been stored.

        Raises:
            HTTPError: nothing was stored. The response to a form is returned instead: a person sees it as a page.
        """
        if request.method in _READING:
            return self._handler(request)
        if request.method == "OPTIONS":
            return Response(204, b"", (_ALLOW, *self._headers))
        try:
            if request.received is None:  # no sink was needed for a request without a body
                request.received = self._start(request)
            response: Response = request.received.respond()
        except HTTPError as error:
            if request.method != "POST":
                raise error.with_headers(self._headers) from None
            response = respond_to_failed_form(request, error)
        finally:
            self._handler.files_changed()
        response.fields += self._headers
        return response

    def _start(self, request: Request) -> _FileUpload | _FormUpload:
        """Starts to store the content of `request`. Raises HTTPError if it may not be stored."""
        if request.method not in ("PUT", "POST"):
            if request.method in _KNOWN:
                raise HTTPError(405, "files can be read and stored here, nothing else", (_ALLOW,))
            raise HTTPError(501, "the method is not known")
        codings = ", ".join(request.values("content-encoding")).lower()
        if codings.strip(" \t,") not in ("", "identity"):
            # Stored as it comes, it would be sent later without its coding; to decode it could fill the disk.
            raise HTTPError(415, "a body with a Content-Encoding is not stored", (("Accept-Encoding", "identity"),))
        if _is_foreign(request):
            raise HTTPError(403, "pages of other sites may not store anything here")
        try:
            path = decode_path(request.raw_path)
            if any(b"\\" in name for name in path.segments):  # a separator on systems to which it may be copied
                raise FileNotFoundError(errno.ENOENT, "a name with a backslash")
            if not self._hidden and is_hidden(path.segments):
                raise HTTPError(403, "hidden files are not stored")
            if request.method == "POST":
                return self._start_form(request, path.segments)
            if path.is_directory:
                raise HTTPError(409, "a file needs a name, which does not end in a slash")
            return self._start_file(request, path.segments)
        except MalformedPath:
            raise HTTPError(400, "the path is malformed") from None
        except OSError as error:
            raise _error_of(error) from None

    def _start_file(self, request: Request, segments: Segments) -> _FileUpload:
        if request.values("content-range"):  # RFC 9110 §14.5: otherwise a part would be stored as the whole file
            raise HTTPError(400, "a part of a file cannot be stored")
        location = encode_reference(segments[-1])
        directory = self._open_directory(segments[:-1])
        return _FileUpload(
            IncomingFile(directory, segments[-1], lambda status: self._check_conditions(request, status)), location
        )

    def _start_form(self, request: Request, segments: Segments) -> _FormUpload:
        boundary = parse_boundary(", ".join(request.values("content-type")))
        directory = self._open_directory(segments)
        return _FormUpload(
            boundary, directory, segments, _directory_reference(request), self._check_existing, self._hidden
        )

    def _open_directory(self, segments: Segments) -> int:
        self._tree.renew()
        opened = self._tree.open(segments)
        if not opened.is_directory:
            os.close(opened.fd)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return opened.fd

    def _check_conditions(self, request: Request, status: os.stat_result | None) -> None:
        """Raises HTTPError unless the conditions of a PUT hold for the file that is there, and it may be replaced."""
        etag, modified = "", None
        if status is not None:
            etag, modified = entity_tag(status), modification_date(status, self._clock())
        conditional = conditions(request.fields)
        if evaluate("PUT", conditional, etag, modified, self._clock(), exists=status is not None) != 200:
            raise HTTPError(412, "the file is not the version that the request is about")
        self._check_existing(status)

    def _check_existing(self, status: os.stat_result | None) -> None:
        """Raises HTTPError unless the file that is there, of this status, may be replaced."""
        if status is not None and not (self._overwrite and S_ISREG(status.st_mode)):
            raise HTTPError(409, "there is something of this name already")


def _directory_reference(request: Request) -> str:
    """The directory that was asked for, relative to the path as it was sent, with or without a slash at its end."""
    last = unquote_to_bytes(request.raw_path.rpartition("/")[2])
    if last == b"..":
        return "../"
    return "./" if last in (b"", b".") else encode_reference(last, is_directory=True)


def _is_foreign(request: Request) -> bool:
    """Whether a browser sent this for a page of another site, as it sends forms without asking that site's server.

    Clients that are not browsers send neither header.
    """
    sites = request.values("sec-fetch-site")
    if sites:
        return sites[0] not in ("same-origin", "none")
    origins = request.values("origin")
    return bool(origins) and origins[0].partition("://")[2].lower() != request.authority.lower()


def _error_of(error: OSError) -> HTTPError:
    """The response to an error of the system; one that is not the client's doing is also logged."""
    status = _STATUSES.get(error.errno or 0, 500)
    if status >= 500:
        log.error("a file could not be stored: %s", error)
    return HTTPError(status, _REASONS.get(status, "this could not be stored"))


# Sinks. When the body is complete, each is what `Request.received` holds.


class _FileUpload:
    """The sink of a PUT."""

    def __init__(self, file: IncomingFile, location: str) -> None:
        self._file = file
        self._location = location

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _error_of(error) from None

    def finish(self) -> _FileUpload:
        return self

    def abandon(self) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def respond(self) -> Response:
        """Stores the file. RFC 9110 §9.3.4: 201 for a new one, 204 for one that was replaced."""
        try:
            was_replaced, status = self._file.commit()
        except OSError as error:
            raise _error_of(error) from None
        etag = ("ETag", entity_tag(status))
        if was_replaced:
            return Response(204, b"", (etag,))
        response = Response.text("stored\n", 201)
        response.fields += [("Location", self._location), etag]
        return response


class _IgnoredPart:
    """A part of a form that is not a file, or may not be stored."""

    def write(self, data: bytes) -> None:
        """Nothing is kept."""

    def finish(self) -> None:
        """Nothing is stored."""


class _FormUpload:
    """The sink of a form: stores each file as soon as it is complete; the response says what was stored."""

    def __init__(
        self, boundary: bytes, directory: int, segments: Segments, location: str, check: Check, hidden: bool
    ) -> None:
        """Makes a sink for one request; `directory` is a descriptor that it owns, of what is at `segments`."""
        self._reader = FormReader(boundary, self)
        self._directory = directory
        self._segments = segments
        self._location = location
        self._check = check
        self._hidden = hidden
        self._file: IncomingFile | None = None
        self._stored = 0
        self._errors: list[HTTPError] = []
        self._malformed: HTTPError | None = None
        self._rest = DrainSink()

    def write(self, data: bytes) -> None:
        """Reads the form. What follows a fault is ignored, so that the connection persists after the response."""
        if self._malformed is not None:
            self._rest.write(data)
            return
        try:
            self._reader.write(data)
        except HTTPError as error:
            self._malformed = error
        except OSError as error:
            raise _error_of(error) from None

    def open_part(self, headers: PartHeaders) -> Part:
        name = headers.file_name
        if not name:  # also where a browser had no file to send
            return _IgnoredPart()
        try:
            name = parse_file_name(name)
            if not self._hidden and is_hidden((*self._segments, name)):
                raise HTTPError(403, "hidden files are not stored")
            self._file = IncomingFile(os.dup(self._directory), name, self._check)
        except HTTPError as error:
            self._errors.append(error)
            return _IgnoredPart()
        except OSError as error:
            self._errors.append(_error_of(error))
            return _IgnoredPart()
        return _FilePart(self, self._file)

    def store(self, file: IncomingFile) -> None:
        """Stores the file of a part that is complete."""
        try:
            file.commit()
            self._stored += 1
        except HTTPError as error:
            self._errors.append(error)
        except OSError as error:
            self._errors.append(_error_of(error))
        finally:
            file.close()
            self._file = None

    def finish(self) -> _FormUpload:
        return self

    def abandon(self) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def respond(self) -> Response:
        """Redirects to the directory, where a browser shows the files that are there now (RFC 9110 §15.4.4)."""
        if self._malformed is not None:
            raise self._malformed
        self._reader.finish()
        if self._errors:
            first, failed = self._errors[0], len(self._errors)
            stored = f"{self._stored} {'file was' if self._stored == 1 else 'files were'} stored"
            raise HTTPError(first.status, f"{first.reason}; {stored}, {failed} {'was' if failed == 1 else 'were'} not")
        if not self._stored:
            raise HTTPError(400, "there is no file in the form")
        return Response.redirect(self._location)


class _FilePart:
    """A part of a form that is a file."""

    def __init__(self, form: _FormUpload, file: IncomingFile) -> None:
        self._form = form
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        self._form.store(self._file)
