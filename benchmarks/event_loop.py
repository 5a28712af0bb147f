"""asyncio alone, without a server: what kaserve's event loop costs beside asyncio's own.

    python benchmarks/event_loop.py
    python benchmarks/event_loop.py --rounds 9

Two loads that do next to nothing but to use the loop: tasks that only call `sleep(0)`, which is the cost of an
iteration and of its callbacks; and an echo over sockets, by `loop.sock_recv` and by streams, which is the cost of
descriptors. Each runs in both loops in turn, in the same process, and the figure is the processor time of one step.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from statistics import median

from kaserve.asgi.loop import ReactorLoop

TASKS = 100
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "kaserve": ReactorLoop,
}


async def ring(steps: int) -> None:
    """Tasks that give way to each other."""

    async def give_way() -> None:
        for _ in range(steps // TASKS):
            await asyncio.sleep(0)

    await asyncio.gather(*(give_way() for _ in range(TASKS)))


async def one(steps: int) -> None:
    """One task that gives way to nobody: an iteration for each step."""
    for _ in range(steps):
        await asyncio.sleep(0)


async def timers(steps: int) -> None:
    """Tasks that sleep for moments."""

    async def sleep() -> None:
        for _ in range(steps // TASKS):
            await asyncio.sleep(0.00001)

    await asyncio.gather(*(sleep() for _ in range(TASKS)))


async def echo_sockets(steps: int) -> None:
    """An echo by the methods of the loop, over pairs of sockets."""
    loop = asyncio.get_running_loop()

    async def pair() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)

        async def echo() -> None:
            while data := await loop.sock_recv(far, 1024):
                await loop.sock_sendall(far, data)

        task = loop.create_task(echo())
        for _ in range(steps // TASKS):
            await loop.sock_sendall(near, b"x" * 64)
            await loop.sock_recv(near, 1024)
        near.close()
        await task
        far.close()

    await asyncio.gather(*(pair() for _ in range(TASKS)))


async def echo_streams(steps: int) -> None:
    """An echo by asyncio's streams, over TCP."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(steps // TASKS):
            writer.write(b"x" * 64)
            await reader.read(1024)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(TASKS)))
    server.close()


LOADS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "sleep(0), 100 tasks": (ring, 200_000),
    "sleep(0), one task": (one, 50_000),
    "sleep(10 us), 100 tasks": (timers, 20_000),
    "echo, sock_recv": (echo_sockets, 20_000),
    "echo, streams": (echo_streams, 20_000),
}


def measure(load: Callable[[int], Awaitable[None]], steps: int, loop: str) -> float:
    """Returns the microseconds of processor time of a step."""

    async def timed() -> float:
        start = time.process_time()
        await load(steps)
        return (time.process_time() - start) / steps * 1e6

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(timed())


def main() -> None:
    """Measures both loops in turn, and prints the medians and that of the ratios."""
    parser = argparse.ArgumentParser(description="kaserve's event loop beside asyncio's.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    rounds = parser.parse_args().rounds
    print(f"{'load':26}{'asyncio':>10}{'kaserve':>10}{'ratio':>8}   (us of processor time a step)")
    for name, (load, steps) in LOADS.items():
        pairs = [[measure(load, steps, loop) for loop in LOOPS] for _ in range(rounds)]
        own, ours = (median(column) for column in zip(*pairs, strict=True))
        print(f"{name:26}{own:10.2f}{ours:10.2f}{median(b / a for a, b in pairs):8.2f}")


if __name__ == "__main__":
    main()
