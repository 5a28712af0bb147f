"""The house: who may import whom, what every module must say of itself, and that its picture is true.

Nothing is imported to be looked at; the sources are read.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaserve
from kaserve.http.phases import Phase
from kaserve.net.poller import NOTHING, READ, WRITE
from kaserve.net.service import PHASES
from tests.tools.server import ROOT

PACKAGE = ROOT / "kaserve"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What each layer may import of the package; the command line and the top level may import everything.
LAYERS: dict[str, set[str] | None] = {
    "http": {"http"},
    "telemetry": {"telemetry", "http"},
    "threads": {"threads", "http"},
    "net": {"net", "telemetry", "http"},
    "logs": {"logs", "net", "telemetry", "http"},
    "handlers": {"handlers", "threads", "http"},
    "insight": {"insight", "telemetry", "http"},
    "probe": {"probe", "http"},
    "cli": None,
}

# HTTP has no sockets and no clock, but dates have a calendar.
NEVER_IN_HTTP = {"socket", "selectors", "ssl", "select", "asyncio", "threading", "time", "datetime", "signal"}
EXCEPT = {"http/dates.py": {"time"}}

# Modules for programs that bring themselves along, and that nothing else imports.
FOR_OTHERS = {"gunicorn.py": {"gunicorn"}, "pytest_plugin.py": {"pytest"}}

# Has one name, for tools that read it without importing anything.
NO_NAMES = {"_version.py"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    """The directory of a module; "" for the top."""
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Each import, also one within a function, with what it imports: `socket`, `.messages`, `..http.errors`."""
    for node in ast.walk(read(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module.strip("."):
                yield node, module
            else:
                for alias in node.names:
                    yield node, module + alias.name


def target_layer(path: Path, module: str) -> str:
    """The layer of the package that `module`, relative, means in the file at `path`; "" for the top."""
    dots = len(module) - len(module.lstrip("."))
    package = path.relative_to(PACKAGE).parent.parts
    assert dots <= len(package) + 1, f"{path} imports from outside of the package"
    absolute = (*package[: len(package) + 1 - dots], *module.lstrip(".").split("."))
    return absolute[0] if (PACKAGE / absolute[0]).is_dir() else ""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
class TestEachModule:
    def test_imports_its_own_layer_and_those_below(self, path: Path) -> None:
        allowed = LAYERS.get(layer_of(path))
        if allowed is None:
            return
        for node, module in imports(path):
            if module.startswith(".") and not module.endswith("._version"):
                layer = target_layer(path, module)
                assert layer in allowed, f"{name_of(path)}:{node.lineno} imports {module}"

    def test_imports_the_package_by_relative_names(self, path: Path) -> None:
        for node, module in imports(path):
            assert module.split(".")[0] != "kaserve", f"{name_of(path)}:{node.lineno} imports {module}"

    def test_imports_the_standard_library_and_nothing_else(self, path: Path) -> None:
        for node, module in imports(path):
            known = module.startswith(".") or module.split(".")[0] in sys.stdlib_module_names
            known = known or module.split(".")[0] in FOR_OTHERS.get(name_of(path), ())
            assert known, f"{name_of(path)}:{node.lineno} imports {module}"

    def test_says_what_it_is(self, path: Path) -> None:
        assert ast.get_docstring(read(path))

    def test_names_what_it_offers(self, path: Path) -> None:
        """In `__all__`, sorted as ruff does it, each of them defined. A package that is only a place has nothing."""
        tree = read(path)
        body = tree.body[1:]  # behind the docstring
        if not body or name_of(path) in NO_NAMES:
            return
        defined, offered = set(), None
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                defined.update(alias.asname or alias.name for alias in node.names)
            for each in ast.walk(node) if isinstance(node, (ast.Assign, ast.AnnAssign, ast.If, ast.Try)) else ():
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    defined.add(each.id)
                elif isinstance(each, ast.ImportFrom):
                    defined.update(alias.asname or alias.name for alias in each.names)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                offered = ast.literal_eval(node.value)
        assert offered, f"{name_of(path)} has no __all__"
        assert set(offered) <= defined


def test_http_has_no_sockets_and_no_clock() -> None:
    for path in PACKAGE.joinpath("http").rglob("*.py"):
        for node, module in imports(path):
            forbidden = NEVER_IN_HTTP - EXCEPT.get(name_of(path), set())
            assert module.split(".")[0] not in forbidden, f"{name_of(path)}:{node.lineno} imports {module}"


def test_dates_know_the_calendar_and_never_read_the_clock() -> None:
    calls = {
        node.attr
        for node in ast.walk(read(PACKAGE / "http" / "dates.py"))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    }
    assert calls <= {"gmtime"}


def test_what_is_no_module_is_installed_too() -> None:
    """It has to be named; a source tree has it in any case, so nothing else would notice."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path
        for path in PACKAGE.rglob("[!.]*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi", ".so") and "_cache" not in str(path)
    }
    assert {ROOT.joinpath(*package.split("."), name) for package, names in named.items() for name in names} == found


def test_the_public_names_are_there() -> None:
    for name in kaserve.__all__:
        assert hasattr(kaserve, name)


# The picture.

ARCHITECTURE = ROOT / "docs" / "architecture.md"


def picture() -> str:
    """The block of docs/architecture.md with the table of the phases."""
    blocks: list[str] = re.findall(r"^```[^\n]*\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    header = re.compile(r"^ *phase +waits for +deadline +on expiry *$", re.MULTILINE)
    (block,) = (each for each in blocks if header.search(each))
    return block


def drawn_rows() -> list[tuple[str, ...]]:
    """The rows of the table: a word, a word, and two columns that are apart by two spaces or more."""
    lines = picture().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["phase", "waits"]]
    rows = [line.strip() for line in lines[start + 1 :] if line.strip()]
    return [(*row.split(maxsplit=2)[:2], *re.split(r" {2,}", row.split(maxsplit=2)[2])) for row in rows]


def rows_of_the_code() -> list[tuple[str, ...]]:
    waits_for = {READ: "read", WRITE: "write", NOTHING: "nothing"}
    rows: list[tuple[str, ...]] = []
    for phase, row in PHASES.items():
        if not row.deadline:
            deadline = "none (the handler's own affair)"
        elif row.since in ("each progress", "total"):
            deadline = f"{row.deadline}, {row.since}"
        else:
            deadline = f"{row.deadline}, from {row.since}"
        rows.append((phase.name, waits_for[row.waits_for], deadline, row.on_expiry or "-"))
    return rows


def test_the_table_of_the_phases_is_the_code() -> None:
    assert drawn_rows() == rows_of_the_code()


def test_the_arrows_pass_every_phase_in_its_order() -> None:
    """All but the one that TLS alone has, in front of them."""
    drawing = picture().partition("phase ")[0]
    assert re.findall(r"\b[A-Z]{4,}\b", drawing) == [phase.name for phase in Phase if phase is not Phase.HANDSHAKE]


def test_every_phase_but_closed_has_a_row() -> None:
    assert [*PHASES, Phase.CLOSED] == list(Phase)


def test_the_architecture_page_names_every_module() -> None:
    """The tree in docs/architecture.md, each name with its explanation. Private modules may be there, or not."""
    found = {path.name for path in SOURCES if not re.match("_[a-z]", path.name)}
    (plan,) = re.findall(r"^```[^\n]*\nkaserve/\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    named = re.findall(r"^ +(\w+\.py) +\S", plan, re.MULTILINE)
    assert {name for name in named if not re.match("_[a-z]", name)} == found
    floors = re.findall(r"^  (\w+)/ +\S", plan, re.MULTILINE)
    assert set(floors) == set(LAYERS)
