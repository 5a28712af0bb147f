"""`kaserve.testing` and the pytest plugin: servers for tests, and what they do to their clients on request."""

from __future__ import annotations

import doctest
import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kaserve.testing
from kaserve import Request, Response, Server
from kaserve.testing import EarlyResponse, Fault, Faults, IdleClose, Relay, Reset, Slow, TruncatedBody, serve
from tests.tools.net import open_descriptors
from tests.tools.server import PATIENCE, ROOT, Client, config, connect, environment, get, hello, post, refuses, wait_for

handled: list[str] = []


def handler(request: Request) -> Response:
    handled.append(request.path)
    if request.path == "/chunked":
        return Response(200, iter([b"0123456789", b"abc"]))
    return Response.text("hello, " + request.body.read().decode())


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    handled.clear()
    threads, descriptors = threading.active_count(), open_descriptors()
    yield
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors


class TestServe:
    def test_a_handler(self) -> None:
        with serve(hello) as server, connect(server) as client:
            assert client.ask().body == b"hello"
        assert refuses(server.address)

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        for directory in (tmp_path, str(tmp_path)):
            with serve(directory=directory) as server, connect(server) as client:
                assert client.ask("/file").body == b"content"

    @pytest.mark.parametrize("threads", [0, 2])
    def test_a_wsgi_application(self, threads: int) -> None:
        where: list[str] = []
        before = set(threading.enumerate())

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
            where.append(threading.current_thread().name)
            start_response("200 OK", [("Content-Length", "3")])
            return [b"app"]

        with serve(wsgi=app, threads=threads) as server, connect(server) as client:
            assert client.ask().body == b"app"
            assert (where[0] == f"kaserve {server.url}") == (threads == 0)
        wait_for(lambda: before.issuperset(threading.enumerate()))

    def test_settings(self) -> None:
        with serve(hello, keep_alive=7, bind="127.0.0.2") as server, connect(server) as client:
            assert client.ask().value("keep-alive") == "timeout=7, max=999"
            assert server.url.startswith("http://127.0.0.2:")

    def test_wrong_arguments(self, tmp_path: Path) -> None:
        two: list[dict[str, Any]] = [{"handler": hello, "directory": tmp_path}, {"wsgi": hello, "directory": tmp_path}]
        for arguments in ({}, *two):
            with pytest.raises(TypeError, match="one of"), serve(**arguments):
                pass
        with pytest.raises(OSError, match="cannot listen on"), serve(hello, bind="192.0.2.1"):
            pass

    def test_a_request_that_runs_does_not_hold_up_the_end(self) -> None:
        with serve(hello) as server:
            client = connect(server)
            client.send(post(b"12345")[:-1])
            wait_for(lambda: server.open_connections)
        client.close()

    def test_an_exception_in_the_block(self) -> None:
        with pytest.raises(ZeroDivisionError), serve(hello):
            raise ZeroDivisionError


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(handler) as server:
        yield server


@pytest.fixture
def faults(server: Server) -> Iterator[Faults]:
    with Faults(server) as faults:
        yield faults


@pytest.fixture
def client(faults: Faults) -> Iterator[Client]:
    with connect(faults.address) as client:
        yield client


