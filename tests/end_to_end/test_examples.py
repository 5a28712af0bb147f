"""Each example is started, gets requests, and is stopped."""

from __future__ import annotations

import asyncio
import configparser
import http.client
import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from examples import events, in_asyncio
from kaserve import Server
from kaserve.cli.arguments import read_arguments
from kaserve.telemetry.endings import Ending
from tests.tools.server import (
    PATIENCE,
    ROOT,
    Client,
    config,
    connect,
    environment,
    get,
    hello,
    missing,
    program,
    serving,
    wait_for,
)

EXAMPLES = ROOT / "examples"
UNITS = EXAMPLES / "systemd"
TESTED = {
    "blind_proxy.py",
    "events.py",
    "handler.py",
    "in_asyncio.py",
    "in_thread.py",
    "in_tk.py",
    "in_trio.py",
    "tls.py",
    "tunnel_echo.py",
    "upload_hash.py",
    "wsgi_app.py",
}


def test_each_example_has_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


class Example:
    """A running program of `examples/`. url: where it says that it serves."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(),
            text=True,
        )
        try:
            self.url = self._read_url()
        except BaseException:
            self.close()
            raise
        host, _, port = self.url.rpartition("//")[2].rstrip("/").partition(":")
        self.address = host, int(port)

    def _read_url(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.match(r"at (\S+) until", line)
        assert match is not None, line + self.stderr
        return match[1]

    @property
    def stderr(self) -> str:
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def ask(self, target: str, body: bytes | None = None) -> str:
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request("GET" if body is None else "POST", target, body)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stops it; it must exit with 0 and without warnings."""
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE) == 0, self.stderr
        assert "Traceback" not in self.stderr
        assert "Warning" not in self.stderr

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._stderr.close()


@contextmanager
def running(name: str, *arguments: str) -> Iterator[Example]:
    example = Example(name, *arguments)
    try:
        yield example
    finally:
        example.close()


def test_handler() -> None:
    with running("handler.py", "0") as example:
        assert "/hello" in example.ask("/")
        assert example.ask("/hello?name=you") == '{"hello":"you"}'
        assert example.ask("/length", b"12345") == "5 bytes\n"
        assert example.ask("/lines").endswith("line 998\nline 999\n")
        assert example.ask("/other") == "not found\n"
        example.stop()


def test_upload_hash() -> None:
    """A few MiB here; its memory does not depend on the size, which the tests of connections prove."""
    body = os.urandom(1 << 20) * 4
    with running("upload_hash.py", "0") as example:
        for _ in range(2):
            assert json.loads(example.ask("/", body)) == {"sha256": sha256(body).hexdigest(), "bytes": len(body)}
        assert example.ask("/").startswith("405 ")
        example.stop()


def test_blind_proxy() -> None:
    """The experiment of docs/proxy.md: the second request is not passed on, since all three wait for another."""
    ask = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    with serving(hello) as server:
        assert isinstance(server.address, tuple)
        with (
            running("blind_proxy.py", "0", f"127.0.0.1:{server.address[1]}") as example,
            socket.create_connection(example.address, PATIENCE) as client,
        ):
            client.sendall(ask)
            received = b""
            while not received.endswith(b"hello"):
                received += client.recv(65536)
            assert b"\r\nConnection: keep-alive\r\n" in received
            client.sendall(ask)
            server.shutdown(0.0)  # or its idle timeout passes
            try:
                assert client.recv(65536) == b""
            except ConnectionResetError:  # with the second request unread
                pass
            assert server.stats.requests == 1


def test_tunnel_echo() -> None:
    with running("tunnel_echo.py", "0") as example:
        assert example.ask("/").startswith("426 ")
        with connect(example.address) as client:
            client.send(get("/", "Connection: Upgrade", "Upgrade: ECHO") + b"hello")
            assert client._until(b"hello").startswith(b"HTTP/1.1 101 ")
            client.send(b"bye")
            client.sock.shutdown(socket.SHUT_WR)
            assert client.rest() == b"bye"
        example.stop()


