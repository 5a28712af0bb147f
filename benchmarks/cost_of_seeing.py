"""What it costs to see what a server does: the access log in its formats, statistics, the live page, metrics.

    python benchmarks/cost_of_seeing.py
    python benchmarks/cost_of_seeing.py --rounds 9 --seconds 3 --without-statistics
    python benchmarks/cost_of_seeing.py --only turns --workload hello
    python benchmarks/cost_of_seeing.py --only load --rounds 21 --way "page open"

Two ways to look, each with a browser's headers or wrk's, and both with ratios within each round, of which the median is
shown.

In turns: each server is a process with 32 connections of its own. They take turns on one core, some milliseconds each,
and what counts is the processor time of the server's part. What disturbs the machine for longer than that disturbs all.

Under load: `wrk -c64` on another core, requests a second and processor time of the server for each; here somebody may
watch: a page that is open, or a scraper that comes once a second.

--without-statistics compiles a copy of the checkout whose statistics do nothing, which takes Cython and half a minute.
"""

import argparse
import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import wrk
from peers import APPS
from processes import Command, clean_up_when_terminated, running, wait_until
from serving import accepts, free_port
from tables import align
from workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parent.parent
LOG = "access.log"
CONNECTIONS = 32
TURNS = 20
"""In one go, which is then some five milliseconds: short beside what disturbs a machine, long beside the change of
processes."""
EVERY = 1.0
"""Seconds between two looks of a scraper."""
SHOWN = {"status": "/status", "metrics": "/metrics"}


@contextmanager
def page_open(port: int) -> Iterator[None]:
    """Somebody has the live page open: its events are read as they come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", SHOWN["status"] + "?events")
    response = connection.getresponse()
    assert response.status == 200, response.status
    sock = connection.sock
    reader = threading.Thread(target=_read_to_the_end, args=(response,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        reader.join()


def _read_to_the_end(response: http.client.HTTPResponse) -> None:
    try:
        while response.readline():
            pass
    except (OSError, http.client.HTTPException):  # it was shut down
        pass


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """Somebody asks for the metrics once a second."""
    enough = threading.Event()

    def scrape() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not enough.is_set():
            connection.request("GET", SHOWN["metrics"])
            assert b"kaserve_requests_total" in connection.getresponse().read()
            enough.wait(EVERY)

    scraper = threading.Thread(target=scrape, daemon=True)
    scraper.start()
    try:
        yield
    finally:
        enough.set()
        scraper.join()


@dataclass(frozen=True)
class Way:
    """One way to run the server."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """As in `Config`; the access log is off unless it has a format."""
    watched: Callable[[int], AbstractContextManager[None]] | None = None
    """Who looks meanwhile, given the port; under load only."""
    tree: Path | None = None
    """Another checkout to import kaserve from."""


NOTHING = "nothing"
WAYS = {
    NOTHING: Way(),
    "common": Way({"log_format": "common", "access_log_file": LOG}),
    "common, stderr": Way({"log_format": "common"}),
    "combined": Way({"log_format": "combined", "access_log_file": LOG}),
    "json": Way({"log_format": "json", "access_log_file": LOG}),
    "page and metrics, unseen": Way(SHOWN),
    "page open": Way(SHOWN, page_open),
    "metrics scraped": Way(SHOWN, scraped),
}


def main() -> int:
    """Measure what the command line asks for."""
    options = parse_arguments()
    if options.side:
        serve_in_turns(*options.side)
        return 0
    clean_up_when_terminated()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("cost_of_seeing.py: needs two cores: one for the server, one for the client", file=sys.stderr)
        return 3
    with ExitStack() as stack:
        ways = dict(WAYS)
        if options.without_statistics:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-tree-")))
            ways["no statistics"] = Way(tree=without_statistics(directory))
        if options.way:
            ways = {name: way for name, way in ways.items() if name == NOTHING or name in options.way}
        os.sched_setaffinity(0, {cores[0]})  # and so for all that is not the server
        for name in options.workload or ("hello", "browser"):
            workload = WORKLOADS[name]
            if options.only != "load":
                unwatched = {name: way for name, way in ways.items() if way.watched is None}
                spent = in_turns(unwatched, workload, options.rounds * 100, cores[-1])
                print_table(f"{workload.title}: in turns", {"CPU µs/request": spent})
            if options.only != "turns":
                speeds, spent = under_load(ways, workload, options, (cores[-1], cores[0]))
                print_table(f"{workload.title}: under load", {"requests/s": speeds, "CPU µs/request": spent})
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="under load; there are 100 times as many turns")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each measurement")
    parser.add_argument("--only", choices=("turns", "load"))
    parser.add_argument("--workload", action="append", choices=("hello", "browser"), help="default: both")
    parser.add_argument("--way", action="append", metavar="NAME", help=f"beside {NOTHING!r}; default: all")
    parser.add_argument("--without-statistics", action="store_true", help="compile a copy without them, too")
    parser.add_argument("--side", nargs=2, metavar=("WAY", "WORKLOAD"), help=argparse.SUPPRESS)
    return parser.parse_args()


Samples = Mapping[str, Sequence[float]]


def print_table(title: str, figures: Mapping[str, Samples]) -> None:
    """Print each figure of each way, and its ratio to the first way."""
    rows = [["way", *(head for figure in figures for head in (figure, "ratio"))]]
    for way in next(iter(figures.values())):
        row = [way]
        for samples in figures.values():
            first = next(iter(samples.values()))
            ratio = median(mine / base for mine, base in zip(samples[way], first, strict=True))
            middle = median(samples[way])
            row += [f"{middle:,.0f}" if middle > 1000 else f"{middle:.2f}", f"{ratio:.3f}"]
        rows.append(row)
    print(f"\n## {title}\n", *align(rows), sep="\n", flush=True)


# --- in turns ---------------------------------------------------------------------------------------------------------


def in_turns(ways: Mapping[str, Way], workload: Workload, rounds: int, core: int) -> Samples:
    """Microseconds of each way's server for a request, in each round."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_side(name, way, workload, core)) for name, way in ways.items()}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + rounds // 10):
            for name, turn in sides.items():
                micros = turn()
                if number >= rounds // 10:  # after they have become warm
                    spent[name].append(micros)
    return spent


