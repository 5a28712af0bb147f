"""The options of the command line: their parser, `--help`, and the Config that they and the environment make.

Knows argparse and what a user types. The settings themselves are in `config`. Does not know servers.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import getpass
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from .._version import __version__
from ..config import (
    Config,
    ConfigError,
    environment_warnings,
    options,
    read_environment,
    read_text,
    variable_of,
)
from ..handlers.middleware.passwords import hash_password
from ..options import Option
from .banner import BUILD
from .exit_codes import EXIT_USAGE, StartError
from .foreign import ALIASES, INSTEAD, Alias
from .imports import is_target
from .positionals import read_positionals

__all__ = ["Given", "program_name", "read_arguments", "read_config"]

_USAGE = "%(prog)s [PORT | DIR | MODULE:APP]... [options]\n       %(prog)s probe URL [options]"

_DESCRIPTION = """\
Serves a directory, an ASGI or WSGI application or a Python handler over
HTTP/1.1 with persistent connections.

in any order:
  PORT                  The port to listen on. (default: 8000)
  DIR                   The directory to serve. (default: the current one)
  MODULE:APP            The application or the handler APP of a module.
                        MODULE:FACTORY() serves what the factory returns."""

_EXAMPLES = """\
examples:
  %(prog)s                        this directory, on port 8000
  %(prog)s 8080 dist              another port and directory
  %(prog)s -b 0.0.0.0             for other machines in the network
  %(prog)s shop:app               the application `app` in shop.py
  %(prog)s "shop:create_app()"    what a factory returns
  %(prog)s probe URL              how a server keeps its connections
"""
_FOOTER = "%(prog)s --help-all lists all options and exit codes. Ctrl-C stops the server."

_EXAMPLES_ALL = """\
examples:
  %(prog)s                           this directory, on port 8000
  %(prog)s 8080 dist -b 0.0.0.0      a directory, for the whole network
  %(prog)s shop:app                  an application or a handler
  %(prog)s --status /status          with a live page of connections
  %(prog)s probe URL                 how a server keeps its connections
"""
_FOOTER_ALL = """\
Each option is also an environment variable, such as KASERVE_KEEP_ALIVE; an option overrides its variable. Option \
names of uvicorn, gunicorn and http.server are accepted where they mean the same.
SIGTERM shuts down gracefully and exits with code 0. Ctrl-C does the same with a 3-second limit; press it twice to \
stop at once. SIGHUP reopens the log files and reloads the certificates.

