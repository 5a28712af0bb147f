"""The keep-alive proxy: requests are passed on to other servers, over connections that are kept on both sides.

    Proxy                   the handler
      PassedRequest         one request on its way, and its response on the way back
        UpstreamConnection  one connection to an upstream
      Upstream              one server behind the proxy: its connections, its health, its figures
        Pool                the idle connections, and how long they can be trusted

Knows sockets and the reactor, unlike other handlers. Does not know the server that it runs in.
"""

from __future__ import annotations

from .proxy import Proxy

__all__ = ["Proxy"]
