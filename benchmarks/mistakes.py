"""What each server says about mistakes that users make at the start, and writes docs/mistakes.md.

    python benchmarks/mistakes.py [--path DIR]... [--out docs/mistakes.md]

Each mistake is made with kaserve, uvicorn, gunicorn, http.server and `serve`, as far as they are installed and the
mistake is possible with them. A server that starts nevertheless gets one request, whose result is shown. Nothing is
judged: the page shows what was printed, with the names of temporary directories, ports and processes replaced.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 15.0  # in which a server ends or listens; gunicorn tries a port that is in use for 5 seconds
KASERVE = (sys.executable, "-c", "import sys; from kaserve.cli.main import main; sys.exit(main())")
HTTP_SERVER = (sys.executable, "-m", "http.server")
MAX_SHOWN = 9  # lines; of longer outputs the first and the last ones are shown

WSGI = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\\n"]

def create_app():
    return app
"""
ASGI = """\
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

def create_app():
    return app
"""
FILES = {
    "shop.py": WSGI,
    "api.py": ASGI,
    "src/store.py": WSGI,
    "src/stream.py": ASGI,
    "broken.py": "def app(environ, start_response:\n    return []\n",
    "needs.py": "from settings import DATABASE\n",
    "settings.py": 'import os\n\nDATABASE = os.environ["DATABASE_URL"]\n',
    "dist/index.html": "<p>hello</p>\n",
    "notes.txt": "not a certificate\n",
}


@dataclass
class Mistake:
    """A mistake, and how it is made with each server; without an entry it is not possible there.

    {port} in a command is a free port, or the one that is in use. `variables` are added to the environment.
    """

    title: str
    commands: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    needs_busy_port: bool = False
    unprivileged: bool = False