exit codes: 0 after a shutdown; 2: an option is not accepted; 3: an address, directory or file is unavailable; 4: the \
application cannot be imported; 5: the startup of the ASGI application failed"""

# What --help shows: the options that people use, by what they are for, in one sentence each. --help-all has the rest.
_COMMON: dict[str, dict[str, str]] = {
    "addresses": {
        "bind": "The address to listen on, such as 0.0.0.0 for the network.",
        "qr": "Print a QR code of the URL (pip install segno).",
    },
    "applications": {
        "threads": "The number of threads that run an application (default: 4) or a handler (default: 0).",
        "interface": "How APP is called: asgi, wsgi, handler, or auto to find out.",
    },
    "directories": {
        "spa": "Serve index.html for pages that do not exist.",
        "compress": "Compress text files while they are sent.",
        "upload": "Accept uploads, by PUT and by a form on listings.",
        "cors": "Let scripts of other origins read responses.",
    },
    "proxy": {
        "proxy": "Pass requests below PATH, or all, on to the server at URL.",
    },
    "security": {
        "auth": "Ask for a password, and let in this user. May be repeated.",
        "tls_cert": "Serve HTTPS with the certificate in this PEM file.",
        "tls_key": "The PEM file with the certificate's private key.",
    },
    "connections and logs": {
        "keep_alive": "How long an idle connection stays open.",
        "access_log": "Log nothing but errors and warnings.",
        "log_format": "The access log: pretty, common, combined or json.",
        "status": "Show a live page of all connections at this path.",
    },
}

_SERVED = frozenset({"app", "asgi", "handler", "wsgi", "directory"})  # the settings that name what is served

_MAX_WIDTH = 110  # columns; longer lines are hard to read
_WIDE = 90  # columns from which on there is room for a wider column of names


def program_name() -> str:
    """Returns what the user typed to start this program."""
    directory, file = os.path.split(sys.argv[0])
    is_module = file == "__main__.py" and os.path.basename(directory) == "kaserve"
    return "python -m kaserve" if is_module else "kaserve"


class Given(NamedTuple):
    """What the command line and the environment say.

    Attributes:
        config: the settings.
        typed: what the user typed for a setting, where that is neither its own option nor its variable.
        from_environment: the names of the settings that come from the environment.
        warnings: variables that look like settings and are ignored, a line for each.
        positionals: the arguments without a name, by the setting.
    """

    config: Config
    typed: Mapping[str, str]
    from_environment: frozenset[str]
    warnings: list[str]
    positionals: Mapping[str, str]

    def label(self, name: str) -> str:
        """Returns what the user calls the setting `name`: as it was given, or else its option."""
        return _label(name, self.typed, self.from_environment)

    def start_error(self, error: ConfigError) -> StartError:
        """Returns `error` for the user, with each setting named as it was given."""
        return StartError(EXIT_USAGE, error.renamed(self.label))

    def with_port(self, port: int) -> str:
        """Returns a command line like this one, without its options, for another port."""
        others = [text for name, text in self.positionals.items() if name != "port"]
        return " ".join([program_name(), str(port), *(_quote(text) for text in others)])


def _label(name: str, typed: Mapping[str, str], from_environment: frozenset[str]) -> str:
    if name in typed:
        return typed[name]
    return variable_of(name) if name in from_environment else _flag_of(name)


def _quote(text: str) -> str:
    return text if re.fullmatch(r"[\w./:-]+", text) else f"'{text}'"


def read_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> Given:
    """Returns the settings of the command line; those it does not give come from the environment, or are defaults.

    Raises:
        StartError: a value is not accepted.
        SystemExit: argparse refused the arguments, or an option such as --help has done what it is for.
    """
    parser = _make_parser()
    parser.target = _find_target(arguments)
    found, positionals = parser.parse(_join_headers(arguments))
    given = vars(found)
    typed: dict[str, str] = given.pop("typed", {})
    try:
        places = read_positionals(positionals, program_name())
    except StartError:
        if not {"auth", "upload_auth"} & given.keys():
            raise
        # As in `--auth ann: secret`.
        text = "an argument is not accepted, and not repeated, since it may be part of a password"
        raise StartError(EXIT_USAGE, text) from None
    for name, text in places.items():
        if name in given:
            raise StartError(EXIT_USAGE, f"give {text} or {_label(name, typed, frozenset())} {given[name]}, not both")
        given[name] = text
        typed[name] = "PORT" if name == "port" else text
    from_environment: frozenset[str] = frozenset()
    try:
        values = read_environment(environment, given)  # a variable that an option overrides is not even read
        if _SERVED & places.keys():  # an argument overrides what a variable would serve
            for name in _SERVED & values.keys():
                del values[name]
        from_environment = frozenset(values)
        values |= {name: _read_option(name, typed.get(name) or _flag_of(name), text) for name, text in given.items()}
        return Given(Config(**values), typed, from_environment, environment_warnings(environment, given), places)
    except ConfigError as error:
        message = error.renamed(lambda name: _label(name, typed, from_environment))
        if given.get("protocol", "").isdigit():  # -p is the port elsewhere
            message += f"; for the port, write {program_name()} {given['protocol']}"
        raise StartError(EXIT_USAGE, message) from None


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Returns the settings alone, as `read_arguments` reads them; for tools that compare command lines."""
    return read_arguments(arguments, environment).config


