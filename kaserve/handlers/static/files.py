"""Files: a handler that serves a directory.

Knows messages, and which answer a file, a directory or the absence of both makes. Does not know sockets or connections,
how files are found, kept and described (`resources`), what a condition or a range means (`conditional`, `ranges`), or
how a listing looks (`listing`).

An answer is made in steps: find the resource, select its representation, evaluate the conditions, apply the range, take
the content. Everything said about a file, its length, date and tag, is said of the version its content is of, whatever
happens to the file meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPMethod

from ...http.conditional import conditions, evaluate, range_applies
from ...http.errors import HTTPError
from ...http.handler import BaseHandler
from ...http.messages import (
    ACCEPT_ENCODING,
    CONDITIONAL,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    Body,
    FieldLine,
    FileSpan,
    Request,
    Response,
    error_response,
)
from ...http.ranges import Range, content_range, frame_parts, parse_ranges
from ...http.sinks import DrainSink, Sink
from ..middleware.headers import SiteHeaders
from ..static import listing as listings
from ..static import zip_archive as archive
from .compress import CompressedBody
from .file_body import FileBody
from .paths import Links, MalformedPath, encode_name
from .representations import Names, Representation, with_vary
from .resources import IsDirectory, Policy, Resource, Resources, StaleFile

__all__ = ["Files"]

log = logging.getLogger("kaserve")

_MAX_TRIES = 4  # for a file that changes each time it is looked at
_THREADS = 4  # for what waits for a disk or computes for long

_ALLOW: FieldLine = ("Allow", "GET, HEAD, OPTIONS")
_ALLOWED = frozenset(("GET", "HEAD", "OPTIONS"))
_KNOWN = frozenset(method.value for method in HTTPMethod)
_CONDITIONS = CONDITIONAL | IF_NONE_MATCH | IF_MODIFIED_SINCE
_VARY: FieldLine = ("Vary", "Accept-Encoding")

_REASONS = {
    400: "the path is malformed",
    403: "this may not be read",
    404: "there is nothing here",
    405: "files are only read here",
    406: "there is no form of this that would be accepted",
    412: "this is not the version that is meant",
    416: "there are no such bytes in it",
    500: "this could not be read",
    501: "the method is not known",
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

_HTML = re.compile(r"(?:text/html|text/\*|\*/\*)[ \t]*(?:;.*)?", re.IGNORECASE)
_REFUSED = re.compile(r".*;[ \t]*q=0(?:\.0{0,3})?[ \t]*(?:;.*)?", re.IGNORECASE)


class Files(BaseHandler):
    """Serves the files below `directory`, read-only, and nothing outside of it.

    A directory is answered with its index.html or index.htm, or else a listing. It keeps the directory open until
    close(). What is not there is answered with the site's own 404.html, if it has one.

    symlinks: which symbolic links are followed, "inside" (those that stay in the directory), "all" or "none". hidden:
    whether names that begin with a dot are served. clean_urls: whether /about is about.html. spa: whether index.html
    answers for pages that are not there. compress: whether text is compressed on the fly. listing: whether the content
    of a directory is shown; otherwise one without an index is not found. zip: whether `?zip` gets all that is in a
    directory. additions: fields that every answer gets. form: HTML at the end of every listing. clock: seconds since
    the epoch.

    Who calls `end_of_turn` now and then has files looked at once between two of these calls, not once for each request.
    """

    def __init__(
        self,
        directory: str | bytes | os.PathLike[str],
        *,
        symlinks: str = "inside",
        hidden: bool = False,
        clean_urls: bool = False,
        spa: bool = False,
        compress: bool = False,
        listing: bool = True,
        zip: bool = False,
        additions: SiteHeaders | None = None,
        form: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises FileNotFoundError, NotADirectoryError or another OSError when there is no such directory."""
        self._additions = additions or SiteHeaders()
        policy = Policy(Links(symlinks), hidden, clean_urls, compress, self._additions)
        self._resources = Resources(directory, policy, clock)
        self._listing = listing
        self._zip = zip
        self._form = form
        self._hidden = hidden
        self._spa = spa
        self._clock = clock
        self._executor = ThreadPoolExecutor(_THREADS, "kaserve-files")  # which it starts when they are needed

    @property
    def directory(self) -> str:
        """The directory that is served, without symbolic links."""
        return os.fsdecode(self._resources.tree.path)

    def end_of_turn(self) -> None:
        """Time has passed, and files have to be looked at again."""
        self._resources.end_of_turn()

    def look_again(self) -> None:
        """What was looked at in this turn may have changed, by whoever calls this."""
        if self._resources.turn:
            self._resources.end_of_turn()

    def close(self) -> None:
        """Lets go of the directory; no request can be answered any more."""
        self._executor.shutdown(cancel_futures=True)
        self._resources.close()

    # What the server asks before it receives the body of a request.

    def before_body(self, request: Request) -> None:
        """Rejects methods that are not supported, before their body is uploaded in vain."""
        if request.method not in _ALLOWED:
            status, fields = _refusal(request.method)
            raise HTTPError(status, _REASONS[status], (*fields, *self._additions.of_errors))

    def body_sink(self, request: Request) -> Sink:
        """Nothing here reads a body."""
        return DrainSink()

    # Answering.

    def __call__(self, request: Request) -> Response:
        """The answer to `request`. Whatever is wrong with it, or with a file, is an ordinary answer, too."""
        resources = self._resources
        resource = resources.remembered.get(request.raw_path)
        if resource is None or request.method != "GET" or request.flags & CONDITIONAL or (request.query and self._zip):
            return self._answer(request)
        # What nearly all requests want: a file that was asked for before, or that it has not changed.
        if resource.turn != resources.turn and not resources.is_current(resource):
            return self._answer(request)
        representation: Representation | None = resource.identity
        flags = request.flags & (ACCEPT_ENCODING | IF_NONE_MATCH | IF_MODIFIED_SINCE)
        tags = request.values("if-none-match") if flags & IF_NONE_MATCH else None
        # Of what there is in one form only, the tag as it was sent out tells it all.
        if flags & ACCEPT_ENCODING and (tags is None or resource.identity is not resource.plain):
            representation = resource.selected.get(", ".join(request.values("accept-encoding")))
        if representation is not None:
            if tags is not None:
                if tags == [representation.etag]:
                    return Response(304, b"", representation.unmodified_fields)
            elif not flags & IF_MODIFIED_SINCE and representation.content is not None:
                return Response(200, representation.content, representation.fields)
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        if request.method not in _ALLOWED:
            return self._error(*_refusal(request.method))
        if request.method == "OPTIONS":
            return Response(204, b"", (_ALLOW, *self._additions.always))
        try:
            for _ in range(_MAX_TRIES):
                try:
                    return self._answer_path(request, request.raw_path)
                except StaleFile:
                    self._resources.forget(request.raw_path)
            raise BlockingIOError(errno.EAGAIN, "the file changes all the time")
        except MalformedPath:
            return self._error(400)
        except OSError as error:
            return self._answer_failure(request, error)
        finally:
            self._resources.end_request()

    def _answer_path(self, request: Request, raw_path: str) -> Response:
        """What is at `raw_path`. Raises OSError, MalformedPath, and Changed, after which another try is worth it."""
        if self._zip and archive.is_wanted(request):
            directory = self._resources.find_directory(raw_path)
            if directory is not None:
                return self._answer_archive(request, directory)
        try:
            found = self._resources.find(raw_path)
        except IsDirectory as error:
            return self._redirect(request, error.names)
        if isinstance(found, Resource):
            return self._answer_file(request, found)
        return self._answer_directory(request, found)

    # Files.

    def _answer_file(self, request: Request, resource: Resource) -> Response:
        is_conditional = request.flags & _CONDITIONS
        asked = request.values("range") if is_conditional and request.method == "GET" else []
        accepted = ", ".join(request.values("accept-encoding")) if request.flags & ACCEPT_ENCODING else None
        representation = self._resources.select(resource, accepted, not asked)
        if representation is None and asked:  # what has no ranges will do, if there is nothing else
            asked = []
            representation = self._resources.select(resource, accepted, True)
        if representation is None:
            return self._error(406, (_VARY,))
        ranges = None
        if is_conditional:
            now = self._clock()
            etag, modified = representation.etag, representation.modified
            conditional = conditions(request.fields)
            status = evaluate(request.method, conditional, etag, modified, now)
            if status == 304:
                return Response(304, b"", representation.unmodified_fields)
            if status == 412:
                return self._error(412)
            if asked and range_applies(conditional, etag, modified, now):  # for GET alone (RFC 9110 §14.2)
                ranges = parse_ranges(", ".join(asked), representation.size)
        if ranges is None:
            return self._answer_whole(request, resource, representation)
        if not ranges:
            return self._error(416, (("Content-Range", content_range(None, representation.size)),))
        return self._answer_ranges(representation, ranges)

    def _answer_whole(self, request: Request, resource: Resource, representation: Representation) -> Response:
        content, size = representation.content, representation.size
        fields: Iterable[FieldLine] = representation.fields
        body: Body
        if content is not None:
            body = content
        elif request.method == "HEAD":  # nothing is opened for what is not sent
            body = FileSpan(-1, 0, size) if size >= 0 else ()
        elif size < 0:
            coding = next(value for name, value in fields if name == "Content-Encoding")
            keep = partial(self._resources.complete, representation, coding)
            body = CompressedBody(self._resources.open(resource.plain).share(), coding, self._executor, keep)
        else:
            return self._answer_pieces(200, representation, fields, (Range(0, size),), size)
        return Response(200, body, fields)

    def _answer_ranges(self, representation: Representation, ranges: list[Range]) -> Response:
        """206 (RFC 9110 §15.3.7): one range as it is, several as multipart/byteranges."""
        content, size, fields = representation.content, representation.size, representation.fields
        if len(ranges) == 1:
            start, stop = ranges[0]
            fields = (*fields, ("Content-Range", content_range(ranges[0], size)))
            if content is not None:
                return Response(206, content[start:stop], fields)
            return self._answer_pieces(206, representation, fields, ranges, stop - start)
        of_parts = [line for line in fields if line[0] in ("Content-Type", "Content-Encoding")]
        framed = frame_parts(ranges, size, of_parts, secrets.token_hex(16))
        fields = (("Content-Type", framed.content_type), *(line for line in fields if line not in of_parts))
        if content is not None:
            body = b"".join(
                head + content[start:stop] for head, (start, stop) in zip(framed.heads, ranges, strict=True)
            )
            return Response(206, body + framed.end, fields)
        pieces = [piece for pair in zip(framed.heads, ranges, strict=True) for piece in pair]
        return self._answer_pieces(206, representation, fields, (*pieces, framed.end), framed.length)

    def _answer_pieces(
        self,
        status: int,
        representation: Representation,
        fields: Iterable[FieldLine],
        pieces: Sequence[bytes | Range],
        length: int,
    ) -> Response:
        """An answer whose content, of `length` bytes, comes from a file that is not in memory."""
        body = FileBody(self._resources.open(representation).share(), pieces, self._executor)
        return Response(status, body, (*fields, ("Content-Length", str(length))))

    # Directories.

    def _answer_directory(self, request: Request, names: Names) -> Response:
        """The listing of a directory."""
        if not self._listing:
            raise FileNotFoundError(errno.ENOENT, "directories are not listed")
        response = listings.answer(
            request,
            self._resources.tree,
            names,
            self._executor,
            show_hidden=self._hidden,
            offer_zip=self._zip,
            form=self._form,
        )
        return self._finish(request, response, names)

    def _answer_archive(self, request: Request, names: Names) -> Response:
        response = archive.answer(self._resources.tree, names, self._executor, show_hidden=self._hidden)
        return self._finish(request, response, names)

    def _finish(self, request: Request, response: Response, names: Names) -> Response:
        """The answer for a directory, under the request's conditions, which come last (RFC 9110 §13.2.1).

        What is made at this moment has neither tag nor date, so only `*` is true of it.
        """
        status = 200
        if request.flags & _CONDITIONS:
            status = evaluate(request.method, conditions(request.fields), "", None, self._clock())
        if status == 412:
            response.close()
            return self._error(412)
        addition = self._additions.of_file(b"".join(name + b"/" for name in names))
        if status == 304:
            response.close()
            kept = [line for line in response.fields if line[0] in ("Cache-Control", "Vary")]
            return _add(Response(304, b"", kept), addition.unmodified)
        return _add(response, addition.whole)

    def _redirect(self, request: Request, names: Names) -> Response:
        """To the directory's own URL, against which what it refers to can be resolved; the query goes along.

        It is made from names that are not empty and all encoded, so it starts with one slash and cannot be taken for
        another host (`//host`, `/\\host`), whatever was asked for.
        """
        location = f"{request.mount}/" + "".join(encode_name(name) + "/" for name in names)
        location = f"{location}?{request.query}" if request.query else location
        return Response(301, b"", (("Location", location), *self._additions.always))

    # What is not there, or not to be had.

    def _answer_failure(self, request: Request, error: OSError) -> Response:
        """The answer to what the disk said; what is not the client's doing is also told to the log."""
        status = _STATUSES.get(error.errno or 0, 500)
        if status >= 500:
            log.error("%s could not be served: %s", request.raw_path, error)
        if status == 404:
            page = self._answer_page(request)
            if page is not None:
                return page
        return self._error(status)

    def _answer_page(self, request: Request) -> Response | None:
        """For a page that is not there: index.html, whose scripts know what it shows, or the site's own 404.html."""
        try:
            if self._spa and _is_navigation(request):
                response = self._answer_path(request, "/index.html")
                response.fields = list(with_vary(response.fields, "Accept, Sec-Fetch-Mode"))
                return response
        except (OSError, StaleFile):
            pass
        try:
            page = self._resources.load((b"404.html",))
            fields = (("Content-Type", page.content_type), *self._additions.of_errors)
            if page.content is not None:
                return Response(404, page.content, fields)
            return self._answer_pieces(404, page, fields, (Range(0, page.size),), page.size)
        except (OSError, IsDirectory, StaleFile):
            return None

    def _error(self, status: int, fields: Iterable[FieldLine] = ()) -> Response:
        """A refusal that keeps the connection: the request was good, only that it asked for the wrong thing."""
        return error_response(HTTPError(status, _REASONS[status], (*fields, *self._additions.of_errors)))


def _add(response: Response, added: Sequence[FieldLine]) -> Response:
    """Adds to the answer for a directory what the site wants added, which wins; but Vary is true in any case."""
    replaced = {name.lower() for name, _ in added} - {"vary"}
    response.fields = [line for line in response.fields if line[0].lower() not in replaced]
    response.fields.extend(added)
    return response


def _refusal(method: str) -> tuple[int, tuple[FieldLine, ...]]:
    """405 for a method not served here, or 501 if nobody knows it (RFC 9110 §15.5.6, §15.6.2)."""
    return (405, (_ALLOW,)) if method in _KNOWN else (501, ())


def _is_navigation(request: Request) -> bool:
    """Whether somebody wants to see a page, rather than a part of one: HTML is welcome, and the name has no suffix."""
    if "." in request.raw_path.rpartition("/")[2] or request.values("sec-fetch-mode") not in ([], ["navigate"]):
        return False
    accepted = [each.strip(" \t") for each in ",".join(request.values("accept")).split(",")]
    if not any(accepted):
        return True
    return any(_HTML.fullmatch(each) is not None and _REFUSED.fullmatch(each) is None for each in accepted)
