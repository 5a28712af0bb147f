"""Both builds of kaserve in one process, for the benchmarks of parts (`bench_*.py`)."""

import importlib
from dataclasses import dataclass
from typing import Any

import kaserve
from kaserve._build import load_sources

DATE_LINE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
REQUESTS_PER_CONNECTION = 1000
"""The default of kaserve."""


@dataclass(frozen=True)
class Build:
    """One build of kaserve. Its parts are untyped here: a type checker knows only one of the two."""

    name: str
    package: str

    def module(self, name: str) -> Any:
        """A module of this build, by its name below the package: "http.wire"."""
        return importlib.import_module(f"{self.package}.{name}")

    def protocol(self) -> Any:
        """The protocol of a new connection, with the default limits."""
        module = self.module("http.protocol")
        keep_alive = self.module("http.keep_alive").KeepAlive(120.0, REQUESTS_PER_CONNECTION)
        return module.HTTPProtocol(self.module("http.limits").Limits(), keep_alive)


def _builds() -> list[Build]:
    load_sources("kaserve_pure")
    pure = Build("kaserve-pure", "kaserve_pure")
    return [pure] if kaserve.IMPLEMENTATION == "pure" else [Build("kaserve", "kaserve"), pure]


BUILDS = _builds()
"""The compiled one, if it was built, and the pure one."""
