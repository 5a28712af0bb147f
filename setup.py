"""Builds the compiled part, and makes the links of the README absolute; all else stands in pyproject.toml.

The hot modules are compiled from their own Python source, with the types in `ext/kaserve/**/*.pxd`; the syntax from
`ext/_fast.pyx`. It is all or nothing, since the parts call each other without going through Python: without Cython,
without a working compiler, or with KASERVE_PURE=1, the installation succeeds and is pure Python, with the same
behaviour and less speed. Which of the two it became is said aloud, on stderr, by the last step of the build (pip shows
that only with -v; `make` passes it on).
"""

import inspect
import os
import re
import sys
import tomllib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Command, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MODULES = (
    "http/limits",
    "http/memo",
    "http/headers",
    "http/file_span",
    "http/messages",
    "http/target",
    "http/framing",
    "http/keep_alive",
    "http/outgoing",
    "http/handler",
    "http/protocol",
    "http/tunnel",
    "http/responses",
    "http/response_parser",
    "telemetry/histogram",
    "telemetry/counters",
    "telemetry/timeline",
    "threads/future",
    "threads/workers",
    "net/timerwheel",
    "net/wakeup",
    "net/reactor",
    "net/service",
    "net/writer",
    "net/exchange",
    "net/request_loop",
    "net/tunnel",
    "net/tunnel_loop",
    "net/connection",
    "proxy/fields",
    "proxy/forwarded",
    "proxy/target",
    "logs/formats",
    "logs/access",
    "handlers/wsgi/application",
    "handlers/wsgi/start_response",
    "handlers/wsgi/task",
    "handlers/wsgi/environ",
    "asgi/done",
    "asgi/start",
    "asgi/scope",
    "asgi/fields",
    "asgi/call",
    "asgi/application",
    "asgi/waiter",
    "asgi/websocket/reader",
    "asgi/websocket/connection",
    "asgi/websocket/call",
)


def why_pure() -> str | None:
    """The reason not even to try to compile, or None."""
    if os.environ.get("KASERVE_PURE", "") not in ("", "0"):
        return "KASERVE_PURE is set"
    return None if find_spec("Cython") else "Cython is not installed"


def extensions() -> list[Extension]:
    # Relative paths, as setuptools demands: the build runs in the directory of this file.
    hot = [Extension(f"kaserve.{name.replace('/', '.')}", [f"kaserve/{name}.py"]) for name in MODULES]
    syntax = Extension("kaserve.http._fast", ["ext/_fast.pyx"], include_dirs=["ext"], depends=["ext/scan.h"])
    # Elsewhere the standard library's sockets and selectors serve as well.
    kernel = [Extension("kaserve.net._kernel", ["ext/_kernel.pyx"])] if sys.platform == "linux" else []
    return [*hot, syntax, *kernel]


class BuildExtensions(build_ext):
    """As setuptools does it, except that where it fails the package is left pure."""

    failed = ""

    def finalize_options(self) -> None:
        if self.distribution.ext_modules:
            try:
                self.distribution.ext_modules = translate(self.distribution.ext_modules)
            except Exception as error:  # any at all: Cython's own have no base in common
                self._leave_pure(error)
        super().finalize_options()
        self.force = True
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # nor have the compiler's
            self._leave_pure(error)

    def _leave_pure(self, error: Exception) -> None:
        self.failed = f"it did not compile ({error})"
        for ext in self.extensions or ():
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        self.extensions = self.distribution.ext_modules = []  # nobody is to look for files that were never made


def translate(extensions: list[Extension]) -> list[Extension]:
    """From Cython to C, in the build directory. All of it: the modules know each other's insides."""
    from Cython.Build import cythonize

    try:
        show_signatures()
    except (ImportError, AttributeError) as error:  # another Cython: only help() is poorer
        print(f"kaserve: compiled classes have no signatures: {error}", file=sys.stderr)
    translated: list[Extension] = cythonize(
        extensions,
        include_path=["ext"],
        build_dir="build/cython",
        force=True,
        # The types stand in the .pxd files; the annotations are for people and type checkers. nonecheck: what would be
        # an AttributeError of None in Python is one here, too, and not a crash. Functions and methods have their
        # signature since binding is on, as it is by default from Cython 3; it costs nothing where C calls C.
        compiler_directives={"language_level": 3, "annotation_typing": False, "nonecheck": True},
        quiet=True,
    )
    return translated


