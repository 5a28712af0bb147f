"""inspect.signature() and help() say the same in both builds, for everything that a program calls."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kaserve.handlers
from kaserve._build import load_sources

SOURCES = "kaserve_pure"  # the package from its sources, as in tests/tools/wire.py

Signature = list[tuple[str, str, str]]


def find(package: str, path: str) -> Any:
    """The object with the public name `path`, such as handlers.WSGI.close, in this or that build."""
    found: Any = importlib.import_module(package)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def public_callables() -> Iterator[str]:
    """The public classes and functions, and the public methods of the classes."""
    load_sources(SOURCES)
    importlib.import_module(f"{SOURCES}.handlers")
    for prefix, module in (("", kaserve), ("handlers.", kaserve.handlers)):
        for name in module.__all__:
            path = prefix + name
            found = find(SOURCES, path)
            if callable(found):
                yield path
            # The names are those of the sources: a compiled class has further ones, such as __reduce_cython__.
            for member in vars(found) if isinstance(found, type) else ():
                if callable(getattr(found, member)) and (not member.startswith("_") or member == "__call__"):
                    yield f"{path}.{member}"


def signature(function: Callable[..., Any]) -> Signature | None:
    """The name, kind and default of each parameter; None where even Python's own classes have no signature.

    Annotations are left out: the docstring of an extension type cannot have them (see `show_signatures` in
    setup.py).
    """
    try:
        found = inspect.signature(function)
    except ValueError:
        return None
    return [
        # CPython itself lets `self` of an extension type be positional only.
        (each.name, "" if each.name == "self" else each.kind.name, repr(each.default))
        for each in found.parameters.values()
    ]


PUBLIC = list(public_callables())


@pytest.mark.parametrize("path", PUBLIC)
def test_both_builds_have_the_same_signature(path: str) -> None:
    assert signature(find("kaserve", path)) == signature(find(SOURCES, path))


@pytest.mark.parametrize("path", PUBLIC)
def test_both_builds_have_the_same_documentation(path: str) -> None:
    """Without the signature, which is at the beginning of the docstring of an extension type but not shown there."""
    assert inspect.getdoc(find("kaserve", path)) == inspect.getdoc(find(SOURCES, path))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param("Response", r"Response\(status.* = ?200, body.*=.*b'', headers", id="class"),
        pytest.param(
            "Request", r"Request\(method.*, target.*, minor.*, fields.*, flags.*= ?0, host.*= ?''\)", id="request"
        ),
        pytest.param(
            "handlers.WSGI", r"WSGI\(app.*, threads.*= ?4, queue.*= ?2048, \*, multiprocess.*\)", id="handler"
        ),
        pytest.param(
            "Response.text", r"text\(text: 'str', status: 'int' = 200, headers: 'Fields' = \(\)\)", id="static-method"
        ),
        pytest.param("Headers.add", r"add\(self, name: 'str', value: 'str'\)", id="method"),
    ],
)
def test_help_shows_the_signature(path: str, shown: str) -> None:
    text = pydoc.plain(pydoc.render_doc(find("kaserve", path)))
    assert re.search(shown.replace(" = ?", " ?= ?"), text)
