"""The picture of a terminal in the README: an SVG of a real session, for light and dark pages.

    python -m tests.tools.terminal_picture docs/images/terminal.svg

starts kaserve in a pseudo-terminal, sends requests as a browser does, and draws what the terminal shows, in its
colours. The port and the directory are replaced by those of an example.
"""

from __future__ import annotations

import html
import http.client
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from fcntl import ioctl
from pathlib import Path

from tests.tools.server import PATIENCE, environment

COLUMNS = 88
COMMAND = "kaserve photos"
REQUESTS = ("/", "/beach.jpg", "/harbour.jpg", "/boat.jpg", "/beach.jpg")
FILES = {"beach.jpg": 2_310_144, "harbour.jpg": 1_893_002, "boat.jpg": 74_211}

CHARACTER, LINE, MARGIN = 7.8, 19, 16  # pixels
# Names of colours by the parameter of the escape sequence, and what they are in the light and in the dark.
SGR = {1: "bold", 2: "dim", 31: "red", 32: "green", 33: "yellow", 34: "blue", 35: "magenta", 36: "cyan", 90: "dim"}
SGR |= {number + 60: name for number, name in SGR.items() if 31 <= number <= 36}
LIGHT = "text #24292f dim #6e7781 red #b3261e green #1a7f37 yellow #8a6100 blue #0b57d0 magenta #8250df cyan #0a6c7d"
DARK = "text #e6e6e6 dim #9aa0a6 red #ff8b80 green #6fdd8b yellow #e3b341 blue #7cb7ff magenta #d2a8ff cyan #76d9e6"


def record() -> str:
    """Returns what a terminal shows of the session, escape sequences included."""
    with tempfile.TemporaryDirectory() as home:
        photos = Path(home) / "photos"
        photos.mkdir()
        for name, size in FILES.items():
            (photos / name).write_bytes(bytes(size))
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMAND.split()],
            cwd=home,
            env=environment(KASERVE_PORT="0", TERM="xterm-256color", COLUMNS=str(COLUMNS)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        try:
            shown = _read_until(ours, "stops it")
            match = re.search(r"http://127\.0\.0\.1:(\d+)", shown)
            assert match is not None, shown
            _browse(int(match[1]))
            shown += _read_until(ours, REQUESTS[-1], REQUESTS.count(REQUESTS[-1]))
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        return shown.replace("\r", "").replace(match[1], "8000").replace(home, "/home/ann")


def _browse(port: int) -> None:
    """Sends the requests over one connection; a file that the client has already is asked for with its entity tag."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    tags: dict[str, str] = {}
    for target in REQUESTS:
        connection.request("GET", target, headers={"If-None-Match": tags[target]} if target in tags else {})
        response = connection.getresponse()
        response.read()
        tags[target] = response.getheader("ETag", '""')
    connection.close()


def _read_until(descriptor: int, text: str, count: int = 1) -> str:
    """Reads until the terminal has shown `text` so many times, and the rest of that line."""
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while shown.count(text.encode()) < count or not shown.endswith(b"\n"):
        assert select.select([descriptor], [], [], deadline - time.monotonic())[0], shown
        shown += os.read(descriptor, 65536)
    return shown.decode()


def draw(lines: list[str]) -> str:
    """Returns the picture of lines with escape sequences."""
    width = round(COLUMNS * CHARACTER + 2 * MARGIN)
    height = len(lines) * LINE + 3 * MARGIN + 12
    size = f'width="{width}" height="{height}"'
    texts = [
        f'<text x="{MARGIN}" y="{2 * MARGIN + 12 + (number + 1) * LINE - 5}">{_spans(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">',
            "<style>",
            "text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace;"
            " white-space: pre; }",
            f"{_colours('#f6f8fa', '#d0d7de', LIGHT)}",
            f"@media (prefers-color-scheme: dark) {{\n{_colours('#17191d', '#3a3f46', DARK)}\n}}",
            ".bold { font-weight: 700; }",
            "</style>",
            f'<rect class="window" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            *(
                f'<circle class="button" cx="{MARGIN + 6 + 20 * number}" cy="{MARGIN + 4}" r="5"/>'
                for number in range(3)
            ),
            *texts,
            "</svg>\n",
        )
    )


def _colours(window: str, border: str, palette: str) -> str:
    words = palette.split()
    rules = [f".{name} {{ fill: {colour}; }}" for name, colour in zip(words[::2], words[1::2], strict=True)]
    return " ".join(
        (f".window {{ fill: {window}; stroke: {border}; }}", f".button {{ fill: {border}; }}", "text,", *rules)
    )


def _spans(line: str) -> str:
    """A line as SVG text, in which each run of one style is a span."""
    styles: list[str] = []
    spans = []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            for number in (int(each or 0) for each in part[2:-1].split(";")):
                styles = [] if number == 0 else [*styles, *([SGR[number]] if number in SGR else [])]
        elif part:
            spans.append(f'<tspan class="{" ".join(["text", *styles])}">{html.escape(part, quote=False)}</tspan>')
    return "".join(spans)


def main() -> None:
    shown = record().rstrip("\n").split("\n")
    prompt = f"\x1b[32m$\x1b[0m \x1b[1m{COMMAND}\x1b[0m"
    Path(sys.argv[1]).write_text(draw([prompt, *shown]), encoding="utf-8")


if __name__ == "__main__":
    main()
