"""Fewer connections, less latency: the same page over one persistent connection, and over one for each resource.

    python benchmarks/page_load.py [--tls] [--servers kaserve,nginx] [--resources 42] [--repeat 30]

A page is a set of files of 1 to 8 KiB, fetched one after the other by Python's http.client. Both ways are measured in
turn, so that a disturbance of the machine affects both. With --tls there is a second row for each server.
"""

import argparse
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from lib.charts import Bar, draw
from lib.peers import PEERS
from lib.processes import clean_up_when_terminated
from lib.serving import CannotServe, Server, serving
from lib.tables import align
from lib.workloads import write_files

TIMEOUT_SECONDS = 5.0
NOTE = """\
This is the loopback interface, where a connection costs processor time alone. On a real network each new one also
costs a round trip before its first request, and TLS a further one (1.3) or two (1.2): with a round trip of 30 ms,
{resources} resources would take {seconds:.1f} s longer over one connection each, {tls_seconds:.1f} s with TLS 1.3."""

Connect = Callable[[], http.client.HTTPConnection]
Certificate = tuple[Path, Path]
"""It and its key, both PEM."""


@dataclass(frozen=True)
class PageLoad:
    """Median times of one page, in seconds."""

    server: str
    protocol: str
    persistent: float
    """Over one connection."""
    separate: float
    """Over one connection for each resource."""

    @property
    def ratio(self) -> float:
        """How many times longer the separate connections take."""
        return self.separate / self.persistent


def main() -> int:
    """Measure, print a table and say what it does not show."""
    options = parse_arguments()
    clean_up_when_terminated()
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        try:
            certificate = make_certificate(Path(name)) if options.tls else None
        except RuntimeError as error:
            print(f"page_load.py: {error}", file=sys.stderr)
            return 3
        loads, reasons = measure_all(options, Path(name, "site"), [None, certificate] if certificate else [None])
    title = f"A page of {options.resources} resources of 1 to 8 KiB"
    print(f"{title}, median of {options.repeat} loads\n")
    print("\n".join([*table(loads), "", *reasons]).rstrip() + "\n")
    extra = 0.030 * (options.resources - 1)
    print(NOTE.format(resources=options.resources, seconds=extra, tls_seconds=2 * extra))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(load) | {"ratio": load.ratio} for load in loads], indent=2) + "\n")
    if options.svg:
        draw(options.svg / "page_load.svg", title, "milliseconds; less is better", bars(loads))
    return 1 if reasons else 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Load a page over one connection, and over one for each resource.")
    parser.add_argument("--servers", default="kaserve", metavar="A,B", help="names as in servers.py (kaserve)")
    parser.add_argument("--resources", type=int, default=42, metavar="N", help="files of the page (42)")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="how often the page is loaded (30)")
    parser.add_argument("--tls", action="store_true", help="also over TLS, with a certificate made for the occasion")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw a chart there")
    options = parser.parse_args()
    unknown = [name for name in options.servers.split(",") if name not in PEERS]
    if unknown:
        parser.error(f"unknown servers: {', '.join(unknown)} (known: {', '.join(PEERS)})")
    return options


