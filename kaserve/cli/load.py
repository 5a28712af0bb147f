"""Makes the handler that the options ask for: a directory, a WSGI application or a function.

Knows how MODULE:NAME is imported. Each failure is a StartError, with an exit code and one line. Does not know servers,
nor the middleware, which `Server` puts around every handler.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, cast

from ..config import Config, wsgi_threads
from ..effects import Runner, Served, Way
from ..handlers import WSGI, Threaded
from ..handlers.wsgi.application import Application
from ..http.handler import Handler
from ..server.directory import new_directory
from .exit_codes import EXIT_APP, EXIT_RESOURCE, EXIT_USAGE, StartError

__all__ = ["load_handler", "way_of"]


def way_of(config: Config) -> Way:
    """Returns what the options ask to be served."""
    if config.wsgi is not None:
        return Way(Runner.PROGRAM, Served.WSGI)
    return Way(Runner.PROGRAM, Served.DIRECTORY if config.handler is None else Served.HANDLER)


def load_handler(config: Config) -> Handler:
    """Returns the handler of --wsgi or --handler, or else the directory.

    Raises:
        StartError: the option is malformed, what it names cannot be imported, or the directory cannot be read.
    """
    if config.wsgi is not None:
        app = cast(Application, _import("wsgi", "APP", config.wsgi))
        return WSGI(app, wsgi_threads(config), multiprocess=config.reuse_port)
    if config.handler is not None:
        # Whether it returns a Response shows when it is called.
        handler = cast(Handler, _import("handler", "FUNCTION", config.handler))
        return Threaded(handler, config.threads) if config.threads else handler
    try:
        return new_directory(config)
    except OSError as error:
        raise StartError(EXIT_RESOURCE, error.strerror or str(error)) from None


# Imports.


def _import(option: str, what: str, target: str) -> object:
    """The callable that `target`, MODULE:NAME, stands for; with --wsgi MODULE:NAME(), what it returns.

    Raises:
        StartError: `target` is malformed, cannot be imported, or is not callable.
    """
    module_name, colon, name = target.partition(":")
    is_factory = option == "wsgi" and name.endswith("()")
    name = name.removesuffix("()") if is_factory else name
    if not colon or not module_name or not name:
        raise StartError(EXIT_USAGE, f"--{option} must be MODULE:{what}, not {target!r}")
    sys.path.insert(0, os.getcwd())  # as `python -m` does for the program itself
    found: Any
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        if is_factory:
            found = found()
    except (Exception, SystemExit) as error:  # a module may raise anything when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StartError(EXIT_APP, f"cannot import {target!r}: {reason}") from None
    if not callable(found):
        raise StartError(EXIT_APP, f"{target!r} is not {'an application' if option == 'wsgi' else 'a function'}")
    return found
