"""Which of the two builds of the hot modules is imported: the compiled ones beside their sources, or the sources.

Both can be had in one process: `load_sources("kaserve_pure")` is the whole package again, under another name and from
its sources alone, for tests that compare the two and for benchmarks.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

__all__ = ["load_sources", "prefer_sources"]


class _Sources(MetaPathFinder):
    """Finds the modules of one package as Python sources, whatever lies compiled beside them."""

    def __init__(self, package: str) -> None:
        self._prefix = package + "."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(self._prefix):
            return None
        for directory in path or ():
            spec = FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        raise ModuleNotFoundError(f"{fullname} has no Python source", name=fullname)  # compiled or not


def prefer_sources(package: str) -> None:
    """From now on the modules of `package` are imported from their sources."""
    sys.meta_path.insert(0, _Sources(package))


def load_sources(package: str) -> ModuleType:
    """This package once more, as `package`, all of it from its sources."""
    if package not in sys.modules:
        directory = os.path.dirname(__file__)
        spec = importlib.util.spec_from_file_location(
            package, os.path.join(directory, "__init__.py"), submodule_search_locations=[directory]
        )
        assert spec is not None
        assert spec.loader is not None
        prefer_sources(package)
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)
    return importlib.import_module(package)
