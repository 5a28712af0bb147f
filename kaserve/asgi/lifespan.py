"""Lifespan: an application's startup and shutdown (ASGI specification, "Lifespan Protocol").

Knows the messages of the protocol, and which failures end the server. Does not know when a server starts and stops.

The application runs once for this, in a task that lasts as long as the server: it waits in `receive` for the shutdown.
An application that does not know the protocol raises when it is called for it. That cannot be told from a mistake in
its startup for certain, so it depends on how far it came. One that raised before it had received the startup is taken
not to know the protocol, as the specification says. One that raised after that is still served, since many
applications receive first and look at the scope later, but a line in the log says so; `--lifespan on` makes it an
error.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..net.service import StartupFailed
from .call import Application, Message

__all__ = ["MODES", "Lifespan"]

log = logging.getLogger("kaserve")

MODES = ("auto", "on", "off")


class Lifespan:
    """The lifespan of one application in one server.

    Attributes:
        state: what the application keeps for its requests (`scope["state"]`); None if it does not know the protocol.
    """

    def __init__(self, app: Application, mode: str, loop: asyncio.AbstractEventLoop) -> None:
        """Prepares.

        Args:
            app: the application.
            mode: "on" if it must know the protocol, "off" to leave it out, "auto" to find out.
            loop: runs it.
        """
        self._app = app
        self._mode = mode
        self._loop = loop
        self.state: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] = loop.create_future()  # its result says that it was told to start
        self._stop_asked: asyncio.Future[None] = loop.create_future()
        self._received = 0
        self._failure: str | None = None  # what the application says about its startup

    async def start(self) -> None:
        """Has the application start.

        Raises:
            StartupFailed: it cannot.
        """
        if self._mode == "off":
            return
        self.state = {}
        self._task = self._loop.create_task(self._run(), name="kaserve lifespan")
        await asyncio.wait([self._task, self._started], return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            await asyncio.wait([self._task], timeout=1.0)  # mostly it raises now, which says where it failed
        if self._task.done():
            self._give_up(self._task)

    async def stop(self) -> None:
        """Has the application stop, and waits until it has."""
        task = self._task
        if task is None or task.done():
            return
        if not self._started.done():  # the server stops before the application has started
            task.cancel()
        elif not self._stop_asked.done():
            self._stop_asked.set_result(None)
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            log.error("the application failed to stop", exc_info=task.exception())

    def cancel(self) -> None:
        """Ends it at once."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._receive, self._send)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """The task has ended before the application had started, or with that."""
        error = None if task.cancelled() else task.exception()
        if self._failure is not None:
            raise StartupFailed(_first_lines(self._failure)) from error
        if self._started.done() and error is None:
            return  # it has started, and wants nothing more
        if self._mode == "on":
            reason = "it returned before it had started" if error is None else f"{type(error).__name__}: {error}"
            raise StartupFailed(reason) from error
        self.state = None
        if error is not None and self._received:
            log.warning(
                "the application is served without a lifespan, since it raised %s: %s (--lifespan off says that it has "
                "none, --lifespan on makes this an error)",
                type(error).__name__,
                error,
            )

    async def _receive(self) -> Message:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        await asyncio.shield(self._stop_asked)
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self._started.done():
            self._started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._started.done():
            self._failure = str(message.get("message", ""))
            self._started.set_result(None)
        elif kind == "lifespan.shutdown.failed":
            log.error("the application failed to stop: %s", message.get("message", ""))
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"the application has sent {kind!r} in its lifespan")


def _first_lines(text: str) -> str:
    """The message of an application, which is often a whole traceback: its last line says what has happened."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said no more"
