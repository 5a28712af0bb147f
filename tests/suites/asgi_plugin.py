"""A plugin for the pytest that runs Starlette's and FastAPI's own tests: their test client goes over the wire.

Knows where the client calls an application, and puts `asgi_wire` there. Leaves the same report behind as `plugin`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import tests
from tests.suites.asgi_wire import AsgiWire
from tests.suites.plugin import Report

pytest_plugins = ["anyio.pytest_plugin"]  # of which their fixtures are


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--wire-threads", type=int, default=0, help="none: an application has its event loop")
    parser.addoption("--wire-report", type=Path, help="where the report goes to, as JSON")
    parser.addini("timeout", "of a plugin that FastAPI's settings are for, and that is not needed here")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Their tests are a package of the same name as ours, and their modules come first."""
    tests.__path__.insert(0, str(early_config.rootpath / "tests"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group: of a plugin that FastAPI's tests name")
    config.pluginmanager.register(AsgiDriver(config.getoption("--wire-report")))


class AsgiDriver(Report):
    """Has the wire open for as long as tests run."""

    def __init__(self, report: Path | None) -> None:
        self.wire = AsgiWire()
        super().__init__(self.wire, report)

    def pytest_sessionstart(self) -> None:
        self.wire.__enter__()
        client: Any = importlib.import_module("starlette.testclient")
        in_process = client._TestClientTransport.handle_request
        wire = self.wire

        def handle_request(transport: Any, request: Any) -> Any:
            if request.url.scheme in ("ws", "wss"):
                return in_process(transport, request)
            return wire.handle_request(transport, request)

        client._TestClientTransport.handle_request = handle_request

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Without those on trio, since the event loop of the server is asyncio's either way."""
        items[:] = [item for item in items if "trio" not in getattr(getattr(item, "callspec", None), "id", "")]
