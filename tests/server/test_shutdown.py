"""Graceful shutdown: from handlers and threads, the drain delay, the graceful timeout, and the stages."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

import pytest

from kaserve import Request, Response, Server, Tunnel, TunnelConnection
from kaserve.server.shutdown import Stage
from kaserve.telemetry.endings import Ending
from tests.tools.server import (
    PATIENCE,
    Driven,
    config,
    connect,
    echo,
    get,
    hello,
    post,
    refuses,
    wait_for,
)


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

    def test_the_close_that_it_announces_is_a_reason_of_its_own(self) -> None:
        """It cannot lose a request, as a close of an idle connection can."""

        def stop(request: Request) -> Response:
            server.shutdown(delay=60.0)
            return Response.text("stopped")

        server = Server(stop, config())
        with server, connect(server) as client:
            assert not client.ask().persists
        assert server.stats.closed == {Ending.ANNOUNCED_DRAIN: 1}

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

    def test_what_runs_longer_is_reset_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        never: Future[Response] = Future()
        with Driven(lambda request: never, graceful_timeout=30) as driven:
            begun, idle = driven.connect(), driven.connect()
            begun.send(get())
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
            assert driven.server.stats.closed[Ending.SHUTDOWN] == 1
            with pytest.raises(ConnectionResetError):
                begun.sock.recv(1)

    @pytest.mark.parametrize("start", [get()[:-2], post(b"12345")[:-2]], ids=["half a head", "half a body"])
    def test_a_client_that_stalls_within_its_request_does_not_hold_it(self, start: bytes) -> None:
        with Driven(echo, graceful_timeout=300) as driven:
            client = driven.connect()
            client.send(start)
            driven.settle()
            driven.server.shutdown()
            driven.pass_time(4.9)
            assert client.is_quiet
            driven.pass_time(0.3)
            answer = client.answer()
            assert (answer.status, answer.persists) == (408, False)
            driven.pass_time(5.2)  # even if it does not close
            assert driven.server.stopped

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


class TestTunnels:
    """They are no lost responses, but they are told, waited for and counted."""

    ASK = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"

    def test_those_that_are_left_are_cut_off_at_the_graceful_timeout(self, caplog: pytest.LogCaptureFixture) -> None:
        class Polite(Tunnel):
            def opened(self, connection: TunnelConnection) -> None:
                self.connection = connection
                tunnels.append(self)

            def stopping(self) -> None:
                told.append(self)

        tunnels: list[Polite] = []
        told: list[Polite] = []
        with Driven(lambda request: Response.upgrade("echo", Polite()), graceful_timeout=30) as driven:
            for _ in range(3):
                driven.connect().send(self.ASK)
            driven.settle()
            assert driven.server.snapshot().open == {"TUNNEL": 3}
            driven.server.shutdown()
            driven.pass_time(10)
            assert len(told) == 3
            assert driven.server.open_connections == 3
            tunnels[0].connection.close()
            driven.settle()
            with caplog.at_level(logging.WARNING, "kaserve"):
                driven.pass_time(20.2)
            assert driven.server.stopped
            assert caplog.messages == ["2 tunnels (WebSocket, for instance) were cut off"]
            assert driven.server.stats.closed == {Ending.SHUTDOWN: 2, Ending.TUNNEL_CLOSED: 1}

    def test_one_beside_a_response(self, caplog: pytest.LogCaptureFixture) -> None:
        never: Future[Response] = Future()

        def handler(request: Request) -> Response | Future[Response]:
            return Response.upgrade("echo", Tunnel()) if request.upgrades else never

        with Driven(handler, graceful_timeout=0) as driven:
            for wire in (self.ASK, get()):
                driven.connect().send(wire)
            driven.settle()
            with caplog.at_level(logging.WARNING, "kaserve"):
                driven.server.shutdown()
                driven.settle()
                driven.pass_time(0.2)
            assert caplog.messages == [
                "1 tunnel (WebSocket, for instance) was cut off",
                "1 connection was closed before its response was complete",
            ]


class TestDrainDelay:
    def test_connections_are_served_but_the_server_is_not_ready_and_every_response_says_close(self) -> None:
        """First readiness is off, which a load balancer asks for; only later are connections refused."""
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

    def test_the_graceful_timeout_begins_after_it(self) -> None:
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
    def test_a_later_call_can_end_it(self, arguments: tuple[float | None, ...]) -> None:
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


class TestStages:
    """The stages that `shutdown` lists: what is open in each, and what clients get."""

    @staticmethod
    def stage(driven: Driven) -> Stage:
        return driven.server._shutdown.stage

    def test_one_after_the_other(self) -> None:
        with Driven(echo, drain_delay=5, graceful_timeout=10) as driven:
            client = driven.connect()
            client.send(post(b"12345")[:-2])
            driven.settle()
            seen = [self.stage(driven)]
            driven.server.shutdown()
            for seconds in (4.0, 2.0, 10.0):
                driven.pass_time(seconds)
                seen.append(self.stage(driven))
            assert seen == [Stage.SERVING, Stage.GRACE, Stage.DRAINING, Stage.DONE]
            driven.server.shutdown()
            driven.settle()
            assert self.stage(driven) is Stage.DONE

    def test_connections_in_the_backlog_are_served_before_the_listener_closes(self) -> None:
        with Driven() as driven:
            client = connect(driven.server, driven.turn)  # not accepted yet
            client.send(get())
            driven.server.shutdown()
            assert not client.answer().persists
            client.close()
            driven.settle()
            assert driven.server.stopped

    def test_a_connection_whose_proxy_header_is_on_its_way_gets_a_second_for_it(self) -> None:
        with Driven(proxy_protocol=True, header_timeout=30, graceful_timeout=30) as driven:
            late, silent = driven.connect_early(), driven.connect_early()
            driven.server.shutdown()
            driven.settle()
            assert (self.stage(driven), driven.server.open_connections) == (Stage.DRAINING, 2)
            late.send(b"PROXY UNKNOWN\r\n" + get())
            assert not late.answer().persists
            late.close()
            driven.settle()
            assert driven.server.open_connections == 1
            driven.pass_time(1.2)
            assert silent.is_closed
            assert self.stage(driven) is Stage.DONE

    def test_a_connection_that_was_used_a_moment_ago_gets_a_second_for_its_next_request(self) -> None:
        with Driven() as driven:
            recent = driven.connect()
            assert recent.ask().persists
            driven.server.shutdown()
            driven.pass_time(0.5)
            assert not recent.ask().persists

    @pytest.mark.parametrize(
        ("busy", "idle", "messages"),
        [
            pytest.param(0, 2, [], id="idle-connections-lose-nothing"),
            pytest.param(1, 2, ["1 connection was closed before its response was complete"], id="one"),
            pytest.param(3, 0, ["3 connections were closed before their responses were complete"], id="several"),
        ],
    )
    def test_an_abort_counts_the_connections_that_lose_a_response(
        self, busy: int, idle: int, messages: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with Driven(echo) as driven:
            for _ in range(busy):
                driven.connect().send(post(b"12345")[:-2])
            for _ in range(idle):
                assert driven.connect().exchange(post(b"1"))[0].status == 200
            driven.settle()
            driven.server.shutdown(0.0)
            with caplog.at_level(logging.WARNING, "kaserve"):
                driven.pass_time(0.3)
            assert driven.server.open_connections == 0
            assert self.stage(driven) is Stage.DONE
            assert caplog.messages == messages
