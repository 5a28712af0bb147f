"""Where each setting has an effect: one table of all settings, and the check that refuses the others.

A setting that has no effect where it is given is an error there, so that nobody believes in a password that is never
asked for. Knows the settings and the ways in which a server is run. Does not know how a setting has its effect.

Most settings are the server's own and have the same effect in every way. The others belong to what is served, or to
the program that runs the server.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import NamedTuple

from .config import Config, ConfigError, options

__all__ = ["EFFECTS", "Effect", "Runner", "Served", "Way", "check_effects"]


class Runner(enum.Enum):
    """What runs the server. The value is a phrase for messages."""

    LIBRARY = "in a program of your own"
    PROGRAM = "on the command line"
    GUNICORN = "under gunicorn"


class Served(enum.Enum):
    """What is served. The value is a phrase for messages."""

    HANDLER = "on a handler"
    WSGI = "on a WSGI application"
    ASGI = "on an ASGI application"
    DIRECTORY = "on a directory"
    PROXY = "on a proxy of everything"


class Way(NamedTuple):
    """A way of running a server.

    Attributes:
        runner: what runs it.
        served: what is served. HANDLER also stands for a handler that the caller has made with its own arguments, such
            as `Files`; DIRECTORY, WSGI, ASGI and PROXY are made from the settings.
    """

    runner: Runner = Runner.LIBRARY
    served: Served = Served.HANDLER


_EVERY_RUNNER = frozenset(Runner)
_ALWAYS_SERVED = frozenset(Served)


class Effect(NamedTuple):
    """Where a setting has its effect, and why not elsewhere.

    Attributes:
        served: what must be served.
        runners: what must run the server.
        reason: why it has no effect elsewhere, as the end of a message.
        instead: what a program of one's own does instead.
        gunicorn: gunicorn's own way to set the same, which must then be used under gunicorn.
        unless: ways in which it has no effect although what is served and what runs the server fit.
    """

    served: frozenset[Served] = _ALWAYS_SERVED
    runners: frozenset[Runner] = _EVERY_RUNNER
    reason: str = ""
    instead: str = ""
    gunicorn: str = ""
    unless: frozenset[Way] = frozenset()

    def holds(self, way: Way) -> bool:
        """Whether the setting has its effect in `way`."""
        return way.runner in self.runners and way.served in self.served and way not in self.unless


_SERVER = Effect()  # the server's own: in every way


def _files(instead: str, reason: str = "it is about the files of a directory") -> Effect:
    """Of a directory. Under gunicorn there is none, since gunicorn imports an application."""
    return Effect(frozenset({Served.DIRECTORY}), reason=reason, instead=instead)


def _asgi(instead: str, gunicorn: str = "") -> Effect:
    """Of an ASGI application that kaserve makes a handler of."""
    return Effect(
        frozenset({Served.ASGI}),
        reason="it is about an ASGI application that kaserve imports",
        instead=instead,
        gunicorn=gunicorn,
    )


def _gunicorns(option: str) -> Effect:
    """The server's own, but under gunicorn an option of gunicorn decides it."""
    return Effect(gunicorn=option)


def _program(reason: str, gunicorn: str = "", instead: str = "") -> Effect:
    """Of `python -m kaserve` alone."""
    return Effect(runners=frozenset({Runner.PROGRAM}), reason=reason, instead=instead, gunicorn=gunicorn)


_UPLOADS = "kaserve.handlers.uploads.upload.Uploads(Files(...), directory{})"
_COMPRESS = "only files of a directory are compressed; let the application or a proxy compress its responses"
_NOT_IMPORTED = "only python -m kaserve imports what it serves"
_APPLICATION = "Server(ASGI(application)) or Server(WSGI(application))"

