"""The life of a server: where it listens, in which threads and loops it runs, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaserve import Config, Request, Response, Server
from tests.tools.net import open_descriptors
from tests.tools.server import (
    PATIENCE,
    Client,
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
    wait_for,
)

ECHO = ("--handler", "tests.tools.server:echo")


def half_sent(process: Process) -> Client:
    """A client whose request has begun to arrive at a server that is running."""
    client = process.connect()
    client.send(get() + post(b"12345")[:-2])
    assert client.answer().persists  # so the rest has been received as well
    return client


class TestSignals:
    """`python -m kaserve` and `Server.run` in the main thread."""

    def test_sigterm_lets_the_running_request_finish(self) -> None:
        with Process("0", *ECHO) as process, half_sent(process) as client:
            process.signal(signal.SIGTERM)
            wait_for(lambda: refuses(process.address))
            client.send(b"45")
            answer = client.answer("POST")
            assert (answer.status, answer.body, answer.persists) == (200, b"12345", False)
            client.close()
            assert process.wait() == 0
            assert "before its response" not in process.stderr
            assert '"POST / HTTP/1.1" 200 5' in process.stderr

    def test_sigint_lets_it_finish_too(self) -> None:
        with Process("0", *ECHO) as process, half_sent(process) as client:
            process.signal(signal.SIGINT)
            wait_for(lambda: refuses(process.address))
            client.send(b"45")
            assert client.answer("POST").body == b"12345"
            client.close()
            assert process.wait() == 0
            assert "Traceback" not in process.stderr

    def test_a_second_sigint_aborts(self) -> None:
        """Were it not for the second one, the server would wait for the client much longer than this test does."""
        patient = f"import kaserve.server, kaserve.cli.main; kaserve.server._SHORT_TIMEOUT = {10 * PATIENCE}; "
        main = "raise SystemExit(kaserve.cli.main.main())"
        with (
            Process("0", *ECHO, "--graceful-timeout", "900", program=("-c", patient + main)) as process,
            half_sent(process) as client,
        ):
            process.signal(signal.SIGINT)
            wait_for(lambda: refuses(process.address))
            process.signal(signal.SIGINT)
            assert process.wait() == 0
            assert "1 connection was closed before its response was complete" in process.stderr
            assert "Traceback" not in process.stderr
            with pytest.raises(ConnectionResetError):
                client.rest()

    def test_the_graceful_timeout_ends_the_patience(self) -> None:
        with Process("0", *ECHO, "--graceful-timeout", "0.1") as process, half_sent(process):
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert "1 connection was closed before its response was complete" in process.stderr

    def test_sigterm_first_tells_that_it_is_not_ready(self) -> None:
        """--drain-delay: whoever sends clients here has time to notice; until then nobody is turned away."""
        with Process("0", *ECHO, "--drain-delay", "0.3") as process, process.connect() as client:
            assert client.ask().persists
            process.signal(signal.SIGTERM)
            with process.connect() as another:
                wait_for(lambda: not another.ask().persists)
            client.close()
            assert process.wait() == 0

    def test_sighup_is_survived(self) -> None:
        with Process("0", *ECHO) as process, process.connect() as client:
            assert client.ask().status == 200
            process.signal(signal.SIGHUP)
            assert client.ask().status == 200
            process.signal(signal.SIGTERM)
            client.close()
            assert process.wait() == 0

    def test_run_gives_the_signals_back(self) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
        server = Server(hello, config())
        server.open()
        body = []

        def ask_and_stop() -> None:
            with connect(server) as client:
                body.append(client.ask().body)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=ask_and_stop)
        thread.start()
        server.run()
        thread.join()
        assert body == [b"hello"]
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before

    def test_run_in_another_thread_leaves_them_alone(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        server = Server(hello, config())
        server.open()
        thread = threading.Thread(target=server.run)
        thread.start()
        with connect(server) as client:
            assert client.ask().status == 200
            assert signal.getsignal(signal.SIGTERM) is before
        server.shutdown()
        thread.join(PATIENCE)
        assert not thread.is_alive()


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
        """Whatever is asked of it right at the beginning, it does."""
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
        """Nobody would notice but the clients, who would wait."""

        def handler(request: Request) -> Response:
            if request.path == "/bad":
                raise fault("the handler's own")
            return Response.text("hello")

        with serving(handler) as server, connect(server) as client:
            for _ in range(2):
                assert client.ask("/bad").status == 500
                assert client.ask().body == b"hello"

    def test_a_thread_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", fail)
        before = open_descriptors()
        server = Server(hello, config())
        with pytest.raises(RuntimeError, match="can't start"):
            server.__enter__()
        assert open_descriptors() <= before

    def test_nobody_else_turns_it(self) -> None:
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

    def test_a_handler_that_asks_its_own_neighbour(self) -> None:
        with serving() as inner:

            def proxy(request: Request) -> Response:
                with connect(inner) as client:
                    return Response(200, client.ask().body + b" through a proxy")

            with serving(proxy) as outer, connect(outer) as client:
                assert client.ask().body == b"hello through a proxy"


class TestAddresses:
    def test_several(self) -> None:
        with serving(bind=("127.0.0.1", "127.0.0.2:0", "localhost")) as server:
            assert len(set(server.addresses)) == 3
            for address in server.addresses:
                with connect(address) as client:
                    assert client.ask().body == b"hello"
            assert server.url == server.url_of(server.addresses[0])

    def test_one_needs_no_tuple(self) -> None:
        with serving(bind="127.0.0.1:0") as server, connect(server) as client:
            assert client.ask().status == 200

    def test_every_address_of_the_machine(self) -> None:
        with serving(bind="") as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            with connect(("127.0.0.1", port)) as client:
                assert client.ask().status == 200
            assert server.url in (f"http://[::1]:{port}/", f"http://127.0.0.1:{port}/")

    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
    @pytest.mark.parametrize("bind", ["::1", "[::1]", "[::1]:0"])
    def test_ipv6(self, bind: str) -> None:
        with serving(bind=bind) as server, connect(server) as client:
            assert client.ask().status == 200
            assert server.url.startswith("http://[::1]:")

    @pytest.mark.parametrize(
        ("address", "url"),
        [
            (("127.0.0.1", 80), "http://127.0.0.1:80/"),
            (("0.0.0.0", 8000), "http://127.0.0.1:8000/"),
            (("::", 8000), "http://[::1]:8000/"),
            (("fe80::1", 8000), "http://[fe80::1]:8000/"),
            ("/run/site.sock", "unix:/run/site.sock"),
            (None, ""),
        ],
    )
    def test_urls(self, address: tuple[str, int] | str | None, url: str) -> None:
        server = Server(hello, config())
        assert server.url_of(address) == url
        server.close()

    def test_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        seen: list[Request] = []

        def look(request: Request) -> Response:
            seen.append(request)
            return hello(request)

        with serving(look, bind=f"unix:{path}") as server, connect(server) as client:
            assert (server.address, server.url) == (path, f"unix:{path}")
            assert [client.ask().status, client.ask().status] == [200, 200]
        assert seen[0].server == path

    def test_the_path_of_a_unix_socket_goes_with_the_server(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with serving(bind=f"unix:{path}"):
            assert path.is_socket()
        assert not path.exists()

    def test_a_unix_socket_that_a_dead_server_left_behind_is_replaced(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with serving(bind=f"unix:{path}") as server:
            with connect(server) as client:
                assert client.ask().status == 200
            with pytest.raises(OSError, match="in use"), serving(bind=f"unix:{path}"):
                pass
            with connect(server) as client:
                assert client.ask().status == 200

    def test_a_descriptor(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            with serving(bind=f"fd:{listener.detach()}") as server, connect(address) as client:
                assert client.ask().status == 200
                assert server.address == address

    def test_a_port_is_refused_while_it_is_in_use_and_free_right_afterwards(self) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            address, port = server.address, server.address[1]
            with pytest.raises(
                OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
            ) as caught:
                Server(hello, config(port=port)).open()
            assert caught.value.errno == errno.EADDRINUSE
            with connect(server) as client:
                assert not client.ask("/", "Connection: close").persists
                assert client.is_closed  # by the server first: its side of the connection stays in TIME_WAIT
        with serving(port=port) as server, connect(address) as client:
            assert client.ask().status == 200

    @pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
    def test_a_port_may_be_shared(self) -> None:
        with serving(reuse_port=True) as one:
            assert isinstance(one.address, tuple)
            with serving(reuse_port=True, port=one.address[1]) as two:
                assert one.address == two.address
                for _ in range(20):
                    with connect(one) as client:
                        assert client.ask().status == 200
                assert one.stats.accepted + two.stats.accepted == 20
            with pytest.raises(OSError, match="in use"), serving(port=one.address[1]):
                pass

    @pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
    def test_a_port_may_be_shared_by_processes(self) -> None:
        """Each of them is asked, and one goes on alone when the other has left."""

        own = ("--handler", "tests.tools.server:pid", "--reuse-port")
        with Process("0", *own) as one:
            assert isinstance(one.address, tuple)
            with Process(str(one.address[1]), *own) as two:
                answered: set[int] = set()

                def ask() -> None:
                    with connect(one.address) as client:
                        answered.add(int(client.ask("/", "Connection: close").body))

                wait_for(lambda: answered == {one.pid, two.pid}, ask)
                two.signal(signal.SIGTERM)
                assert two.wait() == 0
                answered.clear()
                for _ in range(5):
                    ask()
                assert answered == {one.pid}

    @pytest.mark.parametrize(
        "bind",
        [
            "192.0.2.1",
            "[2001:db8::1]:80",
            "no.such.host.invalid",
            "a..b",
            "x" * 64,
            "unix:/no/such/directory/socket",
            "unix:/" + "x" * 200,
            "fd:9999",
            "fd:99999999999",
        ],
    )
    def test_an_address_that_cannot_be_had_is_told_to_the_caller(self, bind: str) -> None:
        before = open_descriptors()
        server = Server(hello, config(bind=("127.0.0.1", bind), port=0))
        with pytest.raises(OSError, match="cannot listen on ") as caught:
            server.__enter__()
        assert bind.removesuffix(":80") in str(caught.value)
        assert "None" not in str(caught.value)
        assert open_descriptors() <= before

    def test_a_pipe_is_no_listening_socket(self) -> None:
        readable, writable = os.pipe()
        try:
            with pytest.raises(OSError, match=f"cannot listen on fd:{readable}: "):
                Server(hello, config(bind=f"fd:{readable}")).open()
        finally:
            os.close(readable)
            os.close(writable)


class TestInheritedSockets:
    """sd_listen_fds(3): descriptors from 3 on, meant for one process, instead of what `bind` says."""

    AS_A_MANAGER = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv.pop(1).split(",")]
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies)), "LISTEN_FDNAMES": "a:b"}
os.execv(sys.executable, [sys.executable, "-m", "kaserve", *sys.argv[1:]])
"""

    def test_in_a_process(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            fds = one.fileno(), two.fileno()
            with Process(
                ",".join(map(str, fds)), "0", *ECHO, "-b", "192.0.2.1", program=("-c", self.AS_A_MANAGER), fds=fds
            ) as process:
                for listener in (one, two):
                    host, port = listener.getsockname()
                    assert f"at http://{host}:{port}/" in process.banner
                    with connect((host, port)) as client:
                        assert client.ask().status == 200

    def test_they_are_taken_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        monkeypatch.setattr("kaserve.systemd._FIRST_LISTEN_FD", listener.detach())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with serving() as one, serving() as two:
            assert one.address == address
            assert two.address != address
            for server in (one, two):
                with connect(server) as client:
                    assert client.ask().status == 200

    @pytest.mark.parametrize("count", ["many", "-1", "1_0", "99999", "\u0661"])
    def test_a_number_that_is_none(self, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", count)
        with pytest.raises(OSError, match="LISTEN_FDS"):
            Server(hello, config()).open()

    @pytest.mark.parametrize("pid", ["1", "", "me"])
    def test_those_of_another_process_are_not_ours(self, pid: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", "1")
        with serving() as server, connect(server) as client:
            assert client.ask().status == 200

    def test_no_descriptors_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "0")
        with serving() as server, connect(server) as client:
            assert client.ask().status == 200


class TestForeignLoops:
    """`fileno`, `timeout` and `step`."""

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
                reader, writer = await asyncio.open_connection(*server.address)  # type: ignore[misc]
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

    def test_the_end_of_a_drain_is_told(self) -> None:
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

    def test_the_end_is_told_where_there_was_nothing_to_wait_for_or_no_patience_left(self) -> None:
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

    def test_closing_is_an_end_as_well(self) -> None:
        told: list[bool] = []
        with Driven() as driven:
            driven.server.on_stop = lambda: told.append(True)
            driven.server.close()
            driven.server.close()
        assert told == [True]
        never_opened = Server(hello, config())
        never_opened.on_stop = lambda: told.append(False)
        before = never_opened.stopped
        never_opened.close()
        assert (before, never_opened.stopped) == (False, True)
        assert told == [True]

    def test_whoever_fails_when_it_is_told_harms_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        with Driven() as driven:
            driven.server.on_stop = lambda: 1 // 0
            driven.server.shutdown()
            driven.settle()
            assert driven.server.stopped
        assert caplog.messages == ["on_stop failed"]

    def test_a_drain_that_another_loop_finished_needs_no_run(self) -> None:
        server = Server(hello, config())
        server.open()
        server.shutdown()
        server.step()
        assert server.stopped
        server.run()

    def test_close_without_ceremony(self) -> None:
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
    """A child shares the poller and the sockets with its parent; so it is refused, and does no harm."""

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

    def test_what_a_child_may_not(self) -> None:
        refusal = "RuntimeError: this server belongs to the process that made it; after os.fork() the child has to "
        with Driven() as driven:
            server = driven.server
            new = Server(hello, config())
            for function in (server.step, server.run, server.shutdown, new.open, new.run, new.__enter__):
                assert self.in_a_child(function).startswith(refusal), function
            assert self.in_a_child(lambda: server.call(lambda: None)).startswith(refusal)
            new.close()

    def test_a_child_that_cleans_up_takes_nothing_from_its_parent(self, tmp_path: Path) -> None:
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
        """Its parent goes on, and the child, which has inherited the handlers, does not survive it."""
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


class TestShutdown:
    def test_from_a_handler(self) -> None:
        server: Server

        def stop(request: Request) -> Response:
            server.shutdown()
            return Response.text("stopped")

        server = Server(stop, config())
        server.open()
        thread = threading.Thread(target=server.run)
        thread.start()
        with connect(server) as client:
            answer = client.ask()
            assert (answer.body, answer.persists) == (b"stopped", False)  # RFC 9112 §9.6: said on the last answer
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def test_from_another_thread_and_twice_and_once_more_afterwards(self) -> None:
        server = Server(hello, config())
        server.open()
        others = [threading.Thread(target=server.shutdown) for _ in range(2)]
        for other in others:
            other.start()
        server.run()
        for other in others:
            other.join()
        server.shutdown()

    def test_before_it_has_begun(self) -> None:
        server = Server(hello, config())
        server.shutdown()
        server.run()
        assert server.stats.accepted == 0

    def test_what_runs_longer_is_cut_off_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        with Driven(echo, graceful_timeout=30) as driven:
            begun, idle = driven.connect(), driven.connect()
            begun.send(post(b"12345")[:-2])
            driven.settle()
            driven.server.shutdown()
            driven.pass_time(29.5)
            assert begun.is_quiet
            assert driven.server.open_connections == 1
            assert idle.is_closed
            with caplog.at_level(logging.WARNING, "kaserve"):
                driven.pass_time(0.7)
            assert driven.server.open_connections == 0
            assert caplog.messages == ["1 connection was closed before its response was complete"]
            assert driven.server.stats.closed["shutdown"] == 1
            with pytest.raises(ConnectionResetError):
                begun.sock.recv(1)

    def test_the_shorter_time_counts(self) -> None:
        for timeouts in ((2.0, 900.0), (900.0, 2.0), (900.0, 2.0, None)):
            with Driven(echo) as driven:
                client = driven.connect()
                client.send(post(b"12345")[:-2])
                driven.settle()
                for timeout in timeouts:
                    driven.server.shutdown(timeout)
                driven.pass_time(1.9)
                assert driven.server.open_connections == 1
                driven.pass_time(0.3)
                assert driven.server.open_connections == 0

    def test_a_thread_that_serves_returns_when_all_are_gone(self) -> None:
        server = Server(echo, config())
        server.open()
        thread = threading.Thread(target=server.run)
        thread.start()
        with connect(server) as client:
            client.send(get() + post(b"12345")[:-2])
            assert client.answer().status == 200
            server.shutdown()
            wait_for(lambda: refuses(server.address))
            assert thread.is_alive()
            client.send(b"45")
            assert client.answer("POST").body == b"12345"
        thread.join(PATIENCE)
        assert not thread.is_alive()


class TestDrainDelay:
    def test_it_goes_on_but_is_not_ready_and_every_answer_is_a_last_one(self) -> None:
        """Readiness off first: what a load balancer asks for, before connections are refused."""
        ready = []

        def handler(request: Request) -> Response:
            ready.append((driven.server.ready, driven.server.draining))
            return hello(request)

        with Driven(handler, drain_delay=5, graceful_timeout=10) as driven:
            idle, client = driven.connect(), driven.connect()
            assert client.ask().persists
            driven.server.shutdown()
            driven.pass_time(4.9)
            assert not client.ask().persists
            assert client.is_closed
            new = driven.connect()
            assert not new.ask().persists
            assert idle.is_quiet
            driven.pass_time(0.3)
            assert idle.is_closed
            assert refuses(driven.server.address)
        assert ready == [(True, False), (False, True), (False, True)]

    def test_the_patience_begins_behind_it(self) -> None:
        with Driven(echo, drain_delay=5, graceful_timeout=10) as driven:
            client = driven.connect()
            client.send(post(b"12345")[:-2])
            driven.settle()
            driven.server.shutdown()
            driven.pass_time(14.8)
            assert driven.server.open_connections == 1
            driven.pass_time(0.4)
            assert driven.server.open_connections == 0
            assert driven.server.stopped

    @pytest.mark.parametrize("arguments", [(0.0,), (5.0, 0.0), (None, 0.0)])
    def test_who_is_in_a_hurry_does_without(self, arguments: tuple[float | None, ...]) -> None:
        with Driven(drain_delay=100) as driven:
            driven.server.shutdown()
            driven.pass_time(10)
            assert not driven.server.stopped
            driven.server.shutdown(*arguments)
            driven.settle()
            assert driven.server.stopped

    def test_there_is_none_by_default(self) -> None:
        with Driven() as driven:
            assert driven.server.ready
            driven.server.shutdown()
            driven.settle()
            assert (driven.server.stopped, driven.server.ready, driven.server.draining) == (True, False, False)


class TestReload:
    def test_all_that_want_to_are_called_whatever_one_of_them_does(self, caplog: pytest.LogCaptureFixture) -> None:
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


class TestEviction:
    """Close policy, point 5."""

    def test_at_the_limit_the_longest_idle_leaves_for_the_next_one(self) -> None:
        with Driven(max_connections=2) as driven:
            one, two = driven.connect(), driven.connect()
            driven.pass_time(1)
            one.ask()
            with connect(driven.server, driven.turn) as three:
                three.send(get())
                driven.settle()
                assert two.is_closed
                assert one.is_quiet
                two.close()
                assert three.answer().status == 200
                three.close()
                driven.settle()
                assert driven.server.stats.closed["evicted"] == 1

    def test_when_nobody_can_be_spared_the_next_one_waits_for_somebody(self) -> None:
        with Driven(max_connections=1) as driven:
            one = driven.connect()
            assert one.ask().value("keep-alive").startswith("timeout=1,")
            with connect(driven.server, driven.turn) as two:
                two.send(get())
                driven.settle()
                assert one.is_quiet
                driven.pass_time(0.8)
                assert one.is_quiet
                driven.pass_time(0.6)
                assert one.is_closed
                one.close()
                assert two.answer().status == 200

    def test_without_descriptors_it_goes_on_with_the_spare_one(self) -> None:
        with Driven() as driven:
            idle = [driven.connect() for _ in range(3)]
            for client in idle:
                client.ask()
                driven.pass_time(2)
            with connect(driven.server, driven.turn) as one, no_descriptors_left():
                one.send(get())
                assert one.answer().status == 200
                assert idle[0].is_closed


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """For as long as the block lasts this process gets no new ones."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 1, limits[1]))
    held: list[int] = []
    try:
        while True:  # those that are free below the limit
            held.append(os.dup(0))
    except OSError:
        pass
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in held:
            os.close(fd)


def highest_descriptor() -> int:
    return max(map(int, os.listdir("/dev/fd")))


class TestConnectionsPerAddress:
    def test_beyond_the_limit_it_is_503_until_one_is_gone(self) -> None:
        with Driven(max_connections_per_address=2) as driven:
            one, two, three = driven.connect(), driven.connect(), driven.connect()
            assert [client.ask().status for client in (one, two)] == [200, 200]
            answer = three.answer()
            assert (answer.status, answer.persists) == (503, False)
            assert three.is_closed
            three.close()
            one.close()
            driven.settle()
            assert driven.connect().ask().status == 200

    def test_clients_of_a_unix_socket_are_not_counted(self, tmp_path: Path) -> None:
        with Driven(max_connections_per_address=1, bind=f"unix:{tmp_path}/socket") as driven:
            clients = [driven.connect() for _ in range(3)]
            assert [client.ask().status for client in clients] == [200] * 3


class TestMaxConnections:
    def test_the_next_one_waits_until_there_is_room(self) -> None:
        with Driven(max_connections=2) as driven:
            one, two = driven.connect(), driven.connect()
            with connect(driven.server, driven.turn) as three, connect(driven.server, driven.turn) as four:
                three.send(get())
                four.send(get())
                driven.settle()
                assert driven.server.stats.accepted == driven.server.open_connections == 2
                assert [client.ask().status for client in (one, two, one)] == [200, 200, 200]
                assert three.is_quiet
                one.close()
                assert three.answer().status == 200
                assert driven.server.open_connections == 2
                assert four.is_quiet
                two.close()
                assert four.answer().status == 200
                assert driven.server.stats.accepted == 4

    def test_on_all_addresses_together(self) -> None:
        with Driven(max_connections=1, bind=("127.0.0.1", "127.0.0.2")) as driven:
            one = driven.connect()
            with connect(driven.server.addresses[1], driven.turn) as two:
                two.send(get())
                driven.settle()
                assert two.is_quiet
                one.close()
                assert two.answer().status == 200

    def test_a_full_server_spends_no_time_on_those_who_wait(self) -> None:
        with Driven(max_connections=1) as driven:
            driven.connect()
            with connect(driven.server):
                driven.settle()
                assert not select.select([driven.server.fileno()], [], [], 0.05)[0]

    def test_closing_a_full_server(self) -> None:
        with Driven(max_connections=1) as driven:
            driven.connect()
            driven.server.close()
        with Driven(max_connections=1) as driven:
            driven.connect()
            driven.server.shutdown(0.0)
            driven.pass_time(0.2)
            assert driven.server.open_connections == 0
