"""Imports what MODULE:APP names, and explains why that is not possible.

Knows Python's import system and how to show an exception to the person who wrote the module. A missing module or
attribute is one line with the nearest name. Any other exception is shown with the frames of the user's own code, since
only those can be mended; frames of kaserve, of importlib and of installed packages are left out. Does not know what is
imported, nor what becomes of it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ..handlers.interface import detect_interface
from .exit_codes import EXIT_APP, StartError

__all__ = ["explain_failure", "find_applications", "import_target", "is_target", "nearest"]

_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?")
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv"}  # directories in which no module is searched
_MAX_SEARCHED = 200  # directories
_MAX_LISTED = 5  # names in a message
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def is_target(text: str) -> bool:
    """Returns whether `text` has the form MODULE:APP or MODULE:FACTORY()."""
    return _TARGET.fullmatch(text) is not None


def nearest(word: str, words: Iterator[str] | list[str]) -> str | None:
    """Returns the one of `words` that `word` was probably meant to be; None if none is similar."""
    return next(iter(difflib.get_close_matches(word, words, 1)), None)


def import_target(target: str) -> Any:
    """Returns what `target` names: MODULE:NAME, or what a call of the name returns for MODULE:NAME().

    Modules are also looked for in the current directory, as `python -m` does.

    Raises:
        StartError: it cannot be imported. The text is one line, or several with the frames of the user's own code.
    """
    match = _TARGET.fullmatch(target)
    assert match is not None
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = _import_module(match["module"], target)
    found: Any = module
    path = match["module"]
    for part in match["name"].split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            if _own_stack(error):  # of a module's __getattr__ or of a property
                raise _failure(f"cannot import {target!r}", error) from error
            raise StartError(EXIT_APP, _missing_attribute(target, module, path, found, part)) from None
        path += f"{'.' if ':' in path else ':'}{part}"
    if match["call"] is None:
        return found
    if not callable(found):
        raise StartError(
            EXIT_APP, f"{path} is of type {type(found).__name__} and cannot be called; write it without (): {path}"
        )
    try:
        return found()
    except (Exception, SystemExit) as error:
        if not _own_stack(error) and isinstance(error, TypeError) and not isinstance(found, type):
            raise StartError(EXIT_APP, f"{path} cannot be called without arguments: {error}") from None
        raise _failure(f"{path}() failed", error) from error


def _import_module(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a module may raise anything when it is imported
        is_missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        if is_missing and not _own_stack(error):
            raise StartError(EXIT_APP, _missing_module(name, target)) from None
        raise _failure(f"cannot import {target!r}", error) from error


# What is missing, and what was probably meant.


def _missing_module(name: str, target: str) -> str:
    here = os.getcwd()
    message = f"cannot import {target!r}: there is no module {name} in {here}, nor among the installed packages"
    parent, _, last = name.rpartition(".")
    if last == "py" and os.path.isfile(f"{parent.replace('.', os.sep)}.py"):
        return f"cannot import {target!r}: write the name of the module without .py: {target.replace('.py:', ':')}"
    directory = os.path.join(here, *parent.split(".")) if parent else here
    modules = list(_modules_in(directory))
    near = nearest(last, modules)
    if near is not None:
        wanted = target.replace(name, f"{parent}.{near}" if parent else near, 1)
        return f"{message}; did you mean {wanted}?"
    elsewhere = _search(here, name.split(".")[0])
    if elsewhere is not None:
        return f"{message}; there is one in {elsewhere}: go there first (cd {elsewhere}), or set PYTHONPATH={elsewhere}"
    if modules:
        return f"{message}; modules in {directory}: {_list(sorted(modules))}"
    return f"{message}; {directory} contains no module: go to the directory of yours first, or name it in PYTHONPATH"


def _modules_in(directory: str) -> Iterator[str]:
    """The names of the modules and packages in a directory; none if it cannot be read."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        name, suffix = os.path.splitext(entry.name)
        is_module = suffix == ".py" or (suffix == "" and os.path.isfile(os.path.join(entry.path, "__init__.py")))
        if is_module and name.isidentifier() and not name.startswith("__"):
            yield name


def _search(here: str, name: str) -> str | None:
    """A directory below `here` with a module of that name, as a relative path; the nearest first."""
    waiting = [here]
    for directory in waiting:  # which grows meanwhile
        if directory != here and name in _modules_in(directory):
            return os.path.relpath(directory, here)
        if len(waiting) < _MAX_SEARCHED:
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
                waiting += [
                    entry.path
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                    and not entry.name.startswith(".")
                    and entry.name not in _SKIPPED
                ]
            except OSError:
                pass
    return None


