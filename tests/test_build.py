"""Which build is imported, and the warning about compiled modules that are older than their sources."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from kaserve._build import find_stale, load_sources
from tests.tools.server import PATIENCE, ROOT

SUFFIX = EXTENSION_SUFFIXES[0]
COMPILED_AT = 1_000_000_000


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two compiled modules and one that is never compiled, all of it older than the build."""
    for name in (
        *("kaserve/__init__.py", "kaserve/net/connection.py", "kaserve/net/listener.py"),
        *("kaserve/net/__pycache__/connection.pyc", "ext/_fast.pyx", "ext/scan.h", "ext/README.md"),
        *("ext/kaserve/net/connection.pxd", "setup.py"),
    ):
        change(tmp_path / name, COMPILED_AT - 100)
    change(tmp_path / f"kaserve/net/connection{SUFFIX}", COMPILED_AT)
    change(tmp_path / f"kaserve/http/_fast{SUFFIX}", COMPILED_AT + 5)
    return tmp_path


def change(path: Path, time: float) -> None:
    """Has `path` changed at `time`, in seconds since the epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))


class TestStaleModules:
    def test_a_fresh_build_has_none(self, checkout: Path) -> None:
        assert find_stale(str(checkout)) == []

    @pytest.mark.parametrize(
        "name", ["kaserve/net/connection.py", "ext/_fast.pyx", "ext/scan.h", "ext/kaserve/net/connection.pxd"]
    )
    def test_a_source_that_changed_after_the_build(self, name: str, checkout: Path) -> None:
        change(checkout / name, COMPILED_AT + 1)
        assert find_stale(str(checkout)) == [name]

    def test_several(self, checkout: Path) -> None:
        change(checkout / "kaserve/net/connection.py", COMPILED_AT + 1)
        change(checkout / "ext/scan.h", COMPILED_AT + 1)
        assert find_stale(str(checkout)) == ["ext/scan.h", "kaserve/net/connection.py"]

    @pytest.mark.parametrize("name", ["kaserve/net/listener.py", "kaserve/__init__.py", "setup.py", "ext/README.md"])
    def test_what_is_not_compiled_may_change(self, name: str, checkout: Path) -> None:
        change(checkout / name, COMPILED_AT + 1)
        assert find_stale(str(checkout)) == []

    def test_a_checkout_where_nothing_is_compiled(self, checkout: Path) -> None:
        for path in checkout.rglob(f"*{SUFFIX}"):
            path.unlink()
        change(checkout / "kaserve/net/connection.py", COMPILED_AT + 1)
        assert find_stale(str(checkout)) == []

    def test_an_installed_package(self, checkout: Path) -> None:
        """Its files may have any times; without ext/kaserve/ nobody edits them."""
        change(checkout / "kaserve/net/connection.py", COMPILED_AT + 1)
        (checkout / "ext/kaserve").rename(checkout / "ext/other")
        assert find_stale(str(checkout)) == []

    @pytest.mark.parametrize(
        ("pure", "is_warned"), [pytest.param("", True, id="compiled"), pytest.param("1", False, id="pure")]
    )
    def test_the_warning_at_import(self, pure: str, is_warned: bool, tmp_path: Path) -> None:
        """In a copy of the package with an empty file in the place of a compiled module that nothing imports."""
        (tmp_path / "ext/kaserve").mkdir(parents=True)
        for source in (ROOT / "kaserve").rglob("*"):
            copy = tmp_path / "kaserve" / source.relative_to(ROOT / "kaserve")
            if source.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            elif source.suffix in (".py", ".css", ".js", ".html"):
                copy.write_bytes(source.read_bytes())
        change(tmp_path / f"kaserve/net/unused{SUFFIX}", COMPILED_AT)
        change(tmp_path / "kaserve/net/unused.py", COMPILED_AT + 1)
        process = subprocess.run(
            [sys.executable, "-W", "always", "-c", "import kaserve"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"PYTHONPATH": str(tmp_path), "KASERVE_PURE": pure},
            cwd=tmp_path,
        )
        assert process.returncode == 0, process.stderr
        message = "RuntimeWarning: kaserve/net/unused.py changed after kaserve was compiled"
        assert (message in process.stderr) == is_warned
        assert ("run `make build`" in process.stderr) == is_warned


def test_both_builds_in_one_process() -> None:
    pure = load_sources("kaserve_pure")
    assert pure.IMPLEMENTATION == "pure"
    assert load_sources("kaserve_pure") is pure
    assert sys.modules["kaserve"] is not pure
