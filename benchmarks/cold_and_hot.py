"""Do clients of a small hot file wait while large ones come from the disk?

    python benchmarks/cold_and_hot.py [--servers kaserve,nginx] [--files 8] [--mib 64] [--readers 4] [--rate 200]

One client requests a file of 1 KiB again and again, over one connection, and notes how long each response takes: first
alone, then while other clients download large files that are in memory, then the same with files whose pages are
dropped from the page cache before each download (posix_fadvise, POSIX_FADV_DONTNEED), so that they come from the disk.
Downloads from memory show the price of sharing a core; what the disk adds to it is time for which the server waited.
The clients that download are separate processes, at the lowest priority and at a limited rate, so that the
measured client does not have to wait for a core.
"""

import argparse
import http.client
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any

from lib.peers import PEERS
from lib.processes import clean_up_when_terminated
from lib.serving import CannotServe, Server, serving
from lib.tables import align
from lib.workloads import write_files

TIMEOUT_SECONDS = 30.0
SMALL = "files/small.bin"
PIECE = 1 << 20
MEASURES = {"p50": 50, "p99": 99, "p99.9": 99.9}


def main() -> int:
    """Measure, and print a table."""
    options = parse_arguments()
    clean_up_when_terminated()
    large = [f"files/large-{number}.bin" for number in range(options.files)]
    print(f"A hot file of 1 KiB, while {options.readers} clients download {options.files} files of {options.mib} MiB\n")
    with tempfile.TemporaryDirectory(prefix="bench-cold-", dir=options.directory) as name:
        site = Path(name)
        write_files(site, {SMALL: 1024} | dict.fromkeys(large, options.mib << 20))
        os.sync()  # only pages that are clean can be dropped
        rows, reasons = [], []
        for server in options.servers.split(","):
            try:
                rows += measure_peer(server, site, large, options)
            except (CannotServe, OSError, http.client.HTTPException) as error:
                reasons.append(f"- {server}: {error}")
    measures = [f"{each}, ms" for each in MEASURES]
    head = ["server", "meanwhile", "responses/s", *measures, "longest, ms", "downloaded, MiB/s"]
    print("\n".join([*align([head, *rows], words={"meanwhile"}), "", *reasons]).rstrip())
    return 1 if reasons else 0


def measure_peer(name: str, site: Path, large: list[str], options: argparse.Namespace) -> list[list[str]]:
    """The three rows of a server."""
    rows = []
    with serving(PEERS[name], "files", site) as server:
        for meanwhile, readers, is_cold in (
            ("nothing", 0, False),
            ("from memory", options.readers, False),
            ("from the disk", options.readers, True),
        ):
            rate = options.rate * (1 << 20) / max(readers, 1)
            with downloading(server, site, large, readers, is_cold, rate) as downloaded:
                times = ask_for(server, SMALL, options.seconds)
                speed = sum(downloaded) / options.seconds / (1 << 20)
            cuts = quantiles(times, n=1000, method="inclusive")
            figures = [f"{1000 * cuts[int(10 * percent) - 1]:.2f}" for percent in MEASURES.values()]
            count = f"{len(times) / options.seconds:,.0f}"
            rows.append([name, meanwhile, count, *figures, f"{1000 * max(times):.1f}", f"{speed:.0f}"])
    return rows


def ask_for(server: Server, path: str, seconds: float) -> list[float]:
    """Seconds for each response, one after another over one connection."""
    connection = connect(server)
    times = []
    try:
        fetch(connection, path)
        end = time.perf_counter() + seconds
        start = 0.0
        while start < end:
            start = time.perf_counter()
            fetch(connection, path)
            times.append(time.perf_counter() - start)
    finally:
        connection.close()
    return times


@contextmanager
def downloading(
    server: Server, site: Path, paths: list[str], readers: int, is_cold: bool, rate: float
) -> Iterator[Any]:
    """Downloads `paths` in turn by as many `readers`, each with `rate` bytes a second at most, while the block lasts.

    is_cold: files are dropped from memory before they are requested. Yields the bytes that each reader has received.
    """
    received = multiprocessing.Array("q", max(readers, 1))
    address = server.site.host, server.site.port
    children = [
        multiprocessing.Process(target=download, args=(address, site, paths[number:], is_cold, rate, received, number))
        for number in range(readers)
    ]
    for child in children:
        child.start()
    try:
        yield received
    finally:
        for child in children:
            child.terminate()
            child.join()


def download(
    address: tuple[str, int], site: Path, paths: list[str], is_cold: bool, rate: float, received: Any, number: int
) -> None:
    """Downloads by one reader, until its process is terminated."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(19)
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_SECONDS)
    start = time.perf_counter()
    for path in cycle(paths):
        if is_cold:
            drop(site / path)
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        while data := response.read(PIECE):
            received[number] += len(data)
            time.sleep(max(0.0, start + received[number] / rate - time.perf_counter()))


def drop(path: Path) -> None:
    """Drops the pages of a file from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.site.host, server.site.port, timeout=TIMEOUT_SECONDS)


def fetch(connection: http.client.HTTPConnection, path: str) -> None:
    """One whole response; CannotServe if it is not a good one."""
    connection.request("GET", f"/{path}")
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise CannotServe(f"{response.status} for {path}")


def parse_arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", default="kaserve,nginx", help="names of peers (default: kaserve,nginx)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row (default: 5)")
    parser.add_argument("--files", type=int, default=8, help="large ones (default: 8)")
    parser.add_argument("--mib", type=int, default=64, help="size of each of them (default: 64)")
    parser.add_argument("--readers", type=int, default=4, help="clients that download (default: 4)")
    parser.add_argument("--rate", type=float, default=200.0, help="of all downloads, MiB/s (default: 200)")
    parser.add_argument("--directory", help="where the files are; it has to be on a disk, not in memory")
    options = parser.parse_args()
    if unknown := [name for name in options.servers.split(",") if name not in PEERS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
