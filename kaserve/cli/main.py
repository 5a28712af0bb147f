"""The command line: `python -m kaserve [PORT]`.

Knows options, words for the user and exit codes; every setting itself is in `config`.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from .. import IMPLEMENTATION, __version__
from ..cli import qr
from ..config import Config, ConfigError, Option, options, read_environment
from ..handlers import WSGI, Files
from ..handlers.middleware.basic_auth import BasicAuth, parse_user
from ..handlers.middleware.headers import HeaderMiddleware, Preflight, SiteHeaders, parse_field, parse_rule
from ..handlers.middleware.passwords import hash_password
from ..handlers.uploads.upload import FORM, Uploads
from ..handlers.wsgi.application import Application
from ..http.handler import Handler
from ..logs import errors as errorlog
from ..probe.command import main as probe
from ..probe.terminal import takes_color
from ..server import Server

__all__ = ["main"]

EXIT_OK = 0
EXIT_USAGE = 2  # a bad option or value
EXIT_RESOURCE = 3  # a port in use, a missing directory
EXIT_APP = 4  # an application that cannot be imported

_EXAMPLES = """\
examples:
  %(prog)s                           this directory, on 127.0.0.1:8000
  %(prog)s 80 -d site -b 0.0.0.0     a directory, for the whole network
  %(prog)s --wsgi site:app           a WSGI application
  %(prog)s --status /status          with a live page of connections
  %(prog)s probe http://localhost/   how any server keeps connections

Every option is an environment variable as well: KASERVE_KEEP_ALIVE, say.
SIGTERM lets running requests finish, Ctrl-C does so briefly, SIGHUP opens the
logs anew."""

_LAST_WORDS = 1.0  # seconds for what an application does behind its last answer

_WHAT_IT_IS = {"pure": "pure Python", "compiled": "compiled"}[IMPLEMENTATION]


class _Refusal(Exception):
    """The server cannot start: an exit code and one line."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"kaserve: {message}\n")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Names in a column that most of them fit into, on whatever terminal there is, but in no longer lines than one
    likes to read."""

    def __init__(self, prog: str, **more: Any) -> None:
        width = min(shutil.get_terminal_size().columns, 110)
        super().__init__(prog, max_help_position=30 if width >= 90 else 24, width=width - 2, **more)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """The metavar once: -b, --bind ADDRESS."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {action.metavar}"


