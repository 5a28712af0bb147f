"""Flask, Django, Falcon and Bottle over real sockets, on the reactor and in threads.

Each is tested where it differs: streams, files, uploads, cookies, errors, and what it does after a response.
"""

from __future__ import annotations

import importlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from kaserve.handlers import WSGI
from tests.tools.server import PATIENCE, missing, serving, wait_for

CONTENT = bytes(range(256)) * 4096  # a megabyte


def framework(name: str) -> Any:
    """The module. The test is skipped if it is not installed; under CI=true it fails."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed")


@pytest.fixture(params=[0, 4], ids=["reactor", "4 threads"])
def threads(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


class Site:
    """A client of a server with one application."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self._url = url
        self._session = session

    def get(self, path: str, **more: Any) -> requests.Response:
        return self._session.get(self._url + path, timeout=PATIENCE, **more)

    def head(self, path: str, **more: Any) -> requests.Response:
        return self._session.head(self._url + path, timeout=PATIENCE, **more)

    def post(self, path: str, data: Any = None, **more: Any) -> requests.Response:
        return self._session.post(self._url + path, data, timeout=PATIENCE, **more)


@contextmanager
def site_of(app: Any, threads: int) -> Iterator[Site]:
    handler = WSGI(app, threads)
    try:
        with serving(handler) as server, requests.Session() as session:
            session.trust_env = False
            yield Site(server.url.rstrip("/"), session)
            assert server.stats.accepted == 1 or server.stats.failed  # one connection is enough
    finally:
        handler.close(PATIENCE)


def chunks(*pieces: bytes) -> Iterator[bytes]:
    """A request body of unknown length."""
    yield from pieces


def check_bodies(app: Any, threads: int) -> None:
    """Checks that an application reads bodies of a known and an unknown length, and a form with a file."""
    with site_of(app, threads) as site:
        assert site.post("/echo", CONTENT).content == CONTENT
        assert site.post("/echo", chunks(b"first ", b"second")).content == b"first second"
        response = site.post("/upload", {"text": "t"}, files={"file": ("name.bin", CONTENT)})
        assert response.json() == {"name": "name.bin", "size": len(CONTENT), "text": "t"}


# Flask.


class TestFlaskSock:
    """flask-sock, and so simple-websocket, which looks for the socket where Werkzeug's development server has it. The
    client is that of the package websockets."""

    @pytest.fixture
    def app(self) -> Any:
        flask = framework("flask")
        app = flask.Flask("site")
        sock = framework("flask_sock").Sock(app)
        app.ended = threading.Event()

        @app.get("/")
        def index() -> str:
            return "a page"

        @sock.route("/echo")
        def echo(ws: Any) -> None:
            try:
                while True:
                    ws.send(ws.receive())
            finally:
                app.ended.set()

        @sock.route("/once")
        def once(ws: Any) -> None:
            ws.send(ws.receive())

        return app

    @contextmanager
    def serving_app(self, app: Any, **settings: Any) -> Iterator[tuple[Any, str]]:
        handler = WSGI(app, 4)
        with serving(handler, **settings) as server:
            yield server, f"ws{server.url.removeprefix('http').rstrip('/')}"
        handler.close(PATIENCE)

    def test_an_echo(self, app: Any) -> None:
        connect = framework("websockets.sync.client").connect
        with self.serving_app(app) as (server, url):
            with connect(f"{url}/echo", max_size=None, proxy=None) as client:
                for message in ("hello", b"bytes", "", "x" * 3_000_000):
                    client.send(message)
                    assert client.recv(timeout=PATIENCE) == message
                client.ping().wait(PATIENCE)
            assert app.ended.wait(PATIENCE)
            wait_for(lambda: not server.open_connections)
            assert server.stats.closed == {"tunnel closed": 1}

    def test_an_application_that_closes(self, app: Any) -> None:
        closed = framework("websockets.exceptions").ConnectionClosedOK
        connect = framework("websockets.sync.client").connect
        with self.serving_app(app) as (server, url), connect(f"{url}/once", proxy=None) as client:
            client.send("bye")
            assert client.recv(timeout=PATIENCE) == "bye"
            with pytest.raises(closed) as caught:
                client.recv(timeout=PATIENCE)
            assert caught.value.rcvd.code == 1000
            wait_for(lambda: server.stats.closed == {"tunnel closed": 1})

    def test_a_server_that_stops(self, app: Any) -> None:
        closed = framework("websockets.exceptions").ConnectionClosedError
        connect = framework("websockets.sync.client").connect
        with self.serving_app(app) as (server, url), connect(f"{url}/echo", proxy=None) as client:
            client.send("hello")
            client.recv(timeout=PATIENCE)
            server.shutdown(0.0)
            with pytest.raises(closed):
                client.recv(timeout=PATIENCE)
            assert app.ended.wait(PATIENCE)

    def test_pages_as_well(self, app: Any) -> None:
        with site_of(app, 4) as site:
            upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}  # as some clients send it with each request
            assert [site.get("/", headers=headers).text for headers in ({}, upgrade)] == ["a page"] * 2

    def test_on_the_reactor_there_is_none(self, app: Any) -> None:
        with site_of(app, 0) as site:
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
            assert site.get("/echo", headers=upgrade).status_code == 400


