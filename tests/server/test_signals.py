"""What signals do to a server that is the main program: SIGTERM, SIGINT once and twice, SIGHUP."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from kaserve import Server
from kaserve.net.wakeup import Wakeup
from kaserve.server.signals import SignalHandlers
from tests.tools.server import (
    PATIENCE,
    Client,
    Process,
    config,
    connect,
    get,
    hello,
    post,
    refuses,
    wait_for,
)

ECHO = ("--handler", "tests.tools.server:echo")


def half_sent(process: Process) -> Client:
    """Returns a client of a running server that has received a part of its request."""
    client = process.connect()
    client.send(get() + post(b"12345")[:-2])
    assert client.answer().persists  # so the rest has been received as well
    return client


class TestSignals:
    """`python -m kaserve`, and `Server.run` in the main thread."""

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
        """Without the second one, the server would wait for the client much longer than this test does."""
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

    def test_the_graceful_timeout_ends_the_wait(self) -> None:
        with Process("0", *ECHO, "--graceful-timeout", "0.1") as process, half_sent(process):
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert "1 connection was closed before its response was complete" in process.stderr

    def test_during_the_drain_delay_connections_are_served(self) -> None:
        """--drain-delay: load balancers have time to notice; until then no connection is refused."""
        with Process("0", *ECHO, "--drain-delay", "0.3") as process, process.connect() as client:
            assert client.ask().persists
            process.signal(signal.SIGTERM)
            with process.connect() as another:
                wait_for(lambda: not another.ask().persists)
            client.close()
            assert process.wait() == 0

    def test_sighup_does_not_stop_the_server(self) -> None:
        with Process("0", *ECHO) as process, process.connect() as client:
            assert client.ask().status == 200
            process.signal(signal.SIGHUP)
            assert client.ask().status == 200
            process.signal(signal.SIGTERM)
            client.close()
            assert process.wait() == 0

    def test_run_restores_the_handlers(self) -> None:
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

    def test_a_signal_wakes_the_reactor(self) -> None:
        """A signal that another thread receives does not interrupt the system call that the main thread waits in, just
        as one that comes right before that call does not."""
        server = Server(hello, config())
        is_running = threading.Event()
        server.call(is_running.set)
        ended: list[bool] = []

        def send() -> None:
            assert is_running.wait(PATIENCE)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            ended.append(has_ended.wait(PATIENCE))
            server.shutdown()

        has_ended = threading.Event()
        thread = threading.Thread(target=send)
        thread.start()
        server.run()
        has_ended.set()
        thread.join(PATIENCE)
        assert ended == [True]


class TestHandlers:
    """`SignalHandlers` alone, without a server."""

    @pytest.fixture(autouse=True)
    def wakeup(self) -> Iterator[None]:
        """A reactor's wakeup descriptor."""
        wakeup = Wakeup()
        self.wakeup_fd = wakeup.signal_fileno()
        yield
        wakeup.close()

    def recording(self, calls: list[str]) -> SignalHandlers:
        return SignalHandlers(
            wakeup_fd=self.wakeup_fd,
            terminate=lambda: calls.append("terminate"),
            interrupt=lambda: calls.append("interrupt"),
            abort=lambda: calls.append("abort"),
            reload=lambda: calls.append("reload"),
        )

    @pytest.mark.parametrize(
        ("numbers", "expected"),
        [
            pytest.param(["SIGTERM"], ["terminate"], id="term"),
            pytest.param(["SIGTERM", "SIGTERM"], ["terminate", "terminate"], id="term-twice"),
            pytest.param(["SIGHUP", "SIGHUP"], ["reload", "reload"], id="hup-twice"),
            pytest.param(["SIGINT"], ["interrupt"], id="int"),
            pytest.param(["SIGINT", "SIGINT"], ["interrupt", "abort"], id="int-twice"),
            pytest.param(["SIGINT", "SIGTERM", "SIGINT"], ["interrupt", "terminate", "abort"], id="mixed"),
        ],
    )
    def test_what_is_called(self, numbers: list[str], expected: list[str]) -> None:
        calls: list[str] = []
        with self.recording(calls) as handlers:
            assert handlers.are_installed
            for name in numbers:
                signal.raise_signal(signal.Signals[name])
        assert calls == expected

    def test_the_previous_wakeup_descriptor_is_restored(self) -> None:
        other = Wakeup()
        before = signal.set_wakeup_fd(other.signal_fileno())
        try:
            with self.recording([]):
                pass
        finally:
            restored = signal.set_wakeup_fd(before)
        assert restored == other.signal_fileno()
        other.close()

    def test_the_third_sigint_is_the_systems(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with self.recording([]):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is before

    def test_in_another_thread_nothing_is_installed(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        installed: list[bool] = []

        def install() -> None:
            with self.recording([]) as handlers:
                installed.append(handlers.are_installed)
                assert signal.getsignal(signal.SIGTERM) is before

        thread = threading.Thread(target=install)
        thread.start()
        thread.join(PATIENCE)
        assert installed == [False]
