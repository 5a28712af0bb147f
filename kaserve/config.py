"""Config: every setting, in one place.

A field here is at the same time an option of the command line (`--keep-alive`), an environment variable
(`KASERVE_KEEP_ALIVE`) and an argument of `Config`. Its `Option` says how its text is read, how its value is checked and
how it is explained. Knows the settings, their defaults, and which of them exclude or need each other. Does not know
argparse or sockets, nor where each setting has an effect (`effects`).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .handlers.static.media_types import parse_type
from .handlers.static.patterns import PathPattern
from .handlers.static.site_headers import parse_rule
from .http.keep_alive import KeepAlive
from .http.limits import Limits
from .net.listener import split_host_port
from .net.service import Deadlines
from .options import (
    BIND,
    CACHE_RULE,
    COUNT,
    FILE,
    FILE_MODE,
    HEADER,
    HOST,
    LINE_SIZE,
    LOG_FORMAT,
    MEDIA_TYPE,
    PORT,
    PROXY,
    ROOT_PATH,
    SECONDS,
    SIZE,
    SWITCH,
    TEXT,
    TIMEOUT,
    TRUSTED,
    URL_PATH,
    USER,
    Kind,
    Option,
    one_of,
)

__all__ = [
    "Config",
    "ConfigError",
    "environment_warnings",
    "new_config",
    "options",
    "read_environment",
    "read_text",
    "variable_of",
    "wsgi_threads",
]

_MIN_HEAD_SIZE = 65536  # bytes that the head of a request may have in all, if the limits of its lines are small

_PREFIX = "KASERVE_"
_NOT_SETTINGS = frozenset({"KASERVE_PURE"})  # which build to import; see `_build`
# What Kubernetes sets in every pod for a Service called "kaserve" or "kaserve-NAME", and Docker for a linked container:
# KASERVE_SERVICE_HOST, KASERVE_PORT_8000_TCP_ADDR and so on, and KASERVE_PORT=tcp://10.96.0.12:8000.
_OF_A_SERVICE = re.compile(
    r"KASERVE_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://[\w.:\[\]-]+", re.ASCII)

_MINOR_VERSIONS = {"HTTP/1.0": 0, "HTTP/1.1": 1}


class ConfigError(ValueError):
    """A setting whose value is not accepted, or settings that exclude each other. Its text is one line."""

    def __init__(self, message: str, *names: str) -> None:
        """Words the error.

        Args:
            message: the text; with `names`, a format string with a `{}` for each of them.
            names: the settings it speaks of, as in `Config`.
        """
        super().__init__(message.format(*names) if names else message)
        self._message = message
        self._names = names

    def renamed(self, label: Callable[[str], str]) -> str:
        """Returns the text with each setting named by `label`, for users who know it as an option or a variable."""
        return self._message.format(*map(label, self._names)) if self._names else self._message


def _setting(default: Any, group: str, kind: Kind, metavar: str | None, text: str, **more: Any) -> Any:
    option = Option(group, text, kind, default, metavar, **more)
    return dataclasses.field(default=default, repr=not option.secret, metadata={"option": option})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a server. Times are in seconds, sizes in bytes.

    Each is also an option of the command line, whose description says what it does: `keep_alive` is `--keep-alive`, in
    `kaserve --help-all`.

    Raises:
        ConfigError: a value is not accepted, or two settings exclude each other.
    """

    # fmt: off
    port: int = _setting(
        8000, "addresses", PORT, "PORT", "The port to listen on. 0 chooses a free one.")
    bind: Sequence[str] = _setting(
        ("127.0.0.1",), "addresses", BIND, "ADDRESS",
        "The address to listen on: HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N. An empty HOST and :: are all "
        "addresses, IPv4 and IPv6, and a name is all of its addresses.", flags=("-b",), repeatable=True)
    unix_mode: str = _setting(
        "666", "addresses", FILE_MODE, "MODE", "The permissions of the path of a Unix socket, in octal.")
    reuse_port: bool = _setting(
        False, "addresses", SWITCH, None, "Let several processes listen on the same port (SO_REUSEPORT).")
    backlog: int = _setting(
        2048, "addresses", COUNT, "N", "How many connections the kernel queues until they are accepted.")
    max_connections: int = _setting(
        0, "addresses", COUNT, "N",
        "How many connections may be open at once. 0 allows as many as the file descriptor limit does.")
    max_connections_per_address: int = _setting(
        0, "addresses", COUNT, "N",
        "How many connections one client address may have open at once; others get a 503 response. 0 is no limit.")

    directory: str = _setting(
        ".", "what to serve", TEXT, "DIR", "The directory to serve.", flags=("-d",))
    listing: bool = _setting(
        True, "what to serve", SWITCH, None,
        "List the contents of directories without an index.html, instead of a 404 response.")
    zip: bool = _setting(
        False, "what to serve", SWITCH, None, "Offer each directory as a zip archive, at its URL with ?zip.")
    app: str | None = _setting(
        None, "what to serve", TEXT, "MODULE:APP",
        "Serve the ASGI or WSGI application or the handler APP of a Python module. MODULE:FACTORY() serves what the "
        "factory returns.")
    interface: str = _setting(
        "auto", "what to serve", one_of("auto", "wsgi", "handler", "asgi"), "NAME",
        "How MODULE:APP is called: asgi, wsgi, handler, or auto, which looks at its signature.")
    handler: str | None = _setting(
        None, "what to serve", TEXT, "MODULE:FUNCTION", "The same as MODULE:FUNCTION with --interface handler.")
    wsgi: str | None = _setting(
        None, "what to serve", TEXT, "MODULE:APP", "The same as MODULE:APP with --interface wsgi.")
    asgi: str | None = _setting(
        None, "what to serve", TEXT, "MODULE:APP", "The same as MODULE:APP with --interface asgi.")
    root_path: str = _setting(
        "", "what to serve", ROOT_PATH, "PATH",
        "The path that a proxy takes off before it passes a request on, such as /api, for the links of an ASGI "
        "application.")
    lifespan: str = _setting(
        "auto", "what to serve", one_of("auto", "on", "off"), "WHEN",
        "Whether the ASGI application is told of the server's start and stop: on, off, or auto, if it wants to know.")
    loop: str = _setting(
        "asyncio", "what to serve", one_of("asyncio", "uvloop"), "NAME",
        "The event loop of ASGI applications and async handlers: asyncio or uvloop. uvloop must be installed.")
    threads: int | None = _setting(
        None, "what to serve", COUNT, "N",
        "The number of threads that run the WSGI application (4 by default) or the handler (0 by default). 0 runs it "
        "on the server's own thread.")
    switch_interval: float = _setting(
        0.0005, "what to serve", TIMEOUT, "SECONDS",
        "How long a thread may go on running Python code while another thread waits to. With Python's own value, "
        "0.005, a view that computes delays the others for ten times as long. Must be more than 0.")
    hidden: bool = _setting(
        False, "what to serve", SWITCH, None, "Serve names that begin with a dot. .well-known is always served.")
    symlinks: str = _setting(
        "inside", "what to serve", one_of("inside", "all", "none"), "WHICH",
        "Which symbolic links to follow: inside (those that stay in the directory), all or none.")
    clean_urls: bool = _setting(
        False, "what to serve", SWITCH, None, "Serve about.html at /about.")
    spa: bool = _setting(
        False, "what to serve", SWITCH, None,
        "Serve index.html for pages that do not exist, for single-page applications.")
    compress: bool = _setting(
        False, "what to serve", SWITCH, None, "Compress text files while they are sent.")

    proxy: Sequence[str] = _setting(
        (), "proxy", PROXY, "[PATH=]URL",
        "Pass requests below PATH, or all, on to the server at this URL, such as /api=http://127.0.0.1:9000 or "
        "unix:/run/app.sock. A path in the URL replaces PATH. Several servers with the same PATH share its requests.",
        repeatable=True, separator="\n")
    proxy_host: str | None = _setting(
        None, "proxy", HOST, "HOST",
        "The Host header that servers behind the proxy get; the word upstream stands for the host of their URL. By "
        "default it is what the client has sent.")
    proxy_timeout: float = _setting(
        60.0, "proxy", TIMEOUT, "SECONDS",
        "How long a server behind the proxy may take to respond, and between two parts of a response. Must be more "
        "than 0.")
    proxy_connect_timeout: float = _setting(
        5.0, "proxy", TIMEOUT, "SECONDS",
        "How long it may take to connect to a server behind the proxy, with TLS. Must be more than 0.")
    proxy_connections: int = _setting(
        32, "proxy", COUNT, "N", "How many idle connections are kept to each server behind the proxy.")
    proxy_insecure: bool = _setting(
        False, "proxy", SWITCH, None,
        "Accept any certificate of an https URL of --proxy: anybody who can intercept the connection can then read and "
        "change what is passed on.")

    header: Sequence[str] = _setting(
        (), "site", HEADER, "NAME:VALUE", "Add this header to every response.",
        flags=("-H",), repeatable=True, separator="\n")
    cors: bool = _setting(
        False, "site", SWITCH, None, "Let scripts of other origins read responses (CORS).")
    cache_control: Sequence[str] = _setting(
        (), "site", CACHE_RULE, "RULE",
        "The Cache-Control header of files: [PATTERN=]DIRECTIVES, as in '*.css=max-age=60'. The first rule that "
        "matches is used, and no-cache where none does.",
        repeatable=True, separator="\n")
    immutable: bool = _setting(
        False, "site", SWITCH, None,
        "Let clients cache scripts, styles, fonts and WebAssembly with a fingerprint in their names for a year.")
    type: Sequence[str] = _setting(
        (), "site", MEDIA_TYPE, "PATTERN=TYPE",
        "The media type of files, as in '*.log=text/plain'. The first pattern that matches is used.",
        repeatable=True, separator="\n")
    upload: bool = _setting(
        False, "site", SWITCH, None, "Accept uploads, by PUT and by a form on directory listings.")
    upload_overwrite: bool = _setting(
        False, "site", SWITCH, None, "Let uploads replace existing files.")
    upload_auth: Sequence[str] = _setting(
        (), "site", USER, "USER:HASH", "Let this user upload, while everybody may read. The hash is that of --auth.",
        repeatable=True, separator="\n", secret=True)
    auth: Sequence[str] = _setting(
        (), "site", USER, "USER:HASH",
        "Ask for a password, and let in this user. --hash-password prints the hash of a password.",
        repeatable=True, separator="\n", secret=True)
    auth_file: str | None = _setting(
        None, "site", TEXT, "FILE", "Read users from this file, one USER:HASH on each line.")
    qr: bool = _setting(
        False, "site", SWITCH, None,
        "Print a QR code of the server's URL, for phones. Needs the package segno: pip install segno.")

    tls_cert: Sequence[str] = _setting(
        (), "TLS", TEXT, "FILE",
        "Serve HTTPS with the certificate and its chain in this PEM file. Of several certificates, a client gets "
        "the one for the host name it asks for, or else the first.", repeatable=True, separator="\n")
    tls_key: Sequence[str] = _setting(
        (), "TLS", TEXT, "FILE",
        "The PEM file with the private key of each --tls-cert, in the same order. Unnecessary if the "
        "certificate's file has it.",
        repeatable=True, separator="\n")
    tls_password_file: str | None = _setting(
        None, "TLS", TEXT, "FILE", "Read the password of the private keys from this file.")
    tls_ca: str | None = _setting(
        None, "TLS", TEXT, "FILE", "Require client certificates signed by one of the CAs in this PEM file.")

    forwarded_allow_ips: str = _setting(
        "", "proxies", TRUSTED, "ADDRESSES",
        "Trust Forwarded and X-Forwarded-For, -Proto and -Host from these proxies: IP addresses and networks separated "
        "by commas, unix, or * for all. By default none is trusted.")
    proxy_protocol: bool = _setting(
        False, "proxies", SWITCH, None,
        "Require a PROXY protocol header (version 1 or 2) at the start of each connection.")

    protocol: str = _setting(
        "HTTP/1.1", "keep-alive", one_of(*_MINOR_VERSIONS), "VERSION",
        "The highest HTTP version to use: HTTP/1.0 or HTTP/1.1.", flags=("-p",))
    keep_alive: float = _setting(
        120.0, "keep-alive", SECONDS, "SECONDS",
        "How long a connection may be idle, as announced to clients. 0 closes it after each response.")
    keep_alive_requests: int = _setting(
        1000, "keep-alive", COUNT, "N", "How many requests a connection may carry. 0 is no limit.")
    keep_alive_time: float = _setting(
        3600.0, "keep-alive", SECONDS, "SECONDS",
        "The maximum age of a connection, randomised by up to 10 %. The next response is then its last one. 0 is no "
        "limit.")

    header_timeout: float = _setting(
        30.0, "timeouts", TIMEOUT, "SECONDS",
        "How long the head of a request may take to arrive, from its first byte. Must be more than 0.")
    body_timeout: float = _setting(
        60.0, "timeouts", TIMEOUT, "SECONDS",
        "How long each part of a request body may take to arrive. --min-rate says how large a part is. Must be more "
        "than 0.")
    half_close_timeout: float = _setting(
        30.0, "timeouts", SECONDS, "SECONDS",
        "How long a handler may take to respond to a client that has stopped sending and may have left (a half-close). "
        "0 closes the connection at once.")
    send_timeout: float = _setting(
        60.0, "timeouts", TIMEOUT, "SECONDS",
        "How long a client may take to receive each part of a response. --min-rate says how large a part is. Must be "
        "more than 0.")
    tunnel_timeout: float = _setting(
        3600.0, "timeouts", TIMEOUT, "SECONDS",
        "How long a connection that has switched to another protocol, such as WebSocket, may be silent in both "
        "directions. Must be more than 0.")
    min_rate: int = _setting(
        500, "timeouts", SIZE, "BYTES",
        "The minimum transfer rate of bodies in bytes per second, averaged over those timeouts. 0 disables the check.")
    drain_delay: float = _setting(
        0.0, "timeouts", SECONDS, "SECONDS",
        "How long to keep serving after SIGTERM, so that load balancers notice. 0 is not at all.")
    graceful_timeout: float = _setting(
        30.0, "timeouts", SECONDS, "SECONDS",
        "How long running requests may take to finish when the server stops, before their connections are closed. 0 "
        "closes them at once.")

    ws_max_size: int = _setting(
        16 << 20, "WebSocket", SIZE, "BYTES",
        "The maximum size of a message from a client in bytes, decompressed, beyond which the WebSocket is closed with "
        "1009.")
    ws_ping_interval: float = _setting(
        20.0, "WebSocket", SECONDS, "SECONDS", "The time between two pings of a client. 0 is no pings.")
    ws_ping_timeout: float = _setting(
        20.0, "WebSocket", SECONDS, "SECONDS",
        "How long a client may take to respond to a ping, before the WebSocket is closed with 1011. 0 is no limit.")
    ws_per_message_deflate: bool = _setting(
        True, "WebSocket", SWITCH, None, "Let clients compress messages (permessage-deflate).")

    limit_request_line: int = _setting(
        8190, "limits", LINE_SIZE, "BYTES",
        "The maximum size of a request line in bytes, beyond which the response is 414.")
    limit_request_fields: int = _setting(
        100, "limits", COUNT, "N", "The maximum number of headers in a request, beyond which the response is 431.")
    limit_request_field_size: int = _setting(
        8190, "limits", LINE_SIZE, "BYTES",
        "The maximum size of one header of a request in bytes, beyond which the response is 431.")
    limit_request_body: int = _setting(
        1 << 30, "limits", SIZE, "BYTES",
        "The maximum size of a request body in bytes, beyond which the response is 413.")

    access_log: bool = _setting(
        True, "logs", SWITCH, None, "Log every response.")
    access_log_file: str | None = _setting(
        None, "logs", FILE, "FILE", "Write the access log to this file instead of stderr. SIGHUP reopens it.")
    log_format: str = _setting(
        "auto", "logs", LOG_FORMAT, "FORMAT",
        "The format of the access log: pretty (columns for a person), common, combined, json, or gunicorn's atoms, as "
        "in '%(h)s \"%(r)s\" %(s)s'. auto is pretty on a terminal, and common elsewhere.")
    error_log: str | None = _setting(
        None, "logs", FILE, "FILE", "Write errors and warnings to this file instead of stderr. SIGHUP reopens it.")

    status: str | None = _setting(
        None, "monitoring", URL_PATH, "PATH",
        "Show a live page of the server's connections at this URL path, such as /status.")
    status_public: bool = _setting(
        False, "monitoring", SWITCH, None,
        "Allow access to --status from other machines. The page shows client addresses.")
    metrics: str | None = _setting(
        None, "monitoring", URL_PATH, "PATH", "Show metrics for Prometheus at this URL path, such as /metrics.")
    # fmt: on

    def __post_init__(self) -> None:
        for name, option in options().items():
            if option.repeatable:
                object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
            value = getattr(self, name)
            for each in value if option.repeatable else (value,):
                _check_value(name, option, each)
        for rule in _RULES:
            if rule.is_broken(self):
                raise ConfigError(rule.message, *rule.names)

    @property
    def limits(self) -> Limits:
        """The limits on a request, in bytes and in numbers of headers."""
        return Limits(
            request_line=self.limit_request_line,
            fields=self.limit_request_fields,
            field_size=self.limit_request_field_size,
            head=max(_MIN_HEAD_SIZE, self.limit_request_line + self.limit_request_field_size),
            body=self.limit_request_body,
        )

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of a connection, in seconds."""
        return Deadlines(
            keep_alive=self.keep_alive,
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            half_close_timeout=self.half_close_timeout,
            send_timeout=self.send_timeout,
            tunnel_timeout=self.tunnel_timeout,
            age=self.keep_alive_time or math.inf,
            min_rate=self.min_rate,
        )

    def new_keep_alive(self) -> KeepAlive:
        """Returns what a server announces in its responses; each server has its own, and changes it while it runs."""
        return KeepAlive(self.keep_alive, self.keep_alive_requests, _MINOR_VERSIONS[self.protocol])


class _Rule(NamedTuple):
    """What must hold between several settings; message: a `{}` for each of names."""

    is_broken: Callable[[Config], bool]
    message: str
    names: tuple[str, ...]


def _is_given(config: Config, name: str) -> bool:
    return bool(getattr(config, name) != _OPTIONS[name].default)


def _needs(name: str, needed: str, why: str = "") -> _Rule:
    return _Rule(
        lambda config: _is_given(config, name) and not getattr(config, needed),
        f"{{}} needs {{}}{why and f': {why}'}",
        (name, needed),
    )


def _excludes(name: str, other: str, why: str) -> _Rule:
    return _Rule(
        lambda config: _is_given(config, name) and _is_given(config, other),
        "{} cannot be combined with {}: " + why,
        (name, other),
    )


def _has_unused_rule(patterns: Iterable[PathPattern | None]) -> bool:
    """Whether one of some rules, of which the first that matches is used, comes after one for the same paths."""
    seen: set[str] = set()
    for pattern in patterns:
        text = "*" if pattern is None else pattern.text
        if text in seen or "*" in seen:
            return True
        seen.add(text)
    return False


def _cache_patterns(config: Config) -> list[PathPattern | None]:
    return [parse_rule(text).pattern for text in config.cache_control]


def _type_patterns(config: Config) -> list[PathPattern]:
    return [PathPattern(parse_type(text)[0]) for text in config.type]


def _has_unequal_upstreams(config: Config) -> bool:
    if not config.proxy:
        return False
    from .proxy.location import join_routes  # which most programs do without

    try:
        join_routes(config.proxy)
    except ValueError:
        return True
    return False


_EACH_CLOSES = "without it, each response closes its connection"


def _is_unix(bind: str) -> bool:
    return bind.startswith("unix:")


def _has_own_port(bind: str) -> bool:
    """Whether an address needs no port from elsewhere; False for a malformed one, which is an error of its own."""
    if bind.startswith(("unix:", "fd:")):
        return True
    try:
        return split_host_port(bind, -1)[1] != -1
    except ValueError:
        return False


_UNUSED_RULE = (
    "{} has a rule that is never used, since an earlier one is for the same files; one for all must be the last"
)

_RULES = (
    _Rule(
        # 0, "any free port", may stand there for nothing: it is what test fixtures begin with.
        lambda config: _is_given(config, "port") and config.port != 0 and all(map(_has_own_port, config.bind)),
        "{} has no effect: each address in {} has its own port or needs none",
        ("port", "bind"),
    ),
    _Rule(
        # Not with a socket that another program has bound: gunicorn, for one, has an option of its own (`effects`).
        lambda config: (
            _is_given(config, "unix_mode") and not any(bind.startswith(("unix:", "fd:")) for bind in config.bind)
        ),
        "{} needs a Unix socket in {}, such as unix:/run/site.sock",
        ("unix_mode", "bind"),
    ),
    _Rule(
        lambda config: config.reuse_port and all(map(_is_unix, config.bind)),
        "{} needs a port: a Unix socket, as in {}, cannot be shared",
        ("reuse_port", "bind"),
    ),
    _Rule(lambda config: _has_unused_rule(_cache_patterns(config)), _UNUSED_RULE, ("cache_control",)),
    _Rule(lambda config: _has_unused_rule(_type_patterns(config)), _UNUSED_RULE, ("type",)),
    _Rule(
        lambda config: config.immutable and any(each is None or each.text == "*" for each in _cache_patterns(config)),
        "{} has no effect with a rule of {} for all files: give it a pattern, or leave one of the two out",
        ("immutable", "cache_control"),
    ),
    _Rule(_has_unequal_upstreams, "several {} for one path must have the same path in their URLs", ("proxy",)),
    *(
        _needs(name, "proxy")
        for name in ("proxy_host", "proxy_timeout", "proxy_connect_timeout", "proxy_connections", "proxy_insecure")
    ),
    _needs("keep_alive_requests", "keep_alive", _EACH_CLOSES),
    _needs("keep_alive_time", "keep_alive", _EACH_CLOSES),
    _excludes("app", "wsgi", "only one can be served"),
    _excludes("app", "handler", "only one can be served"),
    _excludes("app", "asgi", "only one can be served"),
    _excludes("asgi", "wsgi", "only one can be served"),
    _excludes("asgi", "handler", "only one can be served"),
    _excludes("handler", "wsgi", "only one can be served"),
    _excludes("interface", "wsgi", "each says how the application is called"),
    _excludes("interface", "handler", "each says how the application is called"),
    _excludes("interface", "asgi", "each says how the application is called"),
    _needs("tls_key", "tls_cert"),
    _needs("tls_password_file", "tls_cert"),
    _needs("tls_ca", "tls_cert"),
    _Rule(
        lambda config: bool(config.tls_key) and len(config.tls_key) != len(config.tls_cert),
        "{} must be given once for each {}, or not at all",
        ("tls_key", "tls_cert"),
    ),
    _needs("access_log_file", "access_log"),
    _needs("log_format", "access_log"),
    _needs("status_public", "status"),
    _Rule(
        lambda config: config.status is not None and config.status == config.metrics,
        "{} and {} must be different paths, or one of the two pages could not be reached",
        ("status", "metrics"),
    ),
    _needs("zip", "listing", "an archive shows the names that a missing listing hides"),
    _needs("upload_overwrite", "upload"),
    _needs("upload_auth", "upload"),
    _excludes("immutable", "upload", "clients would not see a file that is uploaded again"),
)

_OPTIONS: dict[str, Option] = {field.name: field.metadata["option"] for field in dataclasses.fields(Config)}


def options() -> dict[str, Option]:
    """Returns the options by the names of `Config`, in the order of --help-all."""
    return _OPTIONS


def wsgi_threads(config: Config) -> int:
    """Returns the number of threads for a WSGI application: the setting, or else 4, since most applications block."""
    return 4 if config.threads is None else config.threads


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting: `KASERVE_KEEP_ALIVE` for "keep_alive"."""
    return _PREFIX + name.upper()