@pytest.fixture
def flask_app(tmp_path: Path) -> Any:
    flask = framework("flask")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "data.bin").write_bytes(CONTENT)
    app = flask.Flask("site", root_path=str(tmp_path))
    app.secret_key = "a secret of tests"
    app.closed = []

    @app.get("/hello/<name>")
    def hello(name: str) -> str:
        return f"hello, {name}"

    @app.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[str]:
            yield from (f"{number}\n" for number in range(1000))

        response = flask.Response(pieces(), mimetype="text/plain")
        response.call_on_close(lambda: app.closed.append("stream"))
        return response

    @app.route("/echo", methods=["POST"])
    def echo() -> bytes:
        data: bytes = flask.request.get_data()
        return data

    @app.post("/upload")
    def upload() -> Any:
        file = flask.request.files["file"]
        return {"name": file.filename, "size": len(file.read()), "text": flask.request.form["text"]}

    @app.get("/download")
    def download() -> Any:
        return flask.send_file(io.BytesIO(CONTENT), "application/octet-stream")

    @app.get("/count")
    def count() -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return str(flask.session["count"])

    @app.get("/where")
    def where() -> Any:
        request = flask.request
        return {"url": request.url, "address": request.remote_addr, "path": request.path, "args": dict(request.args)}

    @app.get("/fault")
    def fault() -> str:
        raise LookupError("a secret")

    return app


