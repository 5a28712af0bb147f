"""An extension of griffe, which reads the docstrings for mkdocstrings: what the reference shows differently."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, ExprCall, Extension, Module, Object

DOCTEST = re.compile(r"^>>> .*\n?(?:(?!\n).+\n?)*", re.MULTILINE)


class Docstrings(Extension):
    """The default of a setting instead of the call that declares it, doctests as code, and no module docstrings: those
    are for people who read the source, and the pages have an introduction of their own."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        if isinstance(attr.value, ExprCall) and str(attr.value.function) == "_setting":
            attr.value = attr.value.arguments[0]

    def on_module_instance(self, *, mod: Module, **_: Any) -> None:
        mod.docstring = None

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = DOCTEST.sub(
                lambda match: f"```pycon\n{match[0].rstrip()}\n```\n", obj.docstring.value
            )
