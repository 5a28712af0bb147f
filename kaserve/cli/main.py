"""The command line: `kaserve [PORT | DIR | MODULE:APP]...`.

Knows that each failure is a text and an exit code. The options are in `arguments`, what happens with them in `start`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..probe.command import main as probe
from .arguments import program_name, read_arguments
from .exit_codes import EXIT_OK, StartError
from .leftover_threads import limit_exit
from .start import Wording, serve

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line until the server stops.

    Args:
        arguments: those after the name of the program; by default `sys.argv[1:]`.

    Returns:
        The exit code of the process, one of `exit_codes`.

    Raises:
        SystemExit: argparse refused the arguments, or an option such as --help has done what it is for.
    """
    if arguments is None:  # this is the whole program
        code = main(sys.argv[1:])
        limit_exit(code)
        return code
    if arguments[:1] == ["probe"]:
        return probe(arguments[1:], program_name())
    try:
        given = read_arguments(arguments, os.environ)
        serve(given.config, None, Wording(given.label, given.with_port), warnings=given.warnings)
    except StartError as error:
        print(f"kaserve: {error}", file=sys.stderr)
        return error.code
    return EXIT_OK
