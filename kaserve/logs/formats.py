"""How a line of the access log looks.

    Format                  one response as one line
      CommonFormat          `common`: the Common Log Format of Apache httpd
        CombinedFormat      `combined`: the same line with Referer and User-Agent after it
      JSONFormat            `json`: an object per line, with times
      PrettyFormat          `pretty`: columns for a person at a terminal, in colour if it shows colour
      AtomFormat            anything else: gunicorn's atoms, such as `%(h)s "%(r)s" %(s)s`

Knows atoms, escaping and the names of times. Does not know when or where lines are written (`access`, `file`).

No client can forge a line: whatever it sends is written so that it can neither end the line nor the quotes around it,
nor send a command to a terminal. In text formats every character but printable ASCII, and the quote and the backslash,
is written as \\xHH; in JSON as JSON has it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii

from ..http.grammar import TOKEN
from ..http.memo import remember
from ..http.messages import Request, Response
from ..net.exchange import Exchange

__all__ = ["Format", "LogClock", "escape", "make_format", "parse_atoms"]


# Escaping.

# What could end a line or a quoted part of it early, and what a terminal could take for a command.
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_MAX_REMEMBERED = 1024  # texts; most logs have a few of them again and again
_MAX_REMEMBERED_LENGTH = 256  # characters; a client chooses the texts, so they must not fill the memory


_escaped: dict[str, str] = {}
_quoted: dict[str, str] = {}


def _escape_character(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def escape(text: str) -> str:
    """Returns `text` for a line of text: everything that a client could use to break out of quotes becomes \\xHH."""
    escaped = _escaped.get(text)
    if escaped is None:
        escaped = _UNSAFE.sub(_escape_character, text)
        _remember(_escaped, text, escaped)
    return escaped


def _quote(text: str) -> str:
    """Returns `text` as a JSON string."""
    quoted = _quoted.get(text)
    if quoted is None:
        quoted = encode_basestring_ascii(text).replace("\x7f", "\\u007f")  # DEL, which JSON need not escape
        _remember(_quoted, text, quoted)
    return quoted


def _remember(memo: dict[str, str], text: str, made: str) -> None:
    if len(text) <= _MAX_REMEMBERED_LENGTH:
        remember(memo, text, made, _MAX_REMEMBERED)


class LogClock:
    """The time as logs write it.

    Args:
        time: returns the time in seconds since the epoch.

    Attributes:
        clf: the time of the Common Log Format, in brackets.
        iso: ISO 8601 up to the seconds.
        millisecond: 0 to 999.
        zone: the offset from UTC, such as +02:00.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._second = -1
        self.millisecond = 0
        self.clf = self.iso = self.zone = ""

    def update(self) -> None:
        """Reads the clock. The texts are made once a second, since strftime() costs more than a whole line."""
        now = self._time()
        second = int(now)
        self.millisecond = int((now - second) * 1000)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            self.clf = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", local)
            self.iso = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            zone = time.strftime("%z", local)
            self.zone = f"{zone[:3]}:{zone[3:]}"


# Formats. A line is made for every response, in as few steps as possible.


class Format:
    """One response as one line. Subclasses define `line`.

    Args:
        clock: the time to show; the owner of the format updates it.
        timed: whether lines show how long things took.

    Attributes:
        timed: the same.
    """

    def __init__(self, clock: LogClock, timed: bool = False) -> None:
        self._clock = clock
        self.timed = timed

    def line(self, exchange: Exchange) -> str:
        """The line of a response, without its line end.

        Args:
            exchange: the request and its response. Its `request` is None if it could not be parsed.
        """
        raise NotImplementedError


def make_format(text: str, clock: LogClock, *, color: bool = False) -> Format:
    """The format that the setting `log_format` means.

    Args:
        text: the setting. `auto` is not a format: the caller decides what it means, since it knows where lines go.
        clock: the time to show.
        color: whether `pretty` shows colour; the other formats never do.

    Raises:
        ValueError: it is not common, combined, json, pretty or a text of atoms.
    """
    if text == "common":
        return CommonFormat(clock)
    if text == "combined":
        return CombinedFormat(clock)
    if text == "json":
        return JSONFormat(clock, timed=True)
    if text == "pretty":
        return PrettyFormat(clock, color)
    return AtomFormat(clock, text)


class CommonFormat(Format):
    """The Common Log Format of Apache httpd."""

    def line(self, exchange: Exchange) -> str:
        return self._common_line(exchange)

    def _common_line(self, exchange: Exchange) -> str:
        """The line; CombinedFormat calls this one rather than `line`, which in a subclass costs a look-up."""
        when = self._clock.clf
        request, status, size = exchange.request, _status(exchange), exchange.bytes_sent
        sent = f"{size}" if size else "-"
        if request is None:
            return f'{exchange.client.label} - - {when} "-" {status} {sent}'
        host = request.client.label  # the client that a trusted proxy names, if there is one
        user = "-" if request.remote_user == "" else escape(request.remote_user)
        target = escape(request.target)
        return f'{host} - {user} {when} "{request.method} {target} HTTP/1.{request.minor}" {status} {sent}'


