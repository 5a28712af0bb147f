"""Makes the parts of a server from its settings.

Knows which settings each part is made from. Does not know in which order, nor how the parts work together: that is
`server`.
"""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Callable, Mapping

from ..config import Config, ConfigError
from ..handlers.middleware.own_paths import OwnPaths
from ..http.handler import BaseHandler
from ..logs.access import AccessLog
from ..logs.file import LogFile, why_unwritable
from ..logs.stderr import write_stderr
from ..net.reactor import Reactor
from ..net.service import Service
from ..net.tls import TLS
from ..probe.terminal import takes_color
from ..telemetry.snapshot import Settings
from .acceptor import Acceptor

__all__ = [
    "add_own_pages",
    "max_connections",
    "new_acceptor",
    "new_access_log",
    "new_service",
    "new_tls",
    "open_log_file",
    "reload_certificates",
    "settings_for_advice",
]

log = logging.getLogger("kaserve")

# File descriptors that are not for connections: files being sent, the poller, the listening sockets, and what the
# application opens.
_RESERVED_DESCRIPTORS = 64
_UNLIMITED_DESCRIPTORS = 1 << 20
_UNKNOWN_DESCRIPTORS = 512  # on Windows, whose limit Python cannot ask for


def new_tls(config: Config, context: ssl.SSLContext | None) -> TLS | None:
    """Returns what encrypts connections; None for plain HTTP.

    Args:
        config: names the files.
        context: a context that is ready, instead of files.

    Raises:
        ConfigError: there are files although there is a context.
        OSError: a certificate or key cannot be used; the text names the file.
        ValueError: the context is not for a server.
    """
    if context is not None:
        if config.tls_cert:
            raise ConfigError("{} has no effect with an ssl_context, which has its own certificate", "tls_cert")
        return TLS.of_context(context)
    if not config.tls_cert:
        return None
    keys = config.tls_key or (None,) * len(config.tls_cert)
    certificates = list(zip(config.tls_cert, keys, strict=True))
    return TLS(certificates, password_file=config.tls_password_file, ca=config.tls_ca)


def reload_certificates(tls: TLS) -> None:
    """Has new connections use the certificates that are in the files now; logs it if they cannot be read."""
    try:
        tls.reload()
    except OSError as error:
        log.error("the certificates are not reloaded, the old ones stay in use: %s", error.strerror or error)
    else:
        log.info("the certificates were reloaded")


def open_log_file(config: Config) -> LogFile | None:
    """Returns the file of the access log; None if its lines go to stderr, or nowhere.

    Raises:
        OSError: the file cannot be written; the text names it.
    """
    path = config.access_log_file
    if path is None:
        return None
    try:
        return LogFile(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the access log {path!r}: {why_unwritable(path, error)}") from None


def new_access_log(
    config: Config, write: Callable[[bytes], object] | None, time: Callable[[], float]
) -> AccessLog | None:
    """Returns the access log; None if it is off.

    Args:
        config: says whether there is one, and its format.
        write: receives its lines; by default they go to stderr, in colour if that is a terminal that shows it.
        time: returns seconds since the epoch.
    """
    if not config.access_log:
        return None
    stderr = sys.__stderr__  # what `write_stderr` writes to
    if write is not None or stderr is None or stderr.closed:
        stderr = None
    log_format = config.log_format
    if log_format == "auto":
        # Programs that read logs get what they know, at no more cost than ever: only `pretty` looks at the clock more
        # often, and a terminal never has the load for which that matters.
        log_format = "pretty" if stderr and stderr.isatty() else "common"
    return AccessLog(write or write_stderr, log_format=log_format, color=takes_color(stderr), time=time)


def add_own_pages(handler: BaseHandler, pages: Mapping[str, BaseHandler]) -> BaseHandler:
    """Returns `handler` with `pages` in front, each of them protected as the handler protects its path."""
    if not pages:
        return handler
    return OwnPaths(handler, {path: handler.protect(path, page) for path, page in pages.items()})


def settings_for_advice(config: Config, service: Service, max_connections: int) -> Settings:
    """Returns the settings that the figures are judged by."""
    return Settings(
        keep_alive=config.keep_alive if service.keep_alive.enabled else 0.0,
        keep_alive_requests=config.keep_alive_requests,
        keep_alive_time=config.keep_alive_time,
        header_timeout=config.header_timeout,
        send_timeout=config.send_timeout,
        max_connections=max_connections,
    )


def new_service(
    config: Config,
    reactor: Reactor,
    handler: BaseHandler,
    access_log: AccessLog | None,
    scheme: str,
    rng: Callable[[], float],
) -> Service:
    """Returns what all connections share.

    Args:
        config: the limits, the deadlines, and what is announced about keep-alive.
        reactor: runs the connections.
        handler: responds to their requests, with everything in front of it.
        access_log: logs their responses; None if it is off.
        scheme: "https" or "http".
        rng: returns random numbers in [0, 1).
    """
    return Service(
        reactor,
        handler,
        limits=config.limits,
        keep_alive=config.new_keep_alive(),
        deadlines=config.deadlines,
        access_log=access_log,
        scheme=scheme,
        rng=rng,
    )


def new_acceptor(
    config: Config, service: Service, tls: TLS | None, max_connections: int, on_end: Callable[[], object]
) -> Acceptor:
    """Returns what accepts the connections of `service`; see `Acceptor` for the arguments."""
    return Acceptor(
        service,
        tls=tls,
        max_connections=max_connections,
        max_connections_per_address=config.max_connections_per_address,
        proxy_header_timeout=config.header_timeout if config.proxy_protocol else None,
        on_end=on_end,
    )


def max_connections(config: Config) -> int:
    """Returns how many connections may be open at once: the setting, or fewer if descriptors are short.

    With a proxy each of them may need a second descriptor, for the connection on which its request is passed on. Idle
    connections to upstreams take up to a quarter of all: where descriptors are short, new ones take their places.
    """
    possible = _available_descriptors()
    if config.proxy:
        from .routes import routes_of  # which most programs do without

        upstreams = sum(len(route.upstreams) for route in routes_of(config))
        possible = max((possible - min(upstreams * config.proxy_connections, possible // 4)) // 2, 1)
    return min(config.max_connections or possible, possible)


def _available_descriptors() -> int:
    try:
        import resource
    except ImportError:
        return _UNKNOWN_DESCRIPTORS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _UNLIMITED_DESCRIPTORS
    return max(soft - _RESERVED_DESCRIPTORS, soft // 2, 1)
