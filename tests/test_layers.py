"""The layers: what each module may import, what each module must document, and whether docs/architecture.md is true.

The sources are read, not imported, so that imports within functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaserve
from kaserve.http.phases import Phase
from kaserve.net.poller import READ, WRITE
from kaserve.net.service import CLIENT_LEAVES, PHASES
from tests.tools.server import ROOT

PACKAGE = ROOT / "kaserve"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The layers of docs/architecture.md: which packages a package may import; "" is the top level. Modules of the top
# level and the command line may import everything.
LAYERS: dict[str, set[str] | None] = {
    "http": {"http"},
    "telemetry": {"telemetry", "http"},
    "threads": {"threads", "http"},
    "net": {"net", "telemetry", "http"},
    "asgi": {"asgi", "net", "threads", "telemetry", "http"},
    "logs": {"logs", "net", "telemetry", "http"},
    "handlers": {"handlers", "threads", "http"},
    "proxy": {"proxy", "threads", "net", "telemetry", "http"},
    "insight": {"insight", "telemetry", "http"},
    "probe": {"probe", "http"},
    "server": None,
    "cli": None,
}

# HTTP has no sockets and no clock; dates only convert between seconds and calendar dates.
NEVER_IN_HTTP = {"socket", "selectors", "ssl", "select", "asyncio", "threading", "time", "datetime", "signal"}
EXCEPT = {"http/dates.py": {"time"}}

# Modules for other programs, which import them and are installed then. Nothing else imports these modules. And what a
# setting asks for by name.
FOR_OTHER_PROGRAMS = {
    "gunicorn.py": {"gunicorn"},
    "pytest_plugin.py": {"pytest"},
    "asgi/host.py": {"uvloop"},
    "asgi/websocket/connection.py": {"websockets"},
    "asgi/websocket/handshake.py": {"websockets"},
    "asgi/websocket/reader.py": {"websockets"},
}

# Has one name, for tools that read it without an import.
WITHOUT_ALL = {"_version.py"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    """The package below `kaserve` that a module is in; "" for the top level."""
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Each import statement and the name that it imports: `socket`, `.messages`, `..http.errors`."""
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


def resolve(path: Path, module: str) -> tuple[str, ...]:
    """The parts of the absolute name, without `kaserve`, of the relative name `module` in the file at `path`."""
    dots = len(module) - len(module.lstrip("."))
    package = path.relative_to(PACKAGE).parent.parts
    assert dots <= len(package) + 1, f"{path} imports from outside of the package"
    return (*package[: len(package) + 1 - dots], *module.lstrip(".").split("."))


def target_layer(path: Path, module: str) -> str:
    """The layer of the relative name `module` in the file at `path`; "" for the top level."""
    first = resolve(path, module)[0]
    return first if (PACKAGE / first).is_dir() else ""


def imported_files(path: Path) -> set[str]:
    """The modules of the package that the module at `path` imports, by their files."""
    names = {resolve(path, module) for _, module in imports(path) if module.startswith(".")}
    for node in ast.walk(read(path)):
        if isinstance(node, ast.ImportFrom) and node.level:  # `from ..http import sinks` imports a module as well
            names |= {
                resolve(path, "." * node.level + f"{node.module or ''}.{alias.name}".lstrip("."))
                for alias in node.names
            }
    candidates = [PACKAGE.joinpath(*name) for name in names]
    files = [each.with_suffix(".py") if not each.is_dir() else each / "__init__.py" for each in candidates]
    return {name_of(file) for file in files if file.is_file()}


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

    def test_imports_only_the_standard_library(self, path: Path) -> None:
        for node, module in imports(path):
            known = module.startswith(".") or module.split(".")[0] in sys.stdlib_module_names
            known = known or module.split(".")[0] in FOR_OTHER_PROGRAMS.get(name_of(path), ())
            assert known, f"{name_of(path)}:{node.lineno} imports {module}"

    def test_has_a_docstring(self, path: Path) -> None:
        assert ast.get_docstring(read(path))

    def test_has_an_all_of_defined_names(self, path: Path) -> None:
        """Each has an `__all__` of names that it defines. Ruff checks their order. An empty package has none."""
        tree = read(path)
        body = tree.body[1:]  # without the docstring
        if not body or name_of(path) in WITHOUT_ALL:
            return
        defined, offered = set(), None
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
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