class CombinedFormat(CommonFormat):
    """The Combined Log Format of Apache httpd: Common, and then Referer and User-Agent."""

    def line(self, exchange: Exchange) -> str:
        line, request = self._common_line(exchange), exchange.request
        return f'{line} "{_header(request, "referer")}" "{_header(request, "user-agent")}"'


class JSONFormat(Format):
    """One JSON object per line."""

    def line(self, exchange: Exchange) -> str:
        arrival, handler, send = exchange.durations()
        clock, request = self._clock, exchange.request
        asked = '"method":null,"target":null,"version":null,'
        client, user = exchange.client, "null"
        if request is not None:
            client = request.client
            if request.remote_user != "":
                user = _quote(request.remote_user)
            asked = f'"method":"{request.method}","target":{_quote(request.target)},"version":"1.{request.minor}",'
        return (
            f'{{"time":"{clock.iso}.{clock.millisecond:03d}{clock.zone}","connection":{exchange.connection_number},'
            f'"request":{exchange.number},"client":"{client.label}","user":{user},{asked}'
            f'"status":{_status(exchange)},"bytes":{exchange.bytes_sent},"arrival":{_seconds(arrival)},"handler":{_seconds(handler)},'
            f'"send":{_seconds(send)},"referer":{_json_header(request, "referer")},'
            f'"user_agent":{_json_header(request, "user-agent")},'
            f'"error":{"null" if exchange.rejection is None else _quote(_reason(exchange))}{_further(request)}}}'
        )


def _further(request: Request | None) -> str:
    """The fields that a handler has added, such as those of a proxy."""
    if request is None or request.log_fields is None:
        return ""
    return "".join(f",{_quote(name)}:{json.dumps(value)}" for name, value in request.log_fields.items())


