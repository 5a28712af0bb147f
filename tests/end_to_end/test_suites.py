"""The frameworks' own tests over the wire: Flask, its tutorial's site, Werkzeug and Bottle, Starlette and FastAPI; see
tests/suites.

Each runs as its authors run it, by pytest in a process of its own, except that its test client sends the requests to a
kaserve, and h11 parses the responses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kaserve import IMPLEMENTATION
from tests.suites.catalogue import BOTTLE, FASTAPI, FLASK, FLASKR, STARLETTE, WERKZEUG, Suite
from tests.tools.server import ROOT, environment, missing

FETCHED = Path(sys.prefix, "suites")  # by `make test`
MAX_SECONDS = 600.0  # for tests that take three, and FastAPI's 60


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sdists are unpacked; without them what needs them is skipped, and fails under CI=true."""
    sdists = sorted(FETCHED.glob("*.tar.gz"))
    for site, stamp in (("site", ".suites"), ("asgi-site", ".asgi-suites")):
        if not sdists or not (FETCHED / site).is_dir():
            missing(f"the tests of frameworks are not in {FETCHED}: make {Path(sys.prefix).name}/{stamp}")
    directory = tmp_path_factory.mktemp("suites")
    for sdist in sdists:
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
    return directory


SUITES = {
    "flask on the reactor": (FLASK, 0),
    "flask in threads": (FLASK, 4),
    "flask's tutorial": (FLASKR, 4),
    "werkzeug": (WERKZEUG, 0),
    "bottle": (BOTTLE, 4),
    "starlette": (STARLETTE, 0),
}
if IMPLEMENTATION == "compiled":  # it takes as long as all the others together, and Starlette is what it is made of
    SUITES["fastapi"] = FASTAPI, 0


@pytest.mark.parametrize(("suite", "threads"), SUITES.values(), ids=SUITES)
def test_suite(suite: Suite, threads: int, sources: Path, tmp_path: Path) -> None:
    exceptions = suite.exceptions | (suite.on_reactor if threads == 0 else {})
    left_out = {test for tests in exceptions.values() for test in tests}
    report = drive(suite, threads, left_out, sources, tmp_path / "report.json")
    passed = {test for test, outcome in report["outcomes"].items() if outcome == "passed"}
    assert len(passed) >= suite.passing
    assert len(passed & report["sent"].keys()) >= suite.wired
    assert report["requests"] >= suite.requests
    assert report["requests"] == sum(report["sent"].values())
    assert report["connections"] <= report["requests"] / 5  # it is persistent ones that they have been over
    # Every exception is one, and there is no other.
    assert {test for test in left_out if not any(map(names(test), report["deselected"]))} == set()
    assert [test for test in report["deselected"] if not any(names(name)(test) for name in left_out)] == []


def names(name: str) -> Any:
    """Whether a test, or all the tests that it is made into by its parameters, is meant by `name`."""
    return lambda test: test == name or test.startswith(f"{name}[")


def drive(suite: Suite, threads: int, left_out: set[str], sources: Path, report: Path) -> Any:
    """Runs `suite`, all of whose tests must pass or skip themselves; the plugin's report."""
    directory = sources / suite.sdist / suite.directory
    # Ours come before those of the suite, which may be packages of the same names; the plugin sorts that out.
    paths = (FETCHED / suite.site, ROOT, directory)
    settings = directory / "pyproject.toml"
    completed = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-p", suite.plugin, "-p", "no:cacheprovider"),
            *("--wire-threads", str(threads), "--wire-report", str(report)),
            *("-q", "--no-header", "--tb=native", "--rootdir", str(directory)),
            *("-c", str(settings) if settings.exists() else os.devnull),
            *(f"--ignore={path}" for path in suite.ignored),
            *(f"--deselect={test}" for test in sorted(left_out)),
            *suite.tests,
        ],
        cwd=directory,
        env=environment(
            PYTHONPATH=os.pathsep.join(map(str, paths)),
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # those of our own environment
            PYTEST_ADDOPTS="",
            PYTHONDONTWRITEBYTECODE="1",
        ),
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
    )
    assert completed.returncode == 0, (completed.stdout + completed.stderr)[-20000:]
    return json.loads(report.read_text())
