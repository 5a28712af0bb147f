"""Servers under load by wrk, from another core: requests per second, and processor time for each."""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from lib import wrk
from lib.environment import kaserve_environment
from lib.observability.configurations import Configuration, Samples
from lib.processes import Command, running, wait_until
from lib.serving import accepts, free_port
from lib.workloads import Workload


def under_load(
    configurations: Mapping[str, Configuration], workload: Workload, options: argparse.Namespace, cores: tuple[int, int]
) -> tuple[Samples, Samples]:
    """Requests a second and microseconds of processor time for each, of each configuration in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in configurations}
    spent: dict[str, list[float]] = {name: [] for name in configurations}
    for _ in range(options.rounds):
        for name, configuration in configurations.items():
            speed, micros = _load(configuration, workload, options.seconds, cores)
            speeds[name].append(speed)
            spent[name].append(micros)
    return speeds, spent


def _load(
    configuration: Configuration, workload: Workload, seconds: int, cores: tuple[int, int]
) -> tuple[float, float]:
    port = free_port()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in configuration.settings.items()]
    if "log_format" not in configuration.settings:
        arguments.append("--no-access-log")
    command = Command(
        (sys.executable, "-m", "kaserve", str(port), "--handler", "hello_app:hello", *arguments),
        env=kaserve_environment(configuration.tree),
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
        with nullcontext() if configuration.watched is None else configuration.watched(port):
            send(1)
            before = child.cpu_seconds()
            load = send(seconds)
            cpu = child.cpu_seconds() - before
    if load.errors:
        raise RuntimeError(load.errors)
    return load.requests_per_second, cpu / load.requests * 1e6
