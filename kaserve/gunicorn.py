"""A worker for gunicorn: `gunicorn -k kaserve.gunicorn.Worker module:app`.

gunicorn manages the processes: it starts, counts, replaces and reloads them. A kaserve server runs in each. Knows the
settings of gunicorn and their names in kaserve; settings that only kaserve has are read from the environment
(`KASERVE_HEADER_TIMEOUT` and so on). Imported by gunicorn alone, which kaserve does not depend on.
"""

from __future__ import annotations

import logging
import os
import ssl
from types import FrameType
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker

from .config import Config, ConfigError, read_environment
from .handlers import WSGI
from .handlers.middleware.forwarded import ForwardedClient, Trusted
from .http.handler import Handler
from .server import Server

__all__ = ["Worker"]

_NOTIFY_INTERVAL = 1.0  # seconds; gunicorn kills a worker that does not notify it for its `timeout`
_COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'  # gunicorn's default format
_NO_LIMIT = 65536  # bytes, where gunicorn's 0 means no limit: no client needs more, and a server needs a limit


class Worker(BaseWorker):
    """One gunicorn process, with one kaserve server in its main thread.

    The application runs in gunicorn's `threads` (1 by default). With `--threads 0` it runs on the reactor's own thread,
    which is fastest for an application that never blocks, and lets gunicorn's `timeout` detect one that does.
    """

    _server: Server | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Checks gunicorn's settings before it starts.

        Raises:
            ConfigError: a setting that makes the server safer would have no effect here, or the log format is wrong.
        """
        if cfg.cert_reqs != ssl.CERT_NONE or cfg.ca_certs:
            raise ConfigError("cert_reqs and ca_certs: kaserve.gunicorn.Worker does not ask for client certificates")
        if _uses_proxy_protocol(cfg) and "*" not in cfg.proxy_allow_ips:
            # gunicorn checks each connection's address; kaserve would trust the header of any client.
            raise ConfigError(
                "proxy_protocol: kaserve.gunicorn.Worker accepts the PROXY header from every client that can connect; "
                "use --proxy-allow-from '*' if only the proxy can"
            )
        try:
            Config(log_format=_log_format(cfg))
        except ConfigError as error:
            raise ConfigError(f"access_{error}") from None

    def run(self) -> None:
        """Serves until gunicorn ends this worker. Called by gunicorn."""
        _use_error_log(self.log)
        application = WSGI(self.wsgi, self.cfg.threads, multiprocess=self.cfg.workers > 1)
        # Duplicates: the server closes what it listens on, and the originals are gunicorn's.
        binds = tuple(f"fd:{os.dup(sock.fileno())}" for sock in self.sockets)
        config = read_config(self.cfg, binds)
        handler: Handler = application
        if not config.forwarded_allow_ips:
            handler = ForwardedClient(application, Trusted(trusted_proxies(self.cfg)))
        server = self._server = Server(handler, config, log_lines=self._log_lines)
        server.open()
        try:
            while not server.stopped:
                self._notify_gunicorn()
                timeout = server.timeout()
                server.step(_NOTIFY_INTERVAL if timeout is None else min(timeout, _NOTIFY_INTERVAL))
                if self.alive and server.stats.requests >= self.max_requests:
                    self.log.info("max_requests reached after %d requests, restarting worker", server.stats.requests)
                    self._drain()
        finally:
            server.close()
            application.close()

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
    }
    if cfg.is_ssl:
        settings |= {"tls_cert": cfg.certfile or cfg.keyfile, "tls_key": cfg.keyfile or ()}
    return Config(**read_environment(os.environ) | settings)


def _log_format(cfg: Any) -> str:
    """The `log_format`. Atoms are the same in both; gunicorn's default has a name in kaserve, whose lines take less
    time."""
    return "combined" if cfg.access_log_format == _COMBINED or not cfg.accesslog else str(cfg.access_log_format)


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
