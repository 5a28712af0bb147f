"""What the scenarios share: their server, what they report, and a client that must not notice anything."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field

from lib.kaserve_process import KaserveProcess

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MIB = 1 << 20


@dataclass
class Report:
    """What one scenario measured, what was required, and whether that was met."""

    findings: list[tuple[str, str, bool]] = field(default_factory=list)

    def add(self, measured: str, required: str, met: bool) -> None:
        self.findings.append((measured, required, met))
        print(f"  {'ok  ' if met else 'NOT '} {measured}  (required: {required})", flush=True)


def serve(*options: str, port: int = 0, max_descriptors: int = 0, stderr: int = subprocess.DEVNULL) -> KaserveProcess:
    """The server of a scenario, without an access log on its output. port: 0 for a free one."""
    what = () if "--directory" in options else ("--handler", "hello_or_large:respond")
    return KaserveProcess(
        str(port), *what, "--metrics", "/metrics", *options, max_descriptors=max_descriptors, stderr=stderr
    )


class Bystander(threading.Thread):
    """A normal client in a separate process: one request after another over one connection, until `p99` is called."""

    PROGRAM = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
while True:
    start = time.monotonic()
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    response = sock.recv(65536)
    if b"Connection: close" in response:
        sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
    print(time.monotonic() - start, flush=True)
    time.sleep(0.005)
"""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.latencies: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(address[1])], stdout=subprocess.PIPE, text=True
        )
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.latencies.append(float(line))

    def p99(self) -> float:
        self._process.kill()
        self._process.wait()
        self.join()
        latencies = sorted(self.latencies)
        return latencies[int(len(latencies) * 0.99)] if latencies else float("inf")