class TestFaults:
    def test_without_a_fault_everything_is_passed_on(self, client: Client) -> None:
        for _ in range(3):
            assert client.ask("/chunked").body == b"0123456789abc"
            assert client.exchange(post(b"x" * 200_000))[0].body == b"hello, " + b"x" * 200_000
        client.send(post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 2"))
        while b"\r\n\r\n" not in client._received:
            client._receive()
        client._received = client._received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"me")
        assert client.answer("POST").body == b"hello, me"

    def test_idle_connections_close_when_the_test_says_so(self, faults: Faults, client: Client) -> None:
        assert client.ask().status == 200
        with connect(faults.address) as busy:
            busy.send(post(b"12345")[:-1])
            wait_for(lambda: (faults.open_connections, faults.idle_connections) == (2, 1))
            assert faults.close_idle() == 1
            assert client.is_closed
            busy.send(b"5")
            assert busy.answer("POST").status == 200

    def test_an_idle_connection_closes_under_the_next_request(self, faults: Faults, client: Client) -> None:
        assert client.ask("/one").status == 200
        faults.next(IdleClose())
        client.send(get("/two"))
        assert client.is_closed
        assert handled == ["/one"]

    def test_or_is_reset(self, faults: Faults, client: Client) -> None:
        assert client.ask("/one").status == 200
        faults.next(IdleClose(reset=True))
        client.send(get("/two"))
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert handled == ["/one"]

    @pytest.mark.parametrize("after", [0, 1, 40])
    def test_a_reset(self, faults: Faults, client: Client, after: int) -> None:
        faults.next(Reset(after))
        client.send(get("/one"))
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert len(client._received) <= after  # a reset may overtake what was sent before it
        assert handled == ["/one"]

    def test_a_reset_beyond_the_end_never_comes(self, faults: Faults, client: Client) -> None:
        faults.next(Reset(after=100_000))
        assert client.ask().status == 200
        assert client.ask().status == 200

    def test_slow_bytes(self, faults: Faults, client: Client) -> None:
        faults.next(Slow(pause=0.0, size=7))
        assert client.ask().body == b"hello, "
        assert client.ask().body == b"hello, "

    def test_how_slow(self) -> None:
        noted: list[bytes | float] = []

        class Notes(Relay):
            def __init__(self) -> None:
                pass

            def send(self, data: bytes) -> None:
                noted.append(data)

            def pause(self, seconds: float) -> bool:
                noted.append(seconds)
                return len(noted) > 9

        assert Slow(pause=0.5, size=2).on_response(Notes(), b"12345")
        assert noted == [b"12", 0.5, b"34", 0.5, b"5", 0.5]
        assert not Slow().on_response(Notes(), b"abcd")  # everything is over before it has ended
        assert noted[6:] == [b"a", 0.01, b"b", 0.01]

    def test_the_end_waits_for_no_slow_answer(self, server: Server) -> None:
        with Faults(server) as faults, connect(faults.address) as client:
            faults.next(Slow(pause=10 * PATIENCE))
            client.send(get())
            assert client._receive()
            assert client._received == b"H"

    def test_an_answer_before_the_body(self, faults: Faults, client: Client) -> None:
        faults.next(EarlyResponse())
        client.send(post(b"x" * 10_000_000)[:100])
        answer = client.answer("POST")
        assert (answer.status, answer.persists) == (413, False)
        client.send(b"x" * 100_000)  # dropped
        assert client.is_closed
        assert handled == []

    @pytest.mark.parametrize(("target", "body"), [("/chunked", b"a\r\n01234"), ("/", b"hel")])
    def test_a_body_that_ends_in_the_middle(self, faults: Faults, client: Client, target: str, body: bytes) -> None:
        faults.next(TruncatedBody())
        client.send(get(target))
        assert client.rest().partition(b"\r\n\r\n")[2] == body

    def test_the_standard_library_notices(self, faults: Faults) -> None:
        connection = http.client.HTTPConnection(*faults.address, timeout=PATIENCE)
        faults.next(TruncatedBody(), TruncatedBody())
        for target in ("/chunked", "/"):
            connection.request("GET", target)
            with pytest.raises(http.client.IncompleteRead):
                connection.getresponse().read()
            connection.close()
        faults.next(IdleClose())
        connection.request("GET", "/")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()

    def test_faults_happen_in_order_on_any_connection(self, faults: Faults) -> None:
        wanted: list[Fault] = [EarlyResponse(500, "No"), EarlyResponse(502, "No")]
        faults.next(*wanted)
        for status in (500, 502, 200):
            with connect(faults.address) as client:
                assert client.ask().status == status

    def test_a_server_that_is_gone(self, faults: Faults, server: Server) -> None:
        server.shutdown(0.0)
        wait_for(lambda: refuses(server.address))
        with connect(faults.address) as client:
            assert client.is_closed

    def test_a_server_without_tcp(self, tmp_path: Path) -> None:
        with (
            Server(hello, config(bind=f"unix:{tmp_path / 's'}")) as server,
            pytest.raises(TypeError, match="TCP"),
        ):
            Faults(server)


def test_the_examples_of_the_module() -> None:
    assert doctest.testmod(kaserve.testing) == (0, 4)


USER = """
import http.client, urllib.request, pytest
from kaserve import Response
from kaserve.testing import Reset

def test_handler(kaserve_server):
    one = kaserve_server(lambda request: Response.text("one"))
    two = kaserve_server(lambda request: Response.text("two"), keep_alive=0)
    assert [urllib.request.urlopen(server.url).read() for server in (one, two)] == [b"one", b"two"]

def test_directory(kaserve_server, tmp_path):
    (tmp_path / "file").write_text("content")
    assert urllib.request.urlopen(kaserve_server(directory=tmp_path).url + "file").read() == b"content"

def test_faults(kaserve_server, kaserve_faults):
    faults = kaserve_faults(kaserve_server(lambda request: Response.text("one")))
    faults.next(Reset())
    with pytest.raises(ConnectionResetError):
        urllib.request.urlopen(faults.url)
    assert urllib.request.urlopen(faults.url).read() == b"one"
"""


def test_the_plugin(tmp_path: Path) -> None:
    """As its users have it, but for the entry point, which takes an installation."""
    (tmp_path / "test_user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "kaserve.pytest_plugin", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert "3 passed" in done.stdout, done.stdout


def test_the_plugin_is_announced_under_the_name_of_its_module() -> None:
    """So that a conftest.py may name it as well, which is the same plugin then and not a second one."""
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\n"kaserve.pytest_plugin" = "kaserve.pytest_plugin"\n' in text


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match=r"^there is no setting keepalive; did you mean keep_alive\?$"):
        serve(hello, keepalive=3).__enter__()


def test_the_fixture_says_it_as_well(kaserve_server: Callable[..., Server]) -> None:
    with pytest.raises(TypeError, match=r"^there is no setting keepalive; did you mean keep_alive\?$"):
        kaserve_server(hello, keepalive=3)
