"""Proxy: a handler that passes requests on to other servers, and keeps its connections on both sides.

Knows its settings, and which requests it takes. What happens to one request is in `passed_request`.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from ..http.body_stream import BodyStream
from ..http.errors import HTTPError
from ..http.handler import BaseHandler, BodySink, HandlerResult
from ..http.messages import Request, Response
from ..net.service import Service
from .connector import Connector, SystemConnector
from .fields import Forwarding, check_request, may_go_further, requested_upgrade
from .location import UpstreamURL
from .passed_request import PassedRequest
from .settings import UpstreamSettings
from .upstream import Upstream

__all__ = ["Proxy"]


class Proxy(BaseHandler):
    """Passes requests on to one or several servers ("upstreams"), which are all for the same content.

    Connections to upstreams are kept and used again. The bodies of requests and responses are passed on while they
    arrive, as fast as the slower side takes them.

    Attributes:
        upstreams: the servers, with their figures.
    """

    streams = True

    def __init__(
        self,
        upstreams: str | Sequence[str],
        *,
        host: str | None = None,
        connections: int = 32,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        insecure: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        connector: Connector | None = None,
    ) -> None:
        """Makes a proxy, which does not connect yet.

        Args:
            upstreams: a URL such as `http://127.0.0.1:9000`, `https://app.example` or `unix:/run/app.sock`, or several.
                A path in it replaces the prefix at which the proxy is mounted.
            host: what the upstreams get as Host; None for what the client sent.
            connections: idle connections kept for each upstream.
            timeout: seconds that an upstream may take to respond, and between two pieces of its response.
            connect_timeout: seconds for a connection to an upstream, with its TLS handshake.
            insecure: with https, accept any certificate: anybody who can intercept the connection can read and change
                what is passed on.
            ssl_context: for https upstreams, instead of the default one, which verifies certificates.
            connector: makes connections; for tests.

        Raises:
            ValueError: a URL is malformed, or there is none.
        """
        urls = [upstreams] if isinstance(upstreams, str) else list(upstreams)
        if not urls:
            raise ValueError("a proxy needs an upstream")
        settings = UpstreamSettings(connections, timeout=timeout, connect_timeout=connect_timeout)
        connector = connector or SystemConnector()
        parsed = [UpstreamURL.parse(url) for url in urls]
        context = ssl_context
        if context is None and any(url.scheme == "https" for url in parsed):
            context = _new_context(insecure)
        self.upstreams = [
            Upstream(url, settings, context if url.scheme == "https" else None, connector) for url in parsed
        ]
        self._forwarding = Forwarding(parsed[0], host=host)
        self._service: Service | None = None

    def attach(self, service: Any) -> None:
        """Gets the event loop for its connections. RuntimeError if another server has it already."""
        if self._service is not None and self._service is not service:
            raise RuntimeError("a Proxy belongs to one server")
        if self._service is None:
            service.upstreams.extend(self.upstreams)
        self._service = service

    def detach(self) -> None:
        for upstream in self.upstreams:
            upstream.close()
            if self._service is not None:
                self._service.upstreams.remove(upstream)
        self._service = None

    def before_body(self, request: Request) -> None:
        self._check(request)

    def _check(self, request: Request) -> None:
        """Raises HTTPError for what is not passed on."""
        _check_method(request)
        check_request(request, self._forwarding)

    def body_sink(self, request: Request) -> BodySink:
        return BodyStream()

    def __call__(self, request: Request) -> HandlerResult:
        self._check(request)
        if not may_go_further(request):
            return Response(204)
        service = self._service
        if service is None:
            raise RuntimeError("a Proxy can be called only by a server")
        upgrade = requested_upgrade(request)
        passed = PassedRequest(request, self.upstreams, self._forwarding, service.reactor, upgrade)
        passed.start()
        return passed.future


def _check_method(request: Request) -> None:
    """Raises HTTPError 501 for what is not passed on."""
    if request.method == "CONNECT":
        raise HTTPError(501, "this proxy makes no tunnels with CONNECT")
    if request.method == "TRACE" and not may_go_further(request):
        raise HTTPError(501, "this proxy does not send requests back")


def _new_context(insecure: bool) -> ssl.SSLContext:
    """Returns what https upstreams are verified with (RFC 9110 §4.3.4)."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