EFFECTS: dict[str, Effect] = {
    # Addresses. gunicorn listens itself, and hands its sockets over.
    "port": _gunicorns("--bind"),
    "bind": _gunicorns("--bind"),
    "unix_mode": _gunicorns("--umask"),
    "reuse_port": _gunicorns("--reuse-port"),
    "backlog": _gunicorns("--backlog"),
    "max_connections": _gunicorns("--worker-connections"),
    "max_connections_per_address": _SERVER,
    # What to serve. Everything about files is an argument of the handler where a program makes that itself.
    "directory": _files("Files(directory)"),
    "listing": _files("Files(..., listing=False)"),
    "zip": _files("Files(..., zip=True)"),
    "app": _program(_NOT_IMPORTED, "the argument MODULE:APP", f"Server(function), {_APPLICATION}"),
    "interface": Effect(
        frozenset({Served.HANDLER, Served.WSGI, Served.ASGI}),
        frozenset({Runner.PROGRAM}),
        reason="it is about an application that is imported",
        instead=f"Server(function), {_APPLICATION}",
    ),
    "handler": _program(_NOT_IMPORTED, "the argument MODULE:APP", "Server(function)"),
    "wsgi": _program(_NOT_IMPORTED, "the argument MODULE:APP", "Server(WSGI(application))"),
    "asgi": _program(_NOT_IMPORTED, "the argument MODULE:APP", "Server(ASGI(application))"),
    "root_path": _asgi("ASGI(application, root_path=...)", "--root-path"),
    "lifespan": _asgi("ASGI(application, lifespan=...)", "--asgi-lifespan"),
    "loop": Effect(
        frozenset({Served.ASGI, Served.HANDLER}),
        reason="only ASGI applications and async handlers run in an event loop of asyncio",
        gunicorn="--asgi-loop",
    ),
    "threads": Effect(
        frozenset({Served.WSGI, Served.HANDLER}),
        reason="it is about handlers and WSGI applications that kaserve imports",
        instead="Threaded(handler, threads=...) or WSGI(application, threads=...)",
        gunicorn="--threads",
        unless=frozenset({Way(Runner.LIBRARY, Served.HANDLER)}),
    ),
    "switch_interval": Effect(
        frozenset({Served.WSGI, Served.HANDLER}),
        frozenset({Runner.PROGRAM}),
        reason="a library leaves it to the program how its threads take turns",
        instead="sys.setswitchinterval(...)",
    ),
    "hidden": _files("Files(..., hidden=True)"),
    "symlinks": _files("Files(..., symlinks=...)"),
    "clean_urls": _files("Files(..., clean_urls=True)"),
    "spa": _files("Files(..., spa=True)"),
    "compress": _files("Files(..., compress=True)", _COMPRESS),
    # The proxy, beside whatever is served.
    "proxy": _SERVER,
    "proxy_host": _SERVER,
    "proxy_timeout": _SERVER,
    "proxy_connect_timeout": _SERVER,
    "proxy_connections": _SERVER,
    "proxy_insecure": _SERVER,
    # The site. Users, headers and CORS are put around any handler (`server.chain`).
    "header": _SERVER,
    "cors": _SERVER,
    "cache_control": _files("Files(..., headers=SiteHeaders(cache_control=...))"),
    "immutable": _files("Files(..., headers=SiteHeaders(immutable=...))"),
    "type": _files("Files(..., types=...)"),
    "upload": _files(_UPLOADS.format("")),
    "upload_overwrite": _files(_UPLOADS.format(", overwrite=True")),
    "upload_auth": _files("kaserve.handlers.middleware.write_auth.WriteAuth(Uploads(...), users)"),
    "auth": _SERVER,
    "auth_file": _SERVER,
    "qr": _program("it is printed with the banner of python -m kaserve"),
    # TLS. Under gunicorn without its own --certfile these have their effect; with it they are refused there.
    "tls_cert": _SERVER,
    "tls_key": _SERVER,
    "tls_password_file": _SERVER,
    "tls_ca": _SERVER,
    "forwarded_allow_ips": _SERVER,
    "proxy_protocol": _gunicorns("--proxy-protocol"),
    # Connections.
    "protocol": _SERVER,
    "keep_alive": _gunicorns("--keep-alive"),
    "keep_alive_requests": _SERVER,
    "keep_alive_time": _SERVER,
    "header_timeout": _SERVER,
    "body_timeout": _SERVER,
    "half_close_timeout": _SERVER,
    "send_timeout": _SERVER,
    "tunnel_timeout": _SERVER,
    "min_rate": _SERVER,
    "drain_delay": Effect(
        runners=frozenset({Runner.LIBRARY, Runner.PROGRAM}),
        reason="gunicorn stops listening itself before it tells its workers",
    ),
    "graceful_timeout": _gunicorns("--graceful-timeout"),
    "ws_max_size": _asgi("ASGI(application, ws_max_size=...)"),
    "ws_ping_interval": _asgi("ASGI(application, ws_ping_interval=...)"),
    "ws_ping_timeout": _asgi("ASGI(application, ws_ping_timeout=...)"),
    "ws_per_message_deflate": _asgi("ASGI(application, ws_per_message_deflate=...)"),
    "limit_request_line": _gunicorns("--limit-request-line"),
    "limit_request_fields": _gunicorns("--limit-request-fields"),
    "limit_request_field_size": _gunicorns("--limit-request-field_size"),
    "limit_request_body": _SERVER,
    # Logs. A program configures `logging` itself, so only python -m kaserve has an error log.
    "access_log": _gunicorns("--access-logfile"),
    "access_log_file": _gunicorns("--access-logfile"),
    "log_format": _gunicorns("--access-logformat"),
    "error_log": _program(
        "only python -m kaserve writes an error log of its own",
        "--error-logfile",
        'a handler of logging.getLogger("kaserve")',
    ),
    # Monitoring.
    "status": _SERVER,
    "status_public": _SERVER,
    "metrics": _SERVER,
}
"""By setting; `tests/test_effects.py` fails for one that is missing here."""


_SERVED_AS = {
    Served.HANDLER: "a handler",
    Served.WSGI: "a WSGI application",
    Served.ASGI: "an ASGI application",
}


def check_effects(config: Config, way: Way, given: Container[str] = ()) -> None:
    """Checks that every setting has an effect.

    Args:
        config: the settings. A value that is the default is no complaint: it is what happens anyway.
        way: how the server is run.
        given: settings that were given explicitly. Under gunicorn, whose own defaults count, these may not even be
            given with kaserve's default.

    Raises:
        ConfigError: a setting has no effect. Says which, why, and what to do instead.
    """
    for name, option in options().items():
        effect = EFFECTS[name]
        if way.runner is Runner.GUNICORN and effect.gunicorn:
            if name in given:
                raise ConfigError(f"{{}} has no effect under gunicorn: use {effect.gunicorn}", name)
        elif getattr(config, name) != option.default and not effect.holds(way):
            raise ConfigError(*_complaint(config, name, effect, way))


def _complaint(config: Config, name: str, effect: Effect, way: Way) -> tuple[str, ...]:
    """The arguments of the ConfigError."""
    names: tuple[str, ...] = (name,)
    if way.runner is Runner.PROGRAM and way.served is not Served.DIRECTORY:
        by_name = way.served.name.lower()  # which is also the name of the setting that says so
        if getattr(config, by_name):
            names, where = (name, by_name), "with {}"
        else:
            names, where = (name, "app"), f"with {{}}, which is {_SERVED_AS[way.served]}"
    elif way.runner not in effect.runners:
        where = way.runner.value
    else:
        where = way.served.value
    hint = f"; use {effect.instead} instead" if way == Way() and effect.instead else ""
    return f"{{}} has no effect {where}: {effect.reason}{hint}", *names
