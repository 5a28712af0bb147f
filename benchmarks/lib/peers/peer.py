"""What a compared server is: how it is started, for which site, and whether it is installed."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.processes import Command
from lib.workloads import App

IDLE_SECONDS = 120
ASGI_APPS: tuple[App, ...] = ("hello", "upload", "starlette", "fastapi", "stream", "events")
"""Those that are there as ASGI applications, in a module named after each."""
MAX_CONNECTIONS = 16_384
"""For the servers that have such a limit; well above what the idle workload opens."""


@dataclass(frozen=True)
class Site:
    """Where a server is to listen, and what it is to serve."""

    port: int
    directory: Path
    """The documents."""
    scratch: Path
    """For configuration files and logs; empty, and gone afterwards."""
    tls: tuple[Path, Path] | None = None
    """Certificate and key, both PEM; only for the peers that say `tls`."""

    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of the site, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{self.address}"


Start = Callable[[Site], Command]


@dataclass(frozen=True)
class Peer:
    """A server of the comparison."""

    name: str
    start: Mapping[App, Start]
    version: Callable[[], str]
    modules: tuple[str, ...] = ()
    """Python modules it needs, importable by the interpreter that runs the benchmark."""
    programs: tuple[str, ...] = ()
    """Executables it needs."""
    lacks: Mapping[App, str] = field(default_factory=dict)
    """Why there is no `start` for an app."""
    tls: bool = False
    """Whether `start` obeys `Site.tls`."""

    def missing(self) -> str:
        """What is not installed, as a phrase; empty when everything is."""
        absent = [f"module {name}" for name in self.modules if not importable(name)]
        absent += [f"program {name}" for name in self.programs if shutil.which(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""


def importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def output(argv: tuple[str, ...], environment: Mapping[str, str] | None = None) -> str:
    """The first line of what a program prints, on whichever of the two streams it does."""
    done = subprocess.run(
        argv, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=30, check=False
    )
    return ((done.stdout + done.stderr).strip().splitlines() or [""])[0]


def installed_version(*distributions: str) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)


def program_version(*argv: str) -> str:
    """Name and version out of a line like "nginx version: nginx/1.22.1" or "lighttpd/1.4.69 (ssl) - ..."."""
    line = output(argv)
    found = re.search(r"[\w.-]+/[\d.]+", line)
    return found.group().replace("/", " ") if found else line
