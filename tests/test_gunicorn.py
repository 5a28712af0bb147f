"""The worker for gunicorn: a real gunicorn, with its reload, its drains and its settings."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.handlers.middleware.test_basic_auth import fast_hash
from tests.tools.server import PATIENCE, Client, connect, environment, get, missing, post, refuses, wait_for
from tests.tools.tls import Certificate, client_context, make_certificate

APP = """
import os, threading
def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or VERSION
    if environ["PATH_INFO"] == "/who":
        body = " ".join((environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"])).encode()
    elif environ["PATH_INFO"] == "/pid":
        body = str(os.getpid()).encode()
    elif environ["PATH_INFO"] == "/fail":
        raise RuntimeError("the application's own fault")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


ASGI_APP = """
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.path.exists("fails"):
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        scope["state"]["version"] = VERSION
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the application stops", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.sleep(0)
    body = scope["root_path"].encode() + b" " + scope["state"]["version"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
"""


class Gunicorn:
    """A master with its workers, on a Unix socket in `directory`, from where it takes the application."""

    worker = "kaserve.gunicorn.Worker"
    app = APP

    def __init__(self, directory: Path, *options: str, **variables: str) -> None:
        self._directory = directory
        self._log = tempfile.TemporaryFile()
        self.write("one")
        self.path = str(directory / "socket")
        worker = ("-k", self.worker, "--no-control-socket", "--access-logfile", "-")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *worker, "-b", f"unix:{self.path}", *options, "served:app"],
            cwd=directory,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def write(self, version: str) -> None:
        """The application in another version, the whole of it at once: a worker may be starting at this moment."""
        fresh = self._directory / "fresh"
        fresh.write_text(self.app.replace("VERSION", f"b{version!r}"))
        fresh.replace(self._directory / "served.py")

    @property
    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    @property
    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        return not refuses(self.path)

    def connect(self) -> Client:
        return connect(self.path)

    def ask(self, target: str = "/", *fields: str) -> str:
        with self.connect() as client:
            return client.ask(target, "Connection: close", *fields).body.decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


Start = Callable[..., Gunicorn]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if find_spec("gunicorn") is None:
        missing("gunicorn is not installed")
    with ExitStack() as stack:

        def start(*options: str, **variables: str) -> Gunicorn:
            gunicorn = Gunicorn(tmp_path, *options, **variables)
            stack.callback(gunicorn.end)
            wait_for(lambda: gunicorn.is_up)
            return gunicorn

        yield start


class ASGIGunicorn(Gunicorn):
    worker = "kaserve.gunicorn.ASGIWorker"
    app = ASGI_APP


@pytest.fixture
def start_asgi(tmp_path: Path) -> Iterator[Start]:
    if find_spec("gunicorn") is None:
        missing("gunicorn is not installed")
    with ExitStack() as stack:

        def start(*options: str, **variables: str) -> Gunicorn:
            gunicorn = ASGIGunicorn(tmp_path, *options, **variables)
            stack.callback(gunicorn.end)
            wait_for(lambda: gunicorn.is_up)
            return gunicorn

        yield start


class TestASGIWorker:
    def test_an_application(self, start_asgi: Start) -> None:
        gunicorn = start_asgi("--keep-alive", "7")
        with gunicorn.connect() as client:
            answer = client.ask()
            assert (answer.body, answer.value("keep-alive")) == (b" one", "timeout=7, max=999")
        gunicorn.write("two")
        gunicorn.process.send_signal(signal.SIGHUP)
        wait_for(lambda: gunicorn.ask() == " two")
        assert gunicorn.stop() == 0
        assert gunicorn.log.count("the application stops") == 2

    def test_a_root_path(self, start_asgi: Start) -> None:
        assert start_asgi("--root-path", "/api").ask() == "/api one"

    def test_a_startup_that_fails_ends_gunicorn(self, tmp_path: Path) -> None:
        pytest.importorskip("gunicorn")
        (tmp_path / "fails").write_text("")
        gunicorn = ASGIGunicorn(tmp_path)
        try:
            assert gunicorn.process.wait(PATIENCE) == 3
            assert "the application has failed to start: no database" in gunicorn.log
        finally:
            gunicorn.end()

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--threads", "2"), "threads has no effect with kaserve.gunicorn.ASGIWorker: an ASGI application runs in"),
            (("KASERVE_ROOT_PATH=/api",), "KASERVE_ROOT_PATH has no effect under gunicorn: use --root-path"),
        ],
    )
    def test_what_would_be_ignored_is_refused(self, options: tuple[str, ...], reason: str, tmp_path: Path) -> None:
        pytest.importorskip("gunicorn")
        variables = dict(option.split("=", 1) for option in options if option.startswith("KASERVE_"))
        given = [option for option in options if not option.startswith("KASERVE_")]
        gunicorn = ASGIGunicorn(tmp_path, *given, **variables)
        try:
            assert gunicorn.process.wait(PATIENCE) != 0
            assert reason in gunicorn.log
        finally:
            gunicorn.end()