@contextmanager
def _side(name: str, way: Way, workload: Workload, core: int) -> Iterator[Callable[[], float]]:
    """A server that turns when it is told to: what is yielded does so, and returns microseconds per request."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, open(Path(scratch, "stderr"), "wb") as stderr:
        process = subprocess.Popen(
            (sys.executable, __file__, "--side", name, workload.name),
            env=os.environ | _environment(way),
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        commands, answers = process.stdin, process.stdout

        def turn() -> float:
            commands.write(b"\n")
            commands.flush()
            answer = answers.readline()
            if not answer:
                raise RuntimeError(f"{name}: {Path(scratch, 'stderr').read_text()[-2000:]}")
            return float(answer)

        try:
            yield turn
        finally:
            commands.close()  # which it takes as a hint
            process.wait()


def serve_in_turns(name: str, workload_name: str) -> None:
    """In a process of its own: answers each line on stdin with what a request cost the server."""
    from kaserve import Config, Request, Response, Server

    settings = _settings(WAYS.get(name, Way()))
    answered = 0

    def hello(request: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response.text("hello")

    server = Server(hello, Config(port=0, keep_alive_requests=0, **settings))
    server.open()
    assert isinstance(server.address, tuple)
    clients = [socket.create_connection(server.address) for _ in range(CONNECTIONS)]
    segment = WORKLOADS[workload_name].segment("127.0.0.1")
    since = time.process_time_ns()
    for _ in sys.stdin:
        began_with, of_clients = answered, 0
        for turn in range(1, TURNS + 1):
            began = time.thread_time_ns()
            for client in clients:
                client.sendall(segment)
            of_clients += time.thread_time_ns() - began
            while answered < began_with + turn * CONNECTIONS:
                server.step(0)
            began = time.thread_time_ns()
            for client in clients:
                client.recv(65536)
            of_clients += time.thread_time_ns() - began
        now = time.process_time_ns()  # of all threads: one may be writing the log
        print((now - since - of_clients) / 1000 / (TURNS * CONNECTIONS), flush=True)
        since = now
    server.close()


def _settings(way: Way) -> dict[str, Any]:
    return {"access_log": "log_format" in way.settings, **way.settings}


def _environment(way: Way) -> dict[str, str]:
    """Let a child find the apps, and kaserve: the way's own, or the installed one if there is one, or the checkout."""
    own = [str(way.tree)] if way.tree else [] if importlib.util.find_spec("kaserve") else [str(ROOT)]
    return {"PYTHONPATH": os.pathsep.join([*own, str(APPS)])}


