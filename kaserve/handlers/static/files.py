"""Files: a handler that serves a directory.

Knows messages, and how a request for a file, a directory or nothing at all is responded to. Does not know sockets or
connections, how files are found and kept (`resources`), what goes into the response to a file (`file_response`), or how
a listing looks (`listing`).

Every request takes one path through this module. What nearly all requests ask for, a file that was asked for before, or
whether it has changed, is responded to the same way each time; so the response is remembered with the resource, as a
`Plan`, and repeated as long as the resource is fresh. Nothing is decided a second time to make that fast.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPMethod

from ...http.conditional import CONDITIONS, conditions, evaluate
from ...http.error_page import respond_with_error
from ...http.errors import HTTPError
from ...http.handler import BaseHandler
from ...http.headers import ACCEPT_ENCODING, CONDITIONAL, IF_MODIFIED_SINCE, IF_NONE_MATCH, FieldLine
from ...http.html_page import ICON
from ...http.messages import Request, Response, new_response
from ...http.negotiation import media_type_weight, parse_accept
from ...http.sinks import DrainSink, Sink
from .file_response import FileResponder
from .listing import respond_with_listing
from .media_types import MediaTypes
from .paths import Links, MalformedPath, Segments, encode_reference
from .representations import with_vary
from .resources import IsDirectory, Plan, PlanKey, Policy, Resource, Resources, StaleFile
from .site_headers import SiteHeaders
from .zip_archive import respond_with_archive, wants_archive

__all__ = ["Files"]

log = logging.getLogger("kaserve")

_MAX_TRIES = 4  # for a file that changes each time it is looked at
_THREADS = 4  # for what waits for a disk or computes for long

_ALLOW: FieldLine = ("Allow", "GET, HEAD, OPTIONS")
_ALLOWED = frozenset(("GET", "HEAD", "OPTIONS"))
_KNOWN = frozenset(method.value for method in HTTPMethod)
_NOT_ALLOWED = HTTPError(405, "files can only be read here", (_ALLOW,))
_NOT_KNOWN = HTTPError(501, "the method is not known")
_DECISIVE = CONDITIONS | ACCEPT_ENCODING  # the headers that decide about the response to a file
_PLAIN: PlanKey = (None, None)  # of a request without any of them
_HTML_RANGES = frozenset(("text/html", "text/*", "*/*"))

_REASONS = {
    400: "the path is malformed",
    403: "this may not be read",
    404: "there is nothing here",
    412: "this is not the version that the request is about",
    500: "this could not be read",
    503: "this cannot be read at the moment",
}
# Errors of the system as a status; any other is the fault of the server, a 500.
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    errno.EILSEQ: 404,  # some file systems accept names in UTF-8 only,
    errno.EINVAL: 404,  # others none with a colon
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.EAGAIN: 503,  # another process has a lease on it, or it changes all the time
}


class Files(BaseHandler):
    """Serves the files below a directory, read-only, and nothing outside of it.

    The response to a directory is its index.html or index.htm, otherwise a listing. The response to a path that leads
    to nothing is the site's own 404.html, if it has one.

    A server calls `end_of_turn` after each turn of the reactor; a file is then looked at once between two of these
    calls, not once for each request.
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
        headers: SiteHeaders | None = None,
        types: Mapping[str, str] | None = None,
        form: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the directory, and keeps it open until `close`.

        Args:
            directory: what is served.
            symlinks: which symbolic links are followed: "inside" (those that stay in the directory), "all" or "none".
            hidden: whether names that begin with a dot are served.
            clean_urls: whether /about is about.html.
            spa: whether pages that are not there are index.html (a single-page application).
            compress: whether text is compressed on the fly.
            listing: whether the content of a directory is shown; otherwise one without an index is not found.
            zip: whether `?zip` gets everything in a directory as an archive.
            headers: what is added to the headers of every response.
            types: media types by pattern, such as `{"*.log": "text/plain"}`; the first that matches decides. All other
                files have the type of their suffix, or of their content where there is none.
            form: HTML above the entries of every listing.
            clock: returns seconds since the epoch.

        Raises:
            OSError: there is no such directory (FileNotFoundError, NotADirectoryError), or it cannot be opened.
            ValueError: `zip` without `listing`, which hides the names that an archive shows.
        """
        if zip and not listing:
            raise ValueError("zip needs listing: an archive shows the names that a missing listing hides")
        self._headers = headers or SiteHeaders()
        policy = Policy(Links(symlinks), hidden, clean_urls, compress, self._headers, MediaTypes(types))
        self._resources = Resources(directory, policy, clock)
        self._executor = ThreadPoolExecutor(_THREADS, "kaserve-files")  # starts its threads when they are needed
        self._responder = FileResponder(self._resources, self._executor, clock)
        self._listing = listing
        self._zip = zip
        self._form = form
        self._hidden = hidden
        self._spa = spa
        self._clock = clock

    @property
    def directory(self) -> str:
        """The directory that is served, without symbolic links."""
        return os.fsdecode(self._resources.tree.path)

    def before_body(self, request: Request) -> None:
        """Raises HTTPError 405 or 501 for a method that is not served here (RFC 9110 §15.5.6, §15.6.2)."""
        method = request.method
        if method not in _ALLOWED:
            raise (_NOT_ALLOWED if method in _KNOWN else _NOT_KNOWN).with_headers(self._headers.for_errors)

    def body_sink(self, request: Request) -> Sink:
        """Returns a sink that reads and ignores the body, as no GET means anything by it (RFC 9110 §9.3.1)."""
        return DrainSink()

    def end_of_turn(self) -> None:
        """Has every file looked at again before it is served."""
        self._resources.end_of_turn()

    def files_changed(self) -> None:
        """Has every file looked at again within the same turn; for handlers that write to the directory."""
        if self._resources.turn:
            self._resources.end_of_turn()

    @property
    def is_immutable(self) -> bool:
        """Whether clients may keep fingerprinted files without asking again."""
        return self._headers.is_immutable

    def make_private(self) -> None:
        """Has fingerprinted files say `private` instead of `public`."""
        self._headers = self._headers.for_users()
        self._resources.use_headers(self._headers)

    def close(self) -> None:
        """Closes the directory. No request can be served any more."""
        self._executor.shutdown(cancel_futures=True)
        self._resources.close()

    # Responding.

    def __call__(self, request: Request) -> Response:
        """Returns the response to `request`; an error response if what it asks for is not there, or cannot be sent.

        Raises:
            HTTPError: as `before_body`, which is called only for a request with a body.
        """
        resource = self._resources.recall(request.raw_path)
        if resource is not None:
            key = self._plan_key(request)
            plan = resource.plans.get(key) or resource.plans_of_turn.get(key)
            if plan is not None:
                status, body, headers = plan
                return new_response(status, body, list(headers))
        return self._respond(request)

    def _plan_key(self, request: Request) -> PlanKey | None:
        """Under what a plan for this request is remembered; None if its response depends on more than a key has."""
        flags = request.flags & _DECISIVE
        if request.method != "GET" or (request.query_string and self._zip):
            return None
        if not flags:
            return _PLAIN
        if flags & CONDITIONAL:
            return None
        accept_encoding = ", ".join(request.values("accept-encoding")) if flags & ACCEPT_ENCODING else None
        if not flags & (IF_NONE_MATCH | IF_MODIFIED_SINCE):
            return accept_encoding, None
        if not flags & IF_NONE_MATCH:  # beside a tag the date does not count, alone it is rare
            return None
        return accept_encoding, ", ".join(request.values("if-none-match"))

    def _respond(self, request: Request) -> Response:
        self.before_body(request)
        if request.method == "OPTIONS":
            return Response(204, b"", (_ALLOW, *self._headers.always))
        try:
            return self._respond_to_path(request)
        except MalformedPath:
            return self._error(request, 400)
        except OSError as error:
            return self._respond_to_failure(request, error)
        finally:
            self._resources.end_request()

    def _respond_to_path(self, request: Request) -> Response:
        """Tries again as long as the file changes between two looks at it."""
        for _ in range(_MAX_TRIES):
            try:
                return self._respond_once(request, request.raw_path)
            except StaleFile:
                self._resources.forget(request.raw_path)
        raise BlockingIOError(errno.EAGAIN, "the file changes all the time")

    def _respond_once(self, request: Request, raw_path: str) -> Response:
        """Responds with what is at `raw_path`. Raises OSError, MalformedPath or StaleFile."""
        if self._zip and wants_archive(request):
            directory = self._resources.decode_directory(raw_path)
            if directory is not None:
                return self._respond_with_archive(request, directory)
        try:
            found = self._resources.find(raw_path)
        except IsDirectory as error:
            return self._redirect(request, error.segments)
        if isinstance(found, Resource):
            return self._respond_with_file(request, found)
        return self._respond_with_listing(request, found)

    def _respond_with_file(self, request: Request, resource: Resource) -> Response:
        """Responds with a file, and remembers the response if it can be repeated: the body is in memory, or empty."""
        try:
            response = self._responder.respond(request, resource)
        except HTTPError as error:
            return self._respond_with_error(request, error)
        key = self._plan_key(request)
        # With an If-None-Match only a 304 is worth remembering: after a 200 the client knows another tag.
        if key is not None and response.status == (200 if key[1] is None else 304) and isinstance(response.body, bytes):
            resource.remember(key, Plan(response.status, response.body, tuple(response.fields)))
        return response

    # Directories.

    def _respond_with_listing(self, request: Request, segments: Segments) -> Response:
        if not self._listing:
            raise FileNotFoundError(errno.ENOENT, "directories are not listed")
        response = respond_with_listing(
            request,
            self._resources.tree,
            segments,
            self._executor,
            show_hidden=self._hidden,
            offer_zip=self._zip,
            form=self._form,
        )
        return self._respond_conditionally(request, response, segments)

    def _respond_with_archive(self, request: Request, segments: Segments) -> Response:
        response = respond_with_archive(self._resources.tree, segments, self._executor, show_hidden=self._hidden)
        return self._respond_conditionally(request, response, segments)

    def _respond_conditionally(self, request: Request, response: Response, segments: Segments) -> Response:
        """The response for a directory, under the conditions of the request, which come last (RFC 9110 §13.2.1).

        It is made at this moment, so it has neither tag nor date, and only `*` is true of it.
        """
        status = 200
        if request.flags & CONDITIONS:
            status = evaluate(request.method, conditions(request.fields), "", None, self._clock())
        if status == 412:
            response.close()
            return self._error(request, 412)
        headers = self._headers.for_file(b"".join(name + b"/" for name in segments))
        if status == 304:
            response.close()
            kept = [line for line in response.fields if line[0] == "Vary"]
            return _with_site_headers(Response(304, b"", kept), headers.not_modified)
        return _with_site_headers(response, headers.full)

    def _redirect(self, request: Request, segments: Segments) -> Response:
        """Redirects to the directory's own URL, against which relative links can be resolved; the query goes along.

        Browsers keep a 301 for ever unless it says otherwise, so it has the Cache-Control of the directory: after a
        deploy there may be a file of this name.
        """
        location = encode_reference(segments[-1], request.query_string, is_directory=True)
        headers = self._headers.for_file(b"".join(name + b"/" for name in segments)).not_modified
        return Response(301, b"", (("Location", location), *headers))

    # Errors.

    def _respond_to_failure(self, request: Request, error: OSError) -> Response:
        """Responds to an error of the system; one that is not the client's doing is also logged."""
        status = _STATUSES.get(error.errno or 0, 500)
        if status >= 500:
            log.error("%s could not be served: %s", request.raw_path, error)
        if status == 404:
            page = self._respond_with_page(request)
            if page is not None:
                return page
            if self._wants_icon(request):
                headers = self._headers.for_file(b"favicon.ico").full
                return Response(200, ICON.encode(), (("Content-Type", "image/svg+xml"), ("Vary", "Accept"), *headers))
        return self._error(request, status)

    def _respond_with_page(self, request: Request) -> Response | None:
        """A page for what is not there: index.html, whose scripts know what to show, or the site's own 404.html."""
        try:
            if self._spa and _is_navigation(request):
                response = self._respond_once(request, "/index.html")
                response.fields = list(with_vary(response.fields, "Accept, Sec-Fetch-Mode"))
                return response
        except (OSError, StaleFile):
            pass
        try:
            page = self._resources.load((b"404.html",))
            return self._responder.respond_with_error_page(404, page, self._headers.for_errors)
        except (OSError, IsDirectory, StaleFile):
            return None

    def _wants_icon(self, request: Request) -> bool:
        """Whether this is a browser that looks for an icon for its tab, as it does on every site, while the site has
        none and no rule of its own for what is not there.

        A program that checks links, or a person who opens the URL, does not ask for an image first and gets the 404.
        """
        if request.raw_path != "/favicon.ico" or self._spa:
            return False
        accepted = parse_accept(",".join(request.values("accept")))
        return any(each.name.startswith("image/") and each.weight > 0 for each in accepted) and (
            media_type_weight(accepted, "image/svg+xml") >= media_type_weight(accepted, "text/html")
        )

    def _error(self, request: Request, status: int) -> Response:
        return self._respond_with_error(request, HTTPError(status, _REASONS[status]))

    def _respond_with_error(self, request: Request, error: HTTPError) -> Response:
        return respond_with_error(request, error.with_headers(self._headers.for_errors))


def _with_site_headers(response: Response, added: Sequence[FieldLine]) -> Response:
    """Adds the headers of the site to a response for a directory. They win; but Vary stays, as it is still true."""
    replaced = {name.lower() for name, _ in added} - {"vary"}
    response.fields = [line for line in response.fields if line[0].lower() not in replaced]
    response.fields.extend(added)
    return response


def _is_navigation(request: Request) -> bool:
    """Whether a person wants to see a page, rather than a script a part of one.

    Browsers say so (Fetch Metadata). Of any other client it is assumed if HTML is accepted, and the last name has no
    suffix: `/user/jane.doe` may be a page, but `/logo.png` is more likely missing.
    """
    modes = request.values("sec-fetch-mode")
    if modes != ["navigate"] and (modes or "." in request.raw_path.rpartition("/")[2]):
        return False
    accept = ",".join(request.values("accept"))
    if not accept.strip(" \t,"):  # the client accepts everything
        return True
    return any(element.name in _HTML_RANGES and element.weight > 0 for element in parse_accept(accept))