class TestEvents:
    """Server-sent events: the HTML standard, section 9.2."""

    STREAMS = 300

    def open_stream(self, example: Example, *fields: str) -> Client:
        client = connect(example.address)
        client.send(get("/events", "Accept: text/event-stream", *fields))
        assert b"Content-Type: text/event-stream\r\n" in client._until(b"\r\n\r\n")
        assert b"retry: 2000\n" in client._until(b"\n\n")
        return client

    def test_many_streams_on_one_thread(self) -> None:
        with running("events.py", "0") as example, ExitStack() as stack:
            assert "EventSource" in example.ask("/")
            before = json.loads(example.ask("/threads"))
            streams = [stack.enter_context(self.open_stream(example)) for _ in range(self.STREAMS)]
            assert json.loads(example.ask("/threads")) == {"streams": self.STREAMS, "threads": before["threads"]}
            for text in ("hello", "two\r\nlines"):
                self.say(example, text)
            for stream in streams:
                assert b"id: 1\ndata: hello\n" in stream._until(b"hello\n\n")
                assert b"id: 2\ndata: two\ndata: lines\n" in stream._until(b"lines\n\n")
            for stream in streams[1:]:
                stream.close()
            wait_for(lambda: json.loads(example.ask("/threads"))["streams"] == 1)
            example.stop()
            assert streams[0].rest().endswith(b"0\r\n\r\n")  # complete, so that the client connects again

    @staticmethod
    def say(example: Example, text: str) -> None:
        connection = http.client.HTTPConnection(*example.address, timeout=PATIENCE)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/say", urlencode({"text": text}), form)
        assert connection.getresponse().status == 204
        connection.close()

    def test_a_client_that_connects_again_gets_what_it_missed(self) -> None:
        with running("events.py", "0") as example:
            for text in ("one", "two", "three"):
                self.say(example, text)
            with self.open_stream(example, "Last-Event-ID: 1") as stream:
                received = stream._until(b"three\n\n")
                assert received.endswith(b"id: 2\ndata: two\n\nid: 3\ndata: three\n\n")
                assert b"one" not in received
            with self.open_stream(example, "Last-Event-ID: x") as stream:
                assert b"data: one\n" in stream._until(b"three\n\n")
            assert example.ask("/say", b"text=") == "415 Unsupported Media Type: the body must be a form: " + (
                "application/x-www-form-urlencoded or multipart/form-data\n"
            )
            assert example.ask("/other").startswith("404 Not Found")
            example.stop(signal.SIGINT)

    def test_heartbeats(self) -> None:
        feed = events.Feed()
        with serving(events.Handler(feed)) as server, connect(server) as stream:
            stream.send(get("/events"))
            stream._until(b"retry: 2000\n\n")
            wait_for(lambda: bool(feed._waiting))
            feed.send_heartbeat()
            assert b": heartbeat\n\n" in stream._until(b": heartbeat\n\n")
            feed.publish("")
            assert b"id: 1\ndata: \n\n" in stream._until(b"data: \n\n")
            feed.close()
            assert stream._until(b"0\r\n\r\n")

    def test_events_that_are_too_old_are_not_kept(self) -> None:
        feed = events.Feed()
        for number in range(events.KEPT_EVENTS + 5):
            feed.publish(str(number))
        last, sent = feed.next_events(0)
        assert last == events.KEPT_EVENTS + 5
        assert isinstance(sent, bytes)
        assert sent.startswith(b"id: 6\ndata: 5\n\n")


def test_wsgi_app() -> None:
    with running("wsgi_app.py", "0") as example:
        assert example.ask("/world") == "hello, /world\n"
        assert example.ask("/wsgi_app.py") == (EXAMPLES / "wsgi_app.py").read_text()
        example.stop()


