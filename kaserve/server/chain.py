"""The middleware that the settings put around a handler: users, headers, CORS and trusted proxies.

`Server` calls this for every handler, so these settings have the same effect in every way of running one. Knows which
middleware each setting asks for, in which order, and the file of users. Does not know what the handler is, but for a
directory that was made from the settings (`directory`), whose files have the headers already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..config import Config, ConfigError
from ..effects import Served
from ..handlers.middleware.basic_auth import BasicAuth, parse_user
from ..handlers.middleware.cors import CORSPreflight
from ..handlers.middleware.forwarded import Forwarded, Trusted
from ..handlers.middleware.headers import HeaderMiddleware, parse_header
from ..handlers.static.site_headers import SiteHeaders, parse_rule
from ..http.handler import BaseHandler

__all__ = ["Chain", "add_middleware", "site_headers"]


class Chain(NamedTuple):
    """A handler with its middleware.

    Attributes:
        handler: the outermost one.
        close: releases what the middleware holds. The handler inside of it belongs to the caller and stays open.
    """

    handler: BaseHandler
    close: Callable[[], object]


def add_middleware(config: Config, handler: BaseHandler, served: Served) -> Chain:
    """Returns `handler` with the middleware in front that the settings ask for.

    From the inside to the outside: the handler and what is passed on beside it, headers, users, CORS preflights,
    trusted proxies. A preflight comes without credentials (the Fetch standard, section 3.3), so its response must not
    wait for a password.

    Args:
        config: the settings.
        handler: what responds to requests; it is not closed together with the middleware.
        served: what the handler is. That of a directory adds the headers of the settings itself.

    Raises:
        ConfigError: the file of users has a line that is not a user, or no user at all; or --proxy leaves nothing for
            the handler.
        OSError: the file of users cannot be read; the text says which and why.
    """
    close: Callable[[], object] = _nothing
    headers = site_headers(config).always
    has_headers = served is Served.DIRECTORY
    if config.proxy:
        from .routes import add_routes  # which most programs do without

        handler = add_routes(
            config, handler, is_proxy=served is Served.PROXY, headers=tuple(headers) if has_headers else ()
        )
    if headers and not has_headers:
        handler = HeaderMiddleware(handler, headers)
    users = _users(config)
    if users:
        handler = auth = BasicAuth(handler, users, headers=headers)
        close = auth.stop
    if config.cors:
        handler = CORSPreflight(handler)
    if config.forwarded_allow_ips:
        handler = Forwarded(handler, Trusted(config.forwarded_allow_ips))
    return Chain(handler, close)


def site_headers(config: Config) -> SiteHeaders:
    """Returns the headers that the settings add to responses."""
    return SiteHeaders(
        map(parse_header, config.header),
        cors=config.cors,
        cache_control=map(parse_rule, config.cache_control),
        immutable=config.immutable,
    )


def _nothing() -> None:
    """What there is to release without middleware."""


def _users(config: Config) -> dict[str, str]:
    """The password hashes by user; `auth` overrides `auth_file`."""
    users = {} if config.auth_file is None else _read_users(config.auth_file)
    users |= dict(map(parse_user, config.auth))
    # Where users are asked for to read, those who may upload are among them.
    return dict(map(parse_user, config.upload_auth)) | users if users else users


def _read_users(path: str) -> dict[str, str]:
    """The users of a file with one USER:HASH on each line."""
    shown = _show(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise OSError(error.errno, f"cannot read {shown}: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError):  # ValueError: a NUL in the path
        raise OSError(f"cannot read {shown}: it is not text in UTF-8") from None
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                users.update([parse_user(line.strip())])
            except ValueError as error:
                # The line itself is not repeated: a password may stand in it where the hash should.
                raise ConfigError(
                    f"{{}}: line {number} of {_escape(path)} {_escape(str(error))}", "auth_file"
                ) from None
    if not users:  # without users there would be no BasicAuth, and everybody would be let in
        raise ConfigError(f"{{}}: {_escape(path)} contains no user", "auth_file")
    return users


def _show(path: str) -> str:
    """The path for a message; not one that looks like USER:PASSWORD, given in the place of a file."""
    return "the file of --auth-file (auth_file)" if ":" in path else f"the --auth-file (auth_file) {path!r}"


def _escape(text: str) -> str:
    """`text` for a format string."""
    return text.replace("{", "{{").replace("}", "}}")
