"""The fields of a compiled class are named three times: `__slots__`, `__init__` and its .pxd, which must agree.

Each difference has its own consequence, none of them an error where it was made: a field that only the .pxd has is None
or 0 until it is assigned, instead of raising AttributeError; one that `__slots__` lacks breaks the pure build
alone; one that the .pxd lacks breaks the compiled build alone. Reads the sources, so that no build is needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.server import ROOT

EXT = ROOT / "ext" / "kaserve"
DECLARATIONS = sorted(EXT.rglob("*.pxd"))
WITHOUT_SOURCE = {"http/_fast.pxd"}  # what is declared there is written in Cython: ext/_fast.pyx

CLASS = re.compile(r"^cdef class (\w+)(?:\((\w+)\))?:")
FIELDS = re.compile(r"^    cdef (?:public |readonly )?([^(]+)$")  # a line with parentheses declares a method

Fields = set[str]


def declared_classes(text: str) -> dict[str, tuple[str, Fields]]:
    """The extension types of a .pxd: their bases ("" for none) and own fields."""
    classes: dict[str, tuple[str, Fields]] = {}
    current: Fields | None = None
    for line in text.splitlines():
        line = line.partition("#")[0].rstrip()
        if match := CLASS.match(line):
            current = set()
            classes[match[1]] = (match[2] or "", current)
        elif line and not line.startswith(" "):
            current = None
        elif current is not None and (match := FIELDS.match(line)):
            first, *others = match[1].split(",")
            current.update([re.split(r"[\s*]+", first.strip())[-1], *(each.strip() for each in others)])
    return classes


def find_methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}


def assigned(node: ast.AST) -> Fields:
    """The attributes of `self` that `node` assigns."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def initialized(node: ast.ClassDef) -> Fields:
    """The fields that `__init__` assigns, itself or by a method that it calls; in a class without one, `_fill`, which a
    function calls in its place (`exchange.begin_exchange`)."""
    methods = find_methods(node)
    names, seen = ["__init__" if "__init__" in methods else "_fill"], set()
    fields: Fields = set()
    while names:
        name = names.pop()
        if name in seen or name not in methods:
            continue
        seen.add(name)
        fields |= assigned(methods[name])
        for each in ast.walk(methods[name]):
            if (
                isinstance(each, ast.Call)
                and isinstance(each.func, ast.Attribute)
                and isinstance(each.func.value, ast.Name)
                and each.func.value.id == "self"
            ):
                names.append(each.func.attr)
    return fields


def find_slots(node: ast.ClassDef) -> Fields | None:
    for each in node.body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__slots__":
            value = ast.literal_eval(each.value)
            return {value} if isinstance(value, str) else set(value)
    return None


def find_properties(node: ast.ClassDef) -> Fields:
    """Names that are assigned through a setter, which are no fields."""
    return {
        name
        for name, method in find_methods(node).items()
        if any(isinstance(each, ast.Attribute) and each.attr == "setter" for each in method.decorator_list)
    }


def differences(node: ast.ClassDef, fields: Fields, inherited: Fields) -> list[str]:
    """What is wrong with a class: in words, one item a fault.

    Args:
        node: the class in its Python source.
        fields: its own fields in the .pxd.
        inherited: those of its bases there.
    """
    faults = []
    slots = find_slots(node)
    if slots is not None and slots != fields:
        faults.append(f"__slots__ and the .pxd differ in {sorted(slots ^ fields)}")
    own = initialized(node) - inherited - find_properties(node)
    if own != fields:
        faults.append(f"__init__ and the .pxd differ in {sorted(own ^ fields)}")
    unknown = assigned(node) - fields - inherited - find_properties(node)
    if unknown:
        faults.append(f"a method assigns {sorted(unknown)}, which the .pxd does not have")
    return faults


