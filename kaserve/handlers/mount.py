"""Mount: several handlers, each at its own path prefix.

Knows path prefixes, and that the URL of a directory ends in a slash. Does not know what the handlers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from ..http.errors import HTTPError
from ..http.handler import BaseHandler, BodySink, Handler, HandlerResult, as_handler
from ..http.messages import Request, Response
from .static.files import Files

__all__ = ["Mount"]

T = TypeVar("T")

_Segments = tuple[bytes, ...]


class _Match(NamedTuple):
    """The handler for a path, and how many characters of the path its prefix takes."""

    handler: BaseHandler
    is_directory: bool
    length: int


class Mount(BaseHandler):
    """Routes each request to the handler with the longest prefix of its path; raises HTTPError 404 if there is none.

    >>> from kaserve import Request, Response
    >>> site = Mount({"/": lambda request: Response.text("home"), "/api": lambda request: Response.text(request.path)})
    >>> site(Request("GET", "/api/users", 1, [])).body
    b'/users'

    Prefixes are whole segments, decoded: "/api" is a prefix of "/api" and "/api/users", not of "/apis". A prefix that
    ends in a slash, such as "/static/", is that of a directory, as is the prefix of `Files`: a request for "/static" is
    redirected to "/static/", so that relative links in its pages work. A handler sees the rest of the path in
    `raw_path` and `path`, and the prefix in `mount` (a WSGI application in SCRIPT_NAME). Every hook is routed in the
    same way.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """Makes a router.

        Args:
            handlers: functions or handlers by prefix; they are closed together with this one.

        Raises:
            ValueError: a prefix is not a path, or is given twice.
        """
        self._handlers: dict[_Segments, tuple[BaseHandler, bool]] = {}
        for prefix, given in handlers.items():
            if prefix[:1] != "/" or "//" in prefix:
                raise ValueError(f"a prefix must be a path that starts with one slash, not {prefix!r}")
            segments = tuple(segment.encode() for segment in prefix.rstrip("/").split("/")[1:])
            if segments in self._handlers:
                raise ValueError(f"the prefix {prefix!r} is given twice")
            is_directory = segments != () and (prefix[-1] == "/" or isinstance(given, Files))
            self._handlers[segments] = as_handler(given), is_directory
        self._depths = sorted({len(segments) for segments in self._handlers}, reverse=True)

    def __call__(self, request: Request) -> HandlerResult:
        match = self._find(request.raw_path)
        if match.is_directory and match.length == len(request.raw_path):
            return _redirect(request)
        _enter(request, match.length)
        return match.handler(request)

    def before_body(self, request: Request) -> None:
        # A path without a handler is rejected here, so that no client uploads 200 MB to it.
        match = self._find(request.raw_path)
        if match.is_directory and match.length == len(request.raw_path):
            redirect = _redirect(request)
            raise HTTPError(redirect.status, "the path of a directory ends in a slash", tuple(redirect.fields))
        _ask(match.handler.before_body, request, match.length)

    def body_sink(self, request: Request) -> BodySink:
        match = self._find(request.raw_path)
        return _ask(match.handler.body_sink, request, match.length)

    def attach(self, service: Any) -> None:
        for handler, _ in self._handlers.values():
            handler.attach(service)

    def detach(self) -> None:
        for handler, _ in self._handlers.values():
            handler.detach()

    def end_of_turn(self) -> None:
        for handler, _ in self._handlers.values():
            handler.end_of_turn()

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        """Lets the handler at `path` protect the page. Without one, the page is public."""
        try:
            match = self._find(path)
        except HTTPError:
            return page
        return match.handler.protect(path[match.length :], page)

    def make_private(self) -> None:
        for handler, _ in self._handlers.values():
            handler.make_private()

    def close(self) -> None:
        for handler, _ in self._handlers.values():
            handler.close()

    def _find(self, raw_path: str) -> _Match:
        """Finds the handler with the longest prefix of `raw_path`. Raises HTTPError 404 if there is none."""
        if raw_path[:1] != "/":  # `OPTIONS *` is about the server as a whole: it goes to the handler at "/"
            whole = self._handlers.get(())
            if whole is None:
                raise _not_found()
            return _Match(*whole, 0)
        raw_segments = raw_path.split("/")[1:]
        segments = [unquote_to_bytes(segment) for segment in raw_segments] if "%" in raw_path else None
        for depth in self._depths:
            if depth <= len(raw_segments):
                front = raw_segments[:depth]
                key = tuple(segments[:depth]) if segments is not None else tuple(map(str.encode, front))
                found = self._handlers.get(key)
                if found is not None:
                    return _Match(*found, depth + sum(map(len, front)))
        raise _not_found()


def _not_found() -> HTTPError:
    return HTTPError(404, "there is nothing here")


def _enter(request: Request, length: int) -> None:
    """Moves the first `length` characters of the path to the mount."""
    request.mount += request.raw_path[:length]
    request.raw_path = request.raw_path[length:]


def _ask(hook: Callable[[Request], T], request: Request, length: int) -> T:
    """Calls `hook` with the request as its handler will see it, and leaves the request as it was."""
    mount, raw_path = request.mount, request.raw_path
    _enter(request, length)
    try:
        return hook(request)
    finally:
        request.mount, request.raw_path = mount, raw_path


def _redirect(request: Request) -> Response:
    """Redirects to the same path with a slash at its end.

    The location is relative to the path that was asked for (RFC 3986 §4.2), so it is also right where a proxy has taken
    a prefix off that path.
    """
    name = f"{request.mount}{request.raw_path}".rpartition("/")[2]
    location = f"./{name}/" if ":" in name else f"{name}/"
    return Response.redirect(f"{location}?{request.query_string}" if request.query_string else location, 301)
