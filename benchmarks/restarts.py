"""Is a request lost when kaserve is replaced while a proxy keeps connections to it?

    python benchmarks/restarts.py [--clients 200] [--restarts 20] [--proxies nginx,haproxy]

Clients loop over nginx (upstream keep-alive) and over HAProxy (`http-reuse always`), each on a persistent connection,
one request after another, GETs and POSTs, while kaserve is drained and replaced. The proxies are configured not
to try again, so that every loss is visible. Every response is checked by its content. The exit code is 1 when a single
one is wrong.
"""

import argparse
import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from lib.processes import clean_up_when_terminated, raise_descriptor_limit
from lib.replaceable_server import ProcessFailed, ReplaceableServer, Way
from lib.responses import read_response
from lib.serving import free_port
from lib.tables import align

OPTIONS = ("--handler", "echo_app:echo", "--no-access-log")
BETWEEN_SECONDS = 0.5
"""For which a process serves before it is replaced."""
RESPONSE_SECONDS = 20.0
"""After which a response counts as lost. Between two processes, a client may wait for the next one to start."""
BODY = b"x" * 3000

NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
    uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    upstream kaserve {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_timeout 60s; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://kaserve;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 2000
    log {directory}/log len 65535 local0
defaults
    mode http
    timeout connect 15s
    timeout client 60s
    timeout server 60s
    retries 0
listen web
    bind 127.0.0.1:{port} backlog 1024
    http-reuse always
    server kaserve 127.0.0.1:{upstream}
"""

PROXIES = {"nginx": NGINX, "haproxy": HAPROXY}


@dataclass
class Tally:
    """What all clients together have seen."""

    requests: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    """The most seconds that a client waited for a response."""


class Client:
    """Sends one request after another until it is stopped."""

    def __init__(self, number: int, port: int, tally: Tally) -> None:
        self._number = number
        self._port = port
        self._tally = tally
        self._requests = 0

    async def loop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                persists = True
                while persists and not stop.is_set():
                    persists = await self._request(reader, writer)
            finally:
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection may be used for another."""
        self._requests += 1
        self._tally.requests += 1
        target = f"/{self._number}/{self._requests}"
        method, body = ("POST", BODY) if self._requests % 4 == 0 else ("GET", b"")
        start = time.monotonic()
        try:
            writer.write(
                f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            response = await asyncio.wait_for(read_response(reader, method), RESPONSE_SECONDS)
        except (OSError, EOFError, TimeoutError) as error:
            self._tally.wrong[type(error).__name__] += 1
            return False
        self._tally.longest = max(self._tally.longest, time.monotonic() - start)
        if response.status != 200:
            self._tally.wrong[f"status {response.status}"] += 1
        elif response.content != f"{method} {target}\n".encode() + body:
            self._tally.wrong["the response to another request"] += 1
        return response.persists


@contextmanager
def proxy(name: str, upstream: int, directory: Path) -> Iterator[int]:
    """The port of a proxy that runs while the block lasts."""
    binary = shutil.which(name) or f"/usr/sbin/{name}"
    port = free_port()
    configuration = directory / "configuration"
    configuration.write_text(PROXIES[name].format(port=port, upstream=upstream, directory=directory))
    arguments = ("-p", str(directory), "-e", "stderr", "-c") if name == "nginx" else ("-db", "-f")
    process = subprocess.Popen([binary, *arguments, str(configuration)], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def connectable(port: int) -> None:
    """Wait until a server listens there."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise ProcessFailed("the proxy did not start")


async def measure(server: ReplaceableServer, port: int, clients: int, restarts: int) -> tuple[Tally, float]:
    """What the clients see while the servers are replaced, and for how many seconds that was."""
    await connectable(port)
    tally, stop = Tally(), asyncio.Event()
    start = time.monotonic()
    tasks = [asyncio.create_task(Client(number, port, tally).loop(stop)) for number in range(clients)]
    try:
        for _ in range(restarts):
            await asyncio.sleep(BETWEEN_SECONDS)
            await asyncio.to_thread(server.replace)
        await asyncio.sleep(BETWEEN_SECONDS)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    return tally, time.monotonic() - start


def attempt(name: str, way: Way, clients: int, restarts: int) -> list[str]:
    """A row of the table: what was wrong is in the last column."""
    if not (shutil.which(name) or Path(f"/usr/sbin/{name}").exists()):
        return [name, way, "-", "-", "-", "-", "not installed"]
    with tempfile.TemporaryDirectory(prefix="restarts-") as scratch, ReplaceableServer(way, *OPTIONS) as server:
        with proxy(name, server.port, Path(scratch)) as port:
            try:
                tally, seconds = asyncio.run(measure(server, port, clients, restarts))
                server.finish()
            except ProcessFailed as error:
                return [name, way, "-", "-", "-", "-", f"FAILED: {error}"]
        errors = Path(scratch, "errors")
        if tally.wrong and errors.exists():
            print(errors.read_text()[-3000:], file=sys.stderr)
    wrong = ", ".join(f"{count} {what}" for what, count in tally.wrong.most_common())
    figures = [f"{restarts}", f"{tally.requests:,}", f"{tally.requests / seconds:,.0f}", f"{tally.longest * 1000:.0f}"]
    return [name, way, *figures, f"FAILED: {wrong}" if wrong else "none"]


def main() -> int:
    """Try each proxy in each way, and print how it went."""
    parser = argparse.ArgumentParser(description="Replace kaserve behind a proxy, and look for requests that are lost.")
    parser.add_argument("--clients", type=int, default=200, help="that ask all the time (%(default)s)")
    parser.add_argument("--restarts", type=int, default=20, help="of kaserve, in each row (%(default)s)")
    parser.add_argument("--proxies", default="nginx,haproxy", help="which (%(default)s)")
    parser.add_argument("--ways", default=",".join(get_args(Way)), help="how its address survives (%(default)s)")
    options = parser.parse_args()
    clean_up_when_terminated()
    raise_descriptor_limit()
    header = ["proxy", "way", "restarts", "requests", "per second", "longest wait, ms", "lost"]
    rows = [
        attempt(name, way, options.clients, options.restarts)
        for name in options.proxies.split(",")
        for way in options.ways.split(",")
    ]
    print("\n".join(align([header, *rows], words={"proxy", "way", "lost"})))
    return 1 if any(row[-1].startswith("FAILED") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
