"""One measurement: a server and a workload make a Sample."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from lib import wrk
from lib.idle_connections import idle_connections
from lib.peers import Peer
from lib.serving import CannotServe, Server, check, serving
from lib.workloads import Workload

WARM_UP_SECONDS = 1
SETTLE_SECONDS = 0.5


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
    """Throughput with them, divided by that without them."""


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
            return _measure_with_idle(server, workload, bench)
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
        raise CannotServe(f"sent no response ({load.errors or 'no error'})")
    return Sample(
        requests_per_second=load.requests_per_second,
        cpu_us=cpu / load.requests * 1e6,
        busy=cpu / load.seconds,
        resident_bytes=server.child.resident_bytes(),
        p99_us=load.p99_us,
        errors=load.errors,
    )


def _measure_with_idle(server: Server, workload: Workload, bench: Bench) -> Sample:
    """Measure without idle connections and then with them, in the same process."""
    alone = _sample(server, workload, bench)
    time.sleep(SETTLE_SECONDS)
    before = server.child.resident_bytes()
    with idle_connections(server.site.port, workload.idle) as held:
        if held.opened.open < workload.idle:
            raise CannotServe(f"took {held.opened.open} of {workload.idle} idle connections: {held.opened.error}")
        time.sleep(SETTLE_SECONDS)
        after = server.child.resident_bytes()
        with_them = _sample(server, workload, bench)
        left = held.close()
    if left < workload.idle:
        raise CannotServe(f"closed {workload.idle - left} of {workload.idle} idle connections")
    idle = Idle(left, (after - before) / left, with_them.requests_per_second / alone.requests_per_second)
    return replace(with_them, idle=idle)
