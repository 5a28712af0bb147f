"""Tools for tests of a whole server: clients on real sockets; servers in a thread, turned by the test, or in a process.

There are three ways to run a server, as for its users: `serving` in a background thread; `Driven` in the test's own
thread, with a clock that only the test moves; `Process` as `python -m kaserve`. Everything that waits does so for an
event and for a bounded time, and leaves no thread, process or socket.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import pytest

from kaserve import Config, Request, Response, Server
from kaserve.http.handler import Handler
from tests.tools.net import FakeClock
from tests.tools.wire import Answer, read_answers

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "demo"

PATIENCE = 20.0  # seconds within which an event must happen, even on a busy machine
QUIET = 0.05  # seconds of silence that show that no byte is on its way, on the loopback interface


def hello(request: Request) -> Response:
    """The handler of most tests."""
    return Response.text("hello")


def echo(request: Request) -> Response:
    """Responds with the body of the request."""
    return Response(200, request.body.read())


def pid(request: Request) -> Response:
    """Responds with the id of its process."""
    return Response.text(str(os.getpid()))


def get(target: str = "/", *fields: str, version: str = "1.1") -> bytes:
    return request("GET", target, *fields, version=version)


def post(body: bytes, *fields: str, target: str = "/") -> bytes:
    return request("POST", target, f"Content-Length: {len(body)}", *fields) + body


def request(method: str, target: str, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: h", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


# Clients.


class Client:
    """A client that sends exactly the bytes it is given, and reads responses one by one, strictly."""

    def __init__(self, sock: socket.socket, turn: Callable[[], object] | None = None) -> None:
        """turn: runs the server for a moment, if it runs in this thread; None if it runs by itself."""
        sock.settimeout(PATIENCE)
        self.sock = sock
        self._turn = turn
        self._received = b""  # but not read by the test yet

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, target: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> Answer:
        """Sends a request without a body, and returns the response."""
        self.send(request(method, target, *fields, version=version))
        return self.answer(method)

    def exchange(self, *requests: bytes) -> list[Answer]:
        """Sends all of `requests` in one segment, and returns the responses."""
        self.send(b"".join(requests))
        return [self.answer(each.split(b" ", 1)[0].decode()) for each in requests]

    def answer(self, method: str = "GET") -> Answer:
        """Returns the next response, which must be complete and well-formed."""
        wire = self._until(b"\r\n\r\n")
        fields = wire.lower()
        if method != "HEAD" and wire[9:12] not in (b"204", b"304"):
            if b"\r\ntransfer-encoding: chunked\r\n" in fields:
                while not wire.endswith(b"\r\n0\r\n\r\n"):
                    size = self._until(b"\r\n")
                    wire += size + self._exactly(int(size, 16) + 2)
            elif b"\r\ncontent-length: " in fields:
                digits = fields.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
                wire += self._exactly(int(digits))
            else:
                wire += self.rest()
        (answer,) = read_answers(wire, [method])
        return answer

    def rest(self) -> bytes:
        """Returns all bytes until the server closes its side."""
        while self._receive():
            pass
        rest, self._received = self._received, b""
        return rest

    @property
    def is_closed(self) -> bool:
        """Waits for the end of the connection. True if no byte came before it."""
        return self.rest() == b""

    @property
    def is_quiet(self) -> bool:
        """True if nothing has arrived, not even the end."""
        if self._turn is not None:
            self._turn()
        return not self._received and not select.select([self.sock], [], [], QUIET)[0]

    def finish(self) -> None:
        """Half-closes the connection: the client sends nothing more."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            assert self._receive(), f"the connection ended within {self._received!r}"
        data, mark, self._received = self._received.partition(mark)
        return data + mark

    def _exactly(self, count: int) -> bytes:
        pieces = [self._received]
        missing = count - len(self._received)
        while missing > 0:
            self._received = b""
            assert self._receive(), f"the connection ended {missing} bytes too early"
            pieces.append(self._received)
            missing -= len(self._received)
        data = b"".join(pieces)
        self._received = data[count:]
        return data[:count]

    def _receive(self) -> bool:
        """Receives more bytes. False at the end of the connection."""
        if self._turn is not None:
            wait_for(lambda: select.select([self.sock], [], [], 0)[0], self._turn)
        data = self.sock.recv(65536)
        self._received += data
        return bool(data)


# What a socket can be connected to: a `kaserve.http.address` or its plain form. None is what a server has before it is
# open; connecting to it fails.
SocketAddress = tuple[str, int] | str | None


def connect(server: Server | SocketAddress, turn: Callable[[], object] | None = None) -> Client:
    """Returns a client that is connected to a server or an address; see `Client` for `turn`."""
    address = server.address if isinstance(server, Server) else server
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return Client(sock, turn)
    assert address is not None
    return Client(socket.create_connection(address, timeout=PATIENCE), turn)


def refuses(address: SocketAddress) -> bool:
    """True if nothing listens on `address` any more."""
    try:
        connect(address).close()
    except OSError:
        return True
    return False