def test_flask(flask_app: Any, threads: int) -> None:
    with site_of(flask_app, threads) as site:
        response = site.get("/hello/you%20%C3%A4")
        assert response.text == "hello, you \xe4"
        assert response.headers["Content-Length"] == str(len(response.content))
        assert site.head("/hello/you").headers["Content-Length"] == "10"
        assert site.get("/nothing").status_code == 404
        assert site.post("/hello/you").status_code == 405
        assert [site.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        where = site.get("/where?a=1&b=%C3%A4").json()
        assert where["address"] == "127.0.0.1"
        assert where["url"].startswith("http://127.0.0.1:")
        assert where["args"] == {"a": "1", "b": "\xe4"}
        assert site.get("/where/").status_code == 404


def test_flask_sends_streams_and_files(flask_app: Any, threads: int) -> None:
    with site_of(flask_app, threads) as site:
        response = site.get("/stream")
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.text == "".join(f"{number}\n" for number in range(1000))
        wait_for(lambda: flask_app.closed == ["stream"])
        assert site.head("/stream").content == b""
        wait_for(lambda: flask_app.closed == ["stream"] * 2)
        response = site.get("/static/data.bin")
        assert response.content == CONTENT
        again = site.get("/static/data.bin", headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        part = site.get("/static/data.bin", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, CONTENT[10:20])
        assert site.get("/download").content == CONTENT


def test_flask_reads_bodies(flask_app: Any, threads: int) -> None:
    check_bodies(flask_app, threads)


def test_flask_handles_its_exceptions(flask_app: Any, threads: int, caplog: pytest.LogCaptureFixture) -> None:
    with site_of(flask_app, threads) as site:
        response = site.get("/fault")
        assert (response.status_code, "secret" in response.text) == (500, False)
        assert site.get("/hello/you").text == "hello, you"
    assert "LookupError: a secret" in caplog.text


def test_flask_passes_exceptions_to_the_server(flask_app: Any, threads: int, caplog: pytest.LogCaptureFixture) -> None:
    """With `testing`, the exception leaves the application."""
    flask_app.testing = True
    with site_of(flask_app, threads) as site:
        response = site.get("/fault")
        assert (response.status_code, "secret" in response.text) == (500, False)
        assert site.get("/hello/you").text == "hello, you"
    assert "LookupError: a secret" in caplog.text


def test_flask_debugger(flask_app: Any) -> None:
    """Shows tracebacks in the browser: it calls start_response a second time, with exc_info or without."""
    debug = framework("werkzeug.debug")
    with site_of(debug.DebuggedApplication(flask_app, evalex=False), 1) as site:
        flask_app.testing = True
        response = site.get("/fault")
        assert response.status_code == 500
        assert "LookupError" in response.text


# Django.


@pytest.fixture(scope="module")
def django_app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A site with its own URL module. Django can be set up only once in a process."""
    django = framework("django")
    from django.conf import settings

    directory = tmp_path_factory.mktemp("django")
    (directory / "assets").mkdir()
    (directory / "assets" / "style.css").write_text("p { color: red }")
    (directory / "data.bin").write_bytes(CONTENT)
    if not settings.configured:
        settings.configure(
            DEBUG=True,
            SECRET_KEY="a secret of tests",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="kaserve_django_urls",
            INSTALLED_APPS=["django.contrib.staticfiles"],
            MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.gzip.GZipMiddleware"],
            STATIC_URL="/static/",
            STATICFILES_DIRS=[str(directory / "assets")],
            LOGGING_CONFIG=None,
            USE_TZ=True,
        )
        sys.modules["kaserve_django_urls"] = django_urls(directory)
        django.setup()
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application

    return StaticFilesHandler(get_wsgi_application())


def django_urls(directory: Path) -> Any:
    from types import ModuleType

    from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    def hello(request: Any, name: str) -> Any:
        return HttpResponse(f"hello, {name}")

    def stream(request: Any) -> Any:
        return StreamingHttpResponse((f"{number}\n" for number in range(1000)), content_type="text/plain")

    def download(request: Any) -> Any:
        return FileResponse(open(directory / "data.bin", "rb"))

    def echo(request: Any) -> Any:
        return HttpResponse(request.body)

    def upload(request: Any) -> Any:
        file = request.FILES["file"]
        return JsonResponse({"name": file.name, "size": len(file.read()), "text": request.POST["text"]})

    def where(request: Any) -> Any:
        return JsonResponse({"url": request.build_absolute_uri(), "address": request.META["REMOTE_ADDR"]})

    def cookies(request: Any) -> Any:
        response = HttpResponse(request.COOKIES.get("a", "none"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def fault(request: Any) -> Any:
        raise LookupError("a secret")

    module: Any = ModuleType("kaserve_django_urls")
    module.urlpatterns = [
        path("hello/<name>", hello),
        *(path(view.__name__, view) for view in (stream, download, echo, upload, where, cookies, fault)),
    ]
    return module


def test_django(django_app: Any, threads: int) -> None:
    with site_of(django_app, threads) as site:
        assert site.get("/hello/you%20%C3%A4").text == "hello, you \xe4"
        assert site.head("/hello/you").headers["Content-Length"] == "10"
        assert site.get("/nothing").status_code == 404
        assert [site.get("/cookies").text for _ in range(2)] == ["none", "1"]
        where = site.get("/where?a=%C3%A4").json()
        assert where["address"] == "127.0.0.1"
        assert where["url"].endswith("/where?a=%C3%A4")


def test_django_sends_streams_and_files(django_app: Any, threads: int) -> None:
    with site_of(django_app, threads) as site:
        for accept in ("identity", "gzip"):
            response = site.get("/stream", headers={"Accept-Encoding": accept})
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert response.text == "".join(f"{number}\n" for number in range(1000))
        assert site.head("/stream").content == b""
        response = site.get("/download", headers={"Accept-Encoding": "identity"})
        assert (response.content, response.headers["Content-Length"]) == (CONTENT, str(len(CONTENT)))
        assert site.get("/static/style.css").text == "p { color: red }"
        assert site.get("/static/nothing").status_code == 404


def test_django_reads_bodies(django_app: Any, threads: int) -> None:
    check_bodies(django_app, threads)


def test_django_sends_request_finished_once(django_app: Any, threads: int) -> None:
    """It does so in close(), where it also releases its database connections."""
    from django.core.signals import request_finished

    over = threading.Semaphore(0)

    def finished(**more: Any) -> None:
        over.release()

    request_finished.connect(finished)
    try:
        with site_of(django_app, threads) as site:
            for path in ("/hello/you", "/stream", "/download", "/static/style.css", "/fault"):
                site.get(path)
                assert over.acquire(timeout=PATIENCE)
                assert not over.acquire(blocking=False)
    finally:
        request_finished.disconnect(finished)


def test_django_handles_its_exceptions(django_app: Any, threads: int, caplog: pytest.LogCaptureFixture) -> None:
    with site_of(django_app, threads) as site:
        assert site.get("/fault").status_code == 500
        assert site.get("/hello/you").text == "hello, you"
    assert "LookupError: a secret" in caplog.text


# Falcon and Bottle.


def falcon_app() -> Any:
    falcon = framework("falcon")

    class Things:
        def on_get(self, request: Any, response: Any) -> None:
            response.media = {"query": request.params, "host": request.host}

        def on_post(self, request: Any, response: Any) -> None:
            response.data = request.bounded_stream.read()
            response.status = falcon.HTTP_201

    class Stream:
        def on_get(self, request: Any, response: Any) -> None:
            response.stream = io.BytesIO(CONTENT)

    app = falcon.App()
    app.add_route("/things", Things())
    app.add_route("/stream", Stream())
    return app


def bottle_app() -> Any:
    bottle = framework("bottle")
    app = bottle.Bottle()

    @app.get("/things")
    def query() -> Any:
        return {"query": dict(bottle.request.query), "host": bottle.request.urlparts.hostname}

    @app.post("/things")
    def things() -> Any:
        bottle.response.status = 201
        return bottle.request.body.read()

    @app.get("/stream")
    def stream() -> Any:
        return io.BytesIO(CONTENT)

    return app


@pytest.mark.parametrize("make", [falcon_app, bottle_app], ids=["Falcon", "Bottle"])
def test_falcon_and_bottle(make: Callable[[], Any], threads: int) -> None:
    with site_of(make(), threads) as site:
        assert site.get("/things?a=1").json() == {"query": {"a": "1"}, "host": "127.0.0.1"}
        assert site.head("/things?a=1").content == b""
        response = site.post("/things", CONTENT)
        assert (response.status_code, response.content) == (201, CONTENT)
        assert site.post("/things", chunks(b"first ", b"second")).content == b"first second"
        assert site.get("/stream").content == CONTENT
        assert site.get("/nothing").status_code == 404
