"""Transcripts of real servers in the documentation, and how tests replay them.

A transcript is a fenced block of Markdown whose info string is `http-transcript`:

    $ kaserve 8000 -d demo --keep-alive 1               how the server was started
    > GET / HTTP/1.1                                    what the client sends,
    < HTTP/1.1 200 OK                                   what comes back,
    * 2 seconds pass                                    and other events: see `Replay`

A line of the conversation stands for its text and CRLF; one that ends in `\\n` has a bare LF instead, one that ends in
a backslash has nothing. `\\xHH` is a byte that could not be seen. Lines that are sent without another one between them
are one segment. What is not shown must not happen: a connection that closes says so.

A `Replay` makes a transcript of what really happens. The server has a fake clock, so that nothing waits.

A block of the kind `console` begins in the same way. A shell runs its other commands, and their output follows.

Tests compare the documents with what happens. After an intended change of the server,

    python -m tests.tools.transcripts docs/keep-alive.md

updates the document.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from kaserve import Config, Request, Response, Server
from kaserve.cli.arguments import read_arguments
from kaserve.cli.load import way_of
from kaserve.handlers import Files

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 10.0  # seconds for what should happen immediately, on a busy machine
QUIET = 0.01  # seconds without an event after which nothing more will arrive, on the loopback interface

Handler = Callable[[Request], Response]


# Documents.


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, the first word after the fence, and its lines."""

    path: Path
    number: int  # of its first line within the document, from 1
    section: str
    kind: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path.name}:{self.number}"

    @property
    def config(self) -> Config:
        """The settings of the server that its first line starts, with a free port and without an access log."""
        words = shlex.split(self.lines[0].removesuffix(" &"))
        assert words[:2] == ["$", "kaserve"], f"{self} does not say how its server was started"
        return replace(read_arguments(words[2:], {}).config, port=0, access_log=False)

    @property
    def handler(self) -> Handler:
        """The handler of that server: a directory, or a function of a module that the document shows."""
        config = self.config
        if config.handler is None:
            return Files(ROOT / config.directory)
        module, _, function = config.handler.partition(":")
        (source,) = [block for block in read_blocks(self.path, "python") if block.lines[0] == f"# {module}.py"]
        namespace: dict[str, Handler] = {}
        exec("\n".join(source.lines), namespace)
        return namespace[function]


def read_blocks(path: Path, kind: str) -> list[Block]:
    """The fenced blocks of one kind, in order."""
    return [block for block in _read_blocks(path) if block.kind == kind]


def _read_blocks(path: Path) -> Iterator[Block]:
    section = kind = ""
    body: list[str] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if body is not None and line == "```":
            yield Block(path, number - len(body), section, kind, tuple(body))
            body = None
        elif body is not None:
            body.append(line)
        elif line.startswith("```"):
            kind, body = line[3:].partition(" ")[0], []
        elif line.startswith("#"):
            section = line.lstrip("#").strip()
    assert body is None, f"{path.name}: the last block does not end"


# Lines and bytes.


def decode(lines: Sequence[str]) -> bytes:
    """The bytes that lines of a conversation stand for."""
    text = "".join(map(_decode_line, lines))
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text).encode("latin-1")


def _decode_line(line: str) -> str:
    if line.endswith("\\n"):
        return line.removesuffix("\\n") + "\n"
    return line.removesuffix("\\") if line.endswith("\\") else line + "\r\n"


def encode(data: bytes) -> list[str]:
    """The lines that stand for `data`. A response begins on a new line, even if the body before it has no line end."""
    lines = []
    for text, end in re.findall(r"([^\n]*?)(\r\n|\n|(?<=[^\n])(?=HTTP/1\.)|\Z)", data.decode("latin-1")):
        if text or end:
            shown = re.sub(r"[^ -\[\]-~]| \Z", lambda match: f"\\x{ord(match[0]):02x}", text)
            lines.append(shown + {"\r\n": "", "\n": "\\n", "": "\\"}[end])
    return lines


def normalise(lines: Sequence[str]) -> list[str]:
    """The lines without values that depend on the day and the file system."""
    return [re.sub(r"^((?:< )?(?:Date|ETag|Last-Modified)): .+", r"\1: *", line) for line in lines]


# Replaying.

OPEN, CLOSED, RESET = "the connection stays open", "the server closes", "the server resets the connection"


