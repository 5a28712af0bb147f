"""How a line of the access log looks: the formats that log readers know, and those of one's own.

Knows atoms, escaping and the names of times. Does not know when or where lines are written (`accesslog`, `logfile`).

What a client sends stands in a line in such a way that it can neither end it, nor the quotes around it, nor tell a
terminal anything. In lines of text everything but plain ASCII, the quote and the backslash is written as \\xHH; in JSON
as JSON has it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii

from ..http.messages import Request, Response, host_of
from ..net.connection import Connection

__all__ = ["Format", "LogClock", "escape", "make_format", "parse_atoms"]

Users = Callable[[Request], str]

# What could end a line or a quoted part of it early, and what a terminal could take for a command.
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_LONGEST_REMEMBERED = 256  # characters
_MAX_REMEMBERED = 1024  # texts, of which most logs have but a few again and again

_PIECE = re.compile(r"%%|%\(([^()]*)\)s|[^%]+|%")
_FIELD_ATOM = re.compile(r"\{([!#$%&'*+.^_`|~0-9A-Za-z-]+)\}([io])")


class _Memory(dict[str, str]):
    """What `make` makes of a text, which is made once as long as it is remembered."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> str:
        made = self._make(text)
        if len(text) <= _LONGEST_REMEMBERED:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[text] = made
        return made


# DEL is the one control character that JSON lets pass.
_quoted = _Memory(lambda text: encode_basestring_ascii(text).replace("\x7f", "\\u007f"))
_escaped = _Memory(lambda text: _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text))


def escape(text: str) -> str:
    """`text` as it may stand between quotes: everything a client could break out with is written as \\xHH."""
    return _escaped[text]


def _quote(text: str) -> str:
    """`text` as a string of JSON."""
    return _quoted[text]


class LogClock:
    """The time as logs write it: `clf` is that of the Common Log Format, `iso` and `zone` stand around milliseconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self.millisecond = 0
        self.clf = self.iso = self.zone = ""

    def tell(self) -> None:
        """Looks at the clock. The texts are made anew once a second."""
        now = self._wall()
        second = int(now)
        self.millisecond = int((now - second) * 1000)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            self.clf = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", local)
            self.iso = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            zone = time.strftime("%z", local)
            self.zone = f"{zone[:3]}:{zone[3:]}"


class Format:
    """How a line looks. timed: it shows how long things took, so `Connection.times` has to know.

    users: tells who has come in with a password, "" for anybody else.
    """

    def __init__(self, moment: LogClock, users: Users | None, timed: bool = False) -> None:
        self._moment = moment
        self._users = users
        self.timed = timed

    def line(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        """One line, without its end: of the connection that answered, the request (None when it could not be read), the
        answer and the size of its content."""
        raise NotImplementedError


def make_format(text: str, moment: LogClock, users: Users | None) -> Format:
    """The format that a setting means: common, combined, json, or atoms. Raises ValueError."""
    if text == "common":
        return Common(moment, users)
    if text == "combined":
        return Combined(moment, users)
    if text == "json":
        return Json(moment, users, timed=True)
    return Atoms(moment, users, text)


# The three that have a name. They are called for every answer, so a line is made in as few steps as it can be.


class Common(Format):
    """The Common Log Format of Apache httpd."""

    def line(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        return self._common(connection, request, response, size)

    def _common(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        clf = self._moment.clf
        sent = f"{size}" if size else "-"
        if request is None:
            return f'{host_of(connection.client)} - - {clf} "-" {response.status} {sent}'
        host = host_of(request.client)  # who it is behind a proxy that is trusted
        user = "-" if self._users is None else escape(self._users(request)) or "-"
        target = escape(request.target)
        return f'{host} - {user} {clf} "{request.method} {target} HTTP/1.{request.minor}" {response.status} {sent}'


class Combined(Common):
    """The same with two fields of the request behind it."""

    def line(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        line = self._common(connection, request, response, size)
        return f'{line} "{_field(request, "referer")}" "{_field(request, "user-agent")}"'


class Json(Format):
    """One object a line."""

    def line(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        arrival, handler, send = connection.times()
        moment = self._moment
        asked = '"method":null,"target":null,"version":null,'
        client, user = connection.client, "null"
        if request is not None:
            client = request.client
            name = "" if self._users is None else self._users(request)
            user = _quote(name) if name else "null"
            asked = f'"method":"{request.method}","target":{_quote(request.target)},"version":"1.{request.minor}",'
        return (
            f'{{"time":"{moment.iso}.{moment.millisecond:03d}{moment.zone}","connection":{connection.number},'
            f'"request":{connection.protocol.served},"client":"{host_of(client)}","user":{user},{asked}'
            f'"status":{response.status},"bytes":{size},"arrival":{_seconds(arrival)},"handler":{_seconds(handler)},'
            f'"send":{_seconds(send)},"referer":{_json_field(request, "referer")},'
            f'"user_agent":{_json_field(request, "user-agent")}}}'
        )


def _seconds(seconds: float) -> str:
    """With six decimals, in less time than it takes to format a float."""
    micros = int(seconds * 1e6 + 0.5)
    return f"0.{micros:06d}" if 0 <= micros < 1_000_000 else f"{seconds:.6f}"


def _value(request: Request | None, name: str) -> str | None:
    """Of a field, which may have come in several lines (RFC 9110 §5.3); None without any."""
    values = None if request is None else request.values(name)
    return ", ".join(values) if values else None


def _field(request: Request | None, name: str) -> str:
    value = _value(request, name)
    return "-" if value is None else escape(value)


def _json_field(request: Request | None, name: str) -> str:
    value = _value(request, name)
    return "null" if value is None else _quote(value)


# Atoms, as gunicorn has them.


class Atoms(Format):
    """A line of one's own."""

    def __init__(self, moment: LogClock, users: Users | None, text: str) -> None:
        """Raises ValueError."""
        self._template, names = parse_atoms(text)
        super().__init__(moment, users, timed=not _TIMES.isdisjoint(names))
        self._atoms = [_atom(name, moment, users) for name in names]

    def line(self, connection: Connection, request: Request | None, response: Response, size: int) -> str:
        return self._template % tuple([atom(connection, request, response, size) for atom in self._atoms])


