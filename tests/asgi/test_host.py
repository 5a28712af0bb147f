"""Event loops that run a server: kaserve's own, one that a program runs, uvloop, and loops that are not asyncio's."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import kaserve
from kaserve import ASGI, Config, Request, Response, Server
from kaserve.asgi.host import GuestHost
from kaserve.cli.main import main
from kaserve.net.reactor import Reactor
from tests.tools.asgi import Receive, Scope, Send, read_body, respond
from tests.tools.server import PATIENCE, Process, config, connect, get, post, refuses, serving, wait_for

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "asyncio":
        pytest.importorskip(name)
    return name


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Does what needs each part of an event loop: a timer, a thread, a child process, a body that arrives slowly."""
    assert scope["type"] == "http"
    if scope["path"] == "/sleep":
        await asyncio.sleep(0.01)
        await respond(send, b"slept")
    elif scope["path"] == "/thread":
        await respond(send, (await asyncio.to_thread(lambda: "thread")).encode())
    elif scope["path"] == "/process":
        process = await asyncio.create_subprocess_exec("echo", "process", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        await respond(send, output.strip())
    else:
        await respond(send, b"%d" % len(await read_body(receive)))


def visit(server: Server) -> list[bytes]:
    """Asks for each of what `app` does."""
    with connect(server) as client:
        bodies = [client.ask(f"/{each}").body for each in ("sleep", "thread", "process")]
        client.send(post(b"x" * 100_000)[:-50_000])
        assert client.is_quiet
        client.send(b"x" * 50_000)
        return [*bodies, client.answer("POST").body]


EXPECTED = [b"slept", b"thread", b"process", b"100000"]


def test_in_a_thread(loop: str) -> None:
    with serving(ASGI(app), loop=loop) as server:
        assert visit(server) == EXPECTED


def test_run(loop: str) -> None:
    server = Server(ASGI(app), config(loop=loop))
    results: list[list[bytes]] = []

    def from_a_thread() -> None:
        try:
            results.append(visit(server))
        finally:
            server.shutdown()

    thread = threading.Thread(target=from_a_thread)
    server.on_start = thread.start
    server.run()
    thread.join()
    assert results == [EXPECTED]


def test_turn_by_turn(loop: str) -> None:
    """In a loop that is not asyncio's, such as that of Tk."""
    server = Server(ASGI(app), config(loop=loop))
    server.open()
    results: list[list[bytes]] = []
    thread = threading.Thread(target=lambda: results.append(visit(server)))
    thread.start()
    wait_for(lambda: results, lambda: server.step(0.01))
    thread.join()
    assert results == [EXPECTED]
    server.shutdown()
    wait_for(lambda: server.stopped, lambda: server.step(0.01))
    server.close()


def in_a_program(loop: str, function: Callable[[], Any]) -> Any:
    """Runs a coroutine function as a program with this loop does."""
    factory = asyncio.new_event_loop if loop == "asyncio" else __import__("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(function())


class TestServe:
    def test_in_the_loop_of_a_program(self, loop: str) -> None:
        results: list[list[bytes]] = []

        async def main() -> None:
            def on_start(server: Server) -> None:
                async def ask() -> None:
                    results.append(await asyncio.to_thread(visit, server))
                    server.shutdown()

                tasks.append(asyncio.create_task(ask()))

            tasks: list[asyncio.Task[None]] = []
            await asyncio.wait_for(kaserve.serve(app, config(), on_start=on_start), PATIENCE)

        in_a_program(loop, main)
        assert results == [EXPECTED]

    def test_cancelling_stops_it_gracefully(self, loop: str) -> None:
        addresses: list[Any] = []

        async def main() -> None:
            started = asyncio.Event()

            def on_start(server: Server) -> None:
                addresses.append(server.address)
                started.set()

            task = asyncio.create_task(kaserve.serve(app, config(), on_start=on_start))
            await asyncio.wait_for(started.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, PATIENCE)

        in_a_program(loop, main)
        assert refuses(addresses[0])

    def test_a_handler(self) -> None:
        async def handler(request: Request) -> Response:
            return Response.text("hello")

        async def main() -> bytes:
            server = Server(handler, config())
            task = asyncio.create_task(server.serve())
            await asyncio.sleep(0)
            with connect(server) as client:
                answer = await asyncio.to_thread(client.ask)
            server.shutdown()
            await asyncio.wait_for(task, PATIENCE)
            return answer.body

        assert asyncio.run(main()) == b"hello"

    def test_a_startup_that_fails(self) -> None:
        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        with pytest.raises(kaserve.StartupFailed, match="no database"):
            asyncio.run(kaserve.serve(fails, config()))

    def test_an_address_in_use(self) -> None:
        with serving(lambda request: Response()) as server:
            assert isinstance(server.address, tuple)
            with pytest.raises(OSError, match="in use"):
                asyncio.run(kaserve.serve(app, Config(port=server.address[1])))


def test_worker_threads_outlast_the_request(loop: str) -> None:
    """anyio ends them with the task that `run_until_complete` runs; where there is none, with the request. Then each
    request of a FastAPI endpoint that is a plain function would make a thread of its own."""
    threads: list[threading.Thread] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        threads.append(await anyio.to_thread.run_sync(threading.current_thread))
        await respond(send)

    with serving(ASGI(app), loop=loop) as server, connect(server) as client:
        for _ in range(3):
            client.ask("/")
    assert len(set(threads)) == 1


def test_a_task_that_goes_on_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        tasks.append(asyncio.create_task(goes_on()))
        await respond(send)

    async def goes_on() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    tasks: list[asyncio.Task[None]] = []
    with serving(ASGI(app)) as server, connect(server) as client:
        client.ask("/")
    (message,) = caplog.messages
    assert message.startswith("a task went on although it was cancelled when the server closed: <coroutine object ")


def test_a_server_opened_in_a_running_loop_is_not_run_by_another() -> None:
    async def main() -> None:
        server = Server(ASGI(app), config())
        server.open()
        with pytest.raises(RuntimeError, match=r"use kaserve\.serve\(\) there"):
            server.run()

    asyncio.run(main())


def test_a_guest_sets_a_timer_for_the_reactor() -> None:
    reactor = Reactor()

    async def main() -> None:
        host = GuestHost(reactor, asyncio.get_running_loop(), owns_loop=False)
        done = asyncio.Event()
        reactor.call(done.set)
        await asyncio.wait_for(done.wait(), PATIENCE)
        assert host.timeout() is None
        host.close()
        host.close()

    asyncio.run(main())
    reactor.close()


class TestCommandLine:
    def test_an_application(self) -> None:
        with Process("tests.asgi.test_host:app", "0") as process:
            assert "serves ASGI application tests.asgi.test_host:app" in process.banner
            with process.connect() as client:
                assert client.ask("/sleep").body == b"slept"
                assert client.exchange(get("/thread"))[0].body == b"thread"

    def test_a_startup_that_fails_has_an_exit_code_of_its_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["0", "--asgi", "tests.asgi.test_host:fails"]) == 5
        error = capsys.readouterr().err
        assert error.startswith("kaserve: tests.asgi.test_host:fails has failed to start:\n")
        assert "in fails" in error
        assert error.endswith("KeyError: 'database'\n")

    @pytest.mark.parametrize("library", ["asyncio", "anyio"])
    def test_it_does_not_wait_for_threads(self, library: str) -> None:
        """They cannot be cancelled, and Python joins them before it exits."""
        with (
            Process("tests.asgi.test_host:blocks", "0", "--graceful-timeout", "1") as process,
            process.connect() as client,
        ):
            client.send(get(f"/{library}"))
            wait_for(lambda: "blocks" in process.stderr)
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert "1 thread is still at work, and the process ends without waiting: " in process.stderr


async def blocks(scope: Scope, receive: Receive, send: Send) -> None:
    def block() -> None:
        print("blocks", file=sys.stderr, flush=True)
        threading.Event().wait()

    assert scope["type"] == "http"
    await (anyio.to_thread.run_sync(block) if scope["path"] == "/anyio" else asyncio.to_thread(block))


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    raise KeyError("database")
