"""The live page: what a server does at this moment, as a page, as JSON, and as events that keep the page alive.

Knows pages, events and who may see them. What there is to see comes from `report`, as data for JSON; when time passes,
`later` knows. The page shows addresses of clients, so it is for this machine alone unless told otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from ..http.handler import BaseHandler
from ..http.messages import FileSpan, Request, Response

__all__ = ["Feed", "Status"]

_MAX_READERS = 16
_FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_LOCAL_AUTHORITY = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)

Report = Callable[[], Mapping[str, object]]
Later = Callable[[float, Callable[[], None]], object]


class Feed:
    """One event after the other, made once for all its readers, and not at all while it has none.

    make: the event. later: has a function called after some seconds, in the server's thread, in which all of this runs.
    """

    def __init__(self, make: Callable[[], bytes], later: Later, seconds: float = 1.0) -> None:
        self._make = make
        self._later = later
        self._seconds = seconds
        self._waiting: list[Future[bytes | FileSpan]] = []
        self._ticking = False
        self._ended = False
        self.readers = 0

    def read(self) -> Iterator[bytes | FileSpan | Future[bytes | FileSpan]]:
        """The events: one at once, and each further one when its time has come."""
        self.readers += 1
        try:
            yield self._make()
            while not self._ended:
                yield self._next()
        finally:
            self.readers -= 1

    def _next(self) -> Future[bytes | FileSpan]:
        future: Future[bytes | FileSpan] = Future()
        self._waiting.append(future)
        if not self._ticking:
            self._ticking = True
            self._later(self._seconds, self._tick)
        return future

    def _tick(self) -> None:
        self._ticking = False
        waiting, self._waiting = self._waiting, []
        listening = [future for future in waiting if future.set_running_or_notify_cancel()]
        if not listening:
            return
        try:
            event = b"" if self._ended else self._make()
        except Exception as error:  # each reader's connection reports it, and ends
            for future in listening:
                future.set_exception(error)
            return
        for future in listening:
            future.set_result(event)

    def end(self) -> None:
        """The server is leaving: its readers get no more."""
        self._ended = True
        self._tick()


class Status(BaseHandler):
    """A handler for one path: the page, `?json` and `?events`.

    report: what is to be seen. later: see `Feed`. public: others than this machine may look, too.
    """

    def __init__(self, report: Report, later: Later, *, public: bool = False, seconds: float = 1.0) -> None:
        self._report = report
        self._public = public
        self._feed = Feed(self._event, later, seconds)

    def __call__(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            response = Response.text("405 Method Not Allowed\n", 405)
            response.headers.add("Allow", "GET, HEAD")
            return response
        if not self._public and not is_local(request):
            return Response.text("403 Forbidden: this page is for the machine it runs on\n", 403)
        if request.query == "events":
            return self._events()
        if request.query == "json":
            response = Response(200, self._json().encode(), (("Content-Type", "application/json"),))
        else:
            response = Response(200, _PAGE, (("Content-Type", "text/html; charset=utf-8"), *_PAGE_FIELDS))
        response.headers.add("Cache-Control", "no-store")
        response.headers.add("X-Content-Type-Options", "nosniff")
        return response

    def end(self) -> None:
        """Ends the streams of events, which would go on for ever otherwise."""
        self._feed.end()

    def _events(self) -> Response:
        if self._feed.readers >= _MAX_READERS:
            return Response.text("503 Service Unavailable: too many pages are open\n", 503)
        fields = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        return Response(200, self._feed.read(), fields)

    def _event(self) -> bytes:
        return f"data: {self._json()}\n\n".encode()  # JSON in one line, as an event needs it

    def _json(self) -> str:
        return json.dumps(self._report(), separators=(",", ":"))


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and was meant for it.

    One that a proxy passed on came from elsewhere. One for a foreign name was made by a page of that name, which had
    its address changed to ours once it was loaded (DNS rebinding).
    """
    if isinstance(request.client, tuple):
        try:
            address = ipaddress.ip_address(request.client[0].partition("%")[0])
        except ValueError:
            return False
        if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
            return False
    if any(request.values(name) for name in _FORWARDING):
        return False
    return not request.authority or _LOCAL_AUTHORITY.fullmatch(request.authority) is not None


def _hashes(page: bytes, element: str) -> str:
    """The contents of every `element` as sources of a Content-Security-Policy: these bytes may be used, no others."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in contents)


_PAGE = Path(__file__).with_name("status.html").read_bytes()
_PAGE_FIELDS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; script-src {_hashes(_PAGE, 'script')}; style-src {_hashes(_PAGE, 'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
)