class TestServing:
    @pytest.mark.parametrize("threads", ["0", "1", "4"])
    def test_an_application(self, start: Start, threads: str) -> None:
        gunicorn = start("--threads", threads, "--keep-alive", "7")
        with gunicorn.connect() as client:
            assert client.ask().body == b"one"
            assert client.exchange(post(b"x" * 300_000), get())[0].body == b"x" * 300_000
            assert client.ask().value("keep-alive") == "timeout=7, max=996"
            assert client.ask("/fail").status == 500
        assert "RuntimeError: the application's own fault" in gunicorn.log
        wait_for(lambda: '"GET /fail HTTP/1.1" 500' in gunicorn.log)
        assert gunicorn.stop() == 0

    def test_settings_of_both(self, start: Start) -> None:
        gunicorn = start("--limit-request-line", "100", KASERVE_KEEP_ALIVE_REQUESTS="3")
        with gunicorn.connect() as client:
            assert client.ask("/" + "x" * 50).value("keep-alive") == "timeout=2, max=2"
            assert client.ask("/" + "x" * 100).status == 414

    def test_the_client_of_a_proxy(self, start: Start) -> None:
        forwarded = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        # Its proxies were never asked to remove these, which may be the client's.
        others = ("X-Forwarded-Host: evil", "Forwarded: for=192.0.2.8;proto=http;host=evil")
        assert start().ask("/who", *forwarded, *others) == "192.0.2.7 https h"

    def test_all_that_a_proxy_can_tell(self, start: Start) -> None:
        gunicorn = start("--forwarded-allow-ips", "", KASERVE_FORWARDED_ALLOW_IPS="unix")
        assert gunicorn.ask("/who", "Forwarded: for=192.0.2.7;proto=https;host=a") == "192.0.2.7 https a"

    @pytest.mark.parametrize(
        ("log_format", "line"),
        [
            ("asked %(m)s %(U)s %({X-One}i)s %(s)s %(B)s %({content-type}o)s", "asked GET /path 1 200 3 text/plain"),
            ("json", '"method":"GET","target":"/path?query","version":"1.1","status":200,"bytes":3,'),
        ],
    )
    def test_a_log_format(self, start: Start, log_format: str, line: str) -> None:
        gunicorn = start("--access-logformat", log_format)
        assert gunicorn.ask("/path?query", "X-One: 1") == "one"
        wait_for(lambda: line in gunicorn.log)

    def test_the_log_format_that_gunicorn_has_is_combined(self) -> None:
        config = pytest.importorskip("gunicorn.config")
        module = pytest.importorskip("kaserve.gunicorn")
        settings = config.Config()
        settings.set("accesslog", "-")
        assert module.read_config(settings, ("fd:3",)).log_format == "combined"


