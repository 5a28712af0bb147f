"""Config: every setting, in one place.

A field here is at the same time an option of the command line (`--keep-alive`), an environment variable
(`KASERVE_KEEP_ALIVE`) and an argument of `Config`; its metadata says how its text is read and how it is explained.
Knows no argparse and no sockets.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .handlers.middleware.basic_auth import parse_user
from .handlers.middleware.forwarded import Trusted
from .handlers.middleware.headers import parse_field
from .handlers.static.site_headers import parse_rule
from .http.limits import Limits
from .http.protocol import KeepAlive
from .logs.formats import parse_atoms
from .net.listener import split_host_port
from .net.service import Deadlines

__all__ = ["Config", "ConfigError", "Option", "options", "read_environment"]


class ConfigError(ValueError):
    """A setting that cannot be; its text is one clear line."""


@dataclass(frozen=True)
class Option:
    """How a setting is given: `read` makes its value of one text, and raises ValueError with what it takes instead.

    flags: short names beside the long one. metavar: None for a switch. repeatable: every use adds one value, and in a
    variable `separator` stands between them.
    """

    group: str
    help: str
    read: Callable[[str], Any]
    metavar: str | None
    flags: tuple[str, ...] = ()
    repeatable: bool = False
    separator: str = ","


def _setting(default: Any, group: str, read: Callable[[str], Any], metavar: str | None, text: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(group, text, read, metavar, **more)})


# How texts become values. Python's own int() and float() take more than anybody means ("1_0", "nan").


def _count(text: str) -> int:
    if re.fullmatch("[0-9]{1,15}", text) is None:
        raise ValueError("takes a whole number")
    return int(text)


def _port(text: str) -> int:
    port = _count(text)
    if port > 65535:
        raise ValueError("takes a port, 0 to 65535")
    return port


def _seconds(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None:
        raise ValueError("takes seconds, such as 30 or 0.5")
    return float(text)


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def _size(text: str) -> int:
    match = re.fullmatch("([0-9]{1,15})([KMGT]?)(?:iB|B)?", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError("takes bytes, such as 65536, 64K or 1G")
    return int(match[1]) << _UNITS[match[2].upper()]


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("takes yes or no")


def _path(text: str) -> str:
    if re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*", text) is None:
        raise ValueError("takes a path, such as /status")
    return text


def _bind(text: str) -> str:
    scheme, _, rest = text.partition(":")
    try:
        if scheme == "fd":
            _count(rest)
        elif scheme != "unix":
            split_host_port(text, 0)
        elif not rest:
            raise ValueError
    except ValueError:
        raise ValueError("takes HOST, HOST:PORT, unix:PATH or fd:N") from None
    return text


def _trusted(text: str) -> str:
    try:
        Trusted(text)
    except ValueError:
        raise ValueError("takes addresses and networks separated by commas, unix or *") from None
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError("takes " + " or ".join(words))
        return text

    return read


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("takes the name of a file")
    return text


def _log_format(text: str) -> str:
    if text not in ("common", "combined", "json"):
        parse_atoms(text)
    return text


def _checked_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """For texts that stay texts: whoever uses them calls `parse` again."""

    def read(text: str) -> str:
        parse(text)
        return text

    return read


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a server. Raises ConfigError for values that cannot be.

    Times are seconds, sizes bytes. See `python -m kaserve --help` or docs/keep-alive.md for what each one does.
    """

    # fmt: off
    port: int = _setting(
        8000, "address", _port, "PORT", "the port; 0 takes a free one")
    bind: Sequence[str] = _setting(
        ("127.0.0.1",), "address", _bind, "ADDRESS",
        "where to listen: HOST, HOST:PORT, unix:PATH or fd:N", flags=("-b",), repeatable=True)
    reuse_port: bool = _setting(
        False, "address", _switch, None, "let several processes listen on the same port")
    backlog: int = _setting(
        2048, "address", _count, "N", "connections that may wait to be taken")
    max_connections: int = _setting(
        0, "address", _count, "N", "connections at one time; 0 means what the descriptor limit allows")
    max_connections_per_address: int = _setting(
        0, "address", _count, "N", "connections of one client's address; beyond it 503, and 0 means any number")

    directory: str = _setting(
        ".", "what to serve", str, "DIR", "the directory to serve", flags=("-d",))
    listing: bool = _setting(
        True, "what to serve", _switch, None, "show what is in a directory without an index; otherwise 404")
    zip: bool = _setting(
        False, "what to serve", _switch, None, "offer directories as zip archives (?zip)")
    handler: str | None = _setting(
        None, "what to serve", str, "MODULE:FUNCTION", "a handler to run instead")
    wsgi: str | None = _setting(
        None, "what to serve", str, "MODULE:APP", "a WSGI application instead, or MODULE:FACTORY() to make one")
    threads: int = _setting(
        4, "what to serve", _count, "N", "requests the application works on at a time; 0 runs it on the reactor")
    hidden: bool = _setting(
        False, "what to serve", _switch, None, "serve names that begin with a dot; .well-known is served anyway")
    symlinks: str = _setting(
        "inside", "what to serve", _one_of("inside", "all", "none"), "WHICH",
        "the symbolic links to follow: inside (those that stay in the directory), all or none")
    clean_urls: bool = _setting(
        False, "what to serve", _switch, None, "answer /about with about.html")
    spa: bool = _setting(
        False, "what to serve", _switch, None, "answer with index.html for pages that are not there")
    compress: bool = _setting(
        False, "what to serve", _switch, None, "compress text on the fly")

    header: Sequence[str] = _setting(
        (), "the site", _checked_by(parse_field), "NAME:VALUE", "a field for every answer",
        flags=("-H",), repeatable=True, separator="\n")
    cors: bool = _setting(
        False, "the site", _switch, None, "let the pages of other sites read this one")
    cache_control: Sequence[str] = _setting(
        (), "the site", _checked_by(parse_rule), "RULE",
        "[PATTERN=]DIRECTIVES, as in '*.html=no-cache'; the first rule that matches is the one",
        repeatable=True, separator="\n")
    immutable: bool = _setting(
        True, "the site", _switch, None, "let clients keep files with a fingerprint in their names for ever")
    upload: bool = _setting(
        False, "the site", _switch, None, "take files, by PUT and by a form on the listings")
    upload_overwrite: bool = _setting(
        False, "the site", _switch, None, "let uploads replace files")
    auth: Sequence[str] = _setting(
        (), "the site", _checked_by(parse_user), "USER:HASH",
        "a user who may come in, with the hash of the password", repeatable=True, separator="\n")
    auth_file: str | None = _setting(
        None, "the site", str, "FILE", "a file with such users, one a line")
    qr: bool = _setting(
        False, "the site", _switch, None, "show a QR code of the address, for phones")

    tls_cert: Sequence[str] = _setting(
        (), "TLS", str, "FILE",
        "speak TLS with this certificate and its chain, in PEM; of several, each client gets the one for the name it "
        "asks for, or else the first", repeatable=True, separator="\n")
    tls_key: Sequence[str] = _setting(
        (), "TLS", str, "FILE",
        "the private key of each certificate, in the same order, if they are not in the same files",
        repeatable=True, separator="\n")
    tls_password_file: str | None = _setting(
        None, "TLS", str, "FILE", "a file that holds the password of the keys")
    tls_ca: str | None = _setting(
        None, "TLS", str, "FILE", "let only clients in whose certificates were signed by one of these authorities")

    forwarded_allow_ips: str = _setting(
        "", "proxies", _trusted, "ADDRESSES",
        "believe X-Forwarded-For, -Proto, -Host and Forwarded from these: addresses and networks separated by commas, "
        "unix, or *; nobody by default")
    proxy_protocol: bool = _setting(
        False, "proxies", _switch, None,
        "take connections that begin with a PROXY header (version 1 or 2), and no others")

    protocol: str = _setting(
        "HTTP/1.1", "keep-alive", _one_of("HTTP/1.0", "HTTP/1.1"), "VERSION",
        "the highest version to speak", flags=("-p",))
    keep_alive: float = _setting(
        120.0, "keep-alive", _seconds, "SECONDS",
        "how long a connection may be idle, as announced to clients; 0 closes after every answer")
    keep_alive_requests: int = _setting(
        1000, "keep-alive", _count, "N", "requests that one connection takes; 0 means any number")
    keep_alive_time: float = _setting(
        3600.0, "keep-alive", _seconds, "SECONDS", "the age at which a connection gets its last answer")

    header_timeout: float = _setting(
        30.0, "deadlines", _seconds, "SECONDS", "for the head of a request, from its first byte")
    body_timeout: float = _setting(
        60.0, "deadlines", _seconds, "SECONDS", "for each part of a request's body; see --min-rate")
    send_timeout: float = _setting(
        60.0, "deadlines", _seconds, "SECONDS", "for each part of an answer that a client takes; see --min-rate")
    min_rate: int = _setting(
        500, "deadlines", _size, "BYTES",
        "per second, that bodies and answers must move on average over these timeouts; 0 means at all")
    drain_delay: float = _setting(
        0.0, "deadlines", _seconds, "SECONDS",
        "for those who send us clients to notice that the server will stop, before it does")
    graceful_timeout: float = _setting(
        30.0, "deadlines", _seconds, "SECONDS", "for the requests that run when the server is told to stop")

    limit_request_line: int = _setting(
        8190, "limits", _size, "BYTES", "the request line; beyond it 414")
    limit_request_fields: int = _setting(
        100, "limits", _count, "N", "the fields of a request; beyond it 431")
    limit_request_field_size: int = _setting(
        8190, "limits", _size, "BYTES", "one field line; beyond it 431")
    limit_request_body: int = _setting(
        1 << 30, "limits", _size, "BYTES", "the body of a request; beyond it 413")

    access_log: bool = _setting(
        True, "logs", _switch, None, "write a line for every answer")
    access_log_file: str | None = _setting(
        None, "logs", _file, "FILE", "write them there instead of stderr; SIGHUP opens it anew")
    log_format: str = _setting(
        "common", "logs", _log_format, "FORMAT",
        "common, combined, json, or gunicorn's atoms, as in '%(h)s \"%(r)s\" %(s)s'")
    error_log: str | None = _setting(
        None, "logs", _file, "FILE", "where the program says what went wrong, instead of stderr")

    status: str | None = _setting(
        None, "insight", _path, "PATH", "show what the connections do on this path, live")
    status_public: bool = _setting(
        False, "insight", _switch, None, "show it to others than this machine; it has addresses of clients")
    metrics: str | None = _setting(
        None, "insight", _path, "PATH", "show the figures on this path, for Prometheus")
    # fmt: on

    def __post_init__(self) -> None:
        for name, option in options().items():
            if option.repeatable:
                value = getattr(self, name)  # one needs no tuple
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name))
        if self.handler is not None and self.wsgi is not None:
            raise ConfigError("handler and wsgi: only one of them can be served")
        if not self.tls_cert and (self.tls_key or self.tls_password_file is not None or self.tls_ca is not None):
            raise ConfigError("tls_key, tls_password_file and tls_ca: need tls_cert")
        if self.tls_key and len(self.tls_key) != len(self.tls_cert):
            raise ConfigError("tls_key: takes one file for each tls_cert, or none at all")
        if self.access_log_file is not None and not self.access_log:
            raise ConfigError("access_log_file: needs access_log")
        if self.upload_overwrite and not self.upload:
            raise ConfigError("upload_overwrite: needs upload")
        if self.upload and (self.handler is not None or self.wsgi is not None):
            raise ConfigError("upload: is for a directory, not for a handler")
        if self.limit_request_line < 16 or self.limit_request_field_size < 16:
            raise ConfigError("limits of lines: no request fits into fewer than 16 bytes")

    def _check(self, name: str, value: object) -> None:
        """The same checks that a text goes through, for values that came as such."""
        if isinstance(value, float) and not (0 <= value < math.inf):
            raise ConfigError(f"{name}: takes seconds, not {value!r}")
        if isinstance(value, int) and value < 0:
            raise ConfigError(f"{name}: takes a number that is not negative, not {value!r}")
        option = options()[name]
        texts = value if isinstance(value, tuple) else (value,)
        for text in texts:
            if (isinstance(text, str) or option.read is _port) and _read(option, name, str(text)) != text:
                raise ConfigError(f"{name}: takes a value, not the text of one, {text!r}")

    @property
    def limits(self) -> Limits:
        """Those of a request, in bytes and fields."""
        return Limits(
            request_line=self.limit_request_line,
            fields=self.limit_request_fields,
            field_size=self.limit_request_field_size,
            head=max(65536, self.limit_request_line + self.limit_request_field_size),
            body=self.limit_request_body,
        )

    @property
    def deadlines(self) -> Deadlines:
        """Those of a connection, in seconds."""
        return Deadlines(
            keep_alive=self.keep_alive,
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            send_timeout=self.send_timeout,
            age=self.keep_alive_time,
            min_rate=self.min_rate,
        )

    def new_keep_alive(self) -> KeepAlive:
        """What a server announces; its own, since it may change it while it runs."""
        return KeepAlive(self.keep_alive, self.keep_alive_requests, int(self.protocol[-1]))


def options() -> dict[str, Option]:
    """The settings by name, in the order in which they are explained."""
    return _OPTIONS


_OPTIONS: dict[str, Option] = {field.name: field.metadata["option"] for field in dataclasses.fields(Config)}


def _read(option: Option, name: str, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}, not {text!r}") from None


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in variables `KASERVE_<OPTION>`. Several addresses in `KASERVE_BIND` are separated by commas, which
    other repeatable settings may hold: theirs stand on lines of their own.

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    for name, option in options().items():
        variable = "KASERVE_" + name.upper()
        text = environment.get(variable)
        if text is None:
            continue
        if option.repeatable:
            parts = [part.strip() for part in text.strip("\n").split(option.separator)]
            if not all(parts):  # an empty address would be every address of the machine
                separator = {",": "separated by commas", "\n": "on lines of their own"}[option.separator]
                raise ConfigError(f"{variable}: takes values {separator}, not {text!r}")
            values[name] = tuple(_read(option, variable, part) for part in parts)
        else:
            values[name] = _read(option, variable, text)
    return values
