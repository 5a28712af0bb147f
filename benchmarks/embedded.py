"""A handler in an asyncio program compared with the stand-alone server: at least 0.7 of its speed is required.

    python benchmarks/embedded.py
    python benchmarks/embedded.py --rounds 3 --seconds 1

Both run in separate processes and are measured by wrk in interleaved rounds. Meanwhile the asyncio program has a task
that should run every 10 ms; its runs are counted. Exits with 1 if the speed or the number of runs is too low.
"""

import argparse
import asyncio
import importlib.util
import os
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

from lib import wrk
from lib.environment import ROOT, kaserve_environment
from lib.processes import Command, clean_up_when_terminated, running, wait_until
from lib.serving import free_port

RATIO = 0.7
TICKS_PER_SECOND = 20  # an idle loop makes a hundred; one iteration with 64 requests is long
WAYS = ("alone", "in asyncio")


def serve_here(way: str, port: int) -> None:
    """Runs in a separate process: the same handler, which responds with the number of times that the task has run."""
    sys.path.insert(0, str(ROOT / "examples"))
    from kaserve import Config, Request, Response, Server

    ticks = 0

    def handler(request: Request) -> Response:
        return Response.text(f"{ticks}")

    server = Server(handler, Config(port=port, access_log=False))
    if way == "alone":
        server.run()
        return
    in_asyncio = importlib.import_module("in_asyncio")

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    async def program() -> None:
        server.open()
        ticking = asyncio.create_task(tick())
        await in_asyncio.serve(server)
        ticking.cancel()

    asyncio.run(program())


def measure(way: str, seconds: int, cores: tuple[int, int]) -> tuple[float, float]:
    """Requests a second, and ticks a second meanwhile."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = Command((sys.executable, __file__, "--serve", way, str(port)), env=kaserve_environment())

    def ticks() -> int | None:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return int(response.read())
        except OSError:
            return None

    with tempfile.TemporaryDirectory() as name, running(command, core=cores[0], directory=Path(name)) as child:
        if not wait_until(lambda: ticks() is not None, 10):
            raise RuntimeError(f"{way} did not start: {child.last_words()}")
        before = ticks() or 0
        load = wrk.run(
            url,
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode(),
            seconds,
            core=cores[1],
            scratch=Path(name),
        )
        after = ticks() or 0
    if load.errors:
        raise RuntimeError(f"{way}: {load.errors}")
    return load.requests_per_second, (after - before) / load.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--serve", nargs=2, metavar=("WAY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_here(options.serve[0], int(options.serve[1]))
        return 0
    clean_up_when_terminated()
    available = sorted(os.sched_getaffinity(0))
    cores = available[-1], available[0]
    ratios, ticks = [], []
    for number in range(options.rounds):
        (alone, _), (embedded, ticked) = (measure(way, options.seconds, cores) for way in WAYS)
        ratios.append(embedded / alone)
        ticks.append(ticked)
        print(
            f"round {number + 1}: alone {alone:,.0f}/s, in asyncio {embedded:,.0f}/s, {ticked:.0f} ticks/s", flush=True
        )
    ratio, least = statistics.median(ratios), min(ticks)
    print(f"ratio {ratio:.2f} (required: {RATIO}), at least {least:.0f} ticks/s (required: {TICKS_PER_SECOND})")
    return int(ratio < RATIO or least < TICKS_PER_SECOND)


if __name__ == "__main__":
    sys.exit(main())