_TARGET_WIDTH = 32  # characters; longer targets are not cut off, they push the rest of the line to the right
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_STATUS_COLORS = {1: "\x1b[36m", 2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[1;31m"}


class PrettyFormat(Format):
    """One response as columns for a person: time, status, method, target, duration, size, and which request on which
    connection it was; and for a request that was rejected, why.

    Args:
        clock: the time to show.
        color: whether to use colours: of the status, and dim for what is looked at less often.
    """

    def __init__(self, clock: LogClock, color: bool) -> None:
        super().__init__(clock, timed=True)
        self._color = color

    def line(self, exchange: Exchange) -> str:
        request, status = exchange.request, _status(exchange)
        method, target, client, user = "-", "-", exchange.client.label, ""
        if request is not None:
            method, target, client = request.method, escape(request.target), request.client.label
            user = escape(request.remote_user)
        dim, plain, color = "", "", ""
        if self._color:
            dim, plain, color = _DIM, _PLAIN, _STATUS_COLORS.get(status // 100, "")
        duration, size = _show_duration(sum(exchange.durations())), _show_size(exchange.bytes_sent)
        reuse = f"{_ordinal(exchange.number)} on #{exchange.connection_number}"
        return (
            f"{dim}{self._clock.iso[11:]}{plain}  {color}{status}{plain}  {method:<7} {target:<{_TARGET_WIDTH}} "
            f"{duration:>8} {size:>8}  {dim}{reuse}{_show_client(client, user)}{plain}"
            f"{'' if exchange.rejection is None else f'  {escape(_reason(exchange))}'}"
        )


def _show_duration(seconds: float) -> str:
    """`seconds` with about two digits: 0.21 ms, 35 ms, 1.2 s."""
    if seconds < 0.00995:
        return f"{seconds * 1e3:.2f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s"


def _show_size(size: int) -> str:
    """`size` bytes with about two digits, in powers of ten: 512 B, 5.1 kB, 12 MB; "-" for none."""
    if size < 1000:
        return f"{size} B" if size else "-"
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def _ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _show_client(client: str, user: str) -> str:
    """Who asked, after the rest of the line; "" for a client of this machine without a name, since that is most of them
    while a person watches."""
    is_local = client.startswith("127.") or client in ("::1", "unix")
    who = [*([] if is_local else [f"from {client}"]), *([f"as {user}"] if user else [])]
    return "".join(f", {each}" for each in who)


def _status(exchange: Exchange) -> int:
    assert exchange.response is not None
    return exchange.response.status


def _reason(exchange: Exchange) -> str:
    """Why the request was rejected; only for an exchange with a rejection, so that other requests cost no call."""
    assert exchange.rejection is not None
    return exchange.rejection.reason


def _seconds(seconds: float) -> str:
    """`seconds` with six decimals. Integers are formatted in less time than floats."""
    micros = int(seconds * 1e6 + 0.5)
    return f"0.{micros:06d}" if 0 <= micros < 1_000_000 else f"{seconds:.6f}"


def _header_value(request: Request | None, name: str) -> str | None:
    """The value of a request header, whose lines are joined (RFC 9110 §5.3); None without any."""
    values = None if request is None else request.values(name)
    return ", ".join(values) if values else None


def _header(request: Request | None, name: str) -> str:
    """A request header for a line of text; "-" without any."""
    value = _header_value(request, name)
    return "-" if value is None else escape(value)


def _json_header(request: Request | None, name: str) -> str:
    """A request header for JSON; null without any."""
    value = _header_value(request, name)
    return "null" if value is None else _quote(value)


# Atoms, as gunicorn has them: https://docs.gunicorn.org/en/stable/settings.html#access-log-format.


class AtomFormat(Format):
    """A line made of gunicorn's atoms.

    Args:
        clock: the time to show.
        text: such as `%(h)s "%(r)s" %(s)s`.

    Raises:
        ValueError: `parse_atoms` rejects `text`.
    """

    def __init__(self, clock: LogClock, text: str) -> None:
        self._template, names = parse_atoms(text)
        super().__init__(clock, timed=not _TIMES.isdisjoint(names))
        self._atoms = [_find_atom(name, clock) for name in names]

    def line(self, exchange: Exchange) -> str:
        return self._template % tuple([atom(exchange) for atom in self._atoms])


_PIECE = re.compile(r"%%|%\(([^()]*)\)s|[^%]+|%")
_HEADER_ATOM = re.compile(r"\{([^{}]*)\}([io])")


def parse_atoms(text: str) -> tuple[str, list[str]]:
    """Splits a text of atoms.

    Returns:
        A template for the %-operator, and the names of the atoms whose values it needs.

    Raises:
        ValueError: `text` is no such text. The message completes a sentence that begins with the name of the setting.
    """
    template, names = [], []
    for match in _PIECE.finditer(text):
        name = match[1]
        if name is not None:
            if name not in _ATOMS and _header_atom(name) is None:
                known = " ".join(_ATOMS)
                raise ValueError(
                    f"has %({name})s, which kaserve does not support; the atoms are {known} {{NAME}}i {{NAME}}o"
                )
            names.append(name)
            template.append("%s")
        elif match[0] == "%":
            raise ValueError("has a % that does not begin an atom such as %(h)s; a percent sign is written %%")
        elif _UNSAFE.search(match[0].replace('"', "").replace("\\", "")):
            raise ValueError("must be printable ASCII")
        else:
            template.append(match[0])
    if not names:
        raise ValueError("must be auto, pretty, common, combined, json, or made of atoms such as '%(h)s %(r)s %(s)s'")
    return "".join(template), names


_Atom = Callable[[Exchange], object]


def _header_atom(name: str) -> tuple[str, str] | None:
    """The field name in lower case and the direction of an atom such as {Referer}i; None for other atoms."""
    match = _HEADER_ATOM.fullmatch(name)
    if match is None or TOKEN.fullmatch(match[1].encode("ascii", "replace")) is None:
        return None
    return match[1].lower(), match[2]


def _find_atom(name: str, clock: LogClock) -> _Atom:
    """The function for the atom `name`, which `parse_atoms` has checked."""
    header = _header_atom(name)
    if header is not None:
        field, direction = header
        if direction == "i":
            return lambda exchange: _header(exchange.request, field)
        return lambda exchange: _response_header(exchange.response, field)
    if name == "t":
        return lambda exchange: clock.clf
    return _ATOMS[name]


def _response_header(response: Response | None, name: str) -> str:
    """A header that the handler has set. Those that the server adds are not here: they belong to the protocol."""
    fields = response.fields if response is not None else []
    return escape(", ".join(value for key, value in fields if key.lower() == name)) or "-"


def _client(exchange: Exchange) -> str:
    return (exchange.client if exchange.request is None else exchange.request.client).label


def _request_line(request: Request | None) -> str:
    return "-" if request is None else f"{request.method} {escape(request.target)} {request.http_version}"


def _of_request(value: Callable[[Request], str]) -> _Atom:
    return lambda exchange: "-" if exchange.request is None else escape(value(exchange.request))


def _of_time(show: Callable[[float], object]) -> _Atom:
    return lambda exchange: show(sum(exchange.durations()))


_ATOMS: dict[str, _Atom] = {
    "h": _client,
    "l": lambda exchange: "-",
    "u": _of_request(lambda request: request.remote_user or "-"),
    "t": lambda exchange: "-",  # needs the clock: see `_find_atom`
    "r": lambda exchange: _request_line(exchange.request),
    "m": _of_request(lambda request: request.method),
    "U": _of_request(lambda request: request.raw_path),
    "q": _of_request(lambda request: request.query_string),
    "H": _of_request(lambda request: request.http_version),
    "s": _status,
    "B": lambda exchange: exchange.bytes_sent,
    "b": lambda exchange: exchange.bytes_sent or "-",
    "f": lambda exchange: _header(exchange.request, "referer"),
    "a": lambda exchange: _header(exchange.request, "user-agent"),
    "T": _of_time(lambda seconds: int(seconds)),
    "M": _of_time(lambda seconds: int(seconds * 1e3)),
    "D": _of_time(lambda seconds: int(seconds * 1e6)),
    "L": _of_time(lambda seconds: f"{seconds:.6f}"),
    "p": lambda exchange: f"<{os.getpid()}>",
}
_TIMES = frozenset("TMDL")