def show_signatures() -> None:
    """Makes inspect.signature() and help() show how extension types are called, such as Response(status=200, body=b"").

    CPython finds that in the docstring of a type if it begins with "Response(status=200, body=b'')\\n--\\n\\n", which
    is not shown as a part of `__doc__`; and that of `__init__` and `__call__` in their docstrings likewise. Cython does
    not write it: its embedsignature "c" has another form, which would be visible and which inspect does not read, and
    "clinic" writes nothing where binding is on. So this replaces the step of Cython that would. Should another version
    of Cython differ, the docstrings stay as they are, and tests/test_signatures.py fails.
    """
    from Cython.Compiler import AutoDocTransforms
    from Cython.Compiler.Nodes import CClassDefNode
    from Cython.Compiler.StringEncoding import EncodedString

    def write(holder: Any, signature: str) -> None:
        holder.doc = EncodedString(f"{signature}\n--\n\n{inspect.cleandoc(holder.doc or '')}")

    class EmbedSignature(AutoDocTransforms.EmbedSignature):  # type: ignore[misc]  # Cython has no types
        def visit_ClassDefNode(self, node: Any) -> Any:
            super().visit_ClassDefNode(node)
            with suppress(AttributeError, TypeError):
                if isinstance(node, CClassDefNode):
                    self._document_class(node)
            return node

        def visit_DefNode(self, node: Any) -> Any:
            with suppress(AttributeError, TypeError):
                if node.name in ("__init__", "__call__") and isinstance(self.class_node, CClassDefNode):
                    self._document_method(node)
            return super().visit_DefNode(node)

        def _document_class(self, node: Any) -> None:
            scope = node.entry.type.scope
            if node.entry.type.base_type is None and scope.lookup_here("__init__") is None:
                write(scope, f"{node.class_name}()")

        def _document_method(self, node: Any) -> None:
            arguments = self._arguments(node)
            if node.name == "__init__":
                write(self.class_node.entry.type.scope, f"{self.class_name}({', '.join(arguments[1:])})")
            if node.entry.wrapperbase_cname is not None:  # it has a docstring of its own, so nothing else is shown
                write(node.entry, f"{node.name}({', '.join(arguments)})")

        def _arguments(self, node: Any) -> list[str]:
            self.is_format_c = self.is_format_python = False
            self.is_format_clinic = True  # without annotations, which CPython does not read there
            keywords, positional = node.num_kwonly_args, len(node.args) - node.num_kwonly_args
            arguments: list[str] = self._fmt_arglist(
                node.args, 0, positional, node.star_arg, keywords, node.starstar_arg
            )
            return arguments

    AutoDocTransforms.EmbedSignature = EmbedSignature


class SayWhatWasBuilt(Command):
    """The last step of the build: one line that cannot be overlooked."""

    description = "say whether the build is compiled or pure Python"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 - as setuptools has it

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        reason = PURE or self.get_finalized_command("build_ext").failed
        if reason:
            print(f"kaserve: *** PURE PYTHON INSTALL, nothing compiled *** : {reason}", file=sys.stderr)
        else:
            print("kaserve: compiled install", file=sys.stderr)


class Build(build):
    sub_commands = [*build.sub_commands, ("say_what_was_built", None)]  # noqa: RUF012 - as setuptools has it


def long_description(repository: str | None) -> str:
    """Returns the README as a package index shows it, where relative links lead nowhere.

    Args:
        repository: the URL of the project, from `Repository` in `[project.urls]`. Without one, a link becomes its text,
            and a picture is left out.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if repository is None:
        text = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n", "", text, flags=re.MULTILINE)
        return re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
    text = re.sub(r"(!\[[^\]]*\])\((?!https?:)([^)]*)\)", rf"\1({repository}/raw/HEAD/\2)", text)
    return re.sub(r"(\[[^\]]*\])\((?!https?:)([^)]*)\)", rf"\1({repository}/blob/HEAD/\2)", text)


def repository() -> str | None:
    """Returns the URL of the project that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url: str | None = project.get("urls", {}).get("Repository")
    return url


PURE = why_pure()

setup(
    long_description=long_description(repository()),
    long_description_content_type="text/markdown",
    ext_modules=extensions() if PURE is None else [],
    cmdclass={"build": Build, "build_ext": BuildExtensions, "say_what_was_built": SayWhatWasBuilt},
)
