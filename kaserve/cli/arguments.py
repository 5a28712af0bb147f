"""The options of the command line: their parser, `--help`, and the Config that they and the environment make.

Knows argparse and what a user types. The settings themselves are in `config`. Does not know servers.
"""

from __future__ import annotations

import argparse
import getpass
import shutil
import sys
import textwrap
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from .. import IMPLEMENTATION, __version__
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
from .exit_codes import EXIT_USAGE, StartError

__all__ = ["BUILD", "Given", "read_arguments", "read_config"]

BUILD = {"pure": "pure Python", "compiled": "compiled"}[IMPLEMENTATION]
"""Which build is running, in words."""

_EXAMPLES = """\
examples:
  %(prog)s                           this directory, on 127.0.0.1:8000
  %(prog)s 80 -d site -b 0.0.0.0     a directory, for the whole network
  %(prog)s --wsgi shop:app           a WSGI application
  %(prog)s --status /status          with a live page of connections
  %(prog)s probe http://localhost/   how a server keeps its connections

Each option is also an environment variable, such as KASERVE_KEEP_ALIVE; an
option overrides its variable.
SIGTERM shuts down gracefully and exits with code 0. Ctrl-C does the same with a
3-second limit; press it twice to stop at once. SIGHUP reopens the log files and
reloads the certificates.

exit codes: 0 after a shutdown; 2: an option is not accepted; 3: an address,
directory or file is unavailable; 4: the application cannot be imported"""

_MAX_WIDTH = 110  # columns; longer lines are hard to read
_WIDE = 90  # columns from which on there is room for a wider column of names


class Given(NamedTuple):
    """What the command line and the environment say.

    Attributes:
        config: the settings.
        from_environment: the names of those that come from the environment.
        warnings: variables that look like settings and are ignored, a line for each.
    """

    config: Config
    from_environment: frozenset[str]
    warnings: list[str]

    def start_error(self, error: ConfigError) -> StartError:
        """Returns `error` for the user, with each setting named as it was given."""
        return _start_error(error, self.from_environment)


def _start_error(error: ConfigError, from_environment: Container[str]) -> StartError:
    message = error.renamed(lambda name: variable_of(name) if name in from_environment else _flag_of(name))
    return StartError(EXIT_USAGE, message)


def read_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> Given:
    """Returns the settings of the command line; those it does not give come from the environment, or are defaults.

    Raises:
        StartError: a value is not accepted.
        SystemExit: argparse refused the arguments, or an option such as --help has done what it is for.
    """
    given = {
        name: text
        for name, text in vars(_make_parser().parse_args(_join_headers(arguments))).items()
        if text is not None
    }
    from_environment: frozenset[str] = frozenset()
    try:
        values = read_environment(environment, given)  # a variable that an option overrides is not even read
        from_environment = frozenset(values)
        values |= {name: _read_option(name, text) for name, text in given.items()}
        return Given(Config(**values), from_environment, environment_warnings(environment, given))
    except ConfigError as error:
        raise _start_error(error, from_environment) from None


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Returns the settings alone, as `read_arguments` reads them; for tools that compare command lines."""
    return read_arguments(arguments, environment).config


def _flag_of(name: str) -> str:
    """What a user types for a setting."""
    return "PORT" if name == "port" else "--" + name.replace("_", "-")


def _read_option(name: str, given: Any) -> Any:
    """The value of an option, from what argparse found. Raises ConfigError."""
    if isinstance(given, bool):  # a switch
        return given
    if isinstance(given, list):  # a repeatable option
        return tuple(read_text(name, _flag_of(name), text) for text in given)
    return read_text(name, _flag_of(name), given)


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
    """An ArgumentParser that reports an error in one line, without the usage and without a password."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class, but what comes with an unknown option is not repeated: it may be a password."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
            if not flags and hasattr(found, "auth"):  # `--auth ann: secret`
                self.error("unrecognized arguments, which are not repeated, since a password may be among them")
            self.error(f"unrecognized arguments: {' '.join(flags or unknown)}")
        return found

    def error(self, message: str) -> NoReturn:
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


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="python -m kaserve",
        usage="%(prog)s [PORT] [options]\n       %(prog)s probe URL",
        description="Serves a directory, a WSGI application or a Python handler over HTTP/1.1 with\n"
        "persistent connections.",
        epilog=_EXAMPLES,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,  # an abbreviation would stop working when an option is added that begins alike
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"kaserve {__version__} ({BUILD})")
    parser.add_argument(
        "--hash-password", action=_HashPassword, nargs=0, help="ask for a password, print its hash for --auth and exit"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in options().items():
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        _add_option(group, name, option)
    return parser


def _add_option(group: argparse._ArgumentGroup, name: str, option: Option) -> None:
    default = _show_default(option.default)
    text = (f"{option.help} (default: {default})" if default else option.help).replace("%", "%%")
    if name == "port":  # the only argument without a name, as in http.server
        group.add_argument("port", nargs="?", metavar=option.metavar, help=text)
    elif option.metavar is None:
        group.add_argument(_flag_of(name), action=argparse.BooleanOptionalAction, dest=name, help=text)
    elif option.repeatable:
        names = (*option.flags, _flag_of(name))
        group.add_argument(*names, action="append", metavar=option.metavar, dest=name, help=text + "; repeatable")
    else:
        group.add_argument(*option.flags, _flag_of(name), metavar=option.metavar, dest=name, help=text)


def _show_default(default: object) -> str:
    """A default as a user would write it; "" for none."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
