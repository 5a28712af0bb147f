"""Builds the optional compiled parts; all else there is to say about the package stands in pyproject.toml.

Every `ext/NAME.pyx` becomes the extension module `kaserve.http.NAME`. None of them is ever required: without
sources, without Cython, without a working compiler, or with KASERVE_PURE=1, the installation succeeds and is
pure Python, with the same behaviour and less speed. Which of the two it became is said aloud, on stderr, by
the last step of the build (pip shows that only with -v; `make` passes it on).
"""

import os
import sys
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "kaserve.http"  # what is compiled is syntax, and syntax lives here


def why_pure() -> str | None:
    """The reason not even to try to compile, or None."""
    if os.environ.get("KASERVE_PURE", "") not in ("", "0"):
        return "KASERVE_PURE is set"
    if not any((ROOT / "ext").glob("*.pyx")):
        return "this version has no compiled parts"
    try:
        import Cython  # noqa: F401
    except ImportError:
        return "Cython is not installed"
    return None


def extensions() -> list[Extension]:
    # Relative paths, as setuptools demands: the build runs in the directory of this file.
    sources = sorted((ROOT / "ext").glob("*.pyx"))
    return [Extension(f"{PACKAGE}.{s.stem}", [f"ext/{s.name}"], optional=True) for s in sources]


class BuildExtensions(build_ext):
    """As setuptools does it, except that what does not compile is noted and left out."""

    def run(self) -> None:
        self.failed: list[str] = []
        try:
            super().run()
        except Exception as error:  # no usable compiler at all, which some platforms notice only here
            self._leave_out(list(self.extensions), error)

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:  # any at all: Cython's and the compiler's errors have no base in common
            self._leave_out([ext], error)

    def _leave_out(self, failed: list[Extension], error: Exception) -> None:
        self.failed += [f"{ext.name} did not compile ({error})" for ext in failed]
        # Gone from the list of outputs too: nobody is to look for a file that was never made.
        self.extensions = [ext for ext in self.extensions if ext not in failed]


class SayWhatWasBuilt(Command):
    """The last step of the build: one line that cannot be overlooked."""

    description = "say whether the build is compiled or pure Python"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 - as setuptools has it

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        built, reason = [], PURE
        if reason is None:
            extensions = self.get_finalized_command("build_ext")
            built, reason = extensions.extensions, "; ".join(extensions.failed)
        if not reason:
            print("kaserve: compiled install", file=sys.stderr)
        elif built:
            print(f"kaserve: *** ONLY PARTLY COMPILED INSTALL *** : {reason}", file=sys.stderr)
        else:
            print(f"kaserve: *** PURE PYTHON INSTALL, nothing compiled *** : {reason}", file=sys.stderr)


class Build(build):
    sub_commands = [*build.sub_commands, ("say_what_was_built", None)]  # noqa: RUF012


PURE = why_pure()

setup(
    ext_modules=extensions() if PURE is None else [],
    cmdclass={"build": Build, "build_ext": BuildExtensions, "say_what_was_built": SayWhatWasBuilt},
)
