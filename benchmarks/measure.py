"""One measurement: a server, a workload, a Sample."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import wrk
from peers import Peer
from serving import CannotServe, Server, check, serving
from workloads import Workload

WARM_UP_SECONDS = 1
SETTLE_SECONDS = 0.5
HOLDER = Path(__file__).resolve().parent / "idle_holder.py"


@dataclass(frozen=True)
class Bench:
    """What every measurement has in common."""

    directory: Path
    """The files that are served."""
    seconds: int
    """How long each measurement lasts; wrk takes whole seconds."""
    server_core: int
    client_core: int


@dataclass(frozen=True)
class Idle:
    """What the idle connections cost."""

    connections: int
    """How many were open to the end."""
    bytes_each: float
    """Resident memory of the server for each of them."""
    throughput_kept: float
    """Throughput beside them, divided by the throughput before they came."""


@dataclass(frozen=True)
class Sample:
    """What one measurement found."""

    requests_per_second: float
    cpu_us: float
    """CPU time of the server's processes for each request, microseconds."""
    busy: float
    """CPU time of the server divided by the time that passed: below 1 it waited for the client (or for itself)."""
    resident_bytes: int
    p99_us: float
    """0 where wrk cannot say."""
    errors: str
    idle: Idle | None = None


def measure(peer: Peer, workload: Workload, bench: Bench) -> Sample:
    """Start a peer afresh, check that it does the workload, warm it up, and measure it."""
    with serving(peer, workload.app, bench.directory, core=bench.server_core) as server:
        check(server, workload)
        _load(server, workload, bench, WARM_UP_SECONDS)
        if workload.idle:
            return _measure_beside_idle(server, workload, bench)
        return _sample(server, workload, bench)


def _load(server: Server, workload: Workload, bench: Bench, seconds: int) -> wrk.Load:
    site = server.site
    return wrk.run(
        site.url + "/",
        workload.segment(site.address),
        seconds,
        core=bench.client_core,
        scratch=site.scratch,
        pipelined=workload.pipelined > 1,
    )


def _sample(server: Server, workload: Workload, bench: Bench) -> Sample:
    cpu_before = server.child.cpu_seconds()
    load = _load(server, workload, bench, bench.seconds)
    cpu = server.child.cpu_seconds() - cpu_before
    if not server.child.alive():
        raise CannotServe(f"died: {server.child.last_words()}")
    if load.requests == 0:
        raise CannotServe(f"answered nothing ({load.errors or 'no error'})")
    return Sample(
        requests_per_second=load.requests_per_second,
        cpu_us=cpu / load.requests * 1e6,
        busy=cpu / load.seconds,
        resident_bytes=server.child.resident_bytes(),
        p99_us=load.p99_us,
        errors=load.errors,
    )


def _measure_beside_idle(server: Server, workload: Workload, bench: Bench) -> Sample:
    """Measure without idle connections and then with them, in the same process."""
    alone = _sample(server, workload, bench)
    time.sleep(SETTLE_SECONDS)
    before = server.child.resident_bytes()
    with _idle_connections(server.site.port, workload.idle) as holder:
        time.sleep(SETTLE_SECONDS)
        after = server.child.resident_bytes()
        beside = _sample(server, workload, bench)
        left = holder.finish()
    if left < workload.idle:
        raise CannotServe(f"closed {workload.idle - left} of {workload.idle} idle connections")
    idle = Idle(left, (after - before) / left, beside.requests_per_second / alone.requests_per_second)
    return replace(beside, idle=idle)


class _Holder:
    """The process that holds the idle connections."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def report(self) -> tuple[int, str]:
        """How many connections are open, and why not all."""
        assert self._process.stdout is not None
        line = json.loads(self._process.stdout.readline() or '{"open": 0, "error": "the holder failed"}')
        return line["open"], line["error"]

    def finish(self) -> int:
        """Let go; how many were still open."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.report()[0]


@contextmanager
def _idle_connections(port: int, count: int) -> Iterator[_Holder]:
    """Hold `count` idle connections while the block lasts; CannotServe if the server does not take them all."""
    process = subprocess.Popen(
        (sys.executable, str(HOLDER), str(port), str(count)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    holder = _Holder(process)
    try:
        opened, reason = holder.report()
        if opened < count:
            raise CannotServe(f"took {opened} of {count} idle connections: {reason}")
        yield holder
    finally:
        process.kill()
        process.wait()