def _find_target(arguments: Sequence[str]) -> str:
    """The MODULE:APP among the arguments, for messages. Not the value of an option, which may be USER:PASSWORD."""
    for before, text in zip(("", *arguments), arguments, strict=False):
        if is_target(text) and (not before.startswith("-") or before in INSTEAD):
            return text
    return "MODULE:APP"


def _flag_of(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")


def _read_option(name: str, label: str, given: Any) -> Any:
    """The value of an option, from what argparse found. Raises ConfigError."""
    if isinstance(given, bool):  # a switch
        return given
    if isinstance(given, list):  # a repeatable option
        return tuple(read_text(name, label, text) for text in given)
    return read_text(name, label, given)


def _join_headers(arguments: Sequence[str]) -> list[str]:
    """Turns `-H NAME VALUE`, the form of http.server, into `--header=NAME:VALUE`.

    The two forms cannot be confused, since the name of a header never contains a colon.
    """
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


# The parser. Values are read by `config` and not by argparse, so that an option and its variable are read alike.


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line, without the usage and without a password.

    Attributes:
        target: the MODULE:APP of the command line, for messages.
    """

    target = "MODULE:APP"

    def parse(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Returns the options, and the arguments without a name.

        The parser knows no arguments without a name: argparse accepts several of them only in one place, between two
        options, and `kaserve 8080 --status /status dist` has them in two.
        """
        found, unknown = self.parse_known_args(arguments)
        flags = [each.partition("=")[0] for each in unknown if re.match("--?[A-Za-z]", each)]
        if flags:  # what comes with an unknown option is not repeated: it may be a password
            self.error(self._unknown(flags[0]))
        return found, [each for each in unknown if each != "--"]

    def _unknown(self, flag: str) -> str:
        known = [
            name
            for name, action in self._option_string_actions.items()
            if name.startswith("--") and action.help is not argparse.SUPPRESS  # not the names of other servers
        ]
        near = sorted((name for name in known if name.startswith(flag)), key=len)  # an abbreviation
        near = near or difflib.get_close_matches(flag, known, 1)
        if near:
            return f"there is no option {flag}; did you mean {near[0]}?"
        return f"there is no option {flag}; {self.prog} --help-all lists all options"

    def error(self, message: str) -> NoReturn:
        match = re.fullmatch(r"argument ([^:]+): (expected one argument|ignored explicit argument .*)", message)
        if match:
            flag = match[1].partition("/")[0] if match[2].startswith("ignored") else match[1].rpartition("/")[2]
            action = self._option_string_actions.get(flag)
            if match[2].startswith("expected"):
                message = f"{flag} needs a value: {flag} {action.metavar if action else 'VALUE'}"
            else:
                message = f"{flag} is a switch and accepts no value"
        self.exit(EXIT_USAGE, f"kaserve: {message}\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fits --help to the terminal, with a column of names wide enough for most of them."""

    def __init__(self, prog: str, **more: Any) -> None:
        width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
        super().__init__(prog, max_help_position=30 if width >= _WIDE else 24, width=width - 2, **more)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Wraps between words only: argparse also breaks at a hyphen, in the middle of an option's name."""
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Shows the metavar once, `-b, --bind ADDRESS`, where argparse repeats it for each name."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {action.metavar}"


class _Help(argparse.Action):
    """--help and --help-all."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, flag: Any = None
    ) -> NoReturn:
        (_make_parser() if flag == "--help-all" else _make_short_help()).print_help()
        parser.exit()


class _HashPassword(argparse.Action):
    """--hash-password: asks for a password on a terminal, or reads the first line of a pipe, and prints its hash."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        if sys.stdin.isatty():
            password = getpass.getpass()
            if getpass.getpass("Once more: ") != password:
                parser.error("the two passwords differ")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            parser.error("the password is empty")
        print(hash_password(password.encode(errors="surrogateescape")))
        parser.exit()


class _Alias(argparse.Action):
    """An option of another server with the meaning of a setting. Remembers its name, for messages."""

    def __init__(self, alias: Alias, **more: Any) -> None:
        super().__init__(**more)
        self._alias = alias

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, flag: str | None = None) -> None:
        name = self._alias.setting
        option = options()[name]
        value: Any = True if option.metavar is None else self._alias.convert(values)
        if value is None:
            return
        if option.repeatable:
            value = [*getattr(namespace, name, []), value]
        setattr(namespace, name, value)
        namespace.typed = {**getattr(namespace, "typed", {}), name: flag}


class _Instead(argparse.Action):
    """An option of another server that kaserve does not have: says what to use instead."""

    def __call__(self, parser: Any, namespace: object, values: Any, flag: str | None = None) -> None:
        if flag in ("--workers", "-w") and values == "1":
            return  # which is what kaserve is
        text = INSTEAD[flag or ""].format(program=parser.prog, app=parser.target, value=values or "N")
        parser.error(f"there is no option {flag}; {text}")


def _new_parser(examples: str, footer: str) -> _Parser:
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH) - 2
    # Wrapped with the name of the program in it, which argparse would put in only afterwards.
    lines = (footer % {"prog": program_name()}).split("\n")
    wrapped = "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines)
    parser = _Parser(
        prog=program_name(),
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=f"{examples}\n{_escape(wrapped)}",
        formatter_class=_HelpFormatter,
        add_help=False,
        allow_abbrev=False,  # an abbreviation would stop working when an option is added that begins alike
        argument_default=argparse.SUPPRESS,
    )
    return parser


