"""`kaserve.run`: what the command line does, for a program that has its application already."""

from __future__ import annotations

import http.client
import logging
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kaserve
from kaserve import ConfigError, Response, Server
from tests.tools.server import ROOT, Process, config, hello, serving


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"from WSGI"]


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def anything(*arguments: Any) -> Any:
    return Response.text("from anything")


class Visit:
    """An `on_start` that has a client ask once, and then stops the server."""

    body = b""
    server: Server | None = None

    def __call__(self, server: Server) -> None:
        self.server = server
        threading.Thread(target=self._ask, args=(server,)).start()

    def _ask(self, server: Server) -> None:
        try:
            assert isinstance(server.address, tuple)
            connection = http.client.HTTPConnection(*server.address, timeout=10)
            connection.request("GET", "/")
            self.body = connection.getresponse().read()
            connection.close()
        finally:
            server.shutdown(0.0)


@pytest.fixture
def visit() -> Visit:
    return Visit()


class TestWhatIsServed:
    @pytest.mark.parametrize(
        ("served", "body", "what"),
        [
            (hello, b"hello", "handler tests.tools.server:hello"),
            (app, b"from WSGI", "WSGI application tests.cli.test_run:app (4 threads)"),
            ("tests.cli.test_run:app", b"from WSGI", "WSGI application tests.cli.test_run:app (4 threads)"),
        ],
    )
    def test_an_application_of_either_kind(
        self, served: Any, body: bytes, what: str, visit: Visit, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kaserve.run(served, port=0, on_start=visit, access_log=False)
        assert visit.body == body
        assert visit.server is not None
        assert visit.server.stopped
        first, at, *_, last = capsys.readouterr().out.splitlines()
        assert first.endswith(f" serves {what}")
        assert at == f"  at {visit.server.url}"
        assert last == "  Ctrl-C stops it"

    def test_a_directory(self, tmp_path: Path, visit: Visit, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "index.html").write_text("a page")
        kaserve.run(port=0, directory=str(tmp_path), on_start=visit, access_log=False, banner=False)
        assert visit.body == b"a page"
        assert capsys.readouterr().out == ""

    def test_the_interface_can_be_said(self, visit: Visit) -> None:
        kaserve.run(anything, port=0, interface="handler", on_start=visit, access_log=False, banner=False)
        assert visit.body == b"from anything"

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [({}, 0.0005), ({"switch_interval": 0.002}, 0.002), ({"threads": 0}, sys.getswitchinterval())],
    )
    def test_threads_take_turns_sooner_while_it_serves(self, settings: dict[str, Any], expected: float) -> None:
        before, seen = sys.getswitchinterval(), []

        def look(server: Server) -> None:
            seen.append(sys.getswitchinterval())
            server.shutdown(0.0)

        kaserve.run(app, port=0, on_start=look, access_log=False, banner=False, **settings)
        assert seen == pytest.approx([expected])
        assert sys.getswitchinterval() == before

    def test_settings_have_their_effect(self, visit: Visit) -> None:
        kaserve.run(app, port=0, threads=0, keep_alive=5, on_start=visit, access_log=False, banner=False)
        assert visit.server is not None
        assert visit.server.config == config(threads=0, keep_alive=5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("served", "settings", "error", "message"),
        [
            (asgi, {"interface": "wsgi"}, TypeError, "asgi is called with .*, as an ASGI application is"),
            (asgi, {"threads": 2}, ConfigError, "threads has no effect with app, which is an ASGI application"),
            (
                anything,
                {},
                TypeError,
                "the signature of .* does not tell .*; say which one with interface: asgi, wsgi or",
            ),
            (lambda: app, {}, TypeError, "tests.cli.test_run:<lambda> needs no arguments, so it seems to be a factory"),
            (5, {}, TypeError, "int is of type int and cannot be called"),
            ("tests.cli.test_run:ap", {}, ImportError, "cannot import .*; did you mean tests.cli.test_run:app"),
            ("shop", {}, ConfigError, "app must be MODULE:APP, not 'shop', such as shop:app"),
            (app, {"upload": True}, ConfigError, "upload has no effect with app, which is a WSGI application"),
            (hello, {"spa": True}, ConfigError, "spa has no effect with app, which is a handler"),
            (hello, {"wsgi": "a:b"}, ConfigError, "wsgi cannot be combined with <function hello"),
            (hello, {"port": "80"}, ConfigError, "port must be an int, not the string '80'"),
            (hello, {"colour": 1}, TypeError, "colour"),
            (None, {"directory": "/no/such"}, OSError, "cannot serve '/no/such': No such file or directory"),
            (hello, {"tls_cert": "/no/such"}, OSError, "cannot use the certificate /no/such: No such file"),
        ],
    )
    def test_each_has_an_exception_of_its_kind(
        self, served: Any, settings: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            kaserve.run(served, **{"port": 0, **settings})

    def test_a_port_in_use(self) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            with pytest.raises(OSError, match=rf"port {port} is in use on 127.0.0.1; try another: port=\d+") as caught:
                kaserve.run(hello, port=port)
        assert caught.value.errno is not None

    def test_an_error_log_beside_that_of_the_program(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
        with pytest.raises(ConfigError, match="error_log has no effect, since this program has configured logging"):
            kaserve.run(hello, port=0, error_log=str(tmp_path / "log"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(
        "import kaserve\n"
        "def hello(request):\n    return kaserve.Response.text('hello')\n"
        "if __name__ == '__main__':\n    kaserve.run(hello, port=0)\n"
    )
    return path


def test_a_script_with_signals(script: Path) -> None:
    with Process(program=(str(script),)) as process, process.connect() as client:
        assert process.banner.splitlines()[0].endswith(" serves handler hello")
        assert client.ask().body == b"hello"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "GET / HTTP/1.1" in process.stderr


def test_it_costs_little_to_import() -> None:
    """`import kaserve` needs neither argparse nor the probe's modules."""
    code = "import kaserve, sys; print(*sorted(set(sys.modules) & {'argparse', 'getpass', 'kaserve.cli.arguments'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(("name", "hint"), [("keepalive", "; did you mean keep_alive?"), ("xyzzy", "")])
def test_a_setting_that_does_not_exist(name: str, hint: str) -> None:
    settings: dict[str, Any] = {name: 3}
    with pytest.raises(TypeError, match=rf"^there is no setting {name}{re.escape(hint)}$"):
        kaserve.run(hello, port=0, **settings)
