"""Frameworks over a real server: Starlette, FastAPI, Quart and Django, as far as they are installed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kaserve import ASGI, Server
from tests.tools.server import Client, Process, connect, post, serving, started_after, wait_for

JSON = "Content-Type: application/json"


@pytest.fixture
def notes() -> list[Any]:
    """What the applications note."""
    return []


@pytest.fixture
def starlette(notes: list[Any], tmp_path: Path) -> Any:
    """An application with what Starlette does in its own ways: streams, files, background tasks, middleware."""
    pytest.importorskip("starlette")
    responses, applications = import_module("starlette.responses"), import_module("starlette.applications")
    routing, base = import_module("starlette.routing"), import_module("starlette.middleware.base")
    background = import_module("starlette.background")
    anyio = import_module("anyio")
    (tmp_path / "file").write_bytes(b"x" * 200_000)

    async def body(request: Any) -> Any:
        return responses.Response(await request.body())

    async def stream(request: Any) -> Any:
        async def pieces() -> Any:
            try:
                for number in range(10**9 if "forever" in request.query_params else 3):
                    yield f"{number}\n"
                    await anyio.sleep(0.01)
            finally:
                notes.append("stream ended")

        return responses.StreamingResponse(pieces())

    async def file(request: Any) -> Any:
        return responses.FileResponse(tmp_path / "file")

    async def later(request: Any) -> Any:
        return responses.PlainTextResponse("now", background=background.BackgroundTask(notes.append, "later"))

    async def state(request: Any) -> Any:
        return responses.JSONResponse(
            {"state": request.state.value, "url": str(request.url), "root": request.base_url.path}
        )

    async def blocking(request: Any) -> Any:
        return responses.PlainTextResponse(await anyio.to_thread.run_sync(lambda: "from a thread"))

    class Middleware(base.BaseHTTPMiddleware):  # type: ignore[name-defined, misc]
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-middleware"] = "1"
            return response

    async def lifespan(app: Any) -> Any:
        notes.append("startup")
        yield {"value": 7}
        notes.append("shutdown")

    routes = [
        routing.Route("/body", body, methods=["POST"]),
        *(routing.Route(f"/{each.__name__}", each) for each in (stream, file, later, state, blocking)),
    ]
    app = applications.Starlette(routes=routes, lifespan=asynccontextmanager(lifespan))
    app.add_middleware(Middleware)
    return app


@pytest.fixture
def server(starlette: Any) -> Iterator[Server]:
    with serving(ASGI(starlette)) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connect(server) as made:
        yield made


class TestStarlette:
    def test_bodies(self, client: Client) -> None:
        (answer,) = client.exchange(post(b"x" * 300_000, target="/body"))
        assert answer.body == b"x" * 300_000
        assert answer.value("x-middleware") == "1"

    def test_a_stream(self, client: Client) -> None:
        assert client.ask("/stream").body == b"0\n1\n2\n"

    def test_a_stream_ends_when_its_client_leaves(
        self, server: Server, notes: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Starlette listens for http.disconnect meanwhile."""
        with connect(server) as client:
            client.send(b"GET /stream?forever HTTP/1.1\r\nHost: h\r\n\r\n")
            client.sock.recv(100)
        wait_for(lambda: "stream ended" in notes)
        wait_for(lambda: server.open_connections == 0)
        assert caplog.messages == []

    def test_a_file(self, client: Client) -> None:
        assert client.ask("/file").body == b"x" * 200_000
        part = client.ask("/file", "Range: bytes=10-19")
        assert (part.status, part.body) == (206, b"x" * 10)
        assert client.ask("/file", method="HEAD").values("content-length") == ["200000"]

    def test_a_background_task(self, client: Client, notes: list[Any]) -> None:
        assert client.ask("/later").body == b"now"
        wait_for(lambda: "later" in notes)

    def test_a_thread(self, client: Client) -> None:
        assert client.ask("/blocking").body == b"from a thread"

    def test_state_and_lifespan(self, starlette: Any, notes: list[Any]) -> None:
        with serving(ASGI(starlette, root_path="/api")) as server, connect(server) as client:
            answer = json.loads(client.ask("/state").body)
            assert answer == {"state": 7, "url": "http://h/api/state", "root": "/api/"}
        assert notes == ["startup", "shutdown"]

    def test_an_incomplete_body_is_no_traceback(self, server: Server, caplog: pytest.LogCaptureFixture) -> None:
        with connect(server) as client:
            client.send(post(b"hello", target="/body")[:-2])
            client.finish()
            assert client.answer("POST").status == 400
        assert caplog.messages == []


def test_fastapi() -> None:
    pytest.importorskip("fastapi")
    fastapi = import_module("fastapi")
    app = fastapi.FastAPI()

    @app.get("/items/{number}")  # type: ignore[untyped-decorator]
    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    @app.post("/items")  # type: ignore[untyped-decorator]
    def create(item: dict[str, int]) -> dict[str, int]:  # in a thread
        return item

    with serving(ASGI(app)) as server, connect(server) as client:
        assert json.loads(client.ask("/items/5").body) == {"number": 5}
        assert client.ask("/items/x").status == 422
        assert client.ask("/openapi.json").status == 200
        (answer,) = client.exchange(post(b'{"a":1}', JSON, target="/items"))
        assert json.loads(answer.body) == {"a": 1}


def test_quart() -> None:
    pytest.importorskip("quart")
    quart = import_module("quart")
    app = quart.Quart("shop")

    @app.route("/", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    async def index() -> Any:
        return await quart.request.get_data() or "open"

    @app.route("/stream")  # type: ignore[untyped-decorator]
    async def stream() -> Any:
        async def pieces() -> Any:
            yield b"one"
            yield b"two"

        return pieces()

    with serving(ASGI(app)) as server, connect(server) as client:
        assert client.ask("/").body == b"open"
        assert client.exchange(post(b"x" * 100_000))[0].body == b"x" * 100_000
        assert client.ask("/stream").body == b"onetwo"
        assert client.ask("/none").status == 404


def test_django() -> None:
    """Its ASGI handler, in a process of its own, since Django is configured once: with a sync view, an async one, a
    stream and the static files of development."""
    pytest.importorskip("django")
    program = """
import asyncio, os, django
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=True, STATIC_URL="/static/",
                   INSTALLED_APPS=["django.contrib.staticfiles"], STATICFILES_DIRS=[os.path.dirname(__file__)])
django.setup()
from django.core.asgi import get_asgi_application
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

def sync_view(request):
    return HttpResponse(f"{request.method} {len(request.body)}")

async def async_view(request):
    await asyncio.sleep(0.01)
    return HttpResponse("async")

async def stream(request):
    async def pieces():
        for number in range(3):
            yield str(number)
            await asyncio.sleep(0.01)
    return StreamingHttpResponse(pieces())

urlpatterns = [path("sync", sync_view), path("async", async_view), path("stream", stream)]
app = ASGIStaticFilesHandler(get_asgi_application())
"""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "served_django.py").write_text(program)
        preparation = f"sys.path.insert(0, {directory!r}); os.environ['PYTHONPATH'] += os.pathsep + {directory!r}"
        with Process("served_django:app", "0", program=started_after(preparation)) as process:
            with process.connect() as client:
                assert client.ask("/sync").body == b"GET 0"
                assert client.ask("/async").body == b"async"
                assert client.ask("/stream").body == b"012"
                assert client.ask("/static/served_django.py").status == 200
            assert "Traceback" not in process.stderr