# --- under load -------------------------------------------------------------------------------------------------------


def under_load(
    ways: Mapping[str, Way], workload: Workload, options: argparse.Namespace, cores: tuple[int, int]
) -> tuple[Samples, Samples]:
    """Requests a second and microseconds of processor time for each, of each way in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            speed, micros = _load(way, workload, options.seconds, cores)
            speeds[name].append(speed)
            spent[name].append(micros)
    return speeds, spent


def _load(way: Way, workload: Workload, seconds: int, cores: tuple[int, int]) -> tuple[float, float]:
    port = free_port()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in way.settings.items()]
    if "log_format" not in way.settings:
        arguments.append("--no-access-log")
    command = Command(
        (sys.executable, "-m", "kaserve", str(port), "--handler", "hello_app:hello", *arguments), env=_environment(way)
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        running(command, core=cores[0], directory=Path(name)) as child,
    ):
        if not wait_until(lambda: accepts(port), 15):
            raise RuntimeError(f"it did not start: {child.last_words()}")
        send = partial(
            wrk.run,
            f"http://127.0.0.1:{port}/",
            workload.segment(f"127.0.0.1:{port}"),
            core=cores[1],
            scratch=Path(name),
        )
        with nullcontext() if way.watched is None else way.watched(port):
            send(1)
            before = child.cpu_seconds()
            load = send(seconds)
            cpu = child.cpu_seconds() - before
    if load.errors:
        raise RuntimeError(load.errors)
    return load.requests_per_second, cpu / load.requests * 1e6


# --- without statistics -----------------------------------------------------------------------------------------------

_NOTHING = "        return  # nothing, to see what it would cost\n"
_COUNTS = {
    "kaserve/telemetry/counters.py": {
        "        if gap < 0:\n": _NOTHING + "        if gap < 0:\n",
        "        self.requests += 1\n": _NOTHING + "        self.requests += 1\n",
    },
    "kaserve/net/connection.py": {
        "        self._service.stats.received += len(data)\n": "",
        "        self._service.stats.sent += sent\n": "",
        "        self._service.stats.latency.add(now - self._began)\n": "",
    },
}
"""What a request adds to the statistics, and what it is replaced with. The clock is still looked at where an answer
ends: the time since when a connection is idle is needed in any case."""


def without_statistics(directory: Path) -> Path:
    """A compiled copy of the checkout that counts nothing for a request."""
    tree = directory / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "*.so", "*.c", "__pycache__", "results"))
    for name, replacements in _COUNTS.items():
        text = (tree / name).read_text()
        for old, new in replacements.items():
            if old not in text:
                raise RuntimeError(f"{name} has changed: there is no {old.strip()!r} in it")
            text = text.replace(old, new)
        (tree / name).write_text(text)
    build = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode or not list(tree.glob("kaserve/net/connection.*.so")):
        raise RuntimeError(f"it did not compile: {done.stderr[-2000:]}")
    return tree


if __name__ == "__main__":
    sys.exit(main())