class TestManaging:
    def test_a_drain_lets_the_running_request_finish(self, start: Start) -> None:
        gunicorn = start()
        with gunicorn.connect() as client:
            client.send(get() + post(b"12345")[:-2])
            assert client.answer().status == 200
            gunicorn.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(gunicorn.path))
            client.send(b"45")
            answer = client.answer("POST")
            assert (answer.body, answer.persists) == (b"12345", False)
        assert gunicorn.process.wait(PATIENCE) == 0

    def test_a_drain_has_an_end(self, start: Start) -> None:
        gunicorn = start("--graceful-timeout", "1")
        with gunicorn.connect() as client:
            client.send(get() + post(b"12345")[:-2])
            assert client.answer().status == 200
            assert gunicorn.stop() == 0
            with suppress(ConnectionResetError):
                assert client.rest() == b""

    def test_sighup_brings_the_new_code_and_loses_nothing(self, start: Start) -> None:
        gunicorn = start()
        with gunicorn.connect() as client:
            client.send(get() + post(b"12345")[:-2])
            assert client.answer().body == b"one"
            gunicorn.write("another")
            gunicorn.process.send_signal(signal.SIGHUP)
            wait_for(lambda: gunicorn.ask() == "another")
            client.send(b"45")
            assert client.answer("POST").body == b"12345"

    def test_reload(self, start: Start) -> None:
        gunicorn = start("--reload", "--reload-engine", "poll")
        assert gunicorn.ask() == "one"
        # The reloader notices what is newer than at its first look, which comes some time after the first answer.
        wait_for(lambda: gunicorn.ask() == "another", lambda: gunicorn.write("another"))

    def test_after_enough_requests_another_worker_takes_over(self, start: Start) -> None:
        gunicorn = start("--max-requests", "3")
        first = gunicorn.ask("/pid")
        wait_for(lambda: gunicorn.ask("/pid") != first)
        assert "max_requests reached after 3 requests" in gunicorn.log

    def test_several_workers(self, start: Start) -> None:
        gunicorn = start("--workers", "2")
        pids: set[str] = set()
        wait_for(lambda: len(pids) == 2, lambda: pids.add(gunicorn.ask("/pid")))
        os.kill(int(pids.pop()), signal.SIGKILL)
        seen: set[str] = set()
        wait_for(lambda: len(seen) == 2, lambda: seen.add(gunicorn.ask("/pid")))

    def test_a_worker_that_is_idle_lives_longer_than_the_timeout(self, start: Start) -> None:
        """It shows that it lives; gunicorn, which looks once a second, kills nobody."""
        gunicorn = start("--timeout", "4", "--keep-alive", "4")  # less, and a busy machine is late for a sign of life
        pid = gunicorn.ask("/pid")
        with gunicorn.connect() as client:  # closed when it has been idle for 4 s and 1 s more
            assert client.ask().status == 200
            assert client.is_closed
        assert gunicorn.ask("/pid") == pid
        assert "WORKER TIMEOUT" not in gunicorn.log


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--cert-reqs", "2", "--ca-certs", "ca.pem"), "cert_reqs has no effect without certfile"),
        (("--ciphers", "ECDHE+AESGCM"), "ciphers has no effect without certfile"),
        (("--config", "HOOK ssl_context"), "ssl_context has no effect without certfile"),
        (("--config", "HOOK pre_request"), "pre_request has no effect with kaserve.gunicorn.Worker"),
        (("--header-map", "dangerous"), "header_map has no effect with kaserve.gunicorn.Worker"),
        (("--no-sendfile",), "sendfile has no effect with kaserve.gunicorn.Worker"),
        (("--forwarded-allow-ips", "10.0.0.1", "KASERVE_FORWARDED_ALLOW_IPS=unix"), "exclude each other"),
        (("KASERVE_KEEP_ALIVE=120",), "KASERVE_KEEP_ALIVE has no effect under gunicorn: use --keep-alive"),
        (("KASERVE_COMPRESS=yes",), "KASERVE_COMPRESS has no effect on a WSGI application: only files"),
        (("KASERVE_ERROR_LOG=x",), "KASERVE_ERROR_LOG has no effect under gunicorn: use --error-logfile"),
        (("KASERVE_AUTH=alice:hunter2",), "KASERVE_AUTH must be USER:HASH"),
        (
            ("KASERVE_TLS_CA=x", "KASERVE_TLS_CERT=x", "--certfile", "served.py"),
            "has no effect with gunicorn's --certfile",
        ),
        (("--proxy-protocol", "auto"), "accepts the PROXY header from every client that can connect"),
        (
            ("--access-logformat", "%(h)s %({wsgi.input}e)s"),
            "access_log_format has %({wsgi.input}e)s, which kaserve does not support; the atoms are h l ",
        ),
        (("--access-logformat", "%(h)s\t%(s)s"), "access_log_format must be printable ASCII"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    pytest.importorskip("gunicorn")
    variables = dict(option.split("=", 1) for option in options if option.startswith("KASERVE_"))
    given = [option for option in options if not option.startswith("KASERVE_")]
    if given and given[-1].startswith("HOOK "):
        (tmp_path / "hooks.py").write_text(f"def {given[-1].removeprefix('HOOK ')}(one, two):\n    pass\n")
        given[-1] = str(tmp_path / "hooks.py")
    gunicorn = Gunicorn(tmp_path, *given, **variables)
    try:
        assert gunicorn.process.wait(PATIENCE) != 0
        assert reason in gunicorn.log
        assert "hunter2" not in gunicorn.log
    finally:
        gunicorn.end()


def test_the_proxy_protocol(start: Start) -> None:
    gunicorn = start("--proxy-protocol", "auto", "--proxy-allow-from", "*")
    with gunicorn.connect() as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + get("/who"))
        assert client.answer().body == b"192.0.2.7 http h"


