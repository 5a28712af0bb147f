"""The Makefile: it installs what the tests run (with CI=true a missing program is a failure), and says what it does."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

from tests.tools.server import ROOT, missing


def programs_in(path: Path) -> set[str]:
    """Returns the first name of each call of `program` in the file: what is installed where there is none of them."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "program")
    return {str(name.value) for name in names if isinstance(name, ast.Constant)}


def test_tools_has_every_program_of_the_tests() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ntools:\n")[2].partition("$(GET_MISSING)")[0]
    programs = set().union(*(programs_in(path) for path in (ROOT / "tests").rglob("*.py")))
    assert {"curl", "aria2c"} <= programs
    assert {name for name in programs if f"has {name} " not in recipe} == set()


def would_run(venv: Path) -> str:
    """Returns what `make serve` would run with this environment."""
    if shutil.which("make") is None:  # not in `tools`: that target needs it
        missing("make is not installed")
    command = ["make", "--no-print-directory", "-n", "serve", f"VENV={venv}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_make_serve_says_what_it_waits_for(tmp_path: Path) -> None:
    """A line for each step that takes long."""
    steps = would_run(tmp_path)
    for step in ("creating the environment", "waiting for pip", "waiting for the compiler"):
        assert steps.count(f'echo "make: {step}') == 1


def test_make_serve_only_serves_the_second_time(tmp_path: Path) -> None:
    for stamp in (".installed", ".compiled"):
        (tmp_path / stamp).touch()
    assert would_run(tmp_path).strip() == f"{tmp_path}/bin/python -m kaserve --directory demo"
