"""The client: wrk, one thread, 64 connections."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CONNECTIONS = 64
SCRIPT = Path(__file__).resolve().parent / "send.lua"
TIMEOUT_SECONDS = 10
"""When wrk counts a timeout; above its own 2 s, because 64 files of 10 MiB from a slow server take longer."""


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    seconds: float
    body_and_head_bytes: int
    p99_us: float
    """Latency of the 99th percentile, microseconds; 0 where wrk cannot say."""
    errors: str
    """What went wrong, as a phrase; empty when nothing did."""

    @property
    def requests_per_second(self) -> float:
        """The throughput."""
        return self.requests / self.seconds


def run(
    url: str, segment: bytes, seconds: int, *, core: int | None = None, scratch: Path, pipelined: bool = False
) -> Load:
    """Send `segment` again and again on 64 connections, from one core if `core` is given.

    pipelined: whether there is more than one request in it.
    """
    file = scratch / "segment.http"
    file.write_bytes(segment)
    options = ("-t1", f"-c{CONNECTIONS}", f"-d{seconds}", f"--timeout={TIMEOUT_SECONDS}", "-s", str(SCRIPT))
    done = subprocess.run(
        ("wrk", *options, url, "--", str(file)),
        capture_output=True,
        text=True,
        timeout=seconds + TIMEOUT_SECONDS + 10,
        preexec_fn=None if core is None else partial(os.sched_setaffinity, 0, {core}),
        check=False,
    )
    report = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not report:
        raise RuntimeError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    return _parse(json.loads(report[-1]), pipelined=pipelined)


def _parse(report: dict[str, int], *, pipelined: bool) -> Load:
    kinds = ("connect", "read", "write", "timeout", "status")
    counted = [f"{report[kind]} {_LABELS[kind]}" for kind in kinds if report[kind]]
    return Load(
        requests=report["requests"],
        seconds=report["duration"] / 1e6,
        body_and_head_bytes=report["bytes"],
        # wrk times a whole pipeline, but corrects the distribution as if that were the time of one request.
        p99_us=0 if pipelined else report["p99"],
        errors=", ".join(counted),
    )


_LABELS = {
    "connect": "failed connects",
    "read": "read errors",
    "write": "write errors",
    "timeout": "timeouts",
    "status": "responses not 2xx or 3xx",
}
