"""Where child processes find kaserve and the applications of `apps/`."""

import importlib.util
import os
import sysconfig
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
APPS = BENCHMARKS / "apps"
ROOT = BENCHMARKS.parent


def kaserve_environment(tree: Path | None = None) -> dict[str, str]:
    """Variables for a child process that imports kaserve and an application.

    Args:
        tree: The checkout to import kaserve from. Without it, the child imports the kaserve that this program imports,
            or that of this checkout if there is none.
    """
    path = [tree] if tree is not None else _where_kaserve_is()
    return {"PYTHONPATH": os.pathsep.join(map(str, [*path, APPS]))}


def _where_kaserve_is() -> list[Path]:
    """The directory to add to the path; none if kaserve is installed where Python looks in any case."""
    found = importlib.util.find_spec("kaserve")
    if found is None or found.origin is None:
        return [ROOT]
    directory = Path(found.origin).parents[1]
    return [] if str(directory) in sysconfig.get_paths().values() else [directory]
