"""Fixtures and options for all tests."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, settings

import kaserve
from kaserve.net.blocking import BlockingLog
from tests.tools.wire import IMPLEMENTATIONS, Implementation

# No deadline, so that a slow machine fails no test. More examples: --hypothesis-profile=long.
settings.register_profile(
    "kaserve", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("long", settings.get_profile("kaserve"), max_examples=5000)
settings.load_profile("kaserve")


def pytest_collection_finish() -> None:
    """What has been collected stays until the end, so that the garbage collector need not look at it again: CPython's
    tests of event loops have it look some hundred times."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compiled", action="store_true", help="fail unless the compiled build is tested")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--compiled") and kaserve.IMPLEMENTATION != "compiled":
        raise pytest.UsageError("kaserve is not compiled: `make build` says why")


@pytest.fixture(scope="module", autouse=True)
def _no_garbage() -> None:
    """Tests count open descriptors, so those that an earlier module left to the collector are closed first."""
    gc.collect()


@pytest.fixture(autouse=True)
def _no_blocking_warnings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop the thread of a server for longer than 100 ms, which is no fault of the test that checks
    that nothing is logged. Only the tests of the warning, whose clock is a fake, want it."""
    if request.module.__name__ not in ("tests.net.test_blocking", "tests.net.connection.test_blocking"):
        monkeypatch.setattr(BlockingLog, "report", lambda *arguments: None)


def pytest_report_header() -> str:
    return f"kaserve: {kaserve.IMPLEMENTATION}"


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Each build of the `http` layer in turn."""
    chosen = request.param
    assert isinstance(chosen, Implementation)
    return chosen
