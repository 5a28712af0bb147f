"""A plugin for the pytest that runs a framework's own tests: its test client goes over the wire.

Knows where each framework's client calls an application, and puts `wire` there. Leaves a report behind: what became of
each test, and how many requests it has sent. Knows nothing of particular tests.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from tests.suites.wire import Wire


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--wire-threads", type=int, default=0, help="those of the application, 0 for the reactor")
    parser.addoption("--wire-report", type=Path, help="where the report goes to, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Driver(config.getoption("--wire-threads"), config.getoption("--wire-report")))


class Report:
    """What is left behind: `outcomes` of the tests, "passed", "failed" or "skipped"; how many requests each has `sent`,
    if any; what was `deselected`; and the `requests` and `connections` that the server has counted.
    """

    def __init__(self, wire: Any, path: Path | None) -> None:
        self._counted = wire
        self._path = path
        self._deselected: list[str] = []
        self._outcomes: dict[str, str] = {}
        self._sent: dict[str, int] = {}

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += [item.nodeid for item in items]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = self._counted.sent
        result = yield
        if self._counted.sent > before:
            self._sent[item.nodeid] = self._counted.sent - before
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._outcomes.get(report.nodeid) != "failed" and (report.when == "call" or report.outcome != "passed"):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        self._counted.__exit__(None, None, None)
        stats = self._counted.server.stats  # they do not change any more
        if self._path is not None:
            report = {
                "outcomes": self._outcomes,
                "sent": self._sent,
                "deselected": self._deselected,
                "requests": stats.requests,
                "connections": stats.accepted,
            }
            self._path.write_text(json.dumps(report, indent=1))


class Driver(Report):
    """Has the wire open for as long as tests run."""

    def __init__(self, threads: int, report: Path | None) -> None:
        self._wire = Wire(threads)
        super().__init__(self._wire, report)

    def pytest_sessionstart(self) -> None:
        self._wire.__enter__()
        werkzeug: Any = importlib.import_module("werkzeug.test")
        self._closing_iterator = importlib.import_module("werkzeug.wsgi").ClosingIterator
        self._headers = importlib.import_module("werkzeug.datastructures").Headers
        self._call_wsgi_app = werkzeug.run_wsgi_app
        werkzeug.run_wsgi_app = self._run_wsgi_app

    def pytest_collection_finish(self) -> None:
        bottle: Any = sys.modules.get("test.tools")  # by its own name, which is that of a package of Python's
        if bottle is not None:
            wire = self._wire
            bottle.ServerTestBase.urlopen = lambda test, *values, **more: _urlopen(wire, test, *values, **more)

    def _run_wsgi_app(self, app: Any, environ: Any, buffered: bool = False) -> Any:
        """In place of werkzeug.test.run_wsgi_app, which Flask's client uses as well."""
        environ = getattr(environ, "environ", environ)  # it may be a Request as well
        if "wsgi.file_wrapper" in environ:  # made by the server: it is an application that calls another
            return self._call_wsgi_app(app, environ, buffered)
        answer = self._wire.ask(app, environ)
        pieces = self._closing_iterator([answer.body] if answer.body else [])
        return pieces, f"{answer.status} {answer.reason}", self._headers(answer.fields)


def _urlopen(wire: Wire, test: Any, path: str, method: str = "GET", post: Any = "", env: Any = None) -> dict[str, Any]:
    """In place of ServerTestBase.urlopen of Bottle's tests, where the application is inside of wsgiref.validate."""
    environ: dict[str, Any] = env or {}
    setup_testing_defaults(environ)
    environ["REQUEST_METHOD"] = method.upper().strip()
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    environ["QUERY_STRING"] = ""
    if post:
        body = post.encode() if isinstance(post, str) else post
        environ["REQUEST_METHOD"] = "POST"
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"].write(body)
        environ["wsgi.input"].seek(0)
    answer = wire.ask(test.wsgiapp, environ)
    header: dict[str, str] = {}
    for name, value in answer.fields:
        name = name.title()
        header[name] = f"{header[name]}, {value}" if name in header else value
    return {"code": answer.status, "status": answer.reason, "header": header, "body": answer.body}
