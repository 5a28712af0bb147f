"""Fixtures and options for all tests."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, settings

import kaserve
from tests.tools.wire import IMPLEMENTATIONS, Implementation

# No deadline, so that a slow machine fails no test. More examples: --hypothesis-profile=long.
settings.register_profile(
    "kaserve", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("long", settings.get_profile("kaserve"), max_examples=5000)
settings.load_profile("kaserve")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compiled", action="store_true", help="fail unless the compiled build is tested")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--compiled") and kaserve.IMPLEMENTATION != "compiled":
        raise pytest.UsageError("kaserve is not compiled: `make build` says why")


@pytest.fixture(scope="module", autouse=True)
def _no_garbage() -> None:
    """Tests count open descriptors, so those that an earlier module left to the collector are closed first."""
    gc.collect()


def pytest_report_header() -> str:
    return f"kaserve: {kaserve.IMPLEMENTATION}"


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Each build of the `http` layer in turn."""
    chosen = request.param
    assert isinstance(chosen, Implementation)
    return chosen
