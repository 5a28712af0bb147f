"""Common clients against a running kaserve: do their persistent connections persist?

    python benchmarks/clients.py [--url http://127.0.0.1:8000/file] [--server kaserve]

curl, wrk, ab (HTTP/1.0 with Connection: Keep-Alive), Python's http.client, and requests. A client that is not installed
is named and does not count as a failure. The exit code is 1 if one failed.
"""

import argparse
import http.client
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from lib import wrk
from lib.peers import PEERS
from lib.processes import clean_up_when_terminated
from lib.serving import CannotServe, serving
from lib.tables import align
from lib.workloads import write_files

FILE = "files/hello.txt"
REQUESTS = 10
"""Sent by each client that is not a load generator."""
AB_REQUESTS, AB_CONNECTIONS = 2000, 16
"""So few for each connection that its maximum number of requests does not end it."""
WRK_SECONDS = 1
TIMEOUT_SECONDS = 30.0


class Failed(Exception):
    """A client did not get what it should; the message says what."""


class NotInstalled(Exception):
    """There is no such client on this machine."""


def curl(url: str) -> str:
    """Several URLs in one call of curl make one connection."""
    output = run("curl", "-sS", "--write-out", "%{stderr}%{http_code} %{num_connects}\n", *[url] * REQUESTS)
    responses = [line.split() for line in output.splitlines() if re.fullmatch(r"\d{3} \d+", line)]
    expect([status for status, _ in responses], ["200"] * REQUESTS, "statuses")
    connects = sum(int(count) for _, count in responses)
    expect(connects, 1, "connections")
    return f"{REQUESTS} requests, num_connects 1"


def wrk_64(url: str) -> str:
    """64 connections under load, and not one error."""
    need("wrk")
    target = urlsplit(url)
    segment = f"GET {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n".encode()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        load = wrk.run(url, segment, WRK_SECONDS, scratch=Path(scratch))
    expect(load.errors, "", "errors")
    if load.requests < wrk.CONNECTIONS:
        raise Failed(f"only {load.requests} requests got a response")
    return f"{load.requests} requests on {wrk.CONNECTIONS} connections, no errors"


def ab(url: str) -> str:
    """HTTP/1.0: every response has to say keep-alive, or ab does not count it as such."""
    output = run("ab", "-q", "-k", "-n", str(AB_REQUESTS), "-c", str(AB_CONNECTIONS), url)
    counts = {name: int(value) for name, value in re.findall(r"^([\w -]+?):\s+(\d+)\b", output, re.MULTILINE)}
    expect(counts.get("Failed requests"), 0, "failed requests")
    expect(counts.get("Non-2xx responses", 0), 0, "responses that are not 2xx")
    expect(counts.get("Keep-Alive requests"), counts.get("Complete requests"), "keep-alive requests")
    return f"{AB_REQUESTS} requests on {AB_CONNECTIONS} connections, all of them keep-alive"


def python_http_client(url: str) -> str:
    """One HTTPConnection keeps its socket."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.connect()
        socket = connection.sock
        for _ in range(REQUESTS):
            connection.request("GET", target.path)
            response = connection.getresponse()
            response.read()
            expect(response.status, 200, "status")
            if connection.sock is not socket:
                raise Failed("the connection was closed")
    finally:
        connection.close()
    return f"{REQUESTS} requests, one socket"


def python_requests(url: str) -> str:
    """A Session opens one connection and reuses it from its pool."""
    if importlib.util.find_spec("requests") is None:
        raise NotInstalled("module requests")
    # Imported by name: it is optional, and type checking must not need it.
    session = importlib.import_module("requests").Session()
    session.trust_env = False  # a proxy named in the environment would be what keeps the connection
    ports = set()
    with session:
        for _ in range(REQUESTS):
            # Only while it streams does a response know its connection; the pool would hide a new connection.
            response = session.get(url, timeout=TIMEOUT_SECONDS, stream=True)
            expect(response.status_code, 200, "status")
            connection = response.raw.connection
            if connection is None or connection.sock is None:
                raise Failed("the connection was closed")
            ports.add(connection.sock.getsockname())
            _ = response.content
    expect(len(ports), 1, "connections")
    return f"{REQUESTS} requests, one connection"


CLIENTS: dict[str, Callable[[str], str]] = {
    "curl": curl,
    "wrk -c64": wrk_64,
    "ab -k": ab,
    "http.client": python_http_client,
    "requests": python_requests,
}


def main() -> int:
    """Runs every client and prints the results."""
    parser = argparse.ArgumentParser(description="Drive kaserve with common clients.")
    parser.add_argument("--url", help="a small file of a server that runs already")
    parser.add_argument("--server", choices=list(PEERS), default="kaserve", help="which to start otherwise (kaserve)")
    options = parser.parse_args()
    clean_up_when_terminated()
    try:
        with target_url(options.url, options.server) as url:
            rows = [[name, *attempt(client, url)] for name, client in CLIENTS.items()]
    except CannotServe as error:
        print(f"{options.server}: {error}", file=sys.stderr)
        return 1
    print("\n".join(align([["client", "result", "what"], *rows], words={"result", "what"})))
    return 1 if any(row[1] == "FAILED" for row in rows) else 0


@contextmanager
def target_url(url: str | None, server_name: str) -> Iterator[str]:
    """The given URL, or a file of a server that runs while the block lasts."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="bench-clients-") as name:
        write_files(Path(name), {FILE: 1024})
        with serving(PEERS[server_name], "files", Path(name)) as server:
            yield f"{server.site.url}/{FILE}"


def attempt(client: Callable[[str], str], url: str) -> tuple[str, str]:
    """Runs one client: the result and the details."""
    try:
        return "ok", client(url)
    except NotInstalled as missing:
        return "skipped", f"not installed: {missing}"
    except (Failed, OSError, RuntimeError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return "FAILED", str(error)


def need(program: str) -> None:
    """NotInstalled if there is no such program."""
    if shutil.which(program) is None:
        raise NotInstalled(f"program {program}")


def run(program: str, *arguments: str) -> str:
    """Both streams of a program as text; Failed if it fails."""
    need(program)
    try:
        done = subprocess.run(
            (program, *arguments), capture_output=True, timeout=TIMEOUT_SECONDS, check=False, encoding="latin-1"
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not finished after {TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise Failed((done.stderr or done.stdout).strip() or f"exit code {done.returncode}")
    return done.stdout + "\n" + done.stderr


def expect(found: object, wanted: object, what: str) -> None:
    """Failed unless both are equal."""
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


if __name__ == "__main__":
    sys.exit(main())
