"""A copy of the checkout whose statistics do nothing, to measure what they cost."""

import shutil
import subprocess
import sys
from pathlib import Path

from lib.environment import ROOT

_RETURN = "        return  # to see what the rest costs\n"
_COUNTS = {
    "kaserve/telemetry/counters.py": {
        "        if gap < 0:\n": _RETURN + "        if gap < 0:\n",
        "        self.requests += 1\n": _RETURN + "        self.requests += 1\n",
    },
    "kaserve/net/connection.py": {
        "        self._service.stats.received += len(data)\n": "",
    },
    "kaserve/net/request_loop.py": {
        "        self._service.stats.sent += writer.moved\n": "",
        "        self._service.stats.latency.add(now - exchange.started)\n": "",
    },
}
"""What a request adds to the statistics, and its replacement. The clock is still read where a response ends, because
the idle time starts there."""


def without_statistics(directory: Path) -> Path:
    """A compiled copy of the checkout that counts nothing for a request."""
    tree = directory / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "*.so", "*.c", "__pycache__", "results"))
    for name, replacements in _COUNTS.items():
        text = (tree / name).read_text()
        for old, new in replacements.items():
            if old not in text:
                raise RuntimeError(f"{name} has changed: there is no {old.strip()!r} in it")
            text = text.replace(old, new)
        (tree / name).write_text(text)
    build = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode or not list(tree.glob("kaserve/net/connection.*.so")):
        raise RuntimeError(f"it did not compile: {done.stderr[-2000:]}")
    return tree
