"""The life of a server: in a thread, in foreign event loops, across forks; and reloading."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kaserve import Address, Config, Request, Response, Server
from tests.tools.net import open_descriptors
from tests.tools.server import (
    PATIENCE,
    Driven,
    Process,
    config,
    connect,
    echo,
    get,
    hello,
    post,
    refuses,
    serving,
)


class TestContextManager:
    def test_it_listens_when_the_block_begins_and_is_gone_when_it_ends(self) -> None:
        with Server(hello, config()) as server:
            assert isinstance(server.address, tuple)
            host, port = server.address
            assert host == "127.0.0.1"
            assert port > 0
            assert server.addresses == [server.address]
            assert server.url == f"http://127.0.0.1:{port}/"
            with connect(server) as client:
                assert client.ask().body == b"hello"
                assert server.open_connections == 1
        assert refuses((host, port))
        assert server.open_connections == 0

    def test_an_exception_in_the_block_passes_through(self) -> None:
        with pytest.raises(ZeroDivisionError), Server(hello, config()):
            raise ZeroDivisionError

    def test_a_start_cannot_be_missed(self) -> None:
        """A shutdown or a call right at the beginning of the block has its effect."""
        for _ in range(10):
            with Server(hello, config()) as server:
                server.shutdown()
            assert server.stopped
        with Server(hello, config()) as server, connect(server) as client:
            client.send(get())
            done = threading.Event()
            server.call(done.set)
            assert done.wait(PATIENCE)
            assert client.answer().status == 200

    def test_it_leaves_the_signals_alone(self) -> None:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = [signal.getsignal(number) for number in numbers]
        with Server(hello, config()) as server, connect(server) as client:
            assert client.ask().status == 200
            assert [signal.getsignal(number) for number in numbers] == before

    @pytest.mark.parametrize("fault", [SystemExit, KeyboardInterrupt, pytest.skip.Exception])
    def test_no_fault_of_a_handler_ends_the_thread(self, fault: type[BaseException]) -> None:
        """If it did, only the clients would notice: they would wait."""

        def handler(request: Request) -> Response:
            if request.path == "/bad":
                raise fault("the handler's own")
            return Response.text("hello")

        with serving(handler) as server, connect(server) as client:
            for _ in range(2):
                assert client.ask("/bad").status == 500
                assert client.ask().body == b"hello"

    def test_a_thread_that_cannot_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", fail)
        before = open_descriptors()
        server = Server(hello, config())
        with pytest.raises(RuntimeError, match="can't start"):
            server.__enter__()
        assert open_descriptors() <= before

    def test_no_other_thread_may_run_it(self) -> None:
        with serving() as server, connect(server) as client:
            for turn in (server.run, server.step):
                with pytest.raises(RuntimeError, match="a thread of its own"):
                    turn()
            assert client.ask().body == b"hello"

    def test_it_leaves_no_thread_and_no_descriptor(self) -> None:
        threads, descriptors = threading.active_count(), open_descriptors()
        for _ in range(5):
            with Server(echo, config()) as server, connect(server) as client, connect(server):
                assert client.exchange(post(b"x" * 1_000_000))[0].status == 200
                assert threading.active_count() == threads + 1
                server.shutdown(0.0)
        assert threading.active_count() == threads
        assert open_descriptors() <= descriptors

    def test_a_server_is_started_once(self) -> None:
        server = Server(hello, config())
        with server, pytest.raises(RuntimeError):
            server.open()
        with pytest.raises(RuntimeError):
            server.open()
        with pytest.raises(RuntimeError):
            server.run()

    def test_several_in_one_process(self) -> None:
        with serving() as one, serving(lambda _: Response.text("two")) as two, serving(keep_alive=0) as three:
            with connect(one) as first, connect(two) as second, connect(three) as third:
                assert [first.ask().body, second.ask().body] == [b"hello", b"two"]
                assert [first.ask().persists, third.ask().persists] == [True, False]
            assert [server.stats.requests for server in (one, two, three)] == [2, 1, 1]

    def test_a_handler_that_is_a_client_of_another_server(self) -> None:
        with serving() as inner:

            def proxy(request: Request) -> Response:
                with connect(inner) as client:
                    return Response(200, client.ask().body + b" through a proxy")

            with serving(proxy) as outer, connect(outer) as client:
                assert client.ask().body == b"hello through a proxy"


class TestForeignLoops:
    """`fileno`, `timeout` and `step`, and what tells a foreign loop that a shutdown is complete."""

    def test_a_loop_around_select(self) -> None:
        with Driven() as driven:
            server = driven.server
            assert server.timeout() is None  # nothing is due, ever
            with connect(server) as client:
                client.send(get())
                while not select.select([client.sock], [], [], 0)[0]:
                    readable, _, _ = select.select([server.fileno()], [], [], PATIENCE)
                    assert readable
                    server.step()
                assert client.answer().status == 200
                driven.settle()
                assert not select.select([server.fileno()], [], [], 0)[0]
                timeout = server.timeout()
                assert timeout is not None
                assert 120.0 < timeout < 122.0
                driven.clock.advance(timeout)
                assert server.timeout() == 0.0
                server.step()
                assert client.is_closed

    def test_a_call_from_another_thread_makes_it_readable(self) -> None:
        with Driven() as driven:
            thread = threading.Thread(target=driven.server.shutdown)
            thread.start()
            assert select.select([driven.server.fileno()], [], [], PATIENCE)[0]
            thread.join()
            address = driven.server.address
            driven.settle()
            assert refuses(address)

    def test_asyncio(self) -> None:
        server = Server(hello, config())
        server.open()

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            loop.add_reader(server.fileno(), server.step)
            try:
                assert isinstance(server.address, Address)
                reader, writer = await asyncio.open_connection(*server.address)
                for _ in range(3):
                    writer.write(get())
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                    assert b"\r\nConnection: keep-alive\r\n" in head
                    assert await reader.readexactly(5) == b"hello"
                writer.close()
                await writer.wait_closed()
            finally:
                loop.remove_reader(server.fileno())

        asyncio.run(serve())
        server.close()
        assert server.stats.requests == 3

    def test_on_stop_is_called_at_the_end_of_a_shutdown(self) -> None:
        told: list[bool] = []
        with Driven(echo) as driven:
            server = driven.server
            server.on_stop = lambda: told.append(server.stopped)
            client = driven.connect()
            client.send(post(b"12345")[:-2])
            driven.settle()
            server.shutdown()
            driven.settle()
            assert (server.stopped, told) == (False, [])
            client.send(b"45")
            assert not client.answer("POST").persists
            client.close()
            driven.settle()
            assert (server.stopped, told) == (True, [True])
            server.shutdown()
            driven.settle()
            server.close()
        assert (server.stopped, told) == (True, [True])

    def test_on_stop_is_called_without_connections_and_after_an_abort(self) -> None:
        for clients in (0, 1):
            told: list[bool] = []
            with Driven(echo) as driven:
                driven.server.on_stop = lambda told=told: told.append(True)
                for _ in range(clients):
                    driven.connect().send(post(b"12345")[:-2])
                driven.settle()
                driven.server.shutdown(0.0)
                driven.pass_time(0.3)
                assert driven.server.stopped
                assert driven.server.open_connections == 0
                assert told == [True]

    def test_on_stop_is_called_by_close(self) -> None:
        told: list[int] = []
        with Driven() as driven:
            server = driven.server
            server.on_stop = lambda: told.append(server.open_connections)
            driven.connect()
            server.close()
            server.close()
        assert told == [0]
        never_opened = Server(hello, config())
        never_opened.on_stop = lambda: told.append(-1)
        before = never_opened.stopped
        never_opened.close()
        assert (before, never_opened.stopped) == (False, True)
        assert told == [0]

    def test_on_stop_may_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        with Driven() as driven:
            driven.server.on_stop = lambda: 1 // 0
            driven.server.shutdown()
            driven.settle()
            assert driven.server.stopped
        assert caplog.messages == ["on_stop failed"]

    def test_run_after_a_shutdown_that_another_loop_completed(self) -> None:
        server = Server(hello, config())
        server.open()
        server.shutdown()
        server.step()
        assert server.stopped
        server.run()

    def test_close_resets_open_connections(self) -> None:
        descriptors = open_descriptors()
        with Driven() as driven:
            client = driven.connect()
            client.send(get()[:-2])
            driven.settle()
            driven.server.close()
            driven.server.close()
            with pytest.raises(ConnectionResetError):
                client.sock.recv(1)
        assert open_descriptors() == descriptors

    def test_a_server_that_was_never_opened(self) -> None:
        descriptors = open_descriptors()
        server = Server(hello, Config())
        assert (server.address, server.addresses, server.url) == (None, [], "")
        server.close()
        assert open_descriptors() == descriptors


class TestForks:
    """A forked child shares the poller and the sockets with its parent, so it must not use the server."""

    @staticmethod
    def in_a_child(function: Callable[[], object]) -> str:
        """What `function` raises in a forked child, or "fine"."""
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                function()
                os.write(writable, b"fine")
            except BaseException as error:
                os.write(writable, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(writable)
        with os.fdopen(readable, "rb") as file:
            text = file.read().decode()
        os.waitpid(pid, 0)
        return text

    def test_what_a_child_may_not_call(self) -> None:
        refusal = "RuntimeError: this server belongs to the process that made it; after os.fork() the child has to "
        with Driven() as driven:
            server = driven.server
            new = Server(hello, config())
            for function in (server.step, server.run, server.shutdown, new.open, new.run, new.__enter__):
                assert self.in_a_child(function).startswith(refusal), function
            assert self.in_a_child(lambda: server.call(lambda: None)).startswith(refusal)
            new.close()

    def test_a_child_that_closes_the_server_does_not_affect_its_parent(self, tmp_path: Path) -> None:
        with serving(bind=f"unix:{tmp_path / 'socket'}") as server, connect(server) as client:
            assert client.ask().status == 200
            assert self.in_a_child(server.close) == "fine"
            assert self.in_a_child(lambda: server.__exit__(None, None, None)) == "fine"
            assert client.ask().status == 200
            with connect(server) as another:
                assert another.ask().status == 200

    def test_a_child_makes_a_server_of_its_own(self) -> None:
        def serve() -> None:
            with Server(hello, config()) as own, connect(own) as client:
                assert client.ask().status == 200

        with serving():
            assert self.in_a_child(serve) == "fine"

    def test_a_signal_for_a_child_of_a_handler_is_the_childs(self) -> None:
        """The parent goes on; the child, which has inherited the signal handlers, ends."""
        program = (
            "import os, signal, kaserve\n"
            "def handler(request):\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        os.kill(os.getpid(), signal.SIGTERM)\n"
            "        os._exit(7)\n"
            "    return kaserve.Response.text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))\n"
            "server = kaserve.Server(handler, kaserve.Config(port=0))\n"
            "server.open()\n"
            "server.call(lambda: print(f'  at {server.url}\\nCtrl-C', flush=True))\n"
            "server.run()\n"
        )
        with Process(program=("-W", "ignore", "-c", program)) as process, process.connect() as client:
            assert client.ask().body == b"-15"
            assert client.ask().body == b"-15"
            client.close()
            process.signal(signal.SIGTERM)
            assert process.wait() == 0


class TestReload:
    def test_all_of_on_reload_are_called_even_if_one_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        calls = []

        def fail() -> None:
            raise OSError("no such file")

        with Driven() as driven:
            driven.server.on_reload += [lambda: calls.append("one"), fail, lambda: calls.append("two")]
            driven.server.reload()
            assert calls == []
            driven.settle()
            assert calls == ["one", "two"]
            assert [record.exc_text is not None for record in caplog.records] == [True]
            client = driven.connect()
            assert client.ask().status == 200

    def test_sighup(self) -> None:
        server = Server(hello, config())
        server.open()
        reloaded = threading.Event()
        server.on_reload.append(reloaded.set)

        def hang_up() -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            reloaded.wait(PATIENCE)
            server.shutdown(0.0)

        thread = threading.Thread(target=hang_up)
        server.call(thread.start)
        server.run()
        thread.join()
        assert reloaded.is_set()
