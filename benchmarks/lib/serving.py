"""Start one server, check that it responds correctly, and stop it."""

import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lib.peers import Peer, Site
from lib.processes import Child, running, wait_until
from lib.workloads import App, Workload

START_SECONDS = 15.0
CHECK_SECONDS = 5.0


class CannotServe(Exception):
    """A server cannot do a workload; the message is the reason that the tables show."""


@dataclass(frozen=True)
class Server:
    """A peer that runs and accepts connections."""

    peer: Peer
    site: Site
    child: Child


@contextmanager
def serving(
    peer: Peer, app: App, directory: Path, *, core: int | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[Server]:
    """Run a peer while the block lasts, on one core (default: the last one)."""
    reason = peer.missing() or peer.lacks.get(app, "")
    if reason:
        raise CannotServe(reason)
    core = max(os.sched_getaffinity(0)) if core is None else core
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        site = Site(free_port(), directory, scratch, tls)
        with running(peer.start[app](site), core=core, directory=scratch) as child:
            _wait_for(child, site)
            yield Server(peer, site, child)


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server accepts connections there."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """An unused port of 127.0.0.1, below those that the kernel gives to outgoing connections.

    Thousands of connections per second use those, so that one could be in use again before the server binds it.
    """
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def check(server: Server, workload: Workload) -> None:
    """Does the workload once and checks every response; CannotServe says what was wrong.

    A failure here makes the measurement worthless: it would be the speed of an error page, or of another protocol.
    """
    done = 0
    with socket.create_connection((server.site.host, server.site.port), CHECK_SECONDS) as connection:
        connection.settimeout(CHECK_SECONDS)
        connection.sendall(workload.segment(server.site.address))
        with connection.makefile("rb") as responses:
            try:
                for _ in range(workload.pipelined):
                    _check_response(responses, workload)
                    done += 1
            except OSError:
                raise CannotServe(f"responded to {done} of {workload.pipelined} requests on one connection") from None
            if workload.closes:
                _check_closed(responses)


def _check_response(responses: BinaryIO, workload: Workload) -> None:
    """Read one response: the status must be 200, the body as long as it should be."""
    status = responses.readline().split()
    if not status:
        raise ConnectionError("closed early")
    if len(status) < 2 or status[1] != b"200":
        raise CannotServe("responded with " + b" ".join(status).decode("latin-1"))
    fields = {}
    while (line := responses.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    body = _read_body(responses, fields)
    if len(body) != workload.response_size:
        raise CannotServe(f"sent a body of {len(body)} bytes, not {workload.response_size}")
    if workload.response is not None and body != workload.response:
        raise CannotServe(f"responded with {body!r} instead of {workload.response!r}")


def _read_body(responses: BinaryIO, fields: Mapping[bytes, bytes]) -> bytes:
    """Read a body that ends by its length or by chunks."""
    if b"content-length" in fields:
        return responses.read(int(fields[b"content-length"]))
    if fields.get(b"transfer-encoding", b"").lower() != b"chunked":
        raise CannotServe("sent a body that only ends with the connection")
    chunks = []
    while size := int(responses.readline(), 16):
        chunks.append(responses.read(size))
        responses.readline()
    responses.readline()
    return b"".join(chunks)


def _check_closed(responses: BinaryIO) -> None:
    """Waits for the end of the connection; a reset counts as one."""
    try:
        more = responses.read(1)
    except ConnectionResetError:
        more = b""
    except TimeoutError:
        raise CannotServe("did not close the connection") from None
    if more:
        raise CannotServe("sent more than the response")


def _wait_for(child: Child, site: Site) -> None:
    """Wait until the server accepts connections; CannotServe repeats its last words if it never does."""

    def settled() -> bool:
        return accepts(site.port, site.host) or not child.alive()

    if not wait_until(settled, START_SECONDS):
        raise CannotServe(f"did not listen within {START_SECONDS:.0f} s: {child.last_words()}")
    # A server that daemonizes or fails does so now; all others have a moment to finish their start.
    time.sleep(0.1)
    if not child.alive():
        raise CannotServe(f"did not start: {child.last_words()}")
