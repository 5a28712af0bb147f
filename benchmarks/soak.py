"""Everything at once, for as long as you like: is every byte right, and is nothing leaked?

    python benchmarks/soak.py --seconds 1200

Clients of all kinds share a kaserve: browsers that keep their connections and pause, pipelines, uploads with a length
and in chunks, slow senders and slow readers, clients that vanish or reset in the middle, and clients that send nothing
or nonsense. Each response is checked by its content; a client that cannot get one must get an error.

In the first half kaserve is drained and replaced every ten seconds. In the second half one process is watched: its
memory must not grow, and when all clients have left, it must have as many descriptors as at its start. The exit code is
1 when anything was wrong.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from typing import get_args

from lib.kaserve_process import KaserveProcess, ProcessFailed
from lib.processes import clean_up_when_terminated, raise_descriptor_limit
from lib.replaceable_server import ReplaceableServer, Way
from lib.soak.clients import CLIENTS, MAX_FAULTS, PATIENCE, Clients
from lib.soak.connection import Tally
from lib.tables import align

OPTIONS = (
    *("--handler", "echo_app:echo_in_pieces", "--no-access-log"),
    *("--keep-alive", "3", "--keep-alive-requests", "150", "--keep-alive-time", "20"),
    *("--header-timeout", "3", "--body-timeout", "5", "--send-timeout", "5"),
)
REPLACED_SECONDS = 10.0
MAX_GROWTH = 8 << 20
"""Bytes of resident memory, after the first quarter of a process's life."""


@dataclass
class Watch:
    """What was seen of the processes: the replaced ones, and the one that is watched in the second half."""

    replaced: int = 0
    memory_at_first: int = 0
    memory_at_last: int = 0
    descriptors_at_first: int = 0
    descriptors_at_most: int = 0
    descriptors_at_last: int = 0


async def soak(clients: Clients, server: ReplaceableServer, seconds: float, watch: Watch) -> None:
    """Runs all clients for `seconds`. Raises ProcessFailed."""
    watch.descriptors_at_first = server.current.descriptors_at_start
    start = time.monotonic()
    tasks = [asyncio.create_task(clients.loop(kind.__name__, kind)) for kind, count in CLIENTS for _ in range(count)]
    try:
        while time.monotonic() - start < seconds / 2 and len(clients.tally.faults) < MAX_FAULTS:
            await asyncio.sleep(min(REPLACED_SECONDS, seconds / 5))
            await asyncio.to_thread(server.replace)
            watch.replaced += 1
        await asyncio.to_thread(server.settle)
        clients.may_drain = False
        process = server.current
        first_quarter = time.monotonic() + seconds / 8
        while time.monotonic() - start < seconds and len(clients.tally.faults) < MAX_FAULTS:
            await asyncio.sleep(min(1.0, seconds / 20))
            watch.descriptors_at_most = max(watch.descriptors_at_most, process.descriptors)
            watch.memory_at_last = process.resident_bytes
            if time.monotonic() < first_quarter:
                watch.memory_at_first = max(watch.memory_at_first, watch.memory_at_last)
    finally:
        clients.stopping = True
        await asyncio.gather(*tasks)
    watch.descriptors_at_last = await quiet_descriptors(process, watch.descriptors_at_first)


async def quiet_descriptors(process: KaserveProcess, expected: int) -> int:
    """How many are open after all connections were closed, or should have been."""
    end = time.monotonic() + PATIENCE
    while process.descriptors > expected and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return process.descriptors


def show(tally: Tally, watch: Watch) -> None:
    rows = [["clients", "visits", "responses", "MB sent", "MB received"]]
    for kind, count in CLIENTS:
        name = kind.__name__
        traffic = [f"{tally.sent[name] / 1e6:,.1f}", f"{tally.received[name] / 1e6:,.1f}"]
        words = name.replace("_", " ")
        rows.append([f"{count} that {words}", f"{tally.visits[name]:,}", f"{tally.responses[name]:,}", *traffic])
    print("\n".join(align(rows, words={"clients"})))
    print(f"drained and replaced: {watch.replaced} times; requests that crossed its close: {tally.crossed}")
    memory = watch.memory_at_first / 2**20, watch.memory_at_last / 2**20
    print(f"resident memory of the last process: {memory[0]:.1f} MiB at first, {memory[1]:.1f} MiB in the end")
    descriptors = watch.descriptors_at_first, watch.descriptors_at_most, watch.descriptors_at_last
    print("its descriptors: {} without a client, up to {}, {} in the end".format(*descriptors))


def main() -> int:
    """Run, and print the results."""
    parser = argparse.ArgumentParser(description="Use kaserve in all ways at once, and check every response.")
    parser.add_argument("--seconds", type=float, default=180.0, help="for how long (%(default)s)")
    parser.add_argument("--way", choices=get_args(Way), default="handover", help="how it is replaced (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the clients' choices (%(default)s)")
    options = parser.parse_args()
    clean_up_when_terminated()
    raise_descriptor_limit()
    with ReplaceableServer(options.way, *OPTIONS) as server:
        clients = Clients(server.port, options.seed)
        faults = clients.tally.faults
        watch = Watch()
        try:
            asyncio.run(soak(clients, server, options.seconds, watch))
            server.finish()
        except ProcessFailed as error:
            faults.append(str(error))
        show(clients.tally, watch)
        if watch.memory_at_last - watch.memory_at_first > MAX_GROWTH:
            faults.append("its memory has grown")
        if watch.descriptors_at_last > watch.descriptors_at_first:
            faults.append("descriptors were left open")
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "every response was right, and nothing was leaked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