def _add_help(parser: _Parser) -> None:
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="Show the most common options.")
    parser.add_argument("--help-all", action=_Help, nargs=0, help="Show all options, and exit.")
    parser.add_argument(
        "--version",
        action="version",
        version=f"kaserve {__version__} ({BUILD})",
        help="Show the version, and whether it is compiled, and exit.",
    )
    parser.add_argument(
        "--hash-password",
        action=_HashPassword,
        nargs=0,
        help="Ask for a password, print its hash for --auth, and exit.",
    )


def _make_short_help() -> _Parser:
    """The parser whose help is that of --help; it parses nothing."""
    parser = _new_parser(_EXAMPLES, _FOOTER)
    for title, texts in _COMMON.items():
        group = parser.add_argument_group(title)
        for name, text in texts.items():
            option = options()[name]
            if option.metavar is None:  # a switch: only the form that changes something
                flag = f"--no-{_flag_of(name)[2:]}" if option.default else _flag_of(name)
                group.add_argument(flag, action="store_true", help=_escape(text))
            else:
                _add_option(group, name, dataclasses.replace(option, help=text, repeatable=False))
    return parser


def _make_parser() -> _Parser:
    parser = _new_parser(_EXAMPLES_ALL, _FOOTER_ALL)
    _add_help(parser)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in options().items():
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        _add_option(group, name, option)
    for flag, alias in ALIASES.items():
        metavar = options()[alias.setting].metavar
        more: dict[str, Any] = {"dest": alias.setting, "metavar": metavar, "nargs": 0 if metavar is None else None}
        parser.add_argument(flag, action=_Alias, alias=alias, help=argparse.SUPPRESS, **more)
    for flag in INSTEAD:
        parser.add_argument(flag, action=_Instead, nargs="?", help=argparse.SUPPRESS)
    return parser


def _add_option(group: argparse._ArgumentGroup, name: str, option: Option) -> None:
    default = _show_default(option.default)
    text = option.help
    if option.repeatable:
        text += " May be repeated."
    if default:
        text += f" (default: {default})"
    flags = (*option.flags, _flag_of(name))
    if option.metavar is None:
        group.add_argument(_flag_of(name), action=argparse.BooleanOptionalAction, dest=name, help=_escape(text))
    else:
        action = "append" if option.repeatable else "store"
        group.add_argument(*flags, action=action, metavar=option.metavar, dest=name, help=_escape(text))


def _escape(text: str) -> str:
    """`text` for argparse, which formats it."""
    return text.replace("%", "%%")


def _show_default(default: object) -> str:
    """A default as a user would write it; "" for none."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
