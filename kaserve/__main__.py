"""The command line: `python -m kaserve [PORT]`.

Knows options, words for the user and exit codes; every setting itself is in `config`.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from . import IMPLEMENTATION, __version__
from .apps import Files
from .config import Config, ConfigError, Option, options, read_environment
from .net.connection import Handler
from .probe.command import main as probe
from .server import Server

__all__ = ["main"]

EXIT_OK = 0
EXIT_USAGE = 2  # a bad option or value
EXIT_RESOURCE = 3  # a port in use, a missing directory
EXIT_APP = 4  # an application that cannot be imported

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["probe"]:
        return probe(arguments[1:])
    logging.basicConfig(format="kaserve: %(levelname)s: %(message)s", level=logging.INFO)
    try:
        config = read_config(arguments, os.environ)
        server = _start(_load(config), config)
    except _Refusal as refusal:
        print(f"kaserve: {refusal}", file=sys.stderr)
        return refusal.code
    server.call(lambda: _greet(server))  # once signals are taken: who reads it may send one
    server.run()
    return EXIT_OK


def read_config(arguments: Sequence[str], environment: os._Environ[str] | dict[str, str]) -> Config:
    """The settings of the command line, then of the environment, then the defaults. Raises SystemExit and _Refusal."""
    given = vars(_make_parser().parse_args(arguments))
    try:
        values = read_environment(environment)
        values |= {name: _value(name, text) for name, text in given.items() if text is not None}
        return Config(**values)
    except ConfigError as error:
        raise _Refusal(EXIT_USAGE, str(error)) from None


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="python -m kaserve",
        usage="%(prog)s [PORT] [options]",
        description="Serves a directory, or a handler, over persistent HTTP connections.",
        epilog="Every option is also an environment variable: --keep-alive is KASERVE_KEEP_ALIVE. "
        "`%(prog)s probe URL` reports how a server, any server, keeps its connections.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"kaserve {__version__} ({_WHAT_IT_IS})")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in options().items():
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        _add_option(group, name, option)
    return parser


def _add_option(group: argparse._ArgumentGroup, name: str, option: Option) -> None:
    default = _show(Config.__dataclass_fields__[name].default)
    text = f"{option.help} (default: {default})" if default else option.help
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


def _load(config: Config) -> Handler:
    """What answers the requests. Raises _Refusal."""
    if config.handler is None:
        try:
            return Files(config.directory)
        except OSError as error:
            raise _Refusal(EXIT_RESOURCE, f"cannot serve {config.directory!r}: {error.strerror}") from None
    module_name, colon, function_name = config.handler.partition(":")
    if not colon or not module_name or not function_name:
        raise _Refusal(EXIT_USAGE, f"--handler: takes MODULE:FUNCTION, not {config.handler!r}")
    sys.path.insert(0, os.getcwd())  # as `python -m` does for the program itself
    handler: Any
    try:
        handler = importlib.import_module(module_name)
        for part in function_name.split("."):
            handler = getattr(handler, part)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported, in one line
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _Refusal(EXIT_APP, f"cannot import {config.handler!r}: {reason}") from None
    if not callable(handler):
        raise _Refusal(EXIT_APP, f"{config.handler!r} is not a function")
    return cast(Handler, handler)  # whether it answers with a Response shows when it is called


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
        print(banner(server), flush=True)
    except OSError:  # nobody listens, or the disk is full: no reason not to serve
        pass


def banner(server: Server) -> str:
    """What the user wants to know first: where, what, which build, and how connections are kept."""
    config = server.config
    directory = os.fsencode(os.path.abspath(config.directory)).decode(errors="backslashreplace")
    what = f"handler {config.handler}" if config.handler else f"directory {directory}"
    lines = [f"kaserve {__version__} ({_WHAT_IT_IS}) serves {what}"]
    lines += [f"  at {server.url_of(address)}" for address in server.addresses]
    if config.keep_alive:
        lines.append(
            f"  keep-alive: {config.keep_alive:g} s idle, {config.keep_alive_requests or 'any number of'} requests, "
            f"{config.keep_alive_time:g} s of age per connection ({config.protocol})"
        )
    else:
        lines.append(f"  keep-alive: off ({config.protocol})")
    lines.append("  Ctrl-C stops it")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
