"""The startup and shutdown of applications: over the server, which starts and stops with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from kaserve import ASGI, Server
from kaserve.asgi.lifespan import Lifespan
from kaserve.asgi.loop import ReactorLoop
from kaserve.handlers import Mount
from kaserve.net.service import StartupFailed
from tests.tools.asgi import Application, Message, Receive, Scope, Send, hello, respond
from tests.tools.server import Driven, config, connect, get, refuses, serving, wait_for


def recording(notes: list[Any], *, startup: float = 0.0, shutdown: float = 0.0) -> Application:
    """Returns an application with a lifespan that takes some seconds, and responds with its state."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            notes.append(scope["path"])
            await respond(send, str(scope["state"]).encode())
            scope["state"]["count"] = -1
            return
        notes.append((await receive())["type"])
        scope["state"]["count"] = 7
        if startup:
            await asyncio.sleep(startup)
        await send({"type": "lifespan.startup.complete"})
        notes.append((await receive())["type"])
        if shutdown:
            await asyncio.sleep(shutdown)
        notes.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    return app


class TestServer:
    def test_startup_before_the_first_request_and_shutdown_after_the_last(self) -> None:
        notes: list[Any] = []
        with serving(ASGI(recording(notes))) as server, connect(server) as client:
            assert server.ready
            assert client.ask("/a").body == client.ask("/b").body == b"{'count': 7}"  # each has a copy
        assert notes == ["lifespan.startup", "/a", "/b", "lifespan.shutdown", "stopped"]

    def test_clients_wait_in_the_backlog_meanwhile(self) -> None:
        notes: list[Any] = []
        with Driven(ASGI(recording(notes, startup=5))) as driven:
            client = connect(driven.server, driven.turn)
            client.send(get())
            driven.settle()
            assert notes == ["lifespan.startup"]
            ready = [driven.server.ready]
            assert driven.server.stats.accepted == 0
            driven.pass_time(5)
            assert [*ready, driven.server.ready] == [False, True]
            assert client.answer().status == 200
            client.close()

    def test_on_start_comes_when_requests_are_accepted(self) -> None:
        notes: list[Any] = []
        server = Server(ASGI(recording(notes)), config())

        def on_start() -> None:
            notes.append("on_start")
            server.shutdown()

        server.on_start = on_start
        server.run()
        assert notes == ["lifespan.startup", "on_start", "lifespan.shutdown", "stopped"]

    @pytest.mark.parametrize("how", ["run", "with", "step"])
    def test_a_startup_that_fails_ends_the_server(self, how: str, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "Traceback\n  ...\nno database"})
            raise KeyError("no database")

        server = Server(ASGI(app), config())
        if how == "with":
            start: Callable[[], object] = server.__enter__
        else:
            server.open()
            waiting = connect(server)
            start = server.run if how == "run" else lambda: wait_for(lambda: server.stopped, lambda: server.step(0.01))
        with pytest.raises(StartupFailed, match="no database") as caught:
            start()
        assert isinstance(caught.value.__cause__, KeyError)
        server.close()
        if how != "with":
            waiting.close()
        assert refuses(server.address)
        assert server.stats.accepted == 0
        assert caplog.messages == []

    def test_of_two_applications_the_one_that_has_started_is_stopped(self) -> None:
        notes: list[Any] = []

        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await asyncio.sleep(0.01)
            await send({"type": "lifespan.startup.failed"})

        both = Mount({"/": ASGI(recording(notes)), "/fails": ASGI(fails)})
        with pytest.raises(StartupFailed, match="it said no more"):
            Server(both, config()).run()
        assert notes == ["lifespan.startup", "lifespan.shutdown", "stopped"]

    def test_a_shutdown_during_the_startup(self) -> None:
        notes: list[Any] = []
        with Driven(ASGI(recording(notes, startup=60))) as driven:
            driven.settle()
            client = connect(driven.server)
            driven.server.shutdown()
            driven.settle()
            assert driven.server.stopped
            assert driven.server.stats.accepted == 0
            client.close()
        assert notes == ["lifespan.startup"]

    def test_a_request_that_still_runs_is_waited_for(self) -> None:
        """Also after its response: a background task. Only then is the application told to stop."""
        notes: list[Any] = []
        inner = recording(notes)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner(scope, receive, send)
            if scope["type"] == "http":
                await asyncio.sleep(5)
                notes.append("background")

        with Driven(ASGI(app)) as driven:
            driven.settle()
            client = driven.connect()
            assert client.ask("/a").status == 200
            driven.server.shutdown(timeout=30)
            driven.pass_time(4)
            stopped = [driven.server.stopped]
            driven.pass_time(1.5)
            stopped.append(driven.server.stopped)
        assert stopped == [False, True]
        assert notes == ["lifespan.startup", "/a", "background", "lifespan.shutdown", "stopped"]

    def test_what_does_not_end_in_time_is_cancelled_and_then_the_application_stops(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """All of it within the graceful timeout, after which a service manager kills the process."""
        notes: list[Any] = []
        inner = recording(notes, shutdown=0.5)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await inner(scope, receive, send)
                return
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                notes.append("cancelled")
                raise

        with Driven(ASGI(app)) as driven:
            driven.settle()
            client = driven.connect()
            client.send(get())
            driven.settle()
            driven.server.shutdown(timeout=20)
            driven.pass_time(17)
            assert notes == ["lifespan.startup"]
            driven.pass_time(2.9)
            assert driven.server.stopped
        assert notes == ["lifespan.startup", "cancelled", "lifespan.shutdown", "stopped"]
        assert caplog.messages == ["1 connection was closed before its response was complete"]

    def test_an_application_that_does_not_stop_is_not_waited_for_longer(self) -> None:
        notes: list[Any] = []
        with Driven(ASGI(recording(notes, shutdown=3600))) as driven:
            driven.settle()
            driven.server.shutdown(timeout=10)
            driven.pass_time(9.5)
            stopped = [driven.server.stopped]
            driven.pass_time(1)
            stopped.append(driven.server.stopped)
        assert stopped == [False, True]
        assert notes == ["lifespan.startup", "lifespan.shutdown"]

    def test_the_second_ctrl_c_does_not_wait_for_it(self) -> None:
        notes: list[Any] = []
        with Driven(ASGI(recording(notes, shutdown=3600))) as driven:
            driven.settle()
            driven.server.shutdown(timeout=10)
            driven.settle()
            driven.server.call(driven.server._shutdown.abort)  # what SIGINT calls
            driven.settle()
            assert driven.server.stopped


@pytest.fixture
def loop() -> Any:
    made = ReactorLoop()
    yield made
    made.close()


Run = Callable[[Application, str], Lifespan]


@pytest.fixture
def run(loop: ReactorLoop) -> Run:
    def start(app: Application, mode: str) -> Lifespan:
        lifespan = Lifespan(app, mode, loop)
        loop.run_until_complete(lifespan.start())
        loop.run_until_complete(lifespan.stop())
        return lifespan

    return start


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"


async def raises_after_receiving(scope: Scope, receive: Receive, send: Send) -> None:
    (await receive())["body"]


async def returns(scope: Scope, receive: Receive, send: Send) -> None: ...


class TestModes:
    def test_auto_leaves_out_what_does_not_know_it(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        """As the specification says: an application that raises is served without it."""
        assert run(raises_at_once, "auto").state is None
        assert run(returns, "auto").state is None
        assert caplog.messages == []

    def test_auto_says_so_where_it_may_be_a_mistake(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        assert run(raises_after_receiving, "auto").state is None
        (message,) = caplog.messages
        assert message.startswith("the application is served without a lifespan, since it raised KeyError: 'body' (")

    @pytest.mark.parametrize("app", [raises_at_once, raises_after_receiving, returns])
    def test_on_makes_it_an_error(self, app: Application, run: Run) -> None:
        with pytest.raises(StartupFailed):
            run(app, "on")

    def test_off(self, run: Run) -> None:
        notes: list[Any] = []
        assert run(recording(notes), "off").state is None
        assert notes == []

    def test_one_that_returns_after_it_has_started(self, run: Run) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            scope["state"]["x"] = 1
            await send({"type": "lifespan.startup.complete"})

        assert run(app, "auto").state == {"x": 1}

    def test_a_shutdown_that_fails_is_logged(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.failed", "message": "a reason"})
            raise KeyError("a mistake")

        run(app, "auto")
        assert caplog.messages == ["the application failed to stop: a reason", "the application failed to stop"]

    def test_messages_of_requests_have_no_place(self, run: Run) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            message: Message = {"type": "http.response.start", "status": 200}
            await send(message)

        with pytest.raises(StartupFailed, match=r"has sent 'http\.response\.start' in its lifespan"):
            run(app, "on")


def test_an_application_without_lifespan_has_no_state(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        assert "state" not in scope
        await hello(scope, receive, send)

    caplog.set_level(logging.INFO)
    with serving(ASGI(app)) as server, connect(server) as client:
        assert client.ask().status == 200
        wait_for(lambda: server.ready)
