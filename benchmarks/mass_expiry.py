"""Many idle connections, and all of them expire in the same moment: does anybody else notice?

    python benchmarks/mass_expiry.py                  # as many as the descriptor limit allows
    python benchmarks/mass_expiry.py --count 100000   # after: ulimit -n 300000

Opens the connections from several loopback addresses, one request each; stops the server (SIGSTOP) until all of them
are past their time, and lets it go on. Meanwhile one client asks again and again. Prints the memory of each idle
connection and the longest that the client waited once the server went on; exits with 1 above --most milliseconds.
"""

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from processes import raise_descriptor_limit, resident_bytes

HERE = Path(__file__).resolve().parent
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SERVER = """
import sys
from kaserve import Config, Response, Server
config = Config(port=0, access_log=False, keep_alive=float(sys.argv[1]), keep_alive_requests=0)
with Server(lambda request: Response.text("hello"), config) as server:
    print(server.address[1], flush=True)
    sys.stdin.read()
"""


def ask(connection: socket.socket) -> float:
    """One request and its answer; how many seconds that took."""
    began = time.monotonic()
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"hello"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError("the server closed the connection of the one who asks")
        answer += piece
    return time.monotonic() - began


def main() -> int:
    """Open, let expire, report."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    parser = argparse.ArgumentParser(description="Many idle connections that expire at once.")
    # Beyond three quarters of the limit they would be promised less time.
    parser.add_argument("--count", type=int, default=int(hard * 0.7), help="idle connections (%(default)s)")
    parser.add_argument(
        "--idle", type=int, default=20, help="seconds until they expire, and to open them (%(default)s)"
    )
    parser.add_argument("--most", type=float, default=50.0, help="milliseconds that the client may wait (%(default)s)")
    options = parser.parse_args()
    raise_descriptor_limit()
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    start = partial(subprocess.Popen[str], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with start([sys.executable, "-c", SERVER, str(options.idle)]) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            ask(client)
            before = resident_bytes(server.pid)
            holding = [sys.executable, str(HERE / "idle_holder.py"), str(port), str(options.count), str(options.idle)]
            with start(holding) as holder:
                assert holder.stdin is not None
                assert holder.stdout is not None
                held = json.loads(holder.stdout.readline())
                each = (resident_bytes(server.pid) - before) / max(1, held["open"])
                print(f"{held['open']} idle connections {held['error']}: {each:.0f} bytes each")
                alone = max(ask(client) for _ in range(2000))
                os.kill(server.pid, signal.SIGSTOP)
                time.sleep(options.idle + 2)
                waits = []
                with socket.create_connection(("127.0.0.1", port), 30) as newcomer:  # the first one has expired as well
                    os.kill(server.pid, signal.SIGCONT)
                    began = time.monotonic()
                    while time.monotonic() < began + 5:
                        waits.append(ask(newcomer))
                holder.stdin.close()
                left = json.loads(holder.stdout.readline())["open"]
        server.stdin.close()
    worst = max(waits) * 1000
    print(f"{held['open'] - left} closed at once; longest wait {worst:.1f} ms meanwhile, {alone * 1000:.1f} ms before")
    return 0 if worst <= options.most and left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
