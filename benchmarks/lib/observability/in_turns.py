"""Servers that take turns on one core, each with connections of its own: their processor time for each request.

The turns are short, so that a longer disturbance of the machine affects all servers alike.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from lib.environment import BENCHMARKS, kaserve_environment
from lib.observability.configurations import CONFIGURATIONS, Configuration, Samples, settings
from lib.workloads import WORKLOADS, Workload

CONNECTIONS = 32
ITERATIONS = 20
"""Of all connections in one turn, which then takes some five milliseconds: short compared with what disturbs a machine,
long compared with the change of processes."""


def in_turns(configurations: Mapping[str, Configuration], workload: Workload, rounds: int, core: int) -> Samples:
    """Microseconds of each configuration's server for a request, in each round."""
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(_side(name, configuration, workload, core))
            for name, configuration in configurations.items()
        }
        spent: dict[str, list[float]] = {name: [] for name in configurations}
        for number in range(rounds + rounds // 10):
            for name, turn in sides.items():
                micros = turn()
                if number >= rounds // 10:  # after they have become warm
                    spent[name].append(micros)
    return spent


@contextmanager
def _side(name: str, configuration: Configuration, workload: Workload, core: int) -> Iterator[Callable[[], float]]:
    """Starts a server. Yields a function that runs one turn of it and returns microseconds per request."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, open(Path(scratch, "stderr"), "wb") as stderr:
        process = subprocess.Popen(
            (sys.executable, str(BENCHMARKS / "cost_of_observability.py"), "--serve", name, workload.name),
            env=os.environ | kaserve_environment(configuration.tree),
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        commands, responses = process.stdin, process.stdout

        def turn() -> float:
            commands.write(b"\n")
            commands.flush()
            response = responses.readline()
            if not response:
                raise RuntimeError(f"{name}: {Path(scratch, 'stderr').read_text()[-2000:]}")
            return float(response)

        try:
            yield turn
        finally:
            commands.close()  # the end of its stdin ends the server
            process.wait()


def serve_in_turns(name: str, workload_name: str) -> None:
    """Runs in a separate process: does one turn per line on stdin, and prints the server's microseconds per request."""
    from kaserve import Config, Request, Response, Server

    answered = 0

    def hello(request: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response.text("hello")

    server = Server(hello, Config(port=0, keep_alive_requests=0, **settings(CONFIGURATIONS.get(name, Configuration()))))
    server.open()
    assert isinstance(server.address, tuple)
    clients = [socket.create_connection(server.address) for _ in range(CONNECTIONS)]
    segment = WORKLOADS[workload_name].segment("127.0.0.1")
    since = time.process_time_ns()
    for _ in sys.stdin:
        began_with, of_clients = answered, 0
        for turn in range(1, ITERATIONS + 1):
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
        print((now - since - of_clients) / 1000 / (ITERATIONS * CONNECTIONS), flush=True)
        since = now
    server.close()
