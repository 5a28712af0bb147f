"""The README, "Getting started" and the tutorials, done as they are written: files, commands and their output."""

from __future__ import annotations

import importlib.util
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.tools.server import PATIENCE, ROOT, missing
from tests.tools.tutorial import Step, Terminal, read_steps

DOCS = ROOT / "docs"
PAGES = [DOCS / "getting-started.md", *sorted((DOCS / "tutorials").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_what_happens(page: Path, tmp_path: Path) -> None:
    if page.stem == "flask" and importlib.util.find_spec("flask") is None:
        missing("Flask is not installed")
    with Terminal(tmp_path, free_ports()) as terminal:
        terminal.run(read_steps(page))


def free_ports() -> dict[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return {"8000": one.getsockname()[1], "8443": two.getsockname()[1]}


def test_the_readme_is_what_happens(tmp_path: Path) -> None:
    """Its examples, each with a request while its server runs."""
    if importlib.util.find_spec("flask") is None:
        missing("Flask is not installed")
    ports = free_ports()
    steps = read_steps(ROOT / "README.md")
    expected = {
        "kaserve photos": ("/beach.txt", b"sand\n"),
        "kaserve shop:app": ("/", b"open until eight\n"),
        "python greeter.py": ("/world", b'{"hello":"world"}'),
        "pytest test_greeter.py": None,
    }
    assert [step.name for step in steps if step.kind == "command"] == list(expected)
    with Terminal(tmp_path, ports) as terminal:
        (terminal.work / "photos").mkdir()
        (terminal.work / "photos" / "beach.txt").write_text("sand\n")
        for step in steps:
            terminal.run([step])
            request = expected.get(step.name)
            if request is not None:
                target, body = request
                assert fetch(f"http://127.0.0.1:{ports['8000']}{target}") == body
                terminal.run([Step("stop all", "")])


def fetch(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PATIENCE) as response:
        return bytes(response.read())