def wait_for(condition: Callable[[], object], turn: Callable[[], object] = lambda: time.sleep(0.002)) -> None:
    """Calls `turn` until `condition` holds; fails if that takes longer than `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        turn()


# Servers in this process.


def config(**settings: Any) -> Config:
    """Returns a Config with a free port of 127.0.0.1 and without an access log, unless `settings` say otherwise."""
    return Config(**{"port": 0, "access_log": False} | settings)


@contextmanager
def serving(handler: Handler = hello, **settings: Any) -> Iterator[Server]:
    """Runs a server in a background thread, and stops it at once at the end. See `config` for `settings`."""
    with Server(handler, config(**settings)) as server:
        try:
            yield server
        finally:
            server.shutdown(0.0)


class Driven:
    """A server that the test runs turn by turn, with a clock that stands still. See `config` for `settings`."""

    def __init__(self, handler: Handler = hello, **settings: Any) -> None:
        self.clock = FakeClock()
        self.server = Server(handler, config(**settings), clock=self.clock, rng=lambda: 0.0)
        self._clients: list[Client] = []

    def __enter__(self) -> Driven:
        self.server.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self.server.close()

    def connect(self) -> Client:
        """Returns a client whose connection has been accepted."""
        accepted = self.server.stats.accepted
        client = connect(self.server, self.turn)
        self._clients.append(client)
        wait_for(lambda: self.server.stats.accepted > accepted, self.turn)
        return client

    def connect_early(self) -> Client:
        """Returns a client whose connection has been accepted, although it has not sent its PROXY header."""
        before = self.server.open_connections
        client = connect(self.server, self.turn)
        self._clients.append(client)
        wait_for(lambda: self.server.open_connections > before, self.turn)
        return client

    def turn(self) -> None:
        """Runs one turn, which waits a moment for bytes that are on their way."""
        self.server.step(0.01)

    def settle(self) -> None:
        """Runs turns until there is nothing to do at this moment."""
        while self.server.timeout() == 0.0 or select.select([self.server.fileno()], [], [], QUIET / 10)[0]:
            self.server.step(0.0)

    def pass_time(self, seconds: float) -> None:
        """Moves the clock forward, and stops at each deadline on the way to run what is due."""
        self.settle()
        end = self.clock.now + seconds
        while (wait := self.server.timeout()) is not None and self.clock.now + wait <= end:
            self.clock.advance(max(wait, 1e-6))
            self.settle()
        self.clock.now = end
        self.settle()


# Servers in processes of their own.


def started_after(preparation: str) -> tuple[str, ...]:
    """The `program` of a `Process` that runs some Python in the process before `python -m kaserve` takes it over."""
    takeover = "os.execv(sys.executable, [sys.executable, '-m', 'kaserve', *sys.argv[1:]])"
    return "-c", f"import os, sys\n{preparation}\n{takeover}"


class Process:
    """`python -m kaserve` with some options. It serves when the block begins, and is killed when it ends."""

    def __init__(
        self, *options: str, program: tuple[str, ...] = ("-m", "kaserve"), fds: tuple[int, ...] = (), **variables: str
    ) -> None:
        """program: arguments of Python. fds: descriptors it inherits. variables: added to the environment."""
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, *program, *options],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            stdin=subprocess.DEVNULL,
            env=environment(**variables),
            pass_fds=fds,
        )
        self.banner = ""

    def __enter__(self) -> Process:
        try:
            self.banner = self._read_banner()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    def _read_banner(self) -> str:
        """Reads stdout up to the line that says how to stop the server."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        end = time.monotonic() + PATIENCE
        text = b""
        while b"Ctrl-C" not in text or not text.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
            data = os.read(fd, 65536) if readable else b""
            assert data, f"no banner: {text!r} {self.stderr!r}"
            text += data
        return text.decode()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """The first URL in the banner."""
        return next(line.split()[-1] for line in self.banner.splitlines() if line.startswith("  at "))

    @property
    def address(self) -> SocketAddress:
        """The address of that URL."""
        if self.url.startswith("unix:"):
            return self.url.removeprefix("unix:")
        host, _, port = self.url.partition("://")[2].rstrip("/").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def stderr(self) -> str:
        """Everything it has written to stderr so far."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def connect(self) -> Client:
        return connect(self.address)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Waits for its end, and returns the exit code."""
        return self._process.wait(PATIENCE)


def environment(**variables: str) -> dict[str, str]:
    """Returns the environment of a child: this one, without settings of kaserve, with the package, with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASERVE_", "LISTEN_"))}
    if "KASERVE_PURE" in os.environ:  # which build, not a setting
        kept["KASERVE_PURE"] = os.environ["KASERVE_PURE"]
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | variables


def run(*options: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m kaserve` until it ends by itself. input: its stdin."""
    return subprocess.run(
        [sys.executable, "-m", "kaserve", *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        input=input,
        env=environment(**variables),
    )


# Programs of the system.


def program(*names: str) -> str:
    """Returns the path of the first of `names` that is installed.

    If none is, the test is skipped; with CI=true, where all must be installed, it fails.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing(f"{' or '.join(names)} is not installed")


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
