"""The fixture that all benchmarks of parts take."""

from typing import Any

import pytest
from lib.timing import Timing


@pytest.fixture
def timing(benchmark: Any, request: pytest.FixtureRequest) -> Timing:
    """Times one row; as long as --benchmark-max-time says."""
    return Timing(benchmark, float(request.config.getoption("benchmark_max_time")))
