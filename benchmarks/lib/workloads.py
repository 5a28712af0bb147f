"""The requests that servers get, and the responses that they must send.

A workload is bytes: what one connection sends in one go.  The check before the measurement and the measurement itself
send the very same bytes, so a workload with a body, with chunks or with anything else is one more entry in WORKLOADS.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from lib.messages import chunked

App = Literal["hello", "upload", "files", "starlette", "fastapi", "stream", "events"]
"""What a server must run: a handler that responds with five bytes, one that reads the whole body of the request and
responds with the number of its bytes, or the files of a directory. The others are ASGI applications: an endpoint of a
framework, a response of 1,000 pieces, or one event a second without an end."""

# What Chrome sends in addition to Host when it loads a page.
BROWSER_FIELDS = {
    "Connection": "keep-alive",
    "Cache-Control": "max-age=0",
    "sec-ch-ua": '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Referer": "http://127.0.0.1/index.html",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cookie": "session=6f1ed002ab5595859014ebf0951522d9; theme=dark; consent=1",
}
assert len(BROWSER_FIELDS) == 12

FILE_SIZES = {"files/1k.bin": 1 << 10, "files/64k.bin": 64 << 10, "files/10m.bin": 10 << 20}
"""What the "files" app serves, in bytes."""

UPLOAD = Random(0).randbytes(64 << 10)
UPLOAD_CHUNK = 4 << 10
"""Bytes in a chunk of a chunked upload."""


@dataclass(frozen=True)
class Workload:
    """One way of using a server, with the bytes of its request and what must come back."""

    name: str
    title: str
    app: App = "hello"
    method: str = "GET"
    target: str = "/"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    """What follows the head, as it goes on the wire."""
    pipelined: int = 1
    """How many requests go out in one segment."""
    idle: int = 0
    """How many idle connections are open next to the active ones."""
    response_size: int = 5
    """Bytes of the body of every response."""
    response: bytes | None = None
    """And these bytes, where they are known."""

    def segment(self, host: str) -> bytes:
        """What a connection sends before it waits for responses."""
        fields = [f"{name}: {value}" for name, value in self.fields.items()]
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}", *fields]
        return (("\r\n".join(lines) + "\r\n\r\n").encode() + self.body) * self.pipelined

    @property
    def closes(self) -> bool:
        """Whether the server has to close after its response."""
        return self.fields.get("Connection") == "close"


def _file(name: str, path: str, title: str) -> Workload:
    return Workload(name, title, app="files", target="/" + path, response_size=FILE_SIZES[path])


def _upload(name: str, title: str, fields: dict[str, str], body: bytes) -> Workload:
    return Workload(
        name, title, app="upload", method="POST", target="/upload", fields=fields, body=body,
        response=b"%d" % len(UPLOAD), response_size=len(str(len(UPLOAD))),
    )  # fmt: skip


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("hello", "hello, wrk's own headers"),
        Workload("browser", "hello, twelve browser headers", fields=BROWSER_FIELDS),
        Workload("pipelined", "hello, 16 requests pipelined", pipelined=16),
        Workload("close", "hello, Connection: close", fields={"Connection": "close"}),
        _file("file1k", "files/1k.bin", "file of 1 KiB"),
        _file("file64k", "files/64k.bin", "file of 64 KiB"),
        _file("file10m", "files/10m.bin", "file of 10 MiB"),
        _upload("upload", "upload of 64 KiB with a length", {"Content-Length": str(len(UPLOAD))}, UPLOAD),
        _upload(
            "upload-chunked",
            "upload of 64 KiB in chunks of 4 KiB",
            {"Transfer-Encoding": "chunked"},
            chunked(UPLOAD, UPLOAD_CHUNK),
        ),
        Workload("starlette", "a JSON endpoint of Starlette", app="starlette", fields=BROWSER_FIELDS, response_size=17),
        Workload("fastapi", "a JSON endpoint of FastAPI", app="fastapi", fields=BROWSER_FIELDS, response_size=17),
        Workload("stream", "a response of 1,000 pieces of 64 bytes", app="stream", response_size=64_000),
        Workload("idle", "hello, 10,000 idle connections next to 64 active", idle=10_000),
    )
}


def write_files(directory: Path, sizes: Mapping[str, int]) -> None:
    """Fill a directory with files of these sizes in bytes; random, so that they cannot be compressed."""
    directory.mkdir(exist_ok=True)
    for path, size in sizes.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
