"""StatusPage: what a server does at this moment, as a page, as JSON, and as events that keep the page up to date.

Knows pages, events and who may see them. The figures come from a function, as data for JSON. The page shows addresses
of clients, so only this machine may see it unless `--status-public` is set.
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
from typing import Protocol

from ..http.address import Address
from ..http.file_span import FileSpan
from ..http.messages import Request, Response
from ..http.negotiation import prefers_json
from .event_feed import CallLater, EventFeed
from .page import Page

__all__ = ["StatusPage", "is_local"]

_MAX_READERS = 16  # streams of events at once; each is a connection that never becomes idle
_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_LOCAL_AUTHORITY = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


Piece = bytes | FileSpan | Future[bytes | FileSpan]
"""A part of a response body."""

_ALL = 1_000_000  # intervals of the history
_RECENT = 3  # those that may have been added since the last event, and one to spare


class OwnTraffic(Protocol):
    """Is told what the page itself causes, which is not to be counted."""

    def set_aside(self, request: Request) -> None:
        """Called for each request for the page."""

    def add_sent(self, size: int) -> None:
        """Called for each event, with its size in bytes."""


class StatusPage(Page):
    """A page for one path: HTML, or the figures as JSON for `?json` and for a client that prefers it; with `?events`
    server-sent events."""

    def __init__(
        self,
        report: Callable[[int], Mapping[str, object]],
        call_later: CallLater,
        *,
        own: OwnTraffic,
        public: bool = False,
        seconds: float = 1.0,
    ) -> None:
        """Makes the page; calls neither function yet.

        Args:
            report: returns everything that the page shows, for `json.dumps`, with so many intervals of its history.
            call_later: calls a function after some seconds, in the reactor's thread.
            own: is told which requests and bytes are those of this page.
            public: whether clients on other machines may see the page.
            seconds: from one event to the next.
        """
        self._report = report
        self._own = own
        self._public = public
        self._feed = EventFeed(lambda: self._event(_RECENT), call_later, seconds)

    def render(self, request: Request) -> Response:
        self._own.set_aside(request)
        if not self._public and not is_local(request):
            return Response.text("403 Forbidden: this page is only for the machine it runs on\n", 403)
        if request.query_string == "events":
            return self._events()
        if prefers_json(",".join(request.values("accept")), request.query):
            response = Response(200, self._json().encode(), (("Content-Type", "application/json"),))
        else:
            response = Response(200, _PAGE, (("Content-Type", "text/html; charset=utf-8"), *_PAGE_HEADERS))
        response.headers.add("Cache-Control", "no-store")
        response.headers.add("Vary", "Accept")
        response.headers.add("X-Content-Type-Options", "nosniff")
        return response

    def close(self) -> None:
        """Ends the streams of events, which would otherwise go on for ever."""
        self._feed.close()

    def _events(self) -> Response:
        if self._feed.readers >= _MAX_READERS:
            return Response.text("503 Service Unavailable: too many pages are open\n", 503)
        headers = (
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("X-Accel-Buffering", "no"),  # nginx in front would otherwise collect events until a buffer is full
        )
        return Response(200, self._counted(self._feed.read(self._event(_ALL))), headers)

    def _counted(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """`pieces`, of which the size is known as soon as the next one is asked for."""
        for piece in pieces:
            yield piece
            data = piece.result() if isinstance(piece, Future) else piece
            if data and isinstance(data, bytes):
                self._own.add_sent(len(data))

    def _event(self, most: int) -> bytes:
        """The figures as one event, with the last `most` intervals of the history: all of them in the first event of a
        stream, and then those that a page may not have yet. An event ends with an empty line, and `_json` has no line
        breaks."""
        return f"data: {self._json(most)}\n\n".encode()

    def _json(self, most: int = _ALL) -> str:
        return json.dumps(self._report(most), separators=(",", ":"))


def is_local(request: Request) -> bool:
    """Returns whether a request comes from this machine, and was meant for it.

    Three checks, since the address alone can mislead:

    - The client's address is a loopback address, or the connection came through a Unix socket.
    - No header says that a proxy forwarded the request: then it came from elsewhere, although the proxy is here.
    - The request is for `localhost` or a loopback address. One for another name was made by a page of that name in a
      browser on this machine: the page's owner changed the address of the name to ours after the page had been loaded
      (DNS rebinding), so that the browser takes this server for the page's own.
    """
    if isinstance(request.client, Address):
        try:
            address = ipaddress.ip_address(request.client.host.partition("%")[0])  # without the zone of fe80::1%eth0
        except ValueError:
            return False
        # Not every Python in use looks into ::ffff:127.0.0.1 for `is_loopback`.
        if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
            return False
    if any(request.values(name) for name in _FORWARDING_HEADERS):
        return False
    return not request.authority or _LOCAL_AUTHORITY.fullmatch(request.authority) is not None


def _hashes(page: bytes, element: str) -> str:
    """Returns sources for a Content-Security-Policy: the contents of every `element` on the page, and no others."""
    contents = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in contents)


_PAGE = Path(__file__).with_name("status.html").read_bytes()
_PAGE_HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; script-src {_hashes(_PAGE, 'script')}; style-src {_hashes(_PAGE, 'style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
)
