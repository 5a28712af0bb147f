"""The command line of the probe: `kaserve probe URL [options]`.

Knows the options, the exit codes and what is printed. Does not know the experiments.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from .client_connection import NoResponse
from .report import as_json, as_table, is_good, probe
from .settings import ProbeSettings
from .target import Target, read_url
from .terminal import takes_color
from .transport import open_socket

__all__ = ["main"]

EXIT_OK = 0
EXIT_PROBLEMS = 1  # something costs clients requests or time: a row marked with `!`
EXIT_USAGE = 2
EXIT_NO_SERVER = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_CONNECT_TIMEOUT = 10.0  # seconds


def main(arguments: Sequence[str], program: str = "kaserve") -> int:
    """Runs the probe.

    Args:
        arguments: those after `probe`.
        program: what the user typed before `probe`, for --help.

    Returns:
        The exit code; see docs/probe.md.
    """
    options = _make_parser(program).parse_args(arguments)
    try:
        target = read_url(options.url)
    except ValueError as error:
        print(f"kaserve probe: {error}", file=sys.stderr)
        return EXIT_USAGE
    show_progress = takes_color(sys.stderr)
    try:
        report = probe(options.url, _settings(target, options), _progress if show_progress else lambda label: None)
    except (OSError, NoResponse) as error:
        print(f"kaserve probe: {options.url}: {_reason(error)}", file=sys.stderr)
        return EXIT_NO_SERVER
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if show_progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(json.dumps(as_json(report), indent=2) if options.json else as_table(report, colour=takes_color(sys.stdout)))
    return EXIT_OK if is_good(report) else EXIT_PROBLEMS


def _reason(error: Exception) -> str:
    """Why there is no report, without the words that Python puts around it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); --insecure accepts any certificate"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _settings(target: Target, options: argparse.Namespace) -> ProbeSettings:
    tls = None
    if target.scheme == "https":
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["http/1.1"])
        if options.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
    return ProbeSettings(
        target,
        lambda: open_socket(target, _CONNECT_TIMEOUT, tls),
        time.monotonic,
        response_timeout=options.timeout,
        settle_time=options.timeout / 20,
        max_wait=options.max_wait,
        max_requests=options.max_requests,
    )


def _progress(label: str) -> None:
    """Shows which experiment runs, in place of the one before."""
    print(f"\r\x1b[K{label} ...", end="", file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"kaserve probe: {message}\n")


def _make_parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"{program} probe",
        usage="%(prog)s URL [options]",
        description="Reports how an HTTP server treats its connections. Sends it GET, HEAD and POST requests, and as "
        "many GET requests as one connection carries: probe only your own servers.",
        epilog="Exit code: 0 if all is good, 1 if a row is marked with '!', 2 for a mistake in the command, 3 if no "
        "HTTP server responds at the URL, 130 for Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="http or https; a resource that responds to GET quickly")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--max-wait", type=_seconds, default=15.0, metavar="SECONDS",
        help="time to wait for the idle timeout, and to search for the request limit (default: 15)",
    )  # fmt: skip
    parser.add_argument(
        "--max-requests", type=_count, default=1200, metavar="N",
        help="requests to send over one connection (default: 1200)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="time to wait for a response (default: 10)"
    )
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    return parser


def _seconds(text: str) -> float:
    seconds = _number(float, text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"must be seconds, above 0 and up to 86400, not {text!r}")
    return seconds


def _count(text: str) -> int:
    count = int(_number(int, text))
    if not 0 < count <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1000000, not {text!r}")
    return count


def _number(kind: Callable[[str], float], text: str) -> float:
    """Returns the number in `text`, or 0, which no option accepts."""
    try:
        return kind(text)
    except ValueError:
        return 0