def leave_a_core() -> int:
    """Keep this program, the client, away from the last core; the number of that core, which is the server's."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)
    return cores[-1]


def measure_all(
    options: argparse.Namespace, directory: Path, certificates: list[Certificate | None]
) -> tuple[list[PageLoad], list[str]]:
    """Each server, with each of the certificates (None: without TLS); and the reasons of those that cannot."""
    sizes = {f"files/{number:03}.bin": (1 + number % 8) * 1024 for number in range(options.resources)}
    write_files(directory, sizes)
    core = leave_a_core()
    loads, reasons = [], []
    for server, tls in product(options.servers.split(","), certificates):
        try:
            loads.append(measure_peer(server, directory, list(sizes), options.repeat, tls, core))
        except (CannotServe, OSError, http.client.HTTPException) as error:
            reasons.append(f"- {server}, {protocol_name(tls)}: {error}")
    return loads, reasons


def protocol_name(tls: Certificate | None) -> str:
    """As the table has it."""
    return "HTTP" if tls is None else "HTTPS"


def table(loads: list[PageLoad]) -> list[str]:
    """Markdown lines."""
    figures = [
        [load.server, load.protocol, _ms(load.persistent), _ms(load.separate), f"{load.ratio:.2f}"] for load in loads
    ]
    return align([["server", "protocol", "one connection", "one each", "ratio"], *figures], words={"protocol"})


def bars(loads: list[PageLoad]) -> list[Bar]:
    """Two for each row of the table."""
    return [
        Bar(f"{load.server}, {load.protocol}, {how}", seconds, _ms(seconds))
        for load in loads
        for how, seconds in (("one connection", load.persistent), ("one each", load.separate))
    ]


def measure_peer(
    name: str, directory: Path, paths: list[str], repeat: int, tls: Certificate | None, core: int
) -> PageLoad:
    """Start a peer, and load the page from it; CannotServe if it cannot serve files, or not over TLS."""
    peer = PEERS[name]
    if tls and not peer.tls:
        raise CannotServe("not set up for TLS here")
    with serving(peer, "files", directory, core=core, tls=tls) as server:
        persistent, separate = measure(connector(server), paths, repeat)
        return PageLoad(name, protocol_name(tls), persistent, separate)


def measure(connect: Connect, paths: list[str], repeat: int) -> tuple[float, float]:
    """Load the page both ways, `repeat` times in turn, after one load that does not count; the medians, in seconds."""
    load_persistently(connect, paths)
    persistent, separate = [], []
    for _ in range(repeat):
        persistent.append(_timed(load_persistently, connect, paths))
        separate.append(_timed(load_separately, connect, paths))
    return median(persistent), median(separate)


def load_persistently(connect: Connect, paths: list[str]) -> None:
    """Fetch everything over one connection, and make sure that it was one."""
    connection = connect()
    try:
        connection.connect()
        socket = connection.sock
        for path in paths:
            _fetch(connection, path, {})
            if connection.sock is not socket:
                raise CannotServe("closed the persistent connection")
    finally:
        connection.close()


def load_separately(connect: Connect, paths: list[str]) -> None:
    """Fetch each resource over a new connection."""
    for path in paths:
        connection = connect()
        try:
            _fetch(connection, path, {"Connection": "close"})
        finally:
            connection.close()


def connector(server: Server) -> Connect:
    """What makes a new connection to the server; it is opened by its first request."""
    site = server.site
    if site.tls is None:
        return partial(http.client.HTTPConnection, site.host, site.port, timeout=TIMEOUT_SECONDS)
    # One context for all, as a browser has: reading the trusted certificate is no part of a handshake.
    context = ssl.create_default_context(cafile=str(site.tls[0]))
    return partial(http.client.HTTPSConnection, site.host, site.port, timeout=TIMEOUT_SECONDS, context=context)


def make_certificate(directory: Path) -> Certificate:
    """Make a certificate for 127.0.0.1 and its key; RuntimeError without openssl."""
    if shutil.which("openssl") is None:
        raise RuntimeError("TLS needs the program openssl, to make a certificate")
    cert, key = directory / "cert.pem", directory / "key.pem"
    # Elliptic, as most sites have by now: an RSA key would make the handshake several times dearer.
    kind = ("-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-out", str(cert), "-keyout", str(key))
    subprocess.run(("openssl", "req", *kind, *name, *files), check=True, capture_output=True, timeout=30)
    return cert, key


def _fetch(connection: http.client.HTTPConnection, path: str, fields: dict[str, str]) -> None:
    connection.request("GET", "/" + path, headers=fields)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise CannotServe(f"responded with {response.status} to {path}")


def _timed(load: Callable[[Connect, list[str]], None], connect: Connect, paths: list[str]) -> float:
    began = time.perf_counter()
    load(connect, paths)
    return time.perf_counter() - began


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