def parse_atoms(text: str) -> tuple[str, list[str]]:
    """A template for the values of atoms, and their names. Raises ValueError with what the format takes instead."""
    template, names = [], []
    for match in _PIECE.finditer(text):
        name = match[1]
        if name is not None:
            if name not in _ATOMS and _FIELD_ATOM.fullmatch(name) is None:
                raise ValueError(f"has %({name})s, which is not one of gunicorn's atoms that kaserve supports")
            names.append(name)
            template.append("%s")
        elif match[0] == "%":
            raise ValueError("has a % that does not begin an atom such as %(h)s; a percent sign is written %%")
        elif _UNSAFE.search(match[0].replace('"', "").replace("\\", "")):
            raise ValueError("must be printable ASCII")
        else:
            template.append(match[0])
    if not names:
        raise ValueError("must be common, combined, json, or made of atoms such as '%(h)s %(r)s %(s)s'")
    return "".join(template), names


_Atom = Callable[[Connection, Request | None, Response, int], object]


def _atom(name: str, moment: LogClock, users: Users | None) -> _Atom:
    found = _FIELD_ATOM.fullmatch(name)
    if found is not None:
        field, direction = found[1].lower(), found[2]
        if direction == "i":
            return lambda connection, request, response, size: _field(request, field)
        return lambda connection, request, response, size: _answered_field(response, field)
    if name == "t":
        return lambda connection, request, response, size: moment.clf
    if name == "u":
        return lambda connection, request, response, size: (request and users and escape(users(request))) or "-"
    return _ATOMS[name]


def _answered_field(response: Response, name: str) -> str:
    """A field that the handler gave; those that the server adds itself are not among them."""
    return escape(", ".join(value for key, value in response.fields if key.lower() == name)) or "-"


def _client(connection: Connection, request: Request | None) -> str:
    return host_of(connection.client if request is None else request.client)


def _request_line(request: Request | None) -> str:
    return "-" if request is None else f"{request.method} {escape(request.target)} {request.http_version}"


def _of_request(value: Callable[[Request], str]) -> _Atom:
    return lambda connection, request, response, size: "-" if request is None else escape(value(request))


def _of_time(show: Callable[[float], object]) -> _Atom:
    return lambda connection, request, response, size: show(sum(connection.times()))


_ATOMS: dict[str, _Atom] = {
    "h": lambda connection, request, response, size: _client(connection, request),
    "l": lambda connection, request, response, size: "-",
    "u": lambda connection, request, response, size: "-",  # `_atom` knows who
    "t": lambda connection, request, response, size: "-",  # and when
    "r": lambda connection, request, response, size: _request_line(request),
    "m": _of_request(lambda request: request.method),
    "U": _of_request(lambda request: request.raw_path),
    "q": _of_request(lambda request: request.query),
    "H": _of_request(lambda request: request.http_version),
    "s": lambda connection, request, response, size: response.status,
    "B": lambda connection, request, response, size: size,
    "b": lambda connection, request, response, size: size or "-",
    "f": lambda connection, request, response, size: _field(request, "referer"),
    "a": lambda connection, request, response, size: _field(request, "user-agent"),
    "T": _of_time(lambda seconds: int(seconds)),
    "M": _of_time(lambda seconds: int(seconds * 1e3)),
    "D": _of_time(lambda seconds: int(seconds * 1e6)),
    "L": _of_time(lambda seconds: f"{seconds:.6f}"),
    "p": lambda connection, request, response, size: f"<{os.getpid()}>",
}
_TIMES = frozenset("TMDL")
