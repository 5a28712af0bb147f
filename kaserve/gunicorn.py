"""Workers for gunicorn: `gunicorn -k kaserve.gunicorn.Worker module:app`, and `ASGIWorker` for ASGI applications.

gunicorn manages the processes: it starts, counts, replaces and reloads them. A kaserve server runs in each. Knows the
settings of gunicorn and their names in kaserve; settings that only kaserve has are read from the environment
(`KASERVE_HEADER_TIMEOUT` and so on). A setting of either that would have no effect is an error before any worker
starts. Imported by gunicorn alone, which kaserve does not depend on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from gunicorn import sock as gunicorn_sock
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker

from .asgi.application import ASGI
from .config import Config, ConfigError, environment_warnings, read_environment, variable_of
from .effects import Runner, Served, Way, check_effects
from .handlers import WSGI
from .handlers.middleware.forwarded import ForwardedClient, Trusted
from .http.handler import BaseHandler, Handler
from .net.service import StartupFailed
from .server import Server

__all__ = ["ASGIWorker", "Worker"]

_NOTIFY_INTERVAL = 1.0  # seconds; gunicorn kills a worker that does not notify it for its `timeout`
_COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'  # gunicorn's default format
_TLS_VARIABLES = ("tls_cert", "tls_key", "tls_password_file", "tls_ca")

# Settings of gunicorn that its own workers read, and this one does not. Those of its master are not here, nor those of
# ASGI, which no WSGI worker reads.
_WITHOUT_EFFECT = {
    "pre_request": "hooks of requests are not called; wrap the application instead",
    "post_request": "hooks of requests are not called; wrap the application instead",
    "secure_scheme_headers": "only X-Forwarded-Proto is read, or Forwarded with KASERVE_FORWARDED_ALLOW_IPS",
    "forwarder_headers": "no header of a request replaces a variable of the environ",
    "header_map": "headers with underscores are dropped",
    "protocol": "only HTTP is understood",
    "http_parser": "kaserve has its own parser",
    "permit_obsolete_folding": "kaserve accepts what RFC 9112 allows",
    "strip_header_spaces": "kaserve accepts what RFC 9112 allows",
    "permit_unconventional_http_method": "kaserve accepts what RFC 9110 allows",
    "permit_unconventional_http_version": "kaserve accepts HTTP/1.0 and HTTP/1.1",
    "casefold_http_method": "methods are case-sensitive (RFC 9110, section 9.1)",
    "http2_cleartext": "kaserve speaks HTTP/1.1",
    "sendfile": "files are always sent by the kernel where that is possible",
}
_OF_ASGI = "only ASGI applications have it: use kaserve.gunicorn.ASGIWorker"
_WITHOUT_EFFECT_ON_WSGI = dict.fromkeys(
    ("root_path", "asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period"), _OF_ASGI
)
_WITHOUT_EFFECT_ON_ASGI = {
    "threads": "an ASGI application runs in an event loop, in one thread",
    "asgi_disconnect_grace_period": "an application is told at once that its client has left, and is not cancelled",
}
_OF_TLS = ("ssl_context", "cert_reqs", "ca_certs", "ciphers")  # without effect where there is no certificate
_NO_LIMIT = 65536  # bytes, where gunicorn's 0 means no limit: no client needs more, and a server needs a limit


class Worker(BaseWorker):
    """One gunicorn process, with one kaserve server in its main thread.

    The application runs in gunicorn's `threads` (1 by default). With `--threads 0` it runs on the reactor's own thread,
    which is fastest for an application that never blocks, and lets gunicorn's `timeout` detect one that does.
    """

    _way = Way(Runner.GUNICORN, Served.WSGI)
    _without_effect: Mapping[str, str] = _WITHOUT_EFFECT | _WITHOUT_EFFECT_ON_WSGI
    _server: Server | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Checks the settings of both before any worker starts, and logs which variables are ignored.

        Raises:
            ConfigError: a setting would have no effect here, or its value is not accepted.
        """
        for warning in environment_warnings(os.environ):
            log.warning("%s", warning)
        name = f"kaserve.gunicorn.{cls.__name__}"
        _check_options(cfg, name, cls._without_effect)
        _check_variables(cfg, cls._way)
        if _uses_proxy_protocol(cfg) and "*" not in cfg.proxy_allow_ips:
            # gunicorn checks each connection's address; kaserve would trust the header of any client.
            raise ConfigError(
                f"proxy_protocol: {name} accepts the PROXY header from every client that can connect; "
                "use --proxy-allow-from '*' if only the proxy can"
            )
        try:
            Config(log_format=_log_format(cfg))
        except ConfigError as error:
            raise ConfigError(f"access_{error}") from None

    def run(self) -> None:
        """Serves until gunicorn ends this worker. Called by gunicorn."""
        _use_error_log(self.log)
        # Duplicates: the server closes what it listens on, and the originals are gunicorn's.
        binds = tuple(f"fd:{os.dup(sock.fileno())}" for sock in self.sockets)
        config = read_config(self.cfg, binds)
        application = self._new_handler(config)
        handler: Handler = application
        if not config.forwarded_allow_ips:
            handler = ForwardedClient(application, Trusted(trusted_proxies(self.cfg)))
        context = gunicorn_sock.ssl_context(self.cfg) if self.cfg.is_ssl else None
        server = self._server = Server(handler, config, log_lines=self._log_lines, ssl_context=context, way=self._way)
        server.open()
        try:
            while not server.stopped:
                self._notify_gunicorn()
                timeout = server.timeout()
                server.step(_NOTIFY_INTERVAL if timeout is None else min(timeout, _NOTIFY_INTERVAL))
                if self.alive and server.stats.requests >= self.max_requests:
                    self.log.info("max_requests reached after %d requests, restarting worker", server.stats.requests)
                    self._drain()
        except StartupFailed as error:
            self.log.error("the application has failed to start: %s", error, exc_info=error.__cause__)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # or gunicorn would start the next one, again and again
        finally:
            server.close()
            application.close()

    def _new_handler(self, config: Config) -> BaseHandler:
        """The handler that runs the application."""
        return WSGI(self.wsgi, self.cfg.threads, multiprocess=self.cfg.workers > 1)

    def _notify_gunicorn(self) -> None:
        """Tells gunicorn that this worker is alive; drains if gunicorn is gone, or has cleared `alive` without a signal
        (its reloader does that)."""
        self.notify()
        if self.ppid != os.getppid():
            self.log.info("the gunicorn master is gone, stopping worker")
            self._drain()
        elif not self.alive:
            self._drain()

    def _drain(self) -> None:
        self.alive = False
        if self._server is not None:
            self._server.shutdown(self.cfg.graceful_timeout)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drains."""
        self._drain()

    def _log_lines(self, lines: bytes) -> None:
        for line in lines.decode("ascii", "backslashreplace").splitlines():
            self.log.access_log.info("%s", line)


class ASGIWorker(Worker):
    """The same for ASGI applications, which run in an asyncio event loop: the `uvicorn.workers.UvicornWorker` of
    kaserve.

    `--root-path` and, where gunicorn has them, `--asgi-lifespan` and `--asgi-loop` have their effect; `auto` is
    asyncio.
    """

    _way = Way(Runner.GUNICORN, Served.ASGI)
    _without_effect = _WITHOUT_EFFECT | _WITHOUT_EFFECT_ON_ASGI

    def _new_handler(self, config: Config) -> BaseHandler:
        return ASGI(
            self.wsgi,
            root_path=getattr(self.cfg, "root_path", "").rstrip("/"),
            lifespan=getattr(self.cfg, "asgi_lifespan", "auto"),
            ws_max_size=config.ws_max_size,
            ws_ping_interval=config.ws_ping_interval,
            ws_ping_timeout=config.ws_ping_timeout,
            ws_per_message_deflate=config.ws_per_message_deflate,
        )


def read_config(cfg: Any, binds: tuple[str, ...]) -> Config:
    """kaserve's settings for gunicorn's; those that gunicorn does not have come from the environment.

    Args:
        cfg: gunicorn's settings.
        binds: what to listen on, as in `Config.bind`.
    """
    settings: dict[str, Any] = {
        "bind": binds,
        "backlog": cfg.backlog,
        "max_connections": cfg.worker_connections,
        "keep_alive": float(cfg.keepalive),
        "graceful_timeout": float(cfg.graceful_timeout),
        "limit_request_line": cfg.limit_request_line or _NO_LIMIT,
        "limit_request_fields": cfg.limit_request_fields,
        "limit_request_field_size": cfg.limit_request_field_size or _NO_LIMIT,
        "proxy_protocol": _uses_proxy_protocol(cfg),
        "access_log": bool(cfg.accesslog),
        "log_format": _log_format(cfg),
        "loop": "uvloop" if getattr(cfg, "asgi_loop", "auto") == "uvloop" else "asyncio",
    }
    return Config(**read_environment(os.environ) | settings)


def _check_options(cfg: Any, worker: str, without_effect: Mapping[str, str]) -> None:
    """Raises ConfigError for an option of gunicorn that would have no effect."""
    for name, reason in without_effect.items():
        if _is_given(cfg, name):
            raise ConfigError(f"{name} has no effect with {worker}: {reason}")
    if "h2" in str(getattr(cfg, "http_protocols", "")):
        raise ConfigError(f"http_protocols: {worker} speaks HTTP/1.1, not HTTP/2")
    if not cfg.is_ssl:
        for name in _OF_TLS:
            if _is_given(cfg, name):
                raise ConfigError(f"{name} has no effect without certfile, which switches TLS on")


def _check_variables(cfg: Any, way: Way) -> None:
    """Raises ConfigError for a variable of kaserve whose value is not accepted, or that would have no effect."""
    values = read_environment(os.environ)
    try:
        check_effects(Config(**{"bind": ("fd:3",)} | values), way, values)  # gunicorn binds
        for name in _TLS_VARIABLES:
            if cfg.is_ssl and name in values:
                raise ConfigError("{} has no effect with gunicorn's --certfile: use one or the other", name)
        if "forwarded_allow_ips" in values and cfg.forwarded_allow_ips and _is_given(cfg, "forwarded_allow_ips"):
            raise ConfigError("{} and gunicorn's --forwarded-allow-ips exclude each other", "forwarded_allow_ips")
    except ConfigError as error:
        raise ConfigError(error.renamed(variable_of)) from None


def _is_given(cfg: Any, name: str) -> bool:
    """Whether a setting of gunicorn has another value than by default; False for one that this gunicorn has not."""
    setting = cfg.settings.get(name)
    return setting is not None and setting.get() != type(setting)().get()


def _log_format(cfg: Any) -> str:
    """The `log_format`. Atoms are the same in both; gunicorn's default has a name in kaserve, whose lines take less
    time."""
    if not cfg.accesslog:
        return "auto"  # there are no lines
    return "combined" if cfg.access_log_format == _COMBINED else str(cfg.access_log_format)


def trusted_proxies(cfg: Any) -> str:
    """The proxies that gunicorn trusts: 127.0.0.1 by default, and every client of a Unix socket.

    Since that is a default, only those of their headers are used that proxies in front of gunicorn are known to set
    (`ForwardedClient`).
    """
    trusted = cfg.forwarded_allow_ips
    return ",".join([*(trusted.split(",") if isinstance(trusted, str) else trusted), "unix"])


def _uses_proxy_protocol(cfg: Any) -> bool:
    return cfg.proxy_protocol not in (False, "off")  # a bool up to gunicorn 24


def _use_error_log(log: Any) -> None:
    """Sends kaserve's log records to gunicorn's error log."""
    kaserve_log = logging.getLogger("kaserve")
    kaserve_log.handlers = log.error_log.handlers
    kaserve_log.setLevel(log.error_log.level)
    kaserve_log.propagate = False
