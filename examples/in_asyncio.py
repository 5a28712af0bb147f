"""kaserve in an asyncio program: one thread, one event loop, and handlers that may use coroutines.

python examples/in_asyncio.py [PORT], until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import Future

from kaserve import Config, Request, Response, Server


async def serve(server: Server) -> None:
    """Runs `server`, which is open, on this event loop until it has stopped."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    server.on_stop = stopped.set
    timer = loop.call_later(0.0, lambda: None)

    def turn() -> None:
        nonlocal timer
        server.step()
        timeout = server.timeout()
        # A timer that fires early is harmless, so it is replaced only when the new deadline is earlier.
        if timeout is not None and (timer.cancelled() or not loop.time() < timer.when() <= loop.time() + timeout):
            timer.cancel()
            timer = loop.call_later(timeout, turn)

    loop.add_reader(server.fileno(), turn)
    turn()
    try:
        await stopped.wait()
    finally:
        timer.cancel()
        loop.remove_reader(server.fileno())
        server.close()


class Program:
    """Something else that runs on the loop: it counts ticks, which the responses show."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ticks = 0

    async def tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)

    def handler(self, request: Request) -> Response | Future[Response]:
        """Returns a response, or a Future of one; the server handles other requests until that is complete."""
        if request.path == "/slow":
            return asyncio.run_coroutine_threadsafe(self.think(), self._loop)
        return Response.text(f"{self.ticks} ticks\n")

    async def think(self) -> Response:
        before = self.ticks
        await asyncio.sleep(0.1)
        return Response.text(f"{self.ticks - before} ticks later\n")


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    loop = asyncio.get_running_loop()
    program = Program(loop)
    server = Server(program.handler, Config(port=port))
    server.open()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.shutdown, 3.0)
    ticking = asyncio.create_task(program.tick())
    print(f"at {server.url} until Ctrl-C", flush=True)
    await serve(server)
    ticking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
