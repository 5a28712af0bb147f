"""How many instructions a request costs, counted by valgrind; of the compiled build, or of two checkouts compared.

    python setup.py build_ext --inplace                           # in each checkout, with the interpreter used here
    python benchmarks/instructions.py
    python benchmarks/instructions.py --workloads hello,wsgi --json instructions.json
    python benchmarks/instructions.py --against ../before         # a table of both, and the ratio
    python benchmarks/instructions.py --against ../before --seeds 5

Why instructions: neither other programs nor the clock frequency change them, so a single run shows a difference of one
per cent, where measuring time needs an hour. They are not time: a cache miss costs nothing here, and neither does the
kernel, of which only the calls are counted.

For each workload a server and one client on the loopback live in one process, under `valgrind --tool=callgrind`. The
client sends prepared bytes, the server does one turn, and the client reads a response of known length. So every request
("pipelined": every 16 requests) has its own turn of the reactor, which costs more than under load, where connections
share turns; "close" has three turns, a new connection, and a client that costs as much as the server. Two such
processes differ only in the number of requests. The figure is the difference of their instructions, divided by that of
their requests, so the start cancels out. It includes the client's write and read, 2,300 instructions per turn. They are
the same for every server, so a ratio is a little closer to 1 than that of the servers alone.

The result is deterministic: hashes have a seed, clocks are injected and advance by half a microsecond at each reading,
random numbers are constant, the garbage collector is off, no access log is written. The one connection stays below its
1,000 requests, and `max` in Keep-Alive keeps its three digits. So the same tree has the same figures, to the last
digit, with the same interpreter, compiler and C library; with others they differ.

Two trees also differ by accident: in the state of malloc's lists, and in the names of a dictionary that collide. The
same build in another directory, or counted by a changed version of this script, differed by up to 0.7 %. With other
seeds "wsgi" differed by 2 %, since its environ is a large dictionary. So compare trees in a single run, and if the
difference is not much larger than that, use `--seeds N`, which shows the means over N seeds.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import inspect
import json
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count, product, repeat
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from lib.tables import align
from lib.workloads import FILE_SIZES, WORKLOADS, Workload, write_files

if TYPE_CHECKING:  # at run time it is the tree's
    from kaserve import Server

Figures = Mapping[Path, Mapping[str, list[float]]]
"""Instructions per request, with each seed, by tree and workload."""

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("hello", "browser", "pipelined", "close", "file1k", "wsgi")
FEW, MANY = 96, 864
"""Requests of the two runs: whole pipelines, and with the first two segments fewer than 900 on the one connection, so
that `max` in Keep-Alive has three digits in every response."""
HOST = "127.0.0.1:8000"
"""The Host header of the client, whatever port it is connected to."""
FILE = "files/1k.bin"
LOOK = 0.5e-6
"""Seconds by which the clock advances at each reading."""
EPOCH = 4e9
"""Constant time in seconds since the epoch. It is in the future: files count as written long ago, and are cached."""
PATIENCE = 10
"""Seconds to wait for bytes before the measurement fails."""
LONGEST = 600
"""Seconds for a run."""


# In the counted process.


class Parts(NamedTuple):
    """What is taken from a tree; all that tells the time in it is injected."""

    server: Callable[..., Server]
    files: Callable[..., Any]
    wsgi: Callable[..., Any]


def parts_of_tree() -> Parts:
    """Whatever the names are: what are `handlers`, `time` and `rng` now were `apps`, `wall` (of Files: `clock`) and
    `chance` once."""
    kaserve = importlib.import_module("kaserve")
    new = importlib.util.find_spec("kaserve.handlers") is not None
    handlers = importlib.import_module("kaserve.handlers" if new else "kaserve.apps")
    ticks, epoch, dice = count(1000.0, LOOK).__next__, repeat(EPOCH).__next__, repeat(0.5).__next__

    def inject(made: Callable[..., Any], **injected: object) -> Callable[..., Any]:
        known = inspect.signature(made).parameters
        return partial(made, **{name: value for name, value in injected.items() if name in known})

    files_time = "time" if "time" in inspect.signature(handlers.Files).parameters else "clock"
    return Parts(
        inject(kaserve.Server, clock=ticks, time=epoch, wall=epoch, rng=dice, chance=dice),
        inject(handlers.Files, **{files_time: epoch}),
        handlers.WSGI,
    )


def serve_here(tree: Path, name: str, requests: int, directory: Path) -> None:
    """Serves two segments of a workload as a warm-up, then `requests` of it."""
    gc.disable()
    sys.path.append(str(tree / "benchmarks" / "apps"))
    kaserve: Any = importlib.import_module("kaserve")
    assert kaserve.IMPLEMENTATION == "compiled", f"the build is {kaserve.IMPLEMENTATION}"
    assert Path(kaserve.__file__).resolve().is_relative_to(tree), f"{kaserve.__file__} is not in {tree}"
    parts = parts_of_tree()
    server = parts.server(new_handler(name, parts, directory), kaserve.Config(port=0, access_log=False))
    server.open()
    workload = workload_of(name)
    (visit if workload.closes else converse)(server, workload, requests)
    server.close()


def workload_of(name: str) -> Workload:
    """The bytes to send, and the expected response."""
    return WORKLOADS["hello" if name == "wsgi" else name]


def new_handler(name: str, parts: Parts, directory: Path) -> Any:
    """The handler of a workload. Each tree uses its own hello."""
    if name == "wsgi":
        return parts.wsgi(importlib.import_module("hello_wsgi").app, threads=0)
    if workload_of(name).app == "files":
        return parts.files(directory)
    return importlib.import_module("hello_app").hello


def converse(server: Server, workload: Workload, requests: int) -> None:
    """One connection. The requests of a turn get their responses in the same turn."""
    segment = workload.segment(HOST)
    address = server.address
    assert isinstance(address, tuple)
    client = socket.create_connection(address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE, 0))
    server.step(PATIENCE)  # it is accepted
    client.send(segment)
    server.step(PATIENCE)
    response = client.recv(1 << 20)
    check(response, workload)
    size = len(response)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)  # all of it or nothing
    write, read, fd = os.write, os.read, client.fileno()  # which cost less than the methods of a socket
    for _ in range(1 + requests // workload.pipelined):
        write(fd, segment)
        server.step(PATIENCE)
        response = read(fd, size)
        if len(response) != size:
            raise RuntimeError(f"incomplete response: {response!r}")
    check(response, workload)
    client.close()


def visit(server: Server, workload: Workload, requests: int) -> None:
    """A connection for each request. It is accepted in one turn, responded to in the next, and closed in a third."""
    segment = workload.segment(HOST)
    address = server.address
    assert isinstance(address, tuple)
    for _ in range(2 + requests):
        client = socket.create_connection(address)
        server.step(PATIENCE)
        client.send(segment)
        server.step(PATIENCE)
        response = client.recv(1 << 20)
        client.close()
        server.step(PATIENCE)
        check(response, workload)


def check(received: bytes, workload: Workload) -> None:
    """Raises AssertionError unless `received` are the complete responses to one segment."""
    head, end, _ = received.partition(b"\r\n\r\n")
    assert received.count(b"HTTP/1.1 200 ") == workload.pipelined, received
    assert len(received) == workload.pipelined * (len(head) + len(end) + workload.response_size), received


# Outside of the measured process.


def run(command: list[str], tree: Path, seed: int, scratch: Path) -> str:
    """Returns what `command` writes to stderr. The environment is the same for every caller. Python's bytecode goes to
    `scratch`, so that nothing is written into the tree and no stale bytecode there is read."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(tree),
        "PYTHONHASHSEED": str(seed),
        "PYTHONPYCACHEPREFIX": str(scratch / "pycache"),
    }
    done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=LONGEST)
    if done.returncode:
        raise RuntimeError(f"{tree}: {(done.stderr or done.stdout).strip()}")
    return done.stderr


