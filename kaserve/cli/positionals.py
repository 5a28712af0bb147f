"""The arguments without a name: a port, a directory and MODULE:APP are told apart by how they look, in any order.

Knows how each of them looks, and what is in the file system. Does not know argparse, nor what becomes of the three.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterable

from .exit_codes import EXIT_USAGE, StartError
from .imports import is_target, nearest

__all__ = ["near_directory", "read_positionals"]

_WORDS = {"port": "ports", "directory": "directories", "app": "applications"}


def read_positionals(arguments: Iterable[str], program: str) -> dict[str, str]:
    """Returns the texts of the settings that the arguments give: of `port`, `directory` and `app`.

    Args:
        arguments: those without a name, in any order.
        program: how the program was called, for messages.

    Raises:
        StartError: an argument is none of the three, or there are two of a kind. The text is one line.
    """
    found: dict[str, str] = {}
    arguments = list(arguments)
    for index, text in enumerate(arguments):
        name = _kind_of(text, program, arguments[:index], arguments[index + 1 :])
        if name in found:
            hint = ", and --bind HOST:PORT for a second" if name == "port" else ""
            raise StartError(EXIT_USAGE, f"two {_WORDS[name]} are given, {found[name]} and {text}; give one{hint}")
        found[name] = text
    return found


def _kind_of(text: str, program: str, before: list[str], after: list[str]) -> str:
    """The setting that `text` is a value of. The arguments before and after it are for messages."""
    if re.fullmatch(r"[-+]?[0-9][0-9_.,]*", text):  # a number, even if not one that a port can be; ./80 is a directory
        return "port"
    if os.path.isdir(text):
        return "directory"
    if is_target(text) and not re.fullmatch(".*:[0-9]+", text):
        return "app"
    raise StartError(EXIT_USAGE, _explain_address(text, program, before, after) or _explain(text, program))


def _explain_address(text: str, program: str, before: list[str], after: list[str]) -> str | None:
    """What to write for an address, with the other arguments; None if `text` is none."""
    match = re.fullmatch(r"([\w.-]*|\[[0-9a-fA-F:.]+\]):([0-9]+)", text)
    if match is None and not text.startswith("unix:"):
        return None
    is_port = match is not None and match[1] in ("", "localhost", "127.0.0.1")
    wanted = [match[2]] if match is not None and is_port else ["--bind", text]
    return f"{text} is an address; write {shlex.join([*program.split(), *before, *wanted, *after])}"


def _explain(text: str, program: str) -> str:
    """Says what `text` probably was meant to be."""
    if re.match("https?://", text):
        return f"{text} is a URL; to examine a server, write {program} probe {text}; to listen, --bind HOST:PORT"
    if os.path.isfile(text):
        return _explain_file(text, program)
    module, colon, name = text.partition(":")
    if colon and (module.endswith(".py") or "/" in module):  # a path, as in `python shop.py`
        wanted = f"{module.removesuffix('.py').strip('./').replace('/', '.')}:{name}"
        if is_target(wanted):
            return f"{text} names a file; write the name of the module: {program} {wanted}"
    if colon:
        return f"{text!r} is not MODULE:APP, such as shop:app or shop:create_app()"
    if os.path.isfile(f"{text.replace('.', os.sep)}.py"):
        return _explain_file(f"{text.replace('.', os.sep)}.py", program)
    hint = near_directory(text)
    if os.sep in text:
        return f"there is no directory {text!r}{hint}"
    return f"{text!r} is not a port, not a directory in {os.getcwd()}, and not MODULE:APP{hint}"


def near_directory(path: str) -> str:
    """Returns what was probably meant by a directory that does not exist, as the end of a message; "" if unknown."""
    parent, last = os.path.split(path.rstrip("/"))
    try:
        near = nearest(last, [entry.name for entry in os.scandir(parent or ".") if entry.is_dir()])
    except OSError:
        return ""
    return f"; did you mean {os.path.join(parent, near)}?" if near else ""


def _explain_file(path: str, program: str) -> str:
    if not path.endswith(".py"):
        directory = os.path.dirname(path) or "."
        return f"{path} is a file; serve its directory: {program} {directory}"
    module = os.path.normpath(path).removesuffix(".py").replace(os.sep, ".")
    names = _names_in(path)
    app: str | None = next((each for each in ("app", "application", "create_app", "handler") if each in names), None)
    if app is None:
        app = names[0] if len(names) == 1 else None
    shown = f"{app}()" if app == "create_app" else app or "APP"
    quote = "'" if shown.endswith("()") else ""
    what = "" if app else ", where APP is the name of the application or handler in it"
    return f"{path} is a Python file; write {program} {quote}{module}:{shown}{quote}{what}"


def _names_in(path: str) -> list[str]:
    """The names that a Python file defines; none if it cannot be read. The file is not executed."""
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