def compiled_classes() -> Iterator[tuple[str, str, Fields, Fields]]:
    """Path without suffix, name, own fields and inherited ones of every compiled class."""
    modules = {path.relative_to(EXT).as_posix(): declared_classes(path.read_text()) for path in DECLARATIONS}
    by_name = {name: found for classes in modules.values() for name, found in classes.items()}
    for module, classes in modules.items():
        if module in WITHOUT_SOURCE:
            continue
        for name, (base, fields) in classes.items():
            inherited: Fields = set()
            while base:
                base, more = by_name[base]
                inherited |= more
            yield module.removesuffix(".pxd"), name, fields, inherited


COMPILED = list(compiled_classes())


def parse_class(text: str, name: str) -> ast.ClassDef:
    (found,) = [each for each in ast.parse(text).body if isinstance(each, ast.ClassDef) and each.name == name]
    return found


@pytest.mark.parametrize(
    ("module", "name", "fields", "inherited"),
    [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in COMPILED],
)
def test_the_three_agree(module: str, name: str, fields: Fields, inherited: Fields) -> None:
    node = parse_class((ROOT / "kaserve" / f"{module}.py").read_text(), name)
    assert differences(node, fields, inherited) == []


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.relative_to(EXT).as_posix())
def test_each_declaration_has_a_source(path: Path) -> None:
    name = path.relative_to(EXT).as_posix()
    assert name in WITHOUT_SOURCE or (ROOT / "kaserve" / name).with_suffix(".py").exists()


def test_there_are_compiled_classes() -> None:
    """So that a .pxd that this test cannot read is no success."""
    assert len(COMPILED) >= 15
    assert sum(len(fields) for _, _, fields, _ in COMPILED) > 100


# The test itself, on classes with one fault each.

PXD = """
cdef class Base:
    cdef int first

cdef class Sample(Base):
    cdef readonly object _a, b  # two
    cdef public long long c
    @cython.locals(x=int)
    cpdef str method(self, int d)

cdef int function(int e)
    """
SOURCE = """
class Sample(Base):
    __slots__ = ("_a", "b", "c")

    def __init__(self):
        super().__init__()
        self.first = 1
        self._a: int = 0
        self._fill()

    def _fill(self):
        self.b, self.c = 1, 2
"""


def differences_of_sample(source: str = SOURCE, pxd: str = PXD) -> list[str]:
    classes = declared_classes(pxd)
    return differences(parse_class(source, "Sample"), classes["Sample"][1], classes["Base"][1])


def test_the_sample_has_no_fault() -> None:
    assert declared_classes(PXD) == {"Base": ("", {"first"}), "Sample": ("Base", {"_a", "b", "c"})}
    assert differences_of_sample() == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param('"b", ', "", "__slots__ and the .pxd differ in ['b']", id="not-in-slots"),
        pytest.param('("_a"', '("z", "_a"', "__slots__ and the .pxd differ in ['z']", id="only-in-slots"),
        pytest.param("self.b, ", "b, ", "__init__ and the .pxd differ in ['b']", id="not-in-init"),
        pytest.param("self.b, ", "self.b, self.z, ", "__init__ and the .pxd differ in ['z']", id="only-in-init"),
    ],
)
def test_a_fault_of_the_source_is_found(old: str, new: str, found: str) -> None:
    assert found in differences_of_sample(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        pytest.param("_a, b", "_a", "b", id="not-in-pxd"),
        pytest.param("long long c", "long long c, z", "z", id="only-in-pxd"),
    ],
)
def test_a_fault_of_the_declaration_is_found(old: str, new: str, field: str) -> None:
    faults = differences_of_sample(pxd=PXD.replace(old, new))
    assert f"__slots__ and the .pxd differ in ['{field}']" in faults
    assert f"__init__ and the .pxd differ in ['{field}']" in faults


def test_an_assignment_anywhere_needs_a_field() -> None:
    source = SOURCE + "\n    def method(self):\n        self.z = 1\n"
    assert differences_of_sample(source) == ["a method assigns ['z'], which the .pxd does not have"]