def measure(tree: Path, name: str, seed: int, scratch: Path) -> float:
    """Instructions for each request."""

    def child(requests: int) -> list[str]:
        # -S: so that no .pth file of the environment decides which kaserve is imported.
        arguments = ["--serve", name, str(requests), "--tree", str(tree)]
        return [sys.executable, "-S", str(Path(__file__).resolve()), *arguments]

    def instructions(requests: int) -> int:
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        said = run([*valgrind, *child(requests)], tree, seed, scratch)
        found = re.search(r"Collected : (\d+)", said)
        if found is None:
            raise RuntimeError(f"valgrind does not say how many: {said.strip()}")
        return int(found[1])

    run(child(FEW), tree, seed, scratch)  # everything is compiled to .pyc, and what is wrong is seen at once
    return (instructions(MANY) - instructions(FEW)) / (MANY - FEW)


def measure_all(tree: Path, names: list[str], seeds: int) -> dict[str, list[float]]:
    """Each of the workloads with one tree, with each seed."""
    figures: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch), {FILE: FILE_SIZES[FILE]})
        for name, seed in product(names, range(seeds)):
            figure = measure(tree, name, seed, Path(scratch))
            figures[name].append(figure)
            print(f"{tree}, {name}, seed {seed}: {figure:,.0f}", file=sys.stderr, flush=True)
    return figures


def table(figures: Figures) -> str:
    """In Markdown, the means: a row for each workload, and with two trees the ratio of the first to the second."""
    header = ["instructions/request", *map(str, figures), *(["ratio"] if len(figures) == 2 else [])]
    rows = []
    for name in next(iter(figures.values())):
        counted = [fmean(of_tree[name]) for of_tree in figures.values()]
        ratio = [f"{counted[0] / counted[1]:.3f}"] if len(counted) == 2 else []
        rows.append([name, *(f"{figure:,.0f}" for figure in counted), *ratio])
    return "\n".join(align([header, *rows]))


def write_json(path: Path, figures: Figures) -> None:
    """The figures, and with what they were counted."""
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "valgrind": valgrind,
        "machine": platform.machine(),
        "instructions_per_request": {str(tree): of_tree for tree, of_tree in figures.items()},
    }
    path.write_text(json.dumps(result, indent=2) + "\n")


def _workloads(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names).difference(NAMES)
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="a checkout, compiled in place")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another one, to compare with")
    parser.add_argument("--workloads", type=_workloads, default=list(NAMES), metavar="NAME,...", help=", ".join(NAMES))
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="take the mean over as many seeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "REQUESTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        name, requests = options.serve
        serve_here(options.tree, name, int(requests), Path.cwd())
        return 0
    if options.seeds < 1:
        parser.error("there must be a seed")
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    trees = [tree.resolve() for tree in (options.tree, options.against) if tree is not None]
    figures = {tree: measure_all(tree, options.workloads, options.seeds) for tree in trees}
    print(table(figures))
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
