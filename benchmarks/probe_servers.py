"""`kaserve probe` against other servers, each with its defaults and the smallest program of its
documentation. Prints the table of docs/probe.md.

    python benchmarks/probe_servers.py [--max-wait 160] [SERVER ...]

Servers that are not installed are left out.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.environment import APPS, kaserve_environment
from lib.processes import wait_until
from lib.serving import accepts

from kaserve.probe.report import Report, as_rows, probe, problems
from kaserve.probe.settings import ProbeSettings
from kaserve.probe.target import read_url
from kaserve.probe.transport import open_socket

ENVIRONMENT = os.environ | kaserve_environment()

NGINX = """daemon off; pid {scratch}/nginx.pid; error_log stderr error; events {{ }}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }}
client_body_temp_path {scratch}; proxy_temp_path {scratch}; fastcgi_temp_path {scratch}; uwsgi_temp_path {scratch};
scgi_temp_path {scratch}; }}
"""

GO = """package main
import "net/http"
func main() {{
	http.ListenAndServe("127.0.0.1:{port}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {{
		w.Write([]byte("hello"))
	}}))
}}
"""

HTTP_SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"hello")
    do_HEAD = do_POST = do_GET
    def log_message(self, *arguments): pass
ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


def commands(port: int, scratch: Path) -> dict[str, list[str]]:
    """How each is started; it listens on `port` then."""
    here, python = f"127.0.0.1:{port}", sys.executable
    (scratch / "nginx.conf").write_text(NGINX.format(port=port, scratch=scratch))
    (scratch / "main.go").write_text(GO.format(port=port))
    return {
        "kaserve": [python, "-m", "kaserve", str(port), "--no-access-log", "--handler", "hello_app:hello"],
        "nginx": ["nginx", "-p", str(scratch), "-c", str(scratch / "nginx.conf")],
        "Go net/http": ["go"],
        "uvicorn": [python, "-m", "uvicorn", "--port", str(port), "--log-level", "error", "hello_asgi:app"],
        "waitress": [python, "-m", "waitress", "--listen", here, "hello_wsgi:app"],
        "gunicorn gthread": [python, "-m", "gunicorn", "-b", here, "--threads", "4", "hello_wsgi:app"],
        "gunicorn sync": [python, "-m", "gunicorn", "-b", here, "hello_wsgi:app"],
        "http.server": [python, "-m", "http.server", str(port), "-b", "127.0.0.1", "-d", str(scratch)],
        "http.server, HTTP/1.1": [python, "-c", HTTP_SERVER.format(port=port)],
    }  # fmt: skip


def probe_server(name: str, port: int, most_wait: float) -> Report | None:
    """The report on the server called `name`; None when it does not start."""
    with tempfile.TemporaryDirectory() as scratch:
        command = commands(port, Path(scratch))[name]
        if shutil.which(command[0]) is None:
            return None
        if command[0] == "go":
            subprocess.run(["go", "build", "-o", "server", "main.go"], cwd=scratch, check=True)
            command = [f"{scratch}/server"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            command, cwd=APPS, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, env=ENVIRONMENT
        ) as process:
            try:
                return _probe(port, most_wait) if wait_until(lambda: accepts(port), 10) else None
            finally:
                os.killpg(process.pid, signal.SIGTERM)


def _probe(port: int, most_wait: float) -> Report:
    url = f"http://127.0.0.1:{port}/"
    target = read_url(url)
    return probe(url, ProbeSettings(target, lambda: open_socket(target, 10.0), time.monotonic, max_wait=most_wait))


def table(found: dict[str, Report]) -> str:
    """Markdown: a row for each question, a column for each server."""
    columns = {name: dict(as_rows(report)) for name, report in found.items()}
    labels = dict.fromkeys(label for rows in columns.values() for label in rows)
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {label} | {' | '.join(rows.get(label, '-') for rows in columns.values())} |" for label in labels]
    return "\n".join(lines)


def main() -> None:
    """Probes them all at the same time, since most of that time is spent waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-wait", type=float, default=160.0, metavar="SECONDS", help="for the idle close")
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="all of them, unless some are named")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        names = given.servers or list(commands(0, Path(scratch)))
    with ThreadPoolExecutor(len(names)) as pool:
        reports = pool.map(lambda pair: probe_server(pair[1], 18200 + pair[0], given.max_wait), enumerate(names))
        found = {name: report for name, report in zip(names, reports, strict=True) if report is not None}
    print(table(found))
    for name, report in found.items():
        for problem in problems(report):
            print(f"- {name}: {problem.what}")


if __name__ == "__main__":
    main()
