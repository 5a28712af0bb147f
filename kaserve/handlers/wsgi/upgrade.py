"""ApplicationUpgrade: a request that asks for another protocol, and an application that may speak it.

Knows how applications take over a connection: they find a socket in the environ, write their own `101 Switching
Protocols` to it, go on in the other protocol, and return when they are done; or they leave it alone and respond as
always. Werkzeug's development server began with this (`werkzeug.socket`), and flask-sock and simple-websocket look
there. Does not know the socket's other end (`net.socket_tunnel`), nor any protocol.

Until the application has either written to the socket or responded, it is undecided, and the connection waits for
`ApplicationUpgrade.future`. Which of the two came first is decided in the reactor's thread, to which both are reported:
an application that returns has written before that, so the socket is looked at first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from ...http.messages import Request, Response
from ...http.responses import BadResponse, ResponseHead, parse_response_head
from ...http.tunnel import Tunnel
from ...threads.future import LightFuture
from .environ import Environ
from .start_response import NoStatusError

__all__ = ["ApplicationUpgrade"]

log = logging.getLogger("kaserve")

_MAX_HEAD = 64 * 1024


class SocketTunnel(Protocol):
    """What this module knows of `net.socket_tunnel.SocketTunnel`; see there."""

    begun: bytes
    rest: bytes
    has_ended: bool
    is_over: bool

    def lend(self) -> Any: ...
    def start(self) -> None: ...
    def look(self) -> None: ...
    def hold(self) -> None: ...
    def finish(self) -> None: ...
    def fail(self) -> None: ...
    def abandon(self) -> None: ...


class ApplicationUpgrade:
    """One request. `add_socket` is called in the application's thread, everything else in the reactor's.

    Args:
        service: the `kaserve.net.service.Service` of the server.
        request: the request, which asks for an upgrade.

    Attributes:
        future: the response, or the 101.
    """

    def __init__(self, service: Any, request: Request) -> None:
        self._service = service
        self._request = request
        self._tunnel: SocketTunnel | None = None
        self.future: Future[Response] = LightFuture()

    def add_socket(self, environ: Environ) -> None:
        """Adds the socket to `environ`; and the two headers that libraries check before they write a 101, which
        applications do not see otherwise. If the system has no descriptors left, there is no socket."""
        try:
            tunnel: SocketTunnel = self._service.new_socket_tunnel(self._on_begin)
        except OSError as error:
            log.error("there is no socket for %r: %s", self._request, error)
            return
        self._tunnel = tunnel
        environ["werkzeug.socket"] = tunnel.lend()
        if self.future.cancelled():  # `_leave` may have come before there was a tunnel
            tunnel.abandon()
        self._call(tunnel.start)
        environ["HTTP_UPGRADE"] = ",".join(self._request.values("upgrade"))
        environ["HTTP_CONNECTION"] = ",".join(self._request.values("connection"))

    def wait_for(self, inner: Future[Response]) -> Future[Response]:
        """Returns `future`.

        Args:
            inner: completed when the application has responded.
        """
        self.future.add_done_callback(lambda done: self._leave(inner) if done.cancelled() else None)
        inner.add_done_callback(lambda done: self._call(lambda: self._application_returned(done)))
        return self.future

    def _call(self, function: Callable[[], object]) -> None:
        self._service.reactor.call(function)

    def _leave(self, inner: Future[Response]) -> None:
        """The client has left while the application was undecided."""
        inner.cancel()
        if self._tunnel is not None:
            self._tunnel.abandon()

    # The application has written to the socket.

    def _on_begin(self) -> None:
        tunnel = self._tunnel
        assert tunnel is not None
        head, end, rest = tunnel.begun.partition(b"\r\n\r\n")
        if end:
            tunnel.hold()
            tunnel.rest = rest
            self._switch(tunnel, head + b"\r\n")
        elif tunnel.begun and (tunnel.has_ended or len(tunnel.begun) > _MAX_HEAD):
            self._reject(tunnel, "the head of a response has no end")

    def _switch(self, tunnel: SocketTunnel, data: bytes) -> None:
        """Turns the application's 101 into the server's, which has the same headers."""
        try:
            head = parse_response_head(data, 0, len(data))
        except BadResponse as error:
            self._reject(tunnel, str(error))
            return
        if head.status != 101:
            self._reject(tunnel, f"the status is {head.status}, not 101")
            return
        assert isinstance(tunnel, Tunnel)
        self._complete(_as_response(head, tunnel))

    def _reject(self, tunnel: SocketTunnel, reason: str) -> None:
        tunnel.abandon()
        message = f"what the application has written to werkzeug.socket does not begin with a 101: {reason}"
        self._complete(ValueError(message))

    # The application has responded.

    def _application_returned(self, inner: Future[Response]) -> None:
        tunnel = self._tunnel
        if tunnel is not None and not self.future.done():
            tunnel.look()
        if not self.future.done():
            self._respond(inner)
        elif tunnel is not None and not inner.cancelled():
            self._end_tunnel(tunnel, inner)

    def _respond(self, inner: Future[Response]) -> None:
        """It has not used the socket: its response is sent as always."""
        if self._tunnel is not None and self._tunnel.begun:
            self._reject(self._tunnel, "the head of a response has no end")
            return
        if self._tunnel is not None:
            self._tunnel.abandon()
        self._complete(inner.exception() or inner.result())

    def _end_tunnel(self, tunnel: SocketTunnel, inner: Future[Response]) -> None:
        """It is done with the socket. Its response is dropped, since the connection is not HTTP any more; most
        applications give one anyway, and some do not even call start_response."""
        error = inner.exception()
        if error is None:
            inner.result().close()
        elif not isinstance(error, NoStatusError):
            if not tunnel.is_over:  # otherwise it is a consequence of that
                log.error("the application failed on the socket of %r", self._request, exc_info=error)
            tunnel.fail()
            return
        tunnel.finish()

    def _complete(self, outcome: Response | BaseException) -> None:
        if self.future.done():
            if isinstance(outcome, Response):
                outcome.close()
        elif isinstance(outcome, Response):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


def _as_response(head: ResponseHead, tunnel: Tunnel) -> Response:
    """The 101 with the headers of `head`."""
    protocol = ", ".join(value for name, value in head.fields if name == "upgrade")
    headers = [(name.title(), value) for name, value in head.fields if name not in ("upgrade", "connection")]
    response = Response.upgrade(protocol, tunnel, headers)
    response.reason = head.reason or None
    return response
