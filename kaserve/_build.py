"""Which of the two builds of the hot modules is imported: the compiled modules, or the Python sources beside them.

Python imports a compiled module (`connection.cpython-312-x86_64-linux-gnu.so`) before the source of the same name
(`connection.py`). So the compiled build is used where it exists, and `prefer_sources` turns that off. One process can
import both builds: `load_sources("kaserve_pure")` imports the whole package once more, under another name and from its
sources, for tests that compare the two and for benchmarks.

Knows files and imports. Does not know what the modules do.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

__all__ = ["find_stale", "load_sources", "prefer_sources", "warn_if_stale"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class _SourceFinder(MetaPathFinder):
    """Finds the modules of one package as Python sources, even where a compiled module lies beside them."""

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
        # Returning None would let the next finder import a module that exists only compiled, such as `http._fast`.
        raise ModuleNotFoundError(f"{fullname} has no Python source", name=fullname)


def prefer_sources(package: str) -> None:
    """Makes later imports of modules of `package` import their sources."""
    sys.meta_path.insert(0, _SourceFinder(package))


def load_sources(package: str) -> ModuleType:
    """Imports this package once more from its sources.

    Args:
        package: the name to import it under, which must differ from "kaserve".

    Returns:
        The package. It is imported once; later calls return the same one.
    """
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            package, os.path.join(_PACKAGE, "__init__.py"), submodule_search_locations=[_PACKAGE]
        )
        assert spec is not None
        assert spec.loader is not None
        prefer_sources(package)
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)
    return importlib.import_module(package)


# A compiled module that is older than its source.


def warn_if_stale() -> None:
    """Warns if the compiled modules of a checkout are older than their sources, so that an edit has no effect.

    It is a RuntimeWarning: the tests turn warnings into errors, so they refuse to test a stale build. An installed
    package has no sources of the compiled part (`ext/`), and costs one look at the file system here; a checkout costs
    about a millisecond.
    """
    try:
        stale = find_stale(os.path.dirname(_PACKAGE))
    except OSError:  # a file went away, or may not be looked at; nothing that should stop an import
        return
    if stale:
        others = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        warnings.warn(
            f"{stale[0]}{others} changed after kaserve was compiled, and the compiled modules are imported without the "
            "change: run `make build`, or set KASERVE_PURE=1 to run the sources",
            RuntimeWarning,
            stacklevel=2,
        )


def find_stale(root: str) -> list[str]:
    """Finds the sources in a checkout that changed after it was compiled.

    All compiled modules are judged by the oldest of them: they call each other without going through Python, so each
    depends on the types of the others, and the build always makes all of them.

    Args:
        root: the directory that contains `kaserve/` and, in a checkout, `ext/kaserve/`.

    Returns:
        The paths from `root`, sorted; none if nothing is compiled, or if this is not a checkout.
    """
    ext = os.path.join(root, "ext")
    if not os.path.isdir(os.path.join(ext, "kaserve")):
        return []
    files = {entry.path: entry for entry in _files(os.path.join(root, "kaserve"))}
    compiled = [entry for entry in files.values() if entry.name.endswith(tuple(EXTENSION_SUFFIXES))]
    if not compiled:
        return []
    oldest = min(entry.stat().st_mtime for entry in compiled)
    sources = [files.get(_source_of(entry)) for entry in compiled]  # None for a module that has its source in ext/
    sources += [entry for entry in _files(ext) if entry.name.endswith((".pyx", ".pxd", ".h"))]
    changed = [entry.path for entry in sources if entry is not None and entry.stat().st_mtime > oldest]
    return sorted(os.path.relpath(path, root) for path in changed)


def _files(directory: str) -> Iterator[os.DirEntry[str]]:
    """The files in `directory` and below, without caches."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield entry
            elif entry.name != "__pycache__":
                yield from _files(entry.path)


def _source_of(compiled: os.DirEntry[str]) -> str:
    """The path of the Python source beside a compiled module, whose name goes on after the first dot."""
    return os.path.join(os.path.dirname(compiled.path), compiled.name.partition(".")[0] + ".py")