MISTAKES = (
    Mistake(
        "A typo in an option",
        {
            "kaserve": "--prot {port}",
            "uvicorn": "--prot {port} api:app",
            "gunicorn": "--bnid 127.0.0.1:{port} shop:app",
            "http.server": "--directroy dist {port}",
            "serve": "--listne {port} dist",
        },
    ),
    Mistake(
        "The port is in use",
        {
            "kaserve": "{port} dist",
            "uvicorn": "--port {port} api:app",
            "gunicorn": "--bind 127.0.0.1:{port} shop:app",
            "http.server": "-b 127.0.0.1 {port}",
            "serve": "-l tcp://127.0.0.1:{port} dist",
        },
        needs_busy_port=True,
    ),
    Mistake(
        "A privileged port",
        {
            "kaserve": "80 dist",
            "uvicorn": "--port 80 api:app",
            "gunicorn": "--bind 127.0.0.1:80 shop:app",
            "http.server": "80",
            "serve": "-l 80 dist",
        },
        unprivileged=True,
    ),
    Mistake(
        "A host that does not exist",
        {
            "kaserve": "{port} --bind no.such.host.invalid",
            "uvicorn": "--host no.such.host.invalid --port {port} api:app",
            "gunicorn": "--bind no.such.host.invalid:{port} shop:app",
            "http.server": "-b no.such.host.invalid {port}",
            "serve": "-l tcp://no.such.host.invalid:{port} dist",
        },
    ),
    Mistake(
        "Two values where there is one",
        {
            "kaserve": "{port} 9000",
            "uvicorn": "--port {port} api:app shop:app",
            "gunicorn": "--bind 127.0.0.1:{port} shop:app api:app",
            "http.server": "{port} 9000",
            "serve": "-l {port} dist src",
        },
    ),
    Mistake(
        "A typo in the directory",
        {
            "kaserve": "{port} dits",
            "http.server": "-d dits {port}",
            "serve": "-l {port} dits",
        },
    ),
    Mistake(
        "A directory where an application is expected",
        {
            "kaserve": "{port} --wsgi src",
            "uvicorn": "--port {port} src",
            "gunicorn": "--bind 127.0.0.1:{port} src",
        },
    ),
    Mistake(
        "A typo in the module",
        {
            "kaserve": "{port} shpo:app",
            "uvicorn": "--port {port} apl:app",
            "gunicorn": "--bind 127.0.0.1:{port} shpo:app",
        },
    ),
    Mistake(
        "A typo in the application",
        {
            "kaserve": "{port} shop:ap",
            "uvicorn": "--port {port} api:ap",
            "gunicorn": "--bind 127.0.0.1:{port} shop:ap",
        },
    ),
    Mistake(
        "The file instead of the module",
        {
            "kaserve": "{port} shop.py",
            "uvicorn": "--port {port} api.py",
            "gunicorn": "--bind 127.0.0.1:{port} shop.py",
        },
    ),
    Mistake(
        "The module is in another directory",
        {
            "kaserve": "{port} store:app",
            "uvicorn": "--port {port} stream:app",
            "gunicorn": "--bind 127.0.0.1:{port} store:app",
        },
    ),
    Mistake(
        "A syntax error in the application",
        {
            "kaserve": "{port} broken:app",
            "uvicorn": "--port {port} broken:app",
            "gunicorn": "--bind 127.0.0.1:{port} broken:app",
        },
    ),
    Mistake(
        "The application fails when it is imported",
        {
            "kaserve": "{port} needs:app",
            "uvicorn": "--port {port} needs:app",
            "gunicorn": "--bind 127.0.0.1:{port} needs:app",
        },
    ),
    Mistake(
        "An application of the other kind: ASGI for a WSGI server, WSGI for an ASGI server",
        {
            "kaserve": "{port} api:app",
            "uvicorn": "--port {port} shop:app",
            "gunicorn": "--bind 127.0.0.1:{port} api:app",
        },
    ),
    Mistake(
        "A factory that is not called",
        {
            "kaserve": "{port} shop:create_app",
            "uvicorn": "--port {port} api:create_app",
            "gunicorn": "--bind 127.0.0.1:{port} shop:create_app",
        },
    ),
    Mistake(
        "A certificate that is none",
        {
            "kaserve": "{port} --tls-cert notes.txt",
            "uvicorn": "--port {port} --ssl-certfile notes.txt api:app",
            "gunicorn": "--bind 127.0.0.1:{port} --certfile notes.txt shop:app",
            "serve": "-l {port} --ssl-cert notes.txt --ssl-key notes.txt dist",
        },
    ),
    Mistake(
        "HTTP spoken to a port of HTTPS",
        {
            "kaserve": "{port} dist --tls-cert cert.pem --tls-key key.pem",
            "uvicorn": "--port {port} --ssl-certfile cert.pem --ssl-keyfile key.pem api:app",
            "gunicorn": "--bind 127.0.0.1:{port} --certfile cert.pem --keyfile key.pem shop:app",
            "serve": "-l {port} --ssl-cert cert.pem --ssl-key key.pem dist",
        },
    ),
    Mistake(
        "A negative timeout",
        {
            "kaserve": "{port} --keep-alive -3",
            "uvicorn": "--port {port} --timeout-keep-alive -3 api:app",
            "gunicorn": "--bind 127.0.0.1:{port} --keep-alive -3 shop:app",
        },
    ),
    Mistake(
        "A typo in an environment variable",
        {
            "kaserve": "{port} dist",
            "uvicorn": "--port {port} api:app",
            "gunicorn": "--bind 127.0.0.1:{port} shop:app",
        },
        variables={"KASERVE_KEEP_ALVIE": "5", "UVICORN_TIMEOUT_KEEP_ALVIE": "5", "WEB_CONCURENCY": "2"},
    ),
    Mistake(
        "A log that cannot be written",
        {
            "kaserve": "{port} --access-log-file logs/access.log dist",
            "gunicorn": "--bind 127.0.0.1:{port} --access-logfile logs/access.log shop:app",
        },
    ),
)


@dataclass
class Outcome:
    """What a server did: the lines that it printed, and the exit code, or the response to a request."""

    command: str
    lines: list[str]
    result: str

    @property
    def summary(self) -> str:
        if self.result.startswith("exit"):
            return f"{len(self.lines)} line{'' if len(self.lines) == 1 else 's'}"
        status = re.fullmatch(r"starts; a request: (\d+) .*", self.result)
        return f"starts: {status[1]}" if status else self.result.replace("; a request", "")


