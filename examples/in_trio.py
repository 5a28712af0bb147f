"""kaserve in a trio program: one of its tasks runs the server.

python examples/in_trio.py [PORT], until Ctrl-C.
"""

from __future__ import annotations

import math
import signal
import sys

import trio

from kaserve import Config, Request, Response, Server


async def serve(server: Server) -> None:
    """Runs `server`, which is open, in this task until it has stopped."""
    try:
        while not server.stopped:
            timeout = server.timeout()
            with trio.move_on_after(math.inf if timeout is None else timeout):
                await trio.lowlevel.wait_readable(server.fileno())
            server.step()
    finally:
        server.close()


class Program:
    """Something else that runs: it counts ticks, which the responses show."""

    def __init__(self) -> None:
        self.ticks = 0

    async def tick(self) -> None:
        while True:
            self.ticks += 1
            await trio.sleep(0.01)

    def handler(self, request: Request) -> Response:
        return Response.text(f"{self.ticks} ticks\n")


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    program = Program()
    server = Server(program.handler, Config(port=port))
    server.open()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for _ in signals:
                    server.shutdown(3.0)

            nursery.start_soon(program.tick)
            nursery.start_soon(stop)
            print(f"at {server.url} until Ctrl-C", flush=True)
            await serve(server)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
