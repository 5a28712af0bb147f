"""A worker for gunicorn: `gunicorn -k kaserve.gunicorn.Worker module:app`.

gunicorn manages the processes: it starts, counts, replaces and reloads them. This serves inside of each. Knows the
settings of gunicorn and what they are called here; those that only kaserve has are read from the environment
(`KASERVE_HEADER_TIMEOUT` and so on). Imported by gunicorn alone, which is no requirement of kaserve.
"""

from __future__ import annotations

import logging
import os
import ssl
from types import FrameType
from typing import Any

from gunicorn.workers.base import Worker as Base

from .config import Config, ConfigError, read_environment
from .handlers.middleware.forwarded import ForwardedClient, Trusted
from .handlers.wsgi.application import WSGI
from .http.handler import Handler
from .server import Server

__all__ = ["Worker"]

_SIGN_OF_LIFE = 1.0  # seconds between two; gunicorn kills whoever gives none for its `timeout`
_COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'  # gunicorn's own format
_NO_LIMIT = 65536  # where gunicorn says 0; no client needs more, and a server needs some


class Worker(Base):
    """One process of gunicorn, with one kaserve in its main thread.

    The application runs in gunicorn's `threads` (1 by default); with `--threads 0` it runs on the reactor itself, which
    is fastest for one that never blocks, and lets gunicorn's `timeout` catch one that does.
    """

    _server: Server | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Raises ConfigError for what would be ignored to somebody's harm."""
        if cfg.cert_reqs != ssl.CERT_NONE or cfg.ca_certs:
            raise ConfigError("cert_reqs and ca_certs: kaserve.gunicorn.Worker does not ask for client certificates")
        if _takes_proxy_headers(cfg) and "*" not in cfg.proxy_allow_ips:
            raise ConfigError(
                "proxy_protocol: kaserve.gunicorn.Worker takes the header from whoever can connect; "
                "say --proxy-allow-from '*' if nobody but the proxy can"
            )
        try:
            Config(log_format=_log_format(cfg))
        except ConfigError as error:
            raise ConfigError(f"access_{error}") from None

    def run(self) -> None:
        """Serves until gunicorn has had enough."""
        _log_as(self.log)
        application = WSGI(self.wsgi, self.cfg.threads, multiprocess=self.cfg.workers > 1)
        binds = tuple(f"fd:{os.dup(sock.fileno())}" for sock in self.sockets)  # the originals stay gunicorn's
        config = read_config(self.cfg, binds)
        handler: Handler = application
        if not config.forwarded_allow_ips:
            handler = ForwardedClient(application, Trusted(trusted_by(self.cfg)))
        server = self._server = Server(handler, config, log_lines=self._log_lines)
        server.open()
        try:
            while not server.stopped:
                self._show_life()
                timeout = server.timeout()
                server.step(_SIGN_OF_LIFE if timeout is None else min(timeout, _SIGN_OF_LIFE))
                if self.alive and server.stats.requests >= self.max_requests:
                    self.log.info("%d requests were enough, another worker takes over", server.stats.requests)
                    self._leave()
        finally:
            server.close()
            application.close()

    def _show_life(self) -> None:
        """To gunicorn, as long as it is there; and looks for wishes (the reloader's, say) that came as no signal."""
        self.notify()
        if self.ppid != os.getppid():
            self.log.info("the master is gone")
            self._leave()
        elif not self.alive:
            self._leave()

    def _leave(self) -> None:
        self.alive = False
        if self._server is not None:
            self._server.shutdown(self.cfg.graceful_timeout)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drains."""
        self._leave()

    def _log_lines(self, lines: bytes) -> None:
        for line in lines.decode("ascii", "backslashreplace").splitlines():
            self.log.access_log.info("%s", line)


def read_config(cfg: Any, binds: tuple[str, ...]) -> Config:
    """The settings of gunicorn in kaserve's words, before those of the environment."""
    settings: dict[str, Any] = {
        "bind": binds,
        "backlog": cfg.backlog,
        "max_connections": cfg.worker_connections,
        "keep_alive": float(cfg.keepalive),
        "graceful_timeout": float(cfg.graceful_timeout),
        "limit_request_line": cfg.limit_request_line or _NO_LIMIT,
        "limit_request_fields": cfg.limit_request_fields,
        "limit_request_field_size": cfg.limit_request_field_size or _NO_LIMIT,
        "proxy_protocol": _takes_proxy_headers(cfg),
        "access_log": bool(cfg.accesslog),
        "log_format": _log_format(cfg),
    }
    if cfg.is_ssl:
        settings |= {"tls_cert": cfg.certfile or cfg.keyfile, "tls_key": cfg.keyfile or ()}
    return Config(**read_environment(os.environ) | settings)


def _log_format(cfg: Any) -> str:
    """Atoms are the same in both; gunicorn's default has a name here, under which its lines are made faster."""
    return "combined" if cfg.access_log_format == _COMBINED or not cfg.accesslog else str(cfg.access_log_format)


def trusted_by(cfg: Any) -> str:
    """Whom gunicorn believes: 127.0.0.1, unless somebody says otherwise, and whoever comes through a Unix socket. Since
    nobody has to ask for that, no more is believed than what proxies in front of gunicorn set (`ForwardedClient`)."""
    trusted = cfg.forwarded_allow_ips
    return ",".join([*(trusted.split(",") if isinstance(trusted, str) else trusted), "unix"])


def _takes_proxy_headers(cfg: Any) -> bool:
    return cfg.proxy_protocol not in (False, "off")  # a bool until gunicorn 24


def _log_as(log: Any) -> None:
    """What kaserve logs goes where gunicorn's errors go."""
    own = logging.getLogger("kaserve")
    own.handlers = log.error_log.handlers
    own.setLevel(log.error_log.level)
    own.propagate = False
