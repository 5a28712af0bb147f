"""Tutorials as a reader does them: the files of a page are written, and its commands run in a shell, in order.

A block of code with a title (```python title="shop.py") is a file, and so is one whose first line is `# shop.py`. A
block `console` is a terminal: lines after `$ ` are commands, with a backslash at the end or within parentheses over
several lines; the lines after a command are its output. `...` stands for anything.

A command that starts a server goes on in a terminal of its own until the text says "Ctrl-C in the first terminal",
which stops the oldest one, or otherwise "with Ctrl-C", which stops all. What a reader does only once, to install
something, is in blocks of other kinds, and commands that begin with `pip` are not run.

Ports 8000 and 8443 become free ones, so that nothing else on the machine is in the way.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.tools.server import PATIENCE, environment, missing

SERVERS = r"(kaserve (?!--hash-password|--version)|nginx |python (program|greeter)\.py)"


@dataclass(frozen=True)
class Step:
    """A file to write, a command with its output, or what the reader is told to stop."""

    kind: str  # "file", "command", "stop the oldest", "stop all"
    name: str  # of the file, or the command
    text: str = ""  # content of the file, or output


def read_steps(path: Path) -> list[Step]:
    """Returns what a page tells its reader to do."""
    steps: list[Step] = []
    for prose, info, body in re.findall(
        r"(.*?)(?:^```([^\n]*)\n(.*?)^```$|\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        prose = " ".join(prose.split())
        if "Ctrl-C in the first terminal" in prose:
            steps.append(Step("stop the oldest", ""))
        elif "with Ctrl-C" in prose:
            steps.append(Step("stop all", ""))
        title = re.search(r'title="([^"]+)"', info) or re.match(r"# (\S+\.py)$", body.partition("\n")[0])
        if title:
            steps.append(Step("file", title[1], body))
        elif info == "console":
            steps += [
                Step("command", *_split(command)) for command in re.split(r"^\$ ", body, flags=re.MULTILINE) if command
            ]
    return steps


def _split(text: str) -> tuple[str, str]:
    """A command, and its output."""
    lines = text.splitlines(keepends=True)
    end = 1
    while lines[end - 1].endswith("\\\n") or _is_open("".join(lines[:end])):
        end += 1
    return "".join(lines[:end]).strip(), "".join(lines[end:])


def _is_open(command: str) -> bool:
    """Whether a loop or a parenthesis goes on in the next line."""
    return command.count("(") > command.count(")")


class Terminal:
    """Runs the steps of a page in a directory."""

    def __init__(self, directory: Path, ports: dict[str, int]) -> None:
        self._directory = directory
        self._ports = ports
        self._servers: list[subprocess.Popen[bytes]] = []
        self._background: list[subprocess.Popen[bytes]] = []
        programs = directory / "bin"
        programs.mkdir()
        for name, command in (("kaserve", "-m kaserve"), ("pytest", "-m pytest -p no:cacheprovider"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin"
        self._environment = environment(PATH=path, NO_PROXY="*", LC_ALL="C.UTF-8")
        self._environment["KASERVE_PORT"] = str(ports["8000"])  # where a command names no port
        self.work = directory / "work"
        self.work.mkdir()

    def run(self, steps: list[Step]) -> None:
        """Runs all steps; fails if a command has another output than the page shows."""
        for step in steps:
            if step.kind == "file":
                (self.work / step.name).write_text(self._with_ports(step.text))
                shutil.rmtree(self.work / "__pycache__", ignore_errors=True)  # two versions within one second
            elif step.kind == "stop all":
                self._stop(self._servers)
                self._servers = []
            elif step.kind == "stop the oldest":
                self._stop([self._servers.pop(0)])
            elif not step.name.startswith("pip "):
                self._run(step)

    def _run(self, step: Step) -> None:
        command = self._with_ports(step.name)
        tool = command.split()[0].strip("(")
        if tool in ("nginx", "openssl", "curl") and shutil.which(tool, path=self._environment["PATH"]) is None:
            missing(f"{tool} is not installed")
        if re.match(SERVERS, command):
            self._start(command, step.text)
        elif match := re.match(r"(\w+)=(.*)", command):
            self._environment[match[1]] = self._output(f"printf %s {match[2]}")
        elif command.endswith("&"):
            self._background.append(self._popen(command.removesuffix("&")))
        else:
            if command.startswith("wait;"):
                while self._background:
                    self._background.pop().wait(PATIENCE)
                command = command.removeprefix("wait;")
            _compare(command, self._output(command, succeeds=not step.text), self._with_ports(step.text))

    def _output(self, command: str, *, succeeds: bool = True) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0 or not succeeds, f"$ {command}\n{done.stderr.decode()}"
        # A page shows stderr only where there is nothing else: that of curl is a progress bar.
        return done.stdout.decode() or done.stderr.decode()

    def _popen(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _start(self, command: str, output: str) -> None:
        """Starts a server, and waits until it listens and has printed what the page shows."""
        log = self.work.parent / f"terminal-{time.monotonic_ns()}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.work,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._servers.append(process)
        deadline = time.monotonic() + PATIENCE
        while not self._is_up(command, log):
            assert process.poll() is None, f"{command} ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"{command} does not start: {log.read_text()}"
            time.sleep(0.02)
        _compare(command, log.read_text(), self._with_ports(output))

    def _is_up(self, command: str, log: Path) -> bool:
        if command.startswith("kaserve"):  # another process may listen on the same port
            return "Ctrl-C" in log.read_text()
        port = self._ports["8443" if command.startswith("nginx") else "8000"]
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def _stop(self, servers: list[subprocess.Popen[bytes]]) -> None:
        for process in reversed(servers):  # the proxy before the server
            process.send_signal(signal.SIGINT)
        for process in servers:
            process.wait(PATIENCE)

    def _with_ports(self, text: str) -> str:
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._servers, *self._background):
            process.kill()
            process.wait()


def _compare(command: str, output: str, shown: str) -> None:
    """Checks that the output is that of the page, in which `...` is anything. The width of spaces does not matter."""
    pattern = r"\s+".join(".*".join(map(re.escape, word.split("..."))) for word in shown.split())
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert shown.split() == [] or re.fullmatch(rf"\s*{pattern}\s*", output, re.DOTALL), (
        f"$ {command}\nshows\n{shown}\nbut has the output\n{output}"
    )
