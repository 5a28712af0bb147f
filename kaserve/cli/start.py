"""Starts a server as a program does: what is served is found out, the server listens, prints its banner and handles
signals. The command line and `kaserve.run` are this one function.

Knows the order of the steps, and how each failure is explained. What is served is in `load`, what is printed in
`banner`. Does not know where the settings come from.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..config import Config, ConfigError, wsgi_threads
from ..effects import Served, Way, check_effects
from ..logs import errors
from ..logs.file import why_unwritable
from ..net.service import StartupFailed
from ..server import Server
from ..server.binding import AddressError
from . import qr
from .banner import print_banner, print_stopped
from .exit_codes import EXIT_RESOURCE, EXIT_STARTUP, EXIT_USAGE, StartError
from .imports import explain_failure
from .load import Loaded, load, way_of

__all__ = ["Wording", "serve"]

log = logging.getLogger("kaserve")

_APPLICATION_GRACE = 1.0  # seconds for the application to finish what it does after its last response
_MAX_TRIED = 100  # ports, when one is suggested
_FIRST_FREE_PORT = 1024  # ports below it are privileged on most systems


class Wording(NamedTuple):
    """How messages name what the user typed.

    Attributes:
        label: returns the name of a setting, such as `--keep-alive`.
        with_port: returns what to type for another port, such as `kaserve 8001`.
    """

    label: Callable[[str], str]
    with_port: Callable[[int], str]


def serve(
    config: Config,
    app: object,
    wording: Wording,
    *,
    warnings: Iterable[str] = (),
    banner: bool = True,
    on_start: Callable[[Server], object] | None = None,
) -> None:
    """Serves until the server stops.

    Args:
        config: the settings.
        app: what to serve; None if the settings name it.
        wording: how messages name things.
        warnings: logged once there is an error log.
        banner: whether to print the banner.
        on_start: called with the server when it serves, in the thread that runs it.

    Raises:
        StartError: the server cannot start.
    """
    way = way_of(config) if app is None else None
    if way is not None:  # before anything is imported, which may take long
        _check_effects(config, way, wording)
    if config.qr:
        _check_qr(wording)
    reopen_error_log = _open_error_log(config)
    for warning in warnings:
        log.warning("%s", warning)
    loaded = load(config, app, wording.label)
    try:
        _check_effects(config, loaded.way, wording)
        server = _listen(config, loaded, wording)
        if reopen_error_log is not None:
            server.on_reload.append(reopen_error_log)
        # By the running server: a program that reads the banner may send a signal at once, so handlers must be set.
        server.on_start = lambda: _announce(server, loaded if banner else None, on_start)
        try:
            with _switching(config, loaded):
                server.run()
        except StartupFailed as error:
            raise StartError(EXIT_STARTUP, explain_failure(f"{loaded.name} has failed to start", error)) from error
    finally:
        loaded.close(_APPLICATION_GRACE)
    if banner:
        print_stopped()


@contextmanager
def _switching(config: Config, loaded: Loaded) -> Iterator[None]:
    """Sets how soon a thread must let another one run, where what is served runs in threads. It is a setting of the
    whole process, so a library does not touch it."""
    threads = wsgi_threads(config) if loaded.way.served is Served.WSGI else config.threads
    if not threads:
        yield
        return
    before = sys.getswitchinterval()
    sys.setswitchinterval(config.switch_interval)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _announce(server: Server, loaded: Loaded | None, on_start: Callable[[Server], object] | None) -> None:
    """The server serves."""
    if loaded is not None:
        print_banner(server, loaded)
    if on_start is not None:
        on_start(server)


def _check_effects(config: Config, way: Way, wording: Wording) -> None:
    """`Server` checks the effects as well, but later."""
    try:
        check_effects(config, way)
    except ConfigError as error:
        raise StartError(EXIT_USAGE, error.renamed(wording.label)) from None


def _check_qr(wording: Wording) -> None:
    try:
        qr.find_library()
    except ImportError:
        raise StartError(EXIT_USAGE, f"{wording.label('qr')} needs the package segno: pip install segno") from None


def _open_error_log(config: Config) -> Callable[[], object] | None:
    """Sends errors to the error log; returns what reopens it."""
    try:
        return errors.set_up(config.error_log)
    except OSError as error:
        reason = why_unwritable(config.error_log or "", error)
        raise StartError(EXIT_RESOURCE, f"cannot write the error log {config.error_log!r}: {reason}") from error


def _listen(config: Config, loaded: Loaded, wording: Wording) -> Server:
    """A server that listens."""
    try:
        server = Server(loaded.handler, config, way=loaded.way)
        server.open()
        return server
    except ConfigError as error:
        raise StartError(EXIT_USAGE, error.renamed(wording.label)) from None
    except AddressError as error:
        raise StartError(EXIT_RESOURCE, _explain(error, wording)) from error
    except OSError as error:
        raise StartError(EXIT_RESOURCE, _renamed(error.strerror or str(error), wording)) from error


def _renamed(text: str, wording: Wording) -> str:
    """`text` with each setting named as the user did. An OSError is for users of both the command line and the library,
    so it names settings twice, such as `--tls-key (tls_key)`."""
    return re.sub(r"--[a-z-]+ \(([a-z_]+)\)", lambda match: wording.label(match[1]), text)


# Addresses that are unavailable.


def _explain(error: AddressError, wording: Wording) -> str:
    message = error.strerror or str(error)
    bind = wording.label("bind")
    if error.port is None:
        if error.errno == errno.EADDRINUSE:
            return f"{error.bind} is in use; stop the server that listens there, or choose another path"
        return message
    if error.errno == errno.EADDRINUSE:
        return f"port {error.port} is in use{_on(error)}; {_suggest(error, error.port + 1, wording)}"
    if error.errno in (errno.EACCES, errno.EPERM) and error.port < _FIRST_FREE_PORT:
        return (
            f"no permission to listen on port {error.port}{_on(error)}: ports below {_FIRST_FREE_PORT} are for root "
            f"(on Linux, for CAP_NET_BIND_SERVICE); {_suggest(error, error.port + 8000, wording)}"
        )
    if error.is_unknown_host:
        return (
            f"the host name {error.host} is unknown; {bind} must be an address of this machine, "
            "such as 127.0.0.1, or 0.0.0.0 for all of them"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{error.host} is not an address of this machine; {bind} 0.0.0.0 listens on all of its addresses"
    return message


def _on(error: AddressError) -> str:
    return f" on {error.host}" if error.host else ""


def _suggest(error: AddressError, first: int, wording: Wording) -> str:
    """What to type instead, with a port that is free."""
    port = _free_port(error.host, first)
    if error.bind == error.host:  # the port is a setting of its own
        return f"try another: {wording.with_port(port)}"
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f"try another: {wording.label('bind')} {host}:{port}"


def _free_port(host: str, first: int) -> int:
    """The first port from `first` on that nothing listens on; 0, which lets the kernel choose, if there is none."""
    for port in range(first, min(first + _MAX_TRIED, 65536)):
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                with socket.socket(family, kind, protocol) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.bind(address)
            return port
        except OSError:
            pass
    return 0
