"""How an asyncio event loop and the reactor of a server share a thread (`net.service.Host`).

There are two ways. `LoopHost` is a loop of the server's own, in which asyncio and the reactor wait in one system call.
`GuestHost` is for a loop that is there already, because a program runs in it, or that is written in C: the reactor is a
descriptor and a timer in it. Knows loops and the reactor. Does not know what runs in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from concurrent.futures import Future
from typing import Any, cast

from ..net.reactor import Reactor
from ..net.service import Service
from .coroutines import CoroutineHandlers, coroutines_of
from .loop import ReactorLoop
from .tasks import wait_for

__all__ = ["GuestHost", "LoopHost", "loop_of", "new_host"]

log = logging.getLogger("kaserve")

_CLEANUP = 0.25  # seconds for tasks that were cancelled because the loop closes


def new_host(kind: str, reactor: Reactor) -> LoopHost | GuestHost:
    """Returns what runs `reactor`: the loop that runs in this thread, if there is one, or else a new loop.

    Args:
        kind: "asyncio", or "uvloop", which must be installed.
        reactor: runs the server.

    Raises:
        ImportError: uvloop is not installed.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not None:
        return GuestHost(reactor, running, owns_loop=False)
    if kind == "uvloop":
        import uvloop  # an option

        return GuestHost(reactor, uvloop.new_event_loop(), owns_loop=True)
    return LoopHost(reactor)


def loop_of(service: Service) -> asyncio.AbstractEventLoop:
    """Returns the event loop in which coroutines of `service` run, which is made for the first one that asks."""
    host: Any = service.get_host()
    loop: asyncio.AbstractEventLoop = host.loop
    return loop


class LoopHost:
    """A loop of its own, which closes with the server.

    Attributes:
        loop: the loop.
    """

    def __init__(self, reactor: Reactor) -> None:
        self.loop = ReactorLoop(reactor)
        self._root = _RootTask(self.loop)

    def run(self) -> None:
        self._root.run()

    def coroutines(self, service: Service) -> CoroutineHandlers:
        return coroutines_of(service, self.loop)

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        return wait_for(self.loop, future)

    def stop(self) -> None:
        self._root.stop()

    def step(self, timeout: float | None) -> None:
        self.loop.turn(timeout)

    def timeout(self) -> float | None:
        return _earlier(self.loop.timeout(), self.loop.reactor.timeout())

    def close(self) -> None:
        if not self.loop.is_closed():
            _clean_up(self.loop)
            self.loop.close()


class GuestHost:
    """A loop that knows nothing of the reactor, which is a descriptor and a timer in it.

    Attributes:
        loop: the loop.
    """

    def __init__(self, reactor: Reactor, loop: asyncio.AbstractEventLoop, *, owns_loop: bool) -> None:
        """Lets `loop` turn `reactor` whenever that has something to do.

        Args:
            reactor: runs the server.
            loop: an asyncio event loop of any kind.
            owns_loop: whether to run it, and to close it in the end.
        """
        self.loop = loop
        self._reactor = reactor
        self._owns_loop = owns_loop
        self._timer: asyncio.Handle | None = None
        self._is_open = True
        self._is_stepping = False
        self._root = _RootTask(loop)
        loop.add_reader(reactor.fileno(), self._turn)
        self._set_timer()

    def run(self) -> None:
        """Runs the loop; not if it is that of a program, which runs it itself."""
        if not self._owns_loop:
            raise RuntimeError("this server was opened in an event loop that runs already: use kaserve.serve() there")
        self._root.run()

    def coroutines(self, service: Service) -> CoroutineHandlers:
        return coroutines_of(service, self.loop)

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        return wait_for(self.loop, future)

    def stop(self) -> None:
        if self._owns_loop:
            self._root.stop()

    def step(self, timeout: float | None) -> None:
        """Runs the loop for one turn of the reactor, or until the time has passed. A program that turns the server in
        its own loop need not do that here, but may."""
        if not self._owns_loop:
            self._turn()
            return
        end = None if timeout is None else self.loop.call_later(timeout, self.loop.stop)
        self._is_stepping = True
        try:
            self.loop.run_forever()
        finally:
            self._is_stepping = False
            if end is not None:
                end.cancel()

    def timeout(self) -> float | None:
        return self._reactor.timeout()

    def _turn(self) -> None:
        self._reactor.step(0.0)
        if self._is_open:
            self._set_timer()
        if self._is_stepping:
            self.loop.stop()

    def _set_timer(self) -> None:
        timeout = self._reactor.timeout()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout is not None:
            self._timer = self.loop.call_later(timeout, self._turn) if timeout > 0 else self.loop.call_soon(self._turn)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._reactor.fileno())
        if self._owns_loop and not self.loop.is_closed():
            _clean_up(self.loop)
            self.loop.close()


class _RootTask:
    """Runs a loop until it is to stop, in a task that does nothing else.

    `run_forever` would do without the task. But libraries look for the one that `run_until_complete` was called with,
    to end with it what they keep for the whole program. Without one, anyio ends its worker threads with the task that
    has started them, which is the request: a new thread for each, in Starlette and FastAPI.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopped: asyncio.Future[None] | None = None

    def run(self) -> None:
        self._stopped = self._loop.create_future()
        asyncio.set_event_loop(self._loop)  # for code that asks for it before it runs in it
        try:
            self._loop.run_until_complete(self._wait(self._stopped))
        finally:
            self._stopped = None
            asyncio.set_event_loop(None)

    async def _wait(self, stopped: asyncio.Future[None]) -> None:
        await stopped

    def stop(self) -> None:
        """Has `run` return soon."""
        if self._stopped is not None:
            if not self._stopped.done():
                self._stopped.set_result(None)
        elif self._loop.is_running():  # or the next run of the loop, to clean up, would stop at once
            self._loop.stop()


def _earlier(*timeouts: float | None) -> float | None:
    return min((timeout for timeout in timeouts if timeout is not None), default=None)


def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels the tasks that are left, and closes asynchronous generators. Waits only a moment for those that do not
    want to end, and not for threads: the process must end in time."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    asyncio.set_event_loop(loop)
    try:
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_CLEANUP))
            _report_failures(loop, tasks)
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _CLEANUP))
    except TimeoutError:
        pass
    finally:
        asyncio.set_event_loop(None)


def _report_failures(loop: asyncio.AbstractEventLoop, tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        if not task.done():  # asyncio would say that it was destroyed, which is what happens next
            cast("Any", task)._log_destroy_pending = False
            log.warning("a task went on although it was cancelled when the server closed: %r", task.get_coro())
        elif not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {"message": "a task failed when the server closed", "exception": task.exception(), "task": task}
            )