def find_servers() -> dict[str, tuple[tuple[str, ...], str]]:
    """By name: the command of each server that is installed, and its version."""
    servers: dict[str, tuple[tuple[str, ...], str]] = {}
    programs: dict[str, tuple[str, ...] | None] = {
        "kaserve": KASERVE,
        "uvicorn": _which("uvicorn"),
        "gunicorn": _which("gunicorn"),
        "http.server": HTTP_SERVER,
        "serve": _which("serve"),
    }
    for name, command in programs.items():
        if command is None:
            print(f"mistakes: {name} is not installed", file=sys.stderr)
        elif name == "http.server":
            servers[name] = command, f"of Python {sys.version.split()[0]}"
        else:
            done = subprocess.run((*command, "--version"), capture_output=True, text=True, env=environment({}))
            match = re.search(r"\d+(\.\d+)+", done.stdout)
            servers[name] = command, match[0] if match else "of unknown version"
    return servers


def _which(name: str) -> tuple[str, ...] | None:
    path = shutil.which(name)
    return None if path is None else (path,)


def environment(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASERVE_", "NO_UPDATE"))}
    added = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "NO_UPDATE_CHECK": "1"}
    return kept | added | variables


def make(mistake: Mistake, server: str, command: Sequence[str], directory: Path) -> Outcome:
    """Makes a mistake with one server."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        if mistake.needs_busy_port:
            busy.listen()
        else:
            busy.close()
        given = mistake.commands[server].format(port=port)
        prefix: tuple[str, ...] = ()
        if mistake.unprivileged and os.geteuid() == 0 and shutil.which("setpriv"):
            prefix = ("setpriv", "--bounding-set", "-net_bind_service")
        process = subprocess.Popen(
            (*prefix, *command, *given.split()),
            cwd=directory,
            env=environment({"HOME": str(directory), **mistake.variables}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            result = "" if mistake.needs_busy_port else visit(process, port)
            if not result:
                process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            result = "goes on"
        finally:
            stop(process)
        assert process.stdout is not None
        output = process.stdout.read()
        process.stdout.close()
    variables = "".join(
        f"{name}={value} " for name, value in mistake.variables.items() if name.startswith(_PREFIXES[server])
    )
    name = "python -m http.server" if server == "http.server" else server
    shown = f"{variables}{name} {mistake.commands[server].format(port=8000)}"
    return Outcome(shown, clean(output, port, directory), result or f"exit code {process.returncode}")


_PREFIXES = {"kaserve": "KASERVE_", "uvicorn": "UVICORN_", "gunicorn": "WEB_", "http.server": "-", "serve": "-"}


def visit(process: "subprocess.Popen[str]", port: int) -> str:
    """Sends one request as soon as the server listens; "" if it ends before that."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                received = sock.recv(65536)
        except ConnectionRefusedError:
            time.sleep(0.1)
        except OSError as error:
            try:  # gunicorn listens before its workers fail, and then ends
                process.wait(START_SECONDS)
                return ""
            except subprocess.TimeoutExpired:
                return f"starts; a request: {os.strerror(error.errno) if error.errno else 'no response'}"
        else:
            line = received.partition(b"\r\n")[0].decode("latin-1")
            if line.startswith("HTTP/"):
                return f"starts; a request: {line.partition(' ')[2]}"
            return f"starts; a request: {'bytes that are not HTTP' if received else 'closed without a response'}"
    return ""


