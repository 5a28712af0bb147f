"""A 2 GiB upload and 5 GiB downloads through a WSGI application: how much memory does the server take meanwhile?

    python benchmarks/big_bodies.py
    python benchmarks/big_bodies.py --upload-mib 256 --download-mib 512

The download is a sparse file, once by wsgi.file_wrapper and once by a generator. It is read once before, so that it is
in the page cache for both: otherwise only the first reader would pay for its pages. The server is a separate process.
Its memory is the largest resident size in /proc during a transfer. Exits with 1 if a body arrived with another length,
or the memory grew by more than --most-mib. Uploads spool to a file in TMPDIR, which needs enough space.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lib.environment import kaserve_environment
from lib.processes import Child, Command, clean_up_when_terminated, running, wait_until
from lib.serving import accepts, free_port

MIB = 1 << 20
BLOCK = bytes(MIB)


class Watch:
    """The largest resident size of the server so far, sampled at most every 50 ms."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._next = 0.0
        self.most = child.resident_bytes()

    def look(self) -> None:
        if time.monotonic() >= self._next:
            self.most = max(self.most, self._child.resident_bytes())
            self._next = time.monotonic() + 0.05


def upload(port: int, size: int, watch: Watch) -> int:
    """Sends `size` bytes. Returns the number that the application received."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(
            f"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
        )
        for _ in range(size // MIB):
            sock.sendall(BLOCK)
            watch.look()
        response = b"".join(iter(lambda: sock.recv(65536), b""))
    watch.look()
    return int(response.rpartition(b"\r\n")[2]) if response.startswith(b"HTTP/1.1 200 ") else -1


def download(port: int, path: str, watch: Watch) -> int:
    """How many bytes of content came."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        first = sock.recv(65536)
        while b"\r\n\r\n" not in first:
            first += sock.recv(65536)
        size = len(first.partition(b"\r\n\r\n")[2])
        into = bytearray(MIB)
        while count := sock.recv_into(into):
            size += count
            watch.look()
    return size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upload-mib", type=int, default=2048)
    parser.add_argument("--download-mib", type=int, default=5120)
    parser.add_argument("--most-mib", type=float, default=16.0, help="that the memory may grow by")
    options = parser.parse_args()
    clean_up_when_terminated()
    core = max(os.sched_getaffinity(0))
    good = True
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        file = Path(name, "big.bin")
        with file.open("wb") as sparse:
            sparse.truncate(options.download_mib * MIB)
        with file.open("rb", buffering=0) as sparse:
            into = bytearray(MIB)
            while sparse.readinto(into):
                pass
        port = free_port()
        command = Command(
            (sys.executable, "-m", "kaserve", str(port), "--no-access-log", "--wsgi", "big_bodies_app:app",
             "--limit-request-body", str(options.upload_mib * MIB)),
            env=kaserve_environment() | {"BIG_FILE": str(file)},
        )  # fmt: skip
        with running(command, core=core, directory=Path(name)) as child:
            if not wait_until(lambda: not child.alive() or accepts(port), 10) or not child.alive():
                raise RuntimeError(child.last_words())
            upload(port, MIB, Watch(child))  # so that the threads are there
            before = child.resident_bytes()
            print(f"at rest: {before / MIB:.1f} MiB resident", flush=True)
            moves: list[tuple[str, int, Callable[[Watch], int]]] = [
                ("upload", options.upload_mib * MIB, lambda watch: upload(port, options.upload_mib * MIB, watch)),
                ("download by file_wrapper", options.download_mib * MIB, lambda watch: download(port, "/file", watch)),
                ("download by generator", options.download_mib * MIB, lambda watch: download(port, "/blocks", watch)),
            ]
            for what, size, move in moves:
                watch = Watch(child)
                began = time.monotonic()
                moved = move(watch)
                seconds = time.monotonic() - began
                grown = (watch.most - before) / MIB
                print(
                    f"{what}: {moved / MIB:,.0f} MiB in {seconds:.1f} s, at most {watch.most / MIB:.1f} MiB resident, "
                    f"{grown:.1f} more than at rest (required: at most {options.most_mib:.0f})",
                    flush=True,
                )
                good = good and moved == size and grown <= options.most_mib
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