class TestSettingsOfKaserve:
    def test_users_headers_and_cors(self, start: Start) -> None:
        """KASERVE_AUTH was read and had no effect."""
        user = "ann:" + fast_hash(b"secret")
        gunicorn = start(KASERVE_AUTH=user, KASERVE_HEADER="X-Mine: 1", KASERVE_CORS="yes", KASERVE_METRICS="/metrics")
        with gunicorn.connect() as client:
            for target in ("/", "/metrics"):
                assert client.ask(target).status == 401
                assert client.ask(target, "Authorization: Basic YW5uOnNlY3JldA==").status == 200
            answer = client.ask("/", "Authorization: Basic YW5uOnNlY3JldA==")
            assert (answer.value("x-mine"), answer.value("access-control-allow-origin")) == ("1", "*")

    def test_a_variable_of_another_name_is_logged(self, start: Start) -> None:
        gunicorn = start(KASERVE_KEEPALIVE_REQUESTS="3", KASERVE_PORT="tcp://10.96.0.12:8000")
        assert gunicorn.ask() == "one"
        assert gunicorn.log.count("did you mean KASERVE_KEEP_ALIVE_REQUESTS?") == 1
        assert gunicorn.log.count("KASERVE_PORT is ignored: its value is the address of a service") == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "site", "localhost")


class TestTLS:
    """gunicorn's own context is used, with everything that its options and its hook have set."""

    HOOK = """
import ssl

def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.load_verify_locations({ca!r})
    context.verify_mode = ssl.CERT_REQUIRED
    return context
"""

    @staticmethod
    def ask(gunicorn: Gunicorn, context: ssl.SSLContext) -> bytes:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(gunicorn.path)
        with context.wrap_socket(sock, server_hostname="localhost") as encrypted:
            assert encrypted.selected_alpn_protocol() == "http/1.1"
            client = Client(encrypted)
            client.send(get("/who"))
            return client.answer().body

    def serve(self, start: Start, certificate: Certificate, *options: str) -> Gunicorn:
        return start("--certfile", certificate.cert, "--keyfile", certificate.key, *options)

    def test_a_certificate(self, start: Start, certificate: Certificate) -> None:
        gunicorn = self.serve(start, certificate)
        assert self.ask(gunicorn, client_context(trusted=certificate)).endswith(b" https h")

    @pytest.mark.parametrize("how", ["options", "hook"])
    def test_certificates_of_clients(self, start: Start, certificate: Certificate, tmp_path: Path, how: str) -> None:
        """A client without one got a 200."""
        if how == "options":
            gunicorn = self.serve(start, certificate, "--cert-reqs", "2", "--ca-certs", certificate.cert)
        else:
            (tmp_path / "hooks.py").write_text(self.HOOK.format(ca=certificate.cert))
            gunicorn = self.serve(start, certificate, "--config", str(tmp_path / "hooks.py"))
        with pytest.raises(OSError, match=r"certificate required|CERTIFICATE_REQUIRED|alert|reset"):
            self.ask(gunicorn, client_context(trusted=certificate))
        assert self.ask(gunicorn, client_context(trusted=certificate, own=certificate)).endswith(b" https h")

    def test_ciphers(self, start: Start, certificate: Certificate) -> None:
        gunicorn = self.serve(start, certificate, "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")
        context = client_context(ssl.TLSVersion.TLSv1_2, trusted=certificate)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(OSError, match=r"(?i)handshake"):
            self.ask(gunicorn, context)
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        assert self.ask(gunicorn, context).endswith(b" https h")
