"""The exit codes of the command line, and the error that ends it before it serves.

Knows numbers and one line of text. Does not know what went wrong.
"""

from __future__ import annotations

__all__ = ["EXIT_APP", "EXIT_OK", "EXIT_RESOURCE", "EXIT_STARTUP", "EXIT_USAGE", "StartError"]

EXIT_OK = 0
EXIT_USAGE = 2  # an option or a value is not accepted; the code that argparse uses
EXIT_RESOURCE = 3  # an address, a directory or a file is unavailable
EXIT_APP = 4  # an application cannot be imported
EXIT_STARTUP = 5  # an ASGI application has failed in its startup


class StartError(Exception):
    """The server cannot start.

    Attributes:
        code: the exit code of the process.
    """

    def __init__(self, code: int, message: str) -> None:
        """Takes the exit code, and the line that tells the user what is wrong."""
        super().__init__(message)
        self.code = code
