"""Makes the handler that the options ask for: a directory, a WSGI application or a function, with its middleware.

Knows which handler each setting belongs to, and how MODULE:NAME is imported. Each failure is a StartError, with an exit
code and one line. Does not know servers.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, cast

from ..config import Config
from ..handlers import WSGI, Files
from ..handlers.middleware.basic_auth import BasicAuth, parse_user
from ..handlers.middleware.headers import HeaderMiddleware, Preflight, parse_field
from ..handlers.middleware.write_auth import WriteAuth
from ..handlers.static.media_types import parse_type
from ..handlers.static.site_headers import SiteHeaders, parse_rule
from ..handlers.uploads.upload import FORM, Uploads
from ..handlers.wsgi.application import Application
from ..http.handler import BaseHandler, Handler
from .exit_codes import EXIT_APP, EXIT_RESOURCE, EXIT_USAGE, StartError

__all__ = ["load_application", "load_handler"]


def load_application(config: Config) -> Handler | None:
    """Returns the handler of --wsgi or --handler, or None where a directory is to be served.

    Raises:
        StartError: the option is malformed, or what it names cannot be imported.
    """
    if config.wsgi is not None:
        app = cast(Application, _import("wsgi", "APP", config.wsgi))
        return WSGI(app, config.threads, multiprocess=config.reuse_port)
    if config.handler is not None:
        # Whether it returns a Response shows when it is called.
        return cast(Handler, _import("handler", "FUNCTION", config.handler))
    return None


def load_handler(config: Config, app: Handler | None) -> Handler:
    """Returns `app`, or the directory if it is None, with the middleware of the settings in front.

    From the inside to the outside: the files or the application, headers, users, and CORS preflights. A preflight comes
    without credentials (the Fetch standard, section 3.3), so its response must not wait for a password.

    Raises:
        StartError: the directory or the file of users cannot be read.
    """
    users = _users(config)
    site_headers = SiteHeaders(
        map(parse_field, config.header),
        cors=config.cors,
        cache_control=map(parse_rule, config.cache_control),
        immutable=config.immutable,
        private=bool(users),
    )
    handler: Any
    if app is None:
        handler = _serve_directory(config, site_headers)
    else:
        handler = HeaderMiddleware(app, site_headers.always) if site_headers.always else app
    if users:
        handler = BasicAuth(handler, users, fields=site_headers.always)
    return Preflight(handler) if config.cors else cast(Handler, handler)


def _serve_directory(config: Config, site_headers: SiteHeaders) -> BaseHandler:
    try:
        files = Files(
            config.directory,
            symlinks=config.symlinks,
            hidden=config.hidden,
            clean_urls=config.clean_urls,
            spa=config.spa,
            compress=config.compress,
            listing=config.listing,
            zip=config.zip,
            headers=site_headers,
            types=dict(map(parse_type, config.type)),
            form=FORM if config.upload else "",
        )
        if not config.upload:
            return files
        uploads = Uploads(
            files,
            config.directory,
            overwrite=config.upload_overwrite,
            symlinks=config.symlinks,
            hidden=config.hidden,
            headers=site_headers.always,
        )
        writers = dict(map(parse_user, config.upload_auth))
        return WriteAuth(uploads, writers, fields=site_headers.always) if writers else uploads
    except OSError as error:
        raise StartError(EXIT_RESOURCE, f"cannot serve {config.directory!r}: {error.strerror}") from None


# Users.


def _users(config: Config) -> dict[str, str]:
    """The password hashes by user; --auth overrides --auth-file. Raises StartError."""
    users = _read_users(config.auth_file) if config.auth_file is not None else {}
    users |= dict(map(parse_user, config.auth))
    # Where users are asked for to read, those who may write are among them.
    return dict(map(parse_user, config.upload_auth)) | users if users else users


def _read_users(path: str) -> dict[str, str]:
    """The users of a file with one USER:HASH on each line. Raises StartError."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not text in UTF-8"
        raise StartError(EXIT_RESOURCE, f"cannot read {path!r}: {reason}") from None
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                users.update([parse_user(line.strip())])
            except ValueError as error:
                # The line itself is not repeated: a password may stand in it where the hash should.
                raise StartError(EXIT_USAGE, f"--auth-file: line {number} of {path} {error}") from None
    if not users:  # without users there would be no BasicAuth, and everybody would be let in
        raise StartError(EXIT_USAGE, f"--auth-file: {path} contains no user")
    return users


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
