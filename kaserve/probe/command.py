"""The command line of the probe: `python -m kaserve probe URL`."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from .experiments import ProbeSettings
from .line import NoAnswer, Target, open_socket, read_url
from .report import as_json, as_table, probe
from .terminal import takes_color

__all__ = ["main"]

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_NO_SERVER = 3
EXIT_INTERRUPTED = 130  # as shells have it

_CONNECT_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: 3 when there is nothing at `URL` that speaks HTTP."""
    given = _make_parser().parse_args(arguments)
    try:
        target = read_url(given.url)
    except ValueError as error:
        print(f"kaserve probe: {error}", file=sys.stderr)
        return EXIT_USAGE
    show_progress = takes_color(sys.stderr)
    try:
        report = probe(given.url, _lab(target, given), _progress if show_progress else lambda label: None)
    except (OSError, NoAnswer) as error:
        print(f"kaserve probe: {given.url}: {_reason(error)}", file=sys.stderr)
        return EXIT_NO_SERVER
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if show_progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(json.dumps(as_json(report), indent=2) if given.json else as_table(report, colour=takes_color(sys.stdout)))
    return EXIT_OK


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); --insecure takes any"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _lab(target: Target, given: argparse.Namespace) -> ProbeSettings:
    tls = None
    if target.scheme == "https":
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["http/1.1"])
        if given.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
    return ProbeSettings(
        target,
        lambda: open_socket(target, _CONNECT_SECONDS, tls),
        time.monotonic,
        patience=given.patience,
        settle=given.patience / 20,
        most_wait=given.max_wait,
        most_requests=given.max_requests,
    )


def _progress(label: str) -> None:
    print(f"\r\x1b[K{label} ...", end="", file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"kaserve probe: {message}\n")


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m kaserve probe",
        description="Reports how an HTTP server keeps its connections. Sends it some GETs, HEADs and POSTs, and as "
        "many GETs as one connection takes: probe your own servers.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL", help="http or https; a resource that answers GET quickly")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--max-wait", type=_seconds, default=15.0, metavar="SECONDS",
        help="to wait for the idle close, and to look for the request limit (default: 15)",
    )  # fmt: skip
    parser.add_argument(
        "--max-requests", type=_count, default=1200, metavar="N",
        help="to send over one connection (default: 1200)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=_seconds, default=10.0, metavar="SECONDS", help="for an answer (default: 10)"
    )
    parser.add_argument("--insecure", action="store_true", help="take any certificate")
    return parser


def _seconds(text: str) -> float:
    seconds = _number(float, text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"takes seconds, above 0 and up to 86400, not {text!r}")
    return seconds


def _count(text: str) -> int:
    count = int(_number(int, text))
    if not 0 < count <= 1_000_000:
        raise argparse.ArgumentTypeError(f"takes a number from 1 to 1000000, not {text!r}")
    return count


def _number(kind: Callable[[str], float], text: str) -> float:
    try:
        return kind(text)
    except ValueError:
        return 0
