"""The routes of --proxy: what is passed on to other servers, beside what is served here or in place of it.

Knows which setting becomes which argument of `Proxy`, and at which paths the proxies are mounted. Does not know how a
request is passed on.
"""

from __future__ import annotations

from ..config import Config, ConfigError
from ..handlers.middleware.headers import HeaderMiddleware
from ..handlers.mount import Mount
from ..http.handler import BaseHandler
from ..http.headers import FieldLine
from ..proxy.location import Route, join_routes
from ..proxy.proxy import Proxy

__all__ = ["add_routes", "new_proxy", "route_of_everything", "routes_of"]


def routes_of(config: Config) -> list[Route]:
    """Returns what is passed on, in the order of the settings."""
    return join_routes(config.proxy)


def route_of_everything(config: Config) -> Route | None:
    """Returns the route of all paths that no other route has; None if there is none, so that something is served
    there."""
    for route in routes_of(config):
        if route.prefix == "/":
            return route
    return None


def new_proxy(config: Config, route: Route) -> Proxy:
    """Returns the handler of one route."""
    host = config.proxy_host
    return Proxy(
        [str(url) for url in route.upstreams],
        host=route.upstreams[0].authority if host == "upstream" else host,
        connections=config.proxy_connections,
        timeout=config.proxy_timeout,
        connect_timeout=config.proxy_connect_timeout,
        insecure=config.proxy_insecure,
    )


def add_routes(
    config: Config, handler: BaseHandler, *, is_proxy: bool, headers: tuple[FieldLine, ...] = ()
) -> BaseHandler:
    """Returns `handler` with the routes of the settings beside it.

    Args:
        config: the settings.
        handler: what responds to all other requests.
        is_proxy: whether it is the proxy of the route of everything.
        headers: what the proxies add to responses, if `handler` adds it by itself.

    Raises:
        ConfigError: a route of everything leaves nothing for the handler.
    """
    handlers: dict[str, BaseHandler] = {}
    for route in routes_of(config):
        if route.prefix != "/":
            proxy: BaseHandler = new_proxy(config, route)
            handlers[route.prefix] = HeaderMiddleware(proxy, headers) if headers else proxy
        elif not is_proxy:
            raise ConfigError(
                "{} without a path passes everything on, so that nothing else would be served: write PATH=URL", "proxy"
            )
    return Mount({"/": handler} | handlers) if handlers else handler
