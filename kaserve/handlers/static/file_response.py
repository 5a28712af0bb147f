"""The response to a request for a file: its conditions, its ranges, and the body (RFC 9110 §13 to §15).

Knows requests, representations, and where their content comes from. Does not know how files are found and described
(`resources`), nor what a condition or a range means (`conditional`, `ranges`).

A response is made in steps: select the representation, evaluate the conditions, apply the range, open the content. All
that is said of a file, its length, date and tag, is said of the version that its content is of, whatever happens to the
file meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from functools import partial

from ...http.conditional import CONDITIONS, conditions, evaluate, range_applies
from ...http.errors import HTTPError
from ...http.messages import (
    ACCEPT_ENCODING,
    CONDITIONAL,
    Body,
    FieldLine,
    FileSpan,
    Request,
    Response,
)
from ...http.ranges import Range, content_range, frame_parts, parse_ranges
from .compress import CompressedBody
from .file_body import FileBody
from .representations import Representation
from .resources import Resource, Resources

__all__ = ["FileResponder"]

# The descriptor of a FileSpan that stands for content which is not sent.
_NO_FILE = -1


class FileResponder:
    """Makes the responses to requests for files."""

    def __init__(self, resources: Resources, executor: Executor, clock: Callable[[], float]) -> None:
        """Makes one for all requests.

        Args:
            resources: opens the files.
            executor: has threads that may wait for a disk, or compute for long.
            clock: returns seconds since the epoch.
        """
        self._resources = resources
        self._executor = executor
        self._clock = clock

    def respond(self, request: Request, resource: Resource) -> Response:
        """Returns the response to a GET or HEAD of `resource`.

        Raises:
            HTTPError: 406, 412 or 416.
            OSError: the file cannot be opened.
            StaleFile: it is another version now.
        """
        # For GET alone (§14.2). A client of ranges gets what has none if there is nothing else that it accepts.
        values = request.values("range") if request.flags & CONDITIONAL and request.method == "GET" else []
        representation = self._select(request, resource, wants_all=not values)
        if representation is None and values:
            values = []
            representation = self._select(request, resource, wants_all=True)
        if representation is None:
            raise HTTPError(406, "no form of this would be acceptable", (("Vary", "Accept-Encoding"),))
        if request.flags & CONDITIONS:
            now = self._clock()
            etag, modified = representation.etag, representation.modified
            conditional = conditions(request.fields)
            status = evaluate(request.method, conditional, etag, modified, now)
            if status == 304:
                return Response(304, b"", representation.not_modified_headers)
            if status == 412:
                raise HTTPError(412, "this is not the version that the request is about")
            if values and etag and range_applies(conditional, etag, modified, now):
                ranges = parse_ranges(", ".join(values), representation.size)
                if ranges is not None:
                    return self._respond_partially(representation, ranges)
        return self._respond_fully(request, resource, representation)

    def respond_with_error_page(self, status: int, page: Representation, headers: Iterable[FieldLine]) -> Response:
        """Returns an error whose content is a page of the site, without the tag and the date of that page.

        Raises:
            OSError: the page cannot be opened.
            StaleFile: it is another version now.
        """
        headers = (("Content-Type", page.content_type), *headers)
        if page.content is not None:
            return Response(status, page.content, headers)
        return self._respond_from_file(status, page, headers, (Range(0, page.size),), page.size)

    def _select(self, request: Request, resource: Resource, *, wants_all: bool) -> Representation | None:
        has_codings = request.flags & ACCEPT_ENCODING
        accept_encoding = ", ".join(request.values("accept-encoding")) if has_codings else None
        return self._resources.select(resource, accept_encoding, wants_all=wants_all)

    def _respond_fully(self, request: Request, resource: Resource, representation: Representation) -> Response:
        """200, with all of the content."""
        content, size = representation.content, representation.size
        headers = representation.headers
        body: Body
        if content is not None:
            body = content
        elif request.method == "HEAD":  # nothing is opened for what is not sent
            body = FileSpan(_NO_FILE, 0, size) if size >= 0 else ()
        elif size < 0:
            on_complete = partial(self._resources.complete, representation)
            file = self._resources.open(resource.plain).share()
            body = CompressedBody(file, representation.coding, self._executor, on_complete)
        else:
            return self._respond_from_file(200, representation, headers, (Range(0, size),), size)
        return Response(200, body, headers)

    def _respond_partially(self, representation: Representation, ranges: list[Range]) -> Response:
        """206 (§15.3.7): one range as it is, several as multipart/byteranges. Raises HTTPError 416 if there is none."""
        size = representation.size
        if not ranges:
            raise HTTPError(416, "the file has no such bytes", (("Content-Range", content_range(None, size)),))
        if len(ranges) > 1:
            return self._respond_in_parts(representation, ranges)
        start, stop = ranges[0]
        headers = (*representation.headers, ("Content-Range", content_range(ranges[0], size)))
        if representation.content is not None:
            return Response(206, representation.content[start:stop], headers)
        return self._respond_from_file(206, representation, headers, ranges, stop - start)

    def _respond_in_parts(self, representation: Representation, ranges: list[Range]) -> Response:
        """206 with several ranges (§14.6). What describes the content stands in each part, and not in the header."""
        content, headers = representation.content, representation.headers
        part_headers = [line for line in headers if line[0] in ("Content-Type", "Content-Encoding")]
        framed = frame_parts(ranges, representation.size, part_headers, secrets.token_hex(16))
        headers = (("Content-Type", framed.content_type), *(line for line in headers if line not in part_headers))
        pairs = list(zip(framed.heads, ranges, strict=True))
        if content is not None:
            body = b"".join(head + content[start:stop] for head, (start, stop) in pairs)
            return Response(206, body + framed.end, headers)
        pieces = [piece for pair in pairs for piece in pair]
        return self._respond_from_file(206, representation, headers, (*pieces, framed.end), framed.length)

    def _respond_from_file(
        self,
        status: int,
        representation: Representation,
        headers: Iterable[FieldLine],
        pieces: Sequence[bytes | Range],
        length: int,
    ) -> Response:
        """A response with `length` bytes of content, from a file that is not in memory."""
        body = FileBody(self._resources.open(representation).share(), pieces, self._executor)
        return Response(status, body, (*headers, ("Content-Length", str(length))))