class _HashPassword(argparse.Action):
    """Asks for a password, or reads it from the first line of what is piped in."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        if sys.stdin.isatty():
            password = getpass.getpass()
            if getpass.getpass("Once more: ") != password:
                parser.error("these are two passwords")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            parser.error("there is no password")
        print(hash_password(password.encode(errors="surrogateescape")))
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["probe"]:
        return probe(arguments[1:])
    try:
        config = read_config(arguments, os.environ)
        _check_extras(config)
        reopen = _open_error_log(config)
        app = _application(config)
        server = _start(_load(config, app), config)
    except _Refusal as refusal:
        print(f"kaserve: {refusal}", file=sys.stderr)
        return refusal.code
    if reopen is not None:
        server.on_reload.append(reopen)
    server.call(lambda: _greet(server))  # once signals are taken: who reads it may send one
    server.run()
    if isinstance(app, WSGI):
        app.close(_LAST_WORDS)
    return EXIT_OK


def read_config(arguments: Sequence[str], environment: os._Environ[str] | dict[str, str]) -> Config:
    """The settings of the command line, then of the environment, then the defaults. Raises SystemExit and _Refusal."""
    given = vars(_make_parser().parse_args(_join_headers(arguments)))
    try:
        values = read_environment(environment)
        values |= {name: _value(name, text) for name, text in given.items() if text is not None}
        return Config(**values)
    except ConfigError as error:
        raise _Refusal(EXIT_USAGE, str(error)) from None


def _join_headers(arguments: Sequence[str]) -> list[str]:
    """`-H NAME VALUE`, as http.server has it, as `--header=NAME:VALUE`; no name has a colon, so the two never mix."""
    joined: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-H", "--header"):
            name = next(rest, None)
            if name is not None:
                value = None if ":" in name else next(rest, None)
                argument = f"--header={name}" if value is None else f"--header={name}:{value}"
        joined.append(argument)
    return joined


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="python -m kaserve",
        usage="%(prog)s [PORT] [options]\n       %(prog)s probe URL",
        description="Serves a directory, a WSGI application or a handler over persistent HTTP\nconnections.",
        epilog=_EXAMPLES,
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"kaserve {__version__} ({_WHAT_IT_IS})")
    parser.add_argument("--hash-password", action=_HashPassword, nargs=0, help="show the hash of a password and exit")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in options().items():
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        _add_option(group, name, option)
    return parser


def _add_option(group: argparse._ArgumentGroup, name: str, option: Option) -> None:
    default = _show(Config.__dataclass_fields__[name].default)
    text = (f"{option.help} (default: {default})" if default else option.help).replace("%", "%%")
    if name == "port":  # as in http.server: the one argument without a name
        group.add_argument("port", nargs="?", metavar=option.metavar, help=text)
        return
    long = "--" + name.replace("_", "-")
    if option.metavar is None:
        group.add_argument(long, action=argparse.BooleanOptionalAction, dest=name, help=text)
    elif option.repeatable:
        group.add_argument(
            *option.flags, long, action="append", metavar=option.metavar, dest=name, help=text + "; repeatable"
        )
    else:
        group.add_argument(*option.flags, long, metavar=option.metavar, dest=name, help=text)


def _show(default: object) -> str:
    """A default as a user would write it."""
    if default is None or isinstance(default, bool):
        return {None: "", True: "yes", False: "no"}[default]
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _value(name: str, given: Any) -> Any:
    """What the text of an option means. Raises ConfigError."""
    option = options()[name]
    if isinstance(given, bool):
        return given
    flag = "the port" if name == "port" else "--" + name.replace("_", "-")
    try:
        return tuple(map(option.read, given)) if option.repeatable else option.read(given)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}, not {given if isinstance(given, str) else ', '.join(given)!r}") from None


def _check_extras(config: Config) -> None:
    """Raises _Refusal for what is asked for and needs something that is not installed."""
    if config.qr:
        try:
            qr.find_library()
        except ImportError:
            raise _Refusal(EXIT_USAGE, "--qr: needs the package segno: pip install segno") from None


def _open_error_log(config: Config) -> Callable[[], object] | None:
    """Raises _Refusal."""
    try:
        return errorlog.set_up(config.error_log)
    except OSError as error:
        raise _Refusal(EXIT_RESOURCE, f"cannot write the error log {config.error_log!r}: {error.strerror}") from None


def _load(config: Config, app: Handler | None) -> Handler:
    """What answers the requests, `app` or a directory, from the inside to the outside. Raises _Refusal.

    A preflight comes without credentials, so it is answered in front of the door.
    """
    users = _users(config)
    additions = SiteHeaders(
        map(parse_field, config.header),
        cors=config.cors,
        cache_control=map(parse_rule, config.cache_control),
        immutable=config.immutable,
        private=bool(users),
    )
    handler: Any
    if app is None:
        handler = _serve_directory(config, additions)
    else:
        handler = HeaderMiddleware(app, additions.always) if additions.always else app
    if users:
        handler = BasicAuth(handler, users, fields=additions.always)
    return Preflight(handler) if config.cors else cast(Handler, handler)


def _serve_directory(config: Config, additions: SiteHeaders) -> Files | Uploads:
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
            additions=additions,
            form=FORM if config.upload else "",
        )
        if not config.upload:
            return files
        return Uploads(
            files,
            config.directory,
            overwrite=config.upload_overwrite,
            symlinks=config.symlinks,
            hidden=config.hidden,
            fields=additions.always,
        )
    except OSError as error:
        raise _Refusal(EXIT_RESOURCE, f"cannot serve {config.directory!r}: {error.strerror}") from None


def _users(config: Config) -> dict[str, str]:
    """Hashes by name: of the file, and of the options, which win. Raises _Refusal."""
    users: dict[str, str] = {}
    if config.auth_file is not None:
        try:
            with open(config.auth_file, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it is not text in UTF-8"
            raise _Refusal(EXIT_RESOURCE, f"cannot read {config.auth_file!r}: {reason}") from None
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                try:
                    users.update([parse_user(line.strip())])
                except ValueError as error:
                    raise _Refusal(EXIT_USAGE, f"--auth-file: line {number} of {config.auth_file}: {error}") from None
        if not users:  # nobody at all could come in, or everybody
            raise _Refusal(EXIT_USAGE, f"--auth-file: there is no user in {config.auth_file}")
    return users | dict(map(parse_user, config.auth))


def _application(config: Config) -> Handler | None:
    """What answers instead of a directory, if anything does. Raises _Refusal."""
    if config.wsgi is not None:
        app = cast(Application, _import("wsgi", "APP", config.wsgi))
        return WSGI(app, config.threads, multiprocess=config.reuse_port)
    if config.handler is not None:
        # Whether it returns a Response shows when it is called.
        return cast(Handler, _import("handler", "FUNCTION", config.handler))
    return None


def _import(option: str, what: str, target: str) -> object:
    """What `target`, MODULE:NAME, is, or makes, if it ends in `()`; something that can be called. Raises _Refusal."""
    module_name, colon, name = target.partition(":")
    makes = option == "wsgi" and name.endswith("()")
    name = name.removesuffix("()") if makes else name
    if not colon or not module_name or not name:
        raise _Refusal(EXIT_USAGE, f"--{option}: takes MODULE:{what}, not {target!r}")
    sys.path.insert(0, os.getcwd())  # as `python -m` does for the program itself
    found: Any
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        if makes:
            found = found()
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported, in one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _Refusal(EXIT_APP, f"cannot import {target!r}: {reason}") from None
    if not callable(found):
        raise _Refusal(EXIT_APP, f"{target!r} is not {'an application' if option == 'wsgi' else 'a function'}")
    return found


def _start(handler: Handler, config: Config) -> Server:
    """A server that listens. Raises _Refusal."""
    try:
        server = Server(handler, config)
        server.open()
        return server
    except OSError as error:
        raise _Refusal(EXIT_RESOURCE, error.strerror or str(error)) from None


def _greet(server: Server) -> None:
    try:
        print(banner(server, color=takes_color(sys.stdout)), flush=True)
    except OSError:  # nobody listens, or the disk is full: no reason not to serve
        pass


def banner(server: Server, *, color: bool = False) -> str:
    """What the user wants to know first: where, what, which build, and how connections are kept."""
    config = server.config
    strong, plain = ("\x1b[1;36m", "\x1b[0m") if color else ("", "")
    directory = os.fsencode(os.path.abspath(config.directory)).decode(errors="backslashreplace")
    what = f"directory {directory}"
    if config.wsgi:
        what = f"WSGI application {config.wsgi} ({config.threads or 'no'} threads)"
    elif config.handler:
        what = f"handler {config.handler}"
    lines = [f"kaserve {__version__} ({_WHAT_IT_IS}) serves {what}"]
    lines += [f"  at {strong}{server.url_of(address)}{plain}" for address in server.addresses]
    for name, path in (("status", config.status), ("metrics", config.metrics)):
        if path is not None and server.url.startswith("http"):
            lines.append(f"  {name}: {server.url.rstrip('/')}{path}")
    if config.keep_alive:
        lines.append(
            f"  keep-alive: {config.keep_alive:g} s idle, {config.keep_alive_requests or 'any number of'} requests, "
            f"{config.keep_alive_time:g} s of age per connection ({config.protocol})"
        )
    else:
        lines.append(f"  keep-alive: off ({config.protocol})")
    if config.upload:
        lines.append(f"  takes uploads{' and replaces files' if config.upload_overwrite else ''}")
    if config.auth or config.auth_file:
        lines.append(f"  asks for a password{'' if config.tls_cert else ', which travels readably: there is no TLS'}")
    if config.qr:
        lines.append(_qr_code(server))
    lines.append("  Ctrl-C stops it")
    return "\n".join(lines)


def _qr_code(server: Server) -> str:
    """What a phone has to see, or in one line why it cannot."""
    url = qr.url_for_others("https" if server.config.tls_cert else "http", server.addresses)
    if url is None:
        return "  no QR code: no other machine can reach this address; --bind 0.0.0.0 listens to the network"
    return f"{qr.draw(url, sys.stdout.encoding or 'ascii')}\n  {url}"
