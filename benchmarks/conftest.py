"""The fixture that all benchmarks of parts take."""

from typing import Any

import pytest
from stopwatch import Stopwatch


@pytest.fixture
def stopwatch(benchmark: Any, request: pytest.FixtureRequest) -> Stopwatch:
    """Times one row; as long as --benchmark-max-time says."""
    return Stopwatch(benchmark, float(request.config.getoption("benchmark_max_time")))