def stop(process: "subprocess.Popen[str]") -> None:
    """Ends the server and its workers, which are a process group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(3)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


# The output, without what differs from machine to machine.

_REPLACED: tuple[tuple[str, str], ...] = (
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
    (r"\[\d{4}-\d\d-\d\d [\d:]+ [+-]\d{4}\] \[\d+\] ", ""),
    (r"(process|pid:) ?\[?\d+\]?", r"\1 N"),
    (r"(Listening at: \S+) \(\d+\)", r"\1 (N)"),
    (r"(127\.0\.0\.1|localhost):\d{5}\b", r"\1:N"),
    (r"\[\d\d/\w{3}/\d{4}[: ][^]]*\]", "[...]"),
    (r"\d+/\d+/\d{4} \d+:\d+:\d+ [AP]M ", ""),
    (r"0x[0-9a-f]+", "0x..."),
    (r"\(\d+\.\d+\.\d+\.\d+:\d+\)", ""),
)
_SHUTDOWN = re.compile(
    "Shutting down|Waiting for application shutdown|Application shutdown|Finished server process|Handling signal: term|"
    "Worker exiting|was sent SIGTERM|Gracefully shutting down|Shutting down: Master"
)


def clean(output: str, port: int, directory: Path) -> list[str]:
    paths = {str(directory): "/srv/shop"}
    for path in {sysconfig.get_path("stdlib"), str(ROOT), sys.prefix, sys.base_prefix, *_prefixes()}:
        paths[path] = "..."
    for path in sorted(paths, key=len, reverse=True):
        output = output.replace(path, paths[path])
    output = re.sub(rf"\b{port}\b", "8000", output)
    output = re.sub(rf"\b{port + 1}\b", "8001", output)
    for pattern, text in _REPLACED:
        output = re.sub(pattern, text, output)
    return [line.rstrip() for line in output.splitlines() if line.strip() and not _SHUTDOWN.search(line)]


def _prefixes() -> list[str]:
    """The directories in which the other servers are installed."""
    found = [shutil.which(name) for name in ("uvicorn", "gunicorn", "serve")]
    return [str(Path(path).resolve().parent.parent) for path in found if path] + [
        str(Path(path).parent.parent) for path in found if path
    ]


# The page.

INTRODUCTION = """\
# Mistakes at the start

Twenty mistakes that users make when they start a server for the first time, and what kaserve says, beside other
servers. The page shows what was printed; `benchmarks/mistakes.py` made the mistakes and wrote it. The table has the
number of lines that a server prints before it ends. "starts" means that it does not end, and that the mistake is
noticed later, if at all; then the status of a first response is shown. A dash means that the mistake is not possible
with that server.

"""


def page(servers: dict[str, tuple[tuple[str, ...], str]], outcomes: Sequence[dict[str, Outcome]]) -> str:
    names = list(servers)
    lines = [
        f"| mistake | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for mistake, row in zip(MISTAKES, outcomes, strict=True):
        cells = [row[name].summary if name in row else "-" for name in names]
        lines.append(f"| [{mistake.title}](#{_anchor(mistake.title)}) | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, (_, version) in servers.items())
    lines += ["", f"Versions: {versions}; {time.strftime('%B %Y')}.", ""]
    for mistake, row in zip(MISTAKES, outcomes, strict=True):
        lines += [f"## {mistake.title}", ""]
        for outcome in row.values():
            lines += ["```text", f"$ {outcome.command}", *_shorten(outcome.lines), f"[{outcome.result}]", "```", ""]
    return INTRODUCTION + "\n".join(lines).rstrip() + "\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _shorten(lines: list[str]) -> list[str]:
    if len(lines) <= MAX_SHOWN:
        return lines
    return [*lines[:2], f"... {len(lines) - 6} more lines ...", *lines[-4:]]


def prepare(directory: Path) -> None:
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    arguments = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ("openssl", "req", *arguments.split(), "-keyout", "key.pem", "-out", "cert.pem"),
        cwd=directory,
        check=True,
        capture_output=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--path", action="append", default=[], help="a directory with servers, before those of PATH")
    parser.add_argument("--out", default=str(ROOT / "docs" / "mistakes.md"), help="the page to write")
    arguments = parser.parse_args()
    os.environ["PATH"] = os.pathsep.join([*arguments.path, os.environ["PATH"]])
    servers = find_servers()
    outcomes: list[dict[str, Outcome]] = []
    for mistake in MISTAKES:
        print(f"mistakes: {mistake.title}", file=sys.stderr, flush=True)
        row: dict[str, Outcome] = {}
        for server, (command, _) in servers.items():
            if server in mistake.commands:
                with tempfile.TemporaryDirectory() as name:
                    directory = Path(name).resolve()
                    prepare(directory)
                    row[server] = make(mistake, server, command, directory)
        outcomes.append(row)
    Path(arguments.out).write_text(page(servers, outcomes))


if __name__ == "__main__":
    main()