class Clock:
    """Seconds that pass only when a replay says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """One connection to the server: its state, and what it received and has not shown yet."""

    def __init__(self, address: object) -> None:
        assert isinstance(address, tuple)
        self.sock = socket.create_connection(address)
        self.sock.setblocking(False)
        self.received = b""
        self.state = self.shown = OPEN

    def receive(self) -> None:
        while self.state != RESET:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.state = RESET
            else:
                self.received += data
                if not data:
                    self.state = CLOSED
                    return


class Replay:
    """Plays the clients of a transcript; the server runs in the same thread, in between.

    Events, after `* `:
    `connection B`: what follows is on another connection than before, which is opened where it is first named.
    `N seconds pass`: the server handles the deadlines that expire.
    `the server is busy for N seconds`: its next turn comes after the next actions of the clients.
    `the client closes its sending side`, `SIGTERM`, `keep-alive is switched off`, `keep-alive is switched on`.
    `the server closes`, `the server resets the connection`, `the connection stays open`: what the client sees.
    """

    def __init__(self, block: Block, patience: float = PATIENCE) -> None:
        self._clock = Clock()
        self._patience = patience
        self._handler = block.handler
        way = way_of(block.config)
        assert way is not None
        self._server = Server(self._handler, block.config, clock=self._clock, way=way)
        self._clients: dict[str, Client] = {}
        self._lines = block.lines[1:]
        self._happened = [block.lines[0]]

    def run(self) -> list[str]:
        """The transcript of what happens."""
        with ExitStack() as stack:
            stack.callback(getattr(self._handler, "close", lambda: None))
            self._server.open()
            stack.callback(self._server.close)
            self._stack = stack
            self._enter_connection("A")
            for marker, lines in groupby(self._lines, key=lambda line: line[:1]):
                self._play(marker, list(lines))
            self._settle()
            for client in self._clients.values():
                self._show_received(client, [])
                if client.state != client.shown:
                    self._show_state(client)
        return self._happened

    def _play(self, marker: str, lines: list[str]) -> None:
        texts = [line[2:] for line in lines]
        if marker == ">":
            self._client.sock.sendall(decode(texts))
            self._happened += lines
        elif marker == "<":
            expected = normalise(encode(decode(texts)))
            self._turn_until(lambda: normalise(encode(self._client.received)) == expected)
            self._show_received(self._client, lines)
        else:
            for event in texts:
                self._make_happen(event)

    def _make_happen(self, event: str) -> None:
        """Makes an event happen, or waits for one."""
        if event in (OPEN, CLOSED, RESET):
            self._turn_until(lambda: self._client.state == event)
            self._show_received(self._client, [])
            self._show_state(self._client)
            return
        self._happened.append(f"* {event}")
        passing = re.fullmatch(r"(?:(the server is busy for) )?(\d+) seconds?(?: pass(?:es)?)?", event)
        if passing is None or not passing[1]:
            self._settle()
        if passing is not None:
            self._clock.now += int(passing[2])
            if not passing[1]:
                self._settle()
        elif event.startswith("connection "):
            self._enter_connection(event.removeprefix("connection "))
        elif event == "the client closes its sending side":
            self._client.sock.shutdown(socket.SHUT_WR)
        elif event == "SIGTERM":
            self._server.shutdown()
        elif event in ("keep-alive is switched off", "keep-alive is switched on"):
            self._server.keep_alive = event.endswith("on")
        else:
            raise ValueError(f"no such event: {event}")

    def _enter_connection(self, name: str) -> None:
        if name not in self._clients:
            self._clients[name] = Client(self._server.address)
            self._stack.callback(self._clients[name].sock.close)
        self._client = self._clients[name]

    def _show_received(self, client: Client, written: list[str]) -> None:
        """Adds what was received to the transcript, as it was `written` if that is the same."""
        lines = [f"< {line}".rstrip() for line in encode(client.received)]
        client.received = b""
        self._happened += written if normalise(lines) == normalise(written) else lines

    def _show_state(self, client: Client) -> None:
        client.shown = client.state
        self._happened.append(f"* {client.state}")

    # Turns.

    def _turn_until(self, done: Callable[[], bool]) -> None:
        """Runs the server until `done`, the end of the connection or a timeout; then until nothing is left to do."""
        deadline = time.monotonic() + self._patience
        while not done() and self._client.state == OPEN and time.monotonic() < deadline:
            self._turn(QUIET)
        self._settle()

    def _settle(self) -> None:
        """Runs the server until nothing is left to do."""
        deadline = time.monotonic() + PATIENCE
        while self._server.timeout() == 0 or select.select([self._server.fileno()], [], [], QUIET)[0]:
            self._turn(0)
            assert time.monotonic() < deadline, "the server never becomes idle"
        self._receive()

    def _turn(self, timeout: float) -> None:
        self._server.step(timeout)
        self._receive()

    def _receive(self) -> None:
        for client in self._clients.values():
            client.receive()


# Commands.

TOOLS = ("ab", "curl", "nc")


class Session:
    """A server in the background, and a shell."""

    def __init__(self, block: Block) -> None:
        self._block = block

    @property
    def commands(self) -> list[str]:
        """Its commands; each may have several lines."""
        text = "\n".join(self._block.lines[1:])
        return re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)

    @property
    def tools(self) -> set[str]:
        return {
            tool
            for tool in TOOLS
            for command in self.commands
            if re.search(rf"(?:^|\| ){tool} ", command, re.MULTILINE)
        }

    def run(self) -> list[str]:
        """The lines of the session as it happens now."""
        lines = [self._block.lines[0]]
        handler = self._block.handler
        way = way_of(self._block.config)
        assert way is not None
        with (
            closing(handler) if isinstance(handler, Files) else nullcontext(),
            Server(handler, self._block.config, way=way) as server,
        ):
            assert isinstance(server.address, tuple)
            host, port = server.address
            for command in self.commands:
                lines += f"$ {command}".split("\n")
                here = re.sub(r"(?:localhost|127\.0\.0\.1)(?=[: ]8000\b)", host, command)
                lines += _run(re.sub(r"(?<=[: ])8000\b", str(port), here))
        return lines


def _run(command: str) -> list[str]:
    """What a command writes to its standard output."""
    environment = dict(os.environ, LC_ALL="C", no_proxy="*")
    done = subprocess.run(
        ("sh", "-c", command),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=60,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.decode().splitlines()]


def rewrite(path: Path) -> None:
    """Updates every block of a document to what happens now."""
    lines = path.read_text(encoding="utf-8").splitlines()
    happened = [(block, Replay(block, patience=0.2).run()) for block in read_blocks(path, "http-transcript")]
    happened += [(block, Session(block).run()) for block in read_blocks(path, "console")]
    for block, now in sorted(happened, key=lambda pair: pair[0].number, reverse=True):
        if normalise(now) != normalise(block.lines):
            lines[block.number - 1 : block.number - 1 + len(block.lines)] = now
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name))