def test_no_circular_imports() -> None:
    """Imports under TYPE_CHECKING count: two modules that name each other's types can only be read together."""
    graph = {name_of(path): imported_files(path) for path in SOURCES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of a circle


def test_http_has_no_sockets_and_no_clock() -> None:
    for path in PACKAGE.joinpath("http").rglob("*.py"):
        for node, module in imports(path):
            forbidden = NEVER_IN_HTTP - EXCEPT.get(name_of(path), set())
            assert module.split(".")[0] not in forbidden, f"{name_of(path)}:{node.lineno} imports {module}"


def test_dates_never_read_the_clock() -> None:
    calls = {
        node.attr
        for node in ast.walk(read(PACKAGE / "http" / "dates.py"))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    }
    assert calls <= {"gmtime"}


def test_data_files_are_installed() -> None:
    """pyproject.toml must name them. In a source tree they are always there, so no other test notices a missing one."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path
        for path in PACKAGE.rglob("[!.]*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi", ".so") and "_cache" not in str(path)
    }
    assert {ROOT.joinpath(*package.split("."), name) for package, names in named.items() for name in names} == found


def test_the_public_names_exist() -> None:
    for name in kaserve.__all__:
        assert hasattr(kaserve, name)


# The pictures of docs/architecture.md.

ARCHITECTURE = ROOT / "docs" / "architecture.md"


def phase_picture() -> str:
    """The block of docs/architecture.md with the phases and their table."""
    blocks: list[str] = re.findall(r"^```[^\n]*\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    header = re.compile(r"^ *phase +waits for +deadline +on expiry *$", re.MULTILINE)
    (block,) = (each for each in blocks if header.search(each))
    return block


def rows_of_the_page() -> list[tuple[str, str, str, bool]]:
    """The rows of the table, as far as `PHASES` has them: phase, what it waits for, the name of its deadline, and
    whether progress extends that. Two single words come first; two or more spaces separate the other columns."""
    lines = phase_picture().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["phase", "waits"]]
    rows = []
    for line in filter(str.strip, lines[start + 1 :]):
        phase, waits_for, others = line.split(maxsplit=2)
        deadline, on_expiry = re.split(r" {2,}", others)
        assert on_expiry
        name, _, since = deadline.partition(", ")
        rows.append((phase, waits_for, name, since == "each progress"))
    return rows


def rows_of_the_code() -> list[tuple[str, str, str, bool]]:
    waits_for = {READ: "read", WRITE: "write", CLIENT_LEAVES: "leaving"}
    return [(phase.name, waits_for[row.waits_for], row.deadline, row.progress_extends) for phase, row in PHASES.items()]


def test_the_table_of_the_phases_is_that_of_the_code() -> None:
    assert rows_of_the_page() == rows_of_the_code()


def test_the_arrows_visit_the_phases_in_order() -> None:
    """All but HANDSHAKE, which only TLS connections have, before the others."""
    drawing = phase_picture().partition("phase ")[0]
    assert re.findall(r"\b[A-Z]{4,}\b", drawing) == [phase.name for phase in Phase if phase is not Phase.HANDSHAKE]


def test_every_phase_but_closed_has_a_row() -> None:
    assert [*PHASES, Phase.CLOSED] == list(Phase)


def test_the_architecture_page_names_every_module() -> None:
    """The tree in docs/architecture.md has each module with an explanation. Private modules are optional."""
    found = {path.name for path in SOURCES if not re.match("_[a-z]", path.name)}
    (plan,) = re.findall(r"^```[^\n]*\nkaserve/\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    named = re.findall(r"^ +(\w+\.py) +\S", plan, re.MULTILINE)
    assert {name for name in named if not re.match("_[a-z]", name)} == found
    layers = re.findall(r"^  (\w+)/ +\S", plan, re.MULTILINE)
    assert set(layers) == set(LAYERS)