def _as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """The values of a repeatable setting; a single string needs no tuple."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name} must be a string or several of them, not {type(value).__name__}")
    return tuple(value)


def _check_value(name: str, option: Option, value: object) -> None:
    try:
        option.check(value)
    except ValueError as error:
        raise ConfigError(option.complaint(name, error, value, is_text=False)) from None


def read_text(name: str, label: str, text: str) -> Any:
    """Reads the value of a setting, or one value of a repeatable one, from text.

    Args:
        name: the setting, as in `Config`.
        label: what the user calls it, for the error message: `--keep-alive` or `KASERVE_KEEP_ALIVE`.
        text: the value as text.

    Raises:
        ConfigError: the text is not accepted.
    """
    option = _OPTIONS[name]
    try:
        return option.read(text)
    except ValueError as error:
        raise ConfigError(option.complaint(label, error, text, is_text=True)) from None


_SEPARATORS = {",": "separated by commas", "\n": "on lines of their own"}


def read_environment(environment: Mapping[str, str], overridden: Container[str] = ()) -> dict[str, Any]:
    """Reads the settings from the variables `KASERVE_<OPTION>`; other variables are ignored.

    So is a variable that Kubernetes or Docker has set for a service of the same name; see `environment_warnings`.

    Several values of `KASERVE_BIND` are separated by commas. Those of other repeatable settings may contain commas
    themselves, so each stands on a line of its own.

    Args:
        environment: the variables.
        overridden: settings that were given elsewhere. Their variables are not read, so they need not even be valid.

    Returns:
        The values by the names of `Config`, for the variables that are set.

    Raises:
        ConfigError: the text of a variable is not accepted.
    """
    values: dict[str, Any] = {}
    for name, option in options().items():
        variable = variable_of(name)
        text = environment.get(variable)
        if text is not None and name not in overridden and not _is_of_a_service(variable, text):
            values[name] = _read_many(name, option, text) if option.repeatable else read_text(name, variable, text)
    return values


def environment_warnings(environment: Mapping[str, str], overridden: Container[str] = ()) -> list[str]:
    """Returns a line for each variable that looks like a setting and is ignored, to be logged once at the start.

    No value is repeated, since a misspelt variable may contain a password.

    Args:
        environment: the variables.
        overridden: as for `read_environment`; nothing is said about their variables.
    """
    names = {variable_of(name): name for name in options()}
    warnings: list[str] = []
    for variable in sorted(name for name in environment if name.startswith(_PREFIX)):
        if _is_of_a_service(variable, environment[variable]):
            if variable in names and names[variable] not in overridden:
                warnings.append(
                    f"{variable} is ignored: its value is the address of a service, as Kubernetes sets it for a "
                    "Service of that name (enableServiceLinks: false prevents that)"
                )
        elif variable not in names and variable not in _NOT_SETTINGS:
            hint = _did_you_mean(variable.removeprefix(_PREFIX).lower(), variable_of)
            warnings.append(f"{variable} is ignored: there is no such setting{hint}")
    return warnings


def new_config(settings: Mapping[str, Any]) -> Config:
    """Returns a `Config` with `settings`, for functions that accept settings as keywords.

    Raises:
        ConfigError: as `Config`.
        TypeError: there is no setting of such a name. The text suggests the nearest one.
    """
    for name in settings:
        if name not in _OPTIONS:
            raise TypeError(f"there is no setting {name}{_did_you_mean(name, str)}")
    return Config(**settings)


def _did_you_mean(name: str, label: Callable[[str], str]) -> str:
    """The end of a message about a setting that does not exist: the nearest one, in the form that `label` gives it."""
    near = difflib.get_close_matches(name, options(), 1)
    return f"; did you mean {label(near[0])}?" if near else ""


def _is_of_a_service(variable: str, text: str) -> bool:
    """Whether the variable was set for a service and not for kaserve."""
    if variable.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(text):
        return True
    return _OF_A_SERVICE.fullmatch(variable) is not None


def _read_many(name: str, option: Option, text: str) -> tuple[Any, ...]:
    """The values in the variable of a repeatable setting."""
    variable = variable_of(name)
    parts = [part.strip() for part in text.strip("\n").split(option.separator)]
    if not all(parts):  # an empty address would mean every address of the machine
        error = ValueError(f"must be values {_SEPARATORS[option.separator]}")
        raise ConfigError(option.complaint(variable, error, text, is_text=True))
    return tuple(read_text(name, variable, part) for part in parts)
