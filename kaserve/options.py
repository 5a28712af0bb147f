"""Option: how one setting is read from text, checked as a value, and explained; and the kinds of values there are.

Knows what a port, a size or an address looks like, in text and in Python. Does not know which settings there are
(`config`), the command line, or the environment.

Text and values are checked by different functions, since they go wrong in different ways: `--port x` is a text that is
not a number, while `Config(port="8000")` is a number of the wrong type. Both raise ValueError with a clause that starts
after the option's name, such as "must be a whole number"; `Option.complaint` makes a sentence of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .handlers.middleware.basic_auth import parse_user
from .handlers.middleware.forwarded import Trusted
from .handlers.middleware.headers import parse_header
from .handlers.static.media_types import parse_type
from .handlers.static.site_headers import parse_rule
from .http.target import is_host
from .logs.formats import parse_atoms
from .net.listener import split_host_port

__all__ = [
    "BIND",
    "CACHE_RULE",
    "COUNT",
    "FILE",
    "FILE_MODE",
    "HEADER",
    "HOST",
    "LINE_SIZE",
    "LOG_FORMAT",
    "MEDIA_TYPE",
    "PORT",
    "PROXY",
    "ROOT_PATH",
    "SECONDS",
    "SIZE",
    "SWITCH",
    "TEXT",
    "TIMEOUT",
    "TRUSTED",
    "URL_PATH",
    "USER",
    "Kind",
    "Option",
    "one_of",
]

_MAX_PORT = 65535
_MIN_LINE_SIZE = 16  # bytes; "GET / HTTP/1.1" and its line end are 16, so no request fits into less


class Kind(NamedTuple):
    """What the value of an option is.

    Attributes:
        read: makes the value from its text. Raises ValueError with a clause that says what is accepted.
        check: checks a value that did not come as text. Raises ValueError with such a clause.
        is_text: whether the value is a str.
    """

    read: Callable[[str], Any]
    check: Callable[[Any], object]
    is_text: bool = False


@dataclass(frozen=True)
class Option:
    """One setting.

    Attributes:
        group: the heading of --help under which it is listed.
        help: one sentence that says what it does, with the unit. The default is added when it is shown.
        kind: what its value is.
        default: the value of a setting that is not given; None stands for "not set" and is a value as well.
        metavar: what stands for the value in --help; None for a switch.
        flags: short names beside the long one.
        repeatable: whether it holds a tuple of values, to which each use on the command line adds one.
        separator: what separates the values of a repeatable option in an environment variable.
        secret: whether an error message must not repeat the value.
    """

    group: str
    help: str
    kind: Kind
    default: Any
    metavar: str | None
    flags: tuple[str, ...] = ()
    repeatable: bool = False
    separator: str = ","
    secret: bool = False

    def read(self, text: str) -> Any:
        """Returns the value that `text` means; of a repeatable option, one of its values.

        Raises:
            ValueError: a clause that says what is accepted, such as "must be a whole number".
        """
        return self.kind.read(text)

    def check(self, value: object) -> None:
        """Checks a value that a program gave; of a repeatable option, one of its values.

        Raises:
            ValueError: a clause that says what is accepted, such as "must be an int".
        """
        if not (value is None and self.default is None):
            self.kind.check(value)

    def complaint(self, name: str, error: ValueError, value: object, *, is_text: bool) -> str:
        """Words the refusal of `value`: the name, what is accepted, and the value unless it is a secret.

        Args:
            name: the option as the user gave it: `--keep-alive`, `KASERVE_KEEP_ALIVE` or `keep_alive`.
            error: what `read` or `check` raised.
            value: the text or the value that was refused.
            is_text: whether it came as text, so that it need not be told from a number.
        """
        clause = str(error)
        if isinstance(error, _PartError):
            return f"the {error.part} of {name} {clause}"
        # A clause with another verb names what is wrong by itself: "must not set Connection, which ...".
        if self.secret or not clause.startswith("must be"):
            return f"{name} {clause}"
        is_string_for_number = isinstance(value, str) and not is_text and not self.kind.is_text
        return f"{name} {clause}, not {'the string ' if is_string_for_number else ''}{value!r}"


class _PartError(ValueError):
    """A clause about a part of a value, which contains the value of that part: the other parts are right."""

    def __init__(self, part: str, clause: str) -> None:
        super().__init__(clause)
        self.part = part


# Numbers. Python's own int() and float() read more than anybody means ("1_0", "nan", digits of other alphabets), so the
# form of a text is checked first.


def _is_negative(text: str) -> bool:
    """Whether `text` is a number below zero, so that "must be a whole number" would not say what is wrong."""
    return re.fullmatch(r"-[0-9]+(\.[0-9]+)?", text) is not None


def _read_count(text: str) -> int:
    if _is_negative(text):
        raise ValueError("must be 0 or more")
    if re.fullmatch("[0-9]{1,15}", text) is None:
        raise ValueError("must be a whole number")
    return int(text)


def _check_count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be an int")
    if value < 0:
        raise ValueError("must be 0 or more")
    return value


def _read_port(text: str) -> int:
    port = -1 if _is_negative(text) else _read_count(text)
    _check_port(port)
    return port


def _check_port(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be an int")
    if not 0 <= value <= _MAX_PORT:
        raise ValueError(f"must be a port from 0 to {_MAX_PORT}")


def _read_seconds(text: str) -> float:
    if _is_negative(text):
        raise ValueError("must be 0 or more seconds, such as 30 or 0.5")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None:
        raise ValueError("must be seconds, such as 30 or 0.5")
    return float(text)


def _check_seconds(value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("must be seconds, an int or a float")
    if not 0 <= value < math.inf:  # which NaN is not either
        raise ValueError("must be seconds, 0 or more and finite")


def _read_timeout(text: str) -> float:
    if _is_negative(text):
        raise ValueError(_MORE_THAN_0)
    seconds = _read_seconds(text)
    if not seconds:
        raise ValueError(_MORE_THAN_0)
    return seconds


def _check_timeout(value: object) -> None:
    _check_seconds(value)
    if not value:
        raise ValueError(_MORE_THAN_0)


_MORE_THAN_0 = "must be more than 0 seconds, such as 30 or 0.5"

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}  # powers of two


def _read_size(text: str) -> int:
    if _is_negative(text):
        raise ValueError("must be 0 or more bytes, such as 65536, 64K or 1G")
    match = re.fullmatch("([0-9]{1,15})([KMGT]?)(?:iB|B)?", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError("must be bytes, such as 65536, 64K or 1G")
    return int(match[1]) << _UNITS[match[2].upper()]


def _read_line_size(text: str) -> int:
    size = 0 if _is_negative(text) else _read_size(text)
    _check_line_size(size)
    return size


def _check_line_size(value: object) -> None:
    if _check_count(value) < _MIN_LINE_SIZE:
        raise ValueError(f"must be at least {_MIN_LINE_SIZE} bytes")


def _read_switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("must be yes or no")


def _check_switch(value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")


COUNT = Kind(_read_count, _check_count)
PORT = Kind(_read_port, _check_port)
SECONDS = Kind(_read_seconds, _check_seconds)
TIMEOUT = Kind(_read_timeout, _check_timeout)  # seconds, of which 0 would leave no time for anything
SIZE = Kind(_read_size, _check_count)
LINE_SIZE = Kind(_read_line_size, _check_line_size)
SWITCH = Kind(_read_switch, _check_switch)


# Texts. They stay texts: the module that uses one parses it again, with the function that checks it here.


def _text(parse: Callable[[str], object]) -> Kind:
    """The kind of a text that `parse` accepts, which raises ValueError for others."""

    def read(text: str) -> str:
        parse(text)
        return text

    def check(value: object) -> None:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        parse(value)

    return Kind(read, check, is_text=True)


def _check_file(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError("must be the name of a file")


def _check_file_mode(text: str) -> None:
    if re.fullmatch("0?[0-7]{3}", text) is None:
        raise ValueError("must be permissions in octal, such as 660")


def _check_url_path(text: str) -> None:
    if re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*", text) is None:
        raise ValueError("must be a path, such as /status")


def _check_root_path(text: str) -> None:
    if text and re.fullmatch(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+", text) is None:
        raise ValueError("must be a path without a slash at its end, such as /api")


def _check_bind(text: str) -> None:
    scheme, _, rest = text.partition(":")
    try:
        if scheme == "fd":
            _read_count(rest)
        elif scheme != "unix":
            split_host_port(text, 0)
        elif rest in ("", "@"):
            raise ValueError
    except ValueError:
        match = re.fullmatch(r"(?:[\w.-]*|\[[0-9A-Fa-f:.%]+\]):([0-9]+)", text, re.ASCII)
        if match is not None and scheme not in ("fd", "unix"):
            raise _PartError("port", f"must be 0 to {_MAX_PORT}, not {match[1]}") from None
        raise ValueError("must be HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N") from None


def _check_trusted(text: str) -> None:
    try:
        Trusted(text)
    except ValueError:
        raise ValueError("must be addresses and networks separated by commas, unix or *") from None


def _check_proxy(text: str) -> None:
    from .proxy.location import parse_proxy_option  # which most programs do without

    try:
        parse_proxy_option(text)
    except ValueError as error:
        raise ValueError(f"is not [PATH=]URL: {error}") from None


def _check_host(text: str) -> None:
    if not text or not is_host(text):
        raise ValueError("must be a host, perhaps with a port, or the word upstream")


def _check_log_format(text: str) -> None:
    if text not in ("auto", "pretty", "common", "combined", "json"):
        parse_atoms(text)


TEXT = _text(lambda text: None)
FILE = _text(_check_file)
FILE_MODE = _text(_check_file_mode)
URL_PATH = _text(_check_url_path)
ROOT_PATH = _text(_check_root_path)
BIND = _text(_check_bind)
TRUSTED = _text(_check_trusted)
PROXY = _text(_check_proxy)
HOST = _text(_check_host)
LOG_FORMAT = _text(_check_log_format)
HEADER = _text(parse_header)
CACHE_RULE = _text(parse_rule)
MEDIA_TYPE = _text(parse_type)
USER = _text(parse_user)


def one_of(*words: str) -> Kind:
    """The kind of a text that is one of `words`, of which there are two at least."""

    def check(text: str) -> None:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")

    return _text(check)
