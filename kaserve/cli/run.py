"""`kaserve.run`: what the command line does, for a program that has its application already.

Knows how a failure of the command line becomes an exception. Everything else is in `start`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..config import ConfigError, new_config
from ..handlers.wsgi.application import Application
from ..http.handler import Handler
from ..net.service import StartupFailed
from ..server import Server
from .exit_codes import EXIT_APP, EXIT_RESOURCE, EXIT_STARTUP, EXIT_USAGE, StartError
from .start import Wording, serve

__all__ = ["run"]


def run(
    app: Handler | Application | str | None = None,
    *,
    port: int = 8000,
    banner: bool = True,
    on_start: Callable[[Server], object] | None = None,
    **settings: Any,
) -> None:
    """Serves `app` until Ctrl-C or SIGTERM, as the command line does, with its banner and its error log.

    Whether `app` is an ASGI application, a WSGI application or a handler is found out by its signature;
    `interface="asgi"`, "wsgi" or "handler" says it. Errors are logged to stderr, unless the program has configured
    `logging`. The variables `KASERVE_...` have no effect here.

    Args:
        app: an ASGI or WSGI application, a handler, or the name of one: `"shop:app"`. Without it, a directory is
            served.
        port: the port to listen on; 0 chooses a free one.
        banner: whether to print where the server listens.
        on_start: called with the `Server` when it serves, in this thread. `server.shutdown()` stops it.
        **settings: all other settings of `Config`.

    Raises:
        ConfigError: a setting is not accepted, or has no effect on what is served.
        ImportError: `app` is a name, and cannot be imported.
        OSError: the address, the directory or another file is unavailable.
        StartupFailed: the startup of the ASGI application failed.
        TypeError: `app` is neither an application nor a handler, or there is no setting of such a name.
    """
    if isinstance(app, str):
        settings["app"], app = app, None
    config = new_config({"port": port, **settings})
    if app is not None:
        for name in ("handler", "wsgi", "asgi"):
            if getattr(config, name) is not None:
                raise ConfigError(f"{{}} cannot be combined with {app!r}: only one can be served", name)
    if config.error_log is not None and logging.getLogger().handlers:
        raise ConfigError("{} has no effect, since this program has configured logging itself", "error_log")
    try:
        serve(config, app, Wording(str, lambda port: f"port={port}"), banner=banner, on_start=on_start)
    except StartError as error:
        raise _exception(error, is_name=config.app is not None) from error.__cause__


def _exception(error: StartError, *, is_name: bool) -> Exception:
    """The exception of a library for an error of the command line."""
    kinds = {
        EXIT_USAGE: ConfigError,
        EXIT_RESOURCE: OSError,
        EXIT_APP: ImportError if is_name else TypeError,
        EXIT_STARTUP: StartupFailed,
    }
    kind = kinds[error.code]
    number = getattr(error.__cause__, "errno", None)
    return OSError(number, str(error)) if kind is OSError and number is not None else kind(str(error))
