"""Mount: several handlers under one roof, each at a path of its own.

Knows prefixes of paths. Of what is behind them it knows only that the names in a directory follow a slash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from ..http.errors import HTTPError
from ..http.messages import Request, Response, error_response
from ..http.sinks import Sink, Spool
from .static.files import Files

__all__ = ["Mount"]

Handler = Callable[[Request], Response | Future[Response]]
T = TypeVar("T")


class Mount:
    """Hands each request to the handler with the longest prefix of its path, and answers 404 when there is none.

    >>> from kaserve import Request, Response
    >>> site = Mount({"/": lambda request: Response.text("home"), "/api": lambda request: Response.text(request.path)})
    >>> site(Request("GET", "/api/users", 1, [])).body
    b'/users'

    Prefixes are whole segments, decoded: "/api" is the front of "/api" and of "/api/users", not of "/apis". One
    that ends in a slash, such as "/static/", is that of a directory, as is that of `Files`: "/static" is redirected to
    it, so that what its pages refer to can be found. The handler sees the rest in `raw_path` and `path`, and what was
    taken off in `mount` (a WSGI application in SCRIPT_NAME). Its `refuse` and `sink`, if it has them, are asked as if
    it were alone.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """handlers: by prefix. Raises ValueError for a prefix that is no path, or there twice."""
        self._handlers: dict[tuple[bytes, ...], tuple[Handler, bool]] = {}
        for prefix, handler in handlers.items():
            if prefix[:1] != "/" or "//" in prefix:
                raise ValueError(f"a prefix is a path that starts with a slash, not {prefix!r}")
            segments = tuple(segment.encode() for segment in prefix.rstrip("/").split("/")[1:])
            if segments in self._handlers:
                raise ValueError(f"the prefix {prefix!r} is there twice")
            is_directory = prefix[-1] == "/" or isinstance(handler, Files)
            self._handlers[segments] = handler, is_directory and segments != ()
        self._turning = [handler.end_of_turn for handler in handlers.values() if hasattr(handler, "end_of_turn")]
        self._depths = sorted({len(segments) for segments in self._handlers}, reverse=True)

    def __call__(self, request: Request) -> Response | Future[Response]:
        found = self._find(request.raw_path)
        if found is None:
            return error_response(HTTPError(404, "there is nothing here"))
        handler, is_directory, length = found
        if is_directory and length == len(request.raw_path):
            return _redirect(request)
        _enter(request, length)
        return handler(request)

    def refuse(self, request: Request) -> None:
        """Raises HTTPError when the handler whose request it is does so."""
        found = self._find(request.raw_path)
        refuse = None if found is None else getattr(found[0], "refuse", None)
        if found is not None and refuse is not None:
            _ask(refuse, request, found[2])

    def sink(self, request: Request) -> Sink:
        """Where the handler whose request it is wants the body."""
        found = self._find(request.raw_path)
        sink: Callable[[Request], Sink] | None = None if found is None else getattr(found[0], "sink", None)
        return Spool() if found is None or sink is None else _ask(sink, request, found[2])

    def end_of_turn(self) -> None:
        """Tells those that want to know."""
        for end_of_turn in self._turning:
            end_of_turn()

    def close(self) -> None:
        """Closes the handlers that can be closed."""
        for handler, _ in self._handlers.values():
            close = getattr(handler, "close", None)
            if close is not None:
                close()

    def _find(self, raw_path: str) -> tuple[Handler, bool, int] | None:
        """The handler for `raw_path`, whether it is a directory, and the length of its prefix there."""
        if raw_path[:1] != "/":  # the server as a whole: a matter for the handler of everything
            whole = self._handlers.get(())
            return None if whole is None else (*whole, 0)
        raw_segments = raw_path.split("/")[1:]
        segments = [unquote_to_bytes(segment) for segment in raw_segments] if "%" in raw_path else None
        for depth in self._depths:
            if depth <= len(raw_segments):
                front = raw_segments[:depth]
                key = tuple(segments[:depth]) if segments is not None else tuple(map(str.encode, front))
                handler = self._handlers.get(key)
                if handler is not None:
                    return (*handler, depth + sum(map(len, front)))
        return None


def _enter(request: Request, length: int) -> None:
    """Moves the first `length` characters of the path from it to the mount."""
    request.mount += request.raw_path[:length]
    request.raw_path = request.raw_path[length:]


def _ask(hook: Callable[[Request], T], request: Request, length: int) -> T:
    """Calls a hook with the request as its handler is going to see it, and leaves it as it was."""
    mount, raw_path = request.mount, request.raw_path
    _enter(request, length)
    try:
        return hook(request)
    finally:
        request.mount, request.raw_path = mount, raw_path


def _redirect(request: Request) -> Response:
    """To the same path with a slash behind it."""
    location = f"{request.mount}{request.raw_path}/"
    return Response.redirect(f"{location}?{request.query}" if request.query else location, 301)
