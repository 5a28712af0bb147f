"""The command line: `python -m kaserve [PORT]`.

Knows the order in which a server is started from options, and that each failure is one line and an exit code. The
options are in `arguments`, what is served in `load`, what is printed in `banner`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from ..cli import qr
from ..config import Config, ConfigError
from ..effects import check_effects
from ..handlers import WSGI, Threaded
from ..http.handler import Handler
from ..logs import errors
from ..probe.command import main as probe
from ..server import Server
from .arguments import Given, read_arguments
from .banner import print_banner
from .exit_codes import EXIT_OK, EXIT_RESOURCE, EXIT_USAGE, StartError
from .load import load_handler, way_of

__all__ = ["main"]

log = logging.getLogger("kaserve")

_APPLICATION_GRACE = 1.0  # seconds for the application to finish what it does after its last response


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line until the server stops.

    Args:
        arguments: those after the name of the program; by default `sys.argv[1:]`.

    Returns:
        The exit code of the process, one of `exit_codes`.

    Raises:
        SystemExit: argparse refused the arguments, or an option such as --help has done what it is for.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["probe"]:
        return probe(arguments[1:])
    try:
        given = read_arguments(arguments, os.environ)
        _check(given)
        reopen_error_log = _open_error_log(given.config)
        for warning in given.warnings:
            log.warning("%s", warning)
        handler = load_handler(given.config)
        server = _listen(handler, given)
    except StartError as error:
        print(f"kaserve: {error}", file=sys.stderr)
        return error.code
    if reopen_error_log is not None:
        server.on_reload.append(reopen_error_log)
    # Printed by the running server: a program that reads the banner may send a signal at once, so handlers must be set.
    server.call(lambda: print_banner(server))
    server.run()
    if isinstance(handler, (WSGI, Threaded)):
        handler.close(_APPLICATION_GRACE)
    return EXIT_OK


def _check(given: Given) -> None:
    """Raises StartError for an option that would have no effect, or needs a package which is not installed.

    `Server` checks the effects as well; here it is done before the application is imported.
    """
    try:
        check_effects(given.config, way_of(given.config))
    except ConfigError as error:
        raise given.start_error(error) from None
    if given.config.qr:
        try:
            qr.find_library()
        except ImportError:
            raise StartError(EXIT_USAGE, "--qr needs the package segno: pip install segno") from None


def _open_error_log(config: Config) -> Callable[[], object] | None:
    """Sends errors to the file of --error-log; returns what reopens it. Raises StartError."""
    try:
        return errors.set_up(config.error_log)
    except OSError as error:
        raise StartError(EXIT_RESOURCE, f"cannot write the error log {config.error_log!r}: {error.strerror}") from None


def _listen(handler: Handler, given: Given) -> Server:
    """A server that listens. Raises StartError."""
    try:
        server = Server(handler, given.config, way=way_of(given.config))
        server.open()
        return server
    except ConfigError as error:
        raise given.start_error(error) from None
    except OSError as error:
        raise StartError(EXIT_RESOURCE, error.strerror or str(error)) from None