def _missing_attribute(target: str, module: ModuleType, path: str, found: object, part: str) -> str:
    message = f"cannot import {target!r}: {path} has no {part}"
    hidden = os.path.join(os.getcwd(), f"{module.__name__}.py")
    file = getattr(module, "__file__", None)
    if os.path.isfile(hidden) and (file is None or os.path.realpath(file) != os.path.realpath(hidden)):
        origin = "a module of Python itself" if module.__name__ in sys.stdlib_module_names else f"the module {file}"
        return (
            f"{message}; {module.__name__} is {origin}, which hides {module.__name__}.py here: give yours another name"
        )
    prefix = f"{path}." if ":" in path else f"{path}:"
    near = nearest(part, [name for name in dir(found) if not name.startswith("_")])
    if near is not None:
        return f"{message}; did you mean {prefix}{near}?"
    if part in _submodules(found):
        name = target.partition(":")[2].removeprefix(part).lstrip(".")
        return f"{message}, but there is a module {path}.{part}; write {path}.{part}:{name or 'APP'}"
    possible = [f"{prefix}{each}" for each in find_applications(module)] if found is module else []
    return f"{message}; it has {_list(possible)}" if possible else f"{message}, nor a name like that"


def _submodules(module: object) -> list[str]:
    """The names of the modules in a package; none for other objects."""
    return [name for directory in getattr(module, "__path__", ()) for name in _modules_in(directory)]


def find_applications(module: ModuleType) -> list[str]:
    """Returns the names in `module` of what could be served, such as `app` and `create_app()`."""
    names: list[str] = []
    for name, value in vars(module).items():
        is_defined_here = getattr(value, "__module__", None) == module.__name__
        if name.startswith("_") or inspect.isclass(value) or (inspect.isroutine(value) and not is_defined_here):
            continue
        try:
            if callable(value) and detect_interface(value, name) is not None:
                names.append(name)
        except TypeError as error:
            if "factory" in str(error) and name.startswith(("create", "make", "get", "build")):
                names.append(f"{name}()")
        except (
            Exception
        ):  # a proxy of a framework that is not bound to a request, or another object with code of its own
            pass
    return names


def _list(names: list[str]) -> str:
    return ", ".join([*names[:_MAX_LISTED], *(["..."] if len(names) > _MAX_LISTED else [])])


# Exceptions of the user's code.


def _failure(what: str, error: BaseException) -> StartError:
    """The error with the frames of the user's own code, and the exceptions that caused it."""
    shown = traceback.TracebackException.from_exception(error)
    _strip(shown, set())
    lines = "".join(shown.format()).splitlines()
    text = "\n".join(line for line in lines if line != "Traceback (most recent call last):")
    return StartError(EXIT_APP, f"{what}:\n{text}")


def explain_failure(what: str, error: BaseException) -> str:
    """Returns one line about an application that has failed, with the frames of the user's own code if there are any.

    Args:
        what: the line without its end.
        error: says the rest, and its cause is the application's exception, if it has raised one.
    """
    cause = error.__cause__
    return f"{what}: {error}" if cause is None else str(_failure(what, cause))


def _strip(shown: traceback.TracebackException, seen: set[int]) -> None:
    """Leaves only the frames that the user can do something about, with paths relative to the current directory."""
    if id(shown) in seen:
        return
    seen.add(id(shown))
    shown.stack = traceback.StackSummary.from_list(
        [
            (_relative(frame.filename), frame.lineno or 0, frame.name, frame.line)
            for frame in _own(shown.stack) or _foreign(shown.stack)
        ]
    )
    if isinstance(getattr(shown, "filename", None), str):  # of a SyntaxError
        shown.filename = _relative(shown.filename)
    for cause in (shown.__cause__, shown.__context__):
        if cause is not None:
            _strip(cause, seen)


def _own_stack(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames that are not kaserve's and not of importlib."""
    return _foreign(traceback.extract_tb(error.__traceback__))


def _foreign(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """The frames outside of kaserve and of Python's import system."""
    importlib_ = os.path.dirname(importlib.__file__)
    return [
        frame for frame in stack if not frame.filename.startswith(("<frozen ", _PACKAGE + os.sep, importlib_ + os.sep))
    ]


def _own(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """The frames of those that are not of installed packages either."""
    paths = sysconfig.get_paths()
    installed = tuple(paths[key] + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    return [frame for frame in _foreign(stack) if not frame.filename.startswith(installed)]


def _relative(path: str) -> str:
    """`path` relative to the current directory, if it is in it."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