def test_tls(tmp_path: Path) -> None:
    """With a certificate made by the command of its docstring."""
    text = (EXAMPLES / "tls.py").read_text()
    match = re.search(r"^(openssl .*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert match is not None
    program("openssl")
    subprocess.run(["sh", "-ec", match[1]], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with running("tls.py", str(tmp_path / "site.pem"), "0") as example:
        assert example.url.startswith("https://")
        connection = http.client.HTTPSConnection(*example.address, timeout=PATIENCE, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello over https\n"
        connection.close()
        example.stop()


def test_in_thread() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "in_thread.py")],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(at http://127\.0\.0\.1:\d+/: hello from /thread\n){2}", done.stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_in_asyncio(number: signal.Signals) -> None:
    with running("in_asyncio.py", "0") as example:
        before = int(example.ask("/").split()[0])
        assert re.fullmatch(r"\d+ ticks later\n", later := example.ask("/slow"))
        assert int(later.split()[0]) > 0  # the program's own task ran meanwhile
        assert int(example.ask("/").split()[0]) > before
        example.stop(number)


def test_asyncio_ends_connections_that_are_idle() -> None:
    """The event loop must keep the deadlines of the server."""
    server = Server(hello, config(keep_alive=0.25))
    server.open()
    ends: list[bytes] = []

    async def ask() -> None:
        assert isinstance(server.address, tuple)
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(get())
        ends.append(await asyncio.wait_for(reader.read(), PATIENCE))  # until the server closes
        writer.close()
        await writer.wait_closed()
        server.shutdown()

    async def both() -> None:
        await asyncio.gather(in_asyncio.serve(server), ask())

    asyncio.run(both())
    assert ends[0].endswith(b"hello")
    assert server.stopped
    assert server.stats.closed[Ending.IDLE] == 1


def test_in_trio() -> None:
    if importlib.util.find_spec("trio") is None:
        missing("trio is not installed")
    with running("in_trio.py", "0") as example:
        before = int(example.ask("/").split()[0])
        wait_for(lambda: int(example.ask("/").split()[0]) > before)
        example.stop()


def test_in_tk_without_a_window() -> None:
    """The event loop is Tcl's and does not need a display."""
    tkinter = pytest.importorskip("tkinter", reason="this Python has no Tk")
    from examples import in_tk

    tcl = tkinter.Tcl()
    interpreter: Any = tcl.tk
    server = Server(hello, config(keep_alive=0.25))
    server.open()
    in_tk.ServerRunner(tcl, server)
    with connect(server) as client:
        client.send(get())
        client.sock.setblocking(False)
        received = b""
        while True:
            try:
                data = client.sock.recv(65536)
            except BlockingIOError:
                interpreter.dooneevent(0)  # waits for one event; another one always follows
                continue
            if not data:
                break
            received += data
    assert received.endswith(b"hello")
    assert server.stats.closed[Ending.IDLE] + server.open_connections == 1
    server.shutdown(0.0)
    while not server.stopped:
        interpreter.dooneevent(0)
    server.close()  # has no effect: it is closed already


def test_in_tk() -> None:
    tkinter = pytest.importorskip("tkinter", reason="this Python has no Tk")
    try:
        tkinter.Tk().destroy()
    except tkinter.TclError as error:
        pytest.skip(f"no display for a window: {error}")
    with running("in_tk.py", "0") as example:
        assert example.ask("/") == "it is in the window\n"


class TestUnits:
    @staticmethod
    def read(name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment, method-assign]  # configparser's own way
        parser.read_string((UNITS / name).read_text())
        return parser

    def test_the_command_is_valid(self) -> None:
        service = self.read("kaserve.service")["Service"]
        python, *arguments = shlex.split(service["ExecStart"])
        assert (Path(python).name, arguments[:2]) == ("python3", ["-m", "kaserve"])
        config = read_arguments(arguments[2:], {}).config
        assert config.directory == "/srv/www"
        assert service["Type"] == "notify"
        assert float(service["TimeoutStopSec"]) > config.graceful_timeout

    def test_the_service_requires_the_socket(self) -> None:
        assert "kaserve.socket" in self.read("kaserve.service")["Unit"]["Requires"].split()
        assert self.read("kaserve.socket")["Socket"]["ListenStream"] == "80"

    def test_systemd_accepts_them(self, tmp_path: Path) -> None:
        """With the path of this python3."""
        analyze = program("systemd-analyze")
        for name in ("kaserve.socket", "kaserve.service"):
            text = (UNITS / name).read_text().replace("/usr/bin/python3", sys.executable)
            (tmp_path / name).write_text(text)
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(tmp_path / "kaserve.service")],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        complaints = [line for line in done.stderr.splitlines() if "kaserve." in line]
        assert complaints == []


def test_a_service_with_socket_activation(tmp_path: Path) -> None:
    """The command of the unit with a listening socket and a notify socket: READY, a response, STOPPING."""
    (tmp_path / "file").write_bytes(b"content")
    service = TestUnits.read("kaserve.service")["Service"]
    arguments = shlex.split(service["ExecStart"].replace("/srv/www", str(tmp_path)))[1:]
    manager = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'kaserve.socket'}\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(PATIENCE)
    with notify, socket.create_server(("127.0.0.1", 0)) as listener:
        client = connect(listener.getsockname())  # before the service runs: it waits in the backlog
        client.send(get("/file"))
        process = subprocess.Popen(
            [sys.executable, "-c", manager, str(listener.fileno()), *arguments],
            env=environment(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="60000000"),
            pass_fds=(listener.fileno(),),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert notify.recv(100) == b"READY=1"
            assert client.answer().body == b"content"
            assert notify.recv(100) == b"WATCHDOG=1"
            client.close()
            process.send_signal(signal.SIGTERM)
            assert notify.recv(100) == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
