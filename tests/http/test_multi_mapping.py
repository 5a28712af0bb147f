"""A mapping with several values for a name."""

from __future__ import annotations

import doctest
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaserve.http.multi_mapping
from kaserve.http.multi_mapping import MultiMapping


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.http.multi_mapping)
    assert result.attempted > 0
    assert result.failed == 0


def test_it_is_a_mapping() -> None:
    mapping = MultiMapping([("a", 1), ("b", 2), ("a", 3)])
    assert isinstance(mapping, Mapping)
    assert (mapping["a"], mapping.get("b"), mapping.get("c"), mapping.get("c", 4)) == (1, 2, None, 4)
    assert list(mapping.items()) == [("a", 1), ("b", 2)]
    assert "A" not in mapping
    with pytest.raises(KeyError):
        mapping["c"]
    assert repr(mapping) == "MultiMapping([('a', 1), ('b', 2), ('a', 3)])"


def test_what_it_returns_is_a_copy() -> None:
    mapping = MultiMapping([("a", 1)])
    mapping.get_all("a").append(2)
    mapping.get_all("b").append(2)
    mapping.multi_items().append(("a", 2))
    assert mapping == {"a": 1}


def test_equality() -> None:
    mapping = MultiMapping([("a", 1), ("b", 2), ("a", 3)])
    same = MultiMapping([("b", 2), ("a", 1), ("a", 3)])
    assert mapping == same
    assert hash(mapping) == hash(same)
    assert mapping != MultiMapping([("a", 3), ("b", 2), ("a", 1)])
    assert mapping != {"a": 1, "b": 2}
    assert mapping != 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers())))
def test_nothing_is_lost(items: list[tuple[str, int]]) -> None:
    mapping = MultiMapping(items)
    assert mapping.multi_items() == items
    assert {name: mapping.get_all(name) for name in mapping} == {
        name: [value for key, value in items if key == name] for name, _ in items
    }
    assert all(mapping[name] == mapping.get_all(name)[0] for name in mapping)
