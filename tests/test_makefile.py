"""The Makefile installs what the tests run, since with CI=true a missing program is a failure."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.tools.server import ROOT


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
