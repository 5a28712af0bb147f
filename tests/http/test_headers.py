"""Headers as a mapping: what a MutableMapping promises, and what repeated and differently spelt names make of it."""

from __future__ import annotations

import doctest
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaserve.http.headers
from kaserve.http.headers import FieldLine, Headers, field_lines


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.http.headers)
    assert result.attempted > 0
    assert result.failed == 0


def test_headers_are_case_insensitive_and_in_order() -> None:  # RFC 9110 §5.1, §5.3
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert headers["a"] == headers["A"] == "1"
    assert headers.get("B") == "2"
    assert headers.get_all("a") == ["1", "3"]
    assert headers.combined("A") == "1, 3"
    assert headers.multi_items() == [("A", "1"), ("b", "2"), ("a", "3")]
    assert list(headers) == list(headers.keys()) == ["A", "b"]
    assert list(headers.items()) == [("A", "1"), ("b", "2")]
    assert list(headers.values()) == ["1", "2"]
    assert len(headers) == 2
    assert "B" in headers
    assert "B" in headers.keys()  # noqa: SIM118 - the view is what is tested


def test_they_are_a_mutable_mapping() -> None:
    headers: Any = Headers()
    assert isinstance(headers, MutableMapping)
    assert 1 not in headers
    assert None not in headers


def test_missing_headers() -> None:
    headers = Headers()
    with pytest.raises(KeyError, match="a"):
        headers["a"]
    with pytest.raises(KeyError, match="a"):
        del headers["a"]
    assert headers.pop("a", None) is None
    assert headers.get("a") is None
    assert headers.get("a", "b") == "b"
    assert headers.get_all("a") == []
    assert headers.combined("a") is None
    assert "a" not in headers
    assert list(headers) == []
    assert not headers


def test_headers_with_an_empty_value() -> None:
    headers = Headers([("A", "")])
    assert headers["a"] == ""
    assert "a" in headers
    assert headers.combined("a") == ""


def test_a_name_that_is_set_keeps_its_place() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    headers["a"] = "4"
    assert headers.multi_items() == [("a", "4"), ("B", "2")]
    headers["C"] = "5"
    assert headers.multi_items() == [("a", "4"), ("B", "2"), ("C", "5")]


def test_the_methods_of_a_mutable_mapping() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers.setdefault("b", "x") == "2"
    assert headers.setdefault("c", "x") == "x"
    headers.update({"b": "4"}, d="5")
    assert headers.multi_items() == [("A", "1"), ("b", "4"), ("a", "3"), ("c", "x"), ("d", "5")]
    assert headers.pop("A") == "1"
    assert headers.popitem() == ("b", "4")
    headers.clear()
    assert headers.multi_items() == []


def test_a_view_shares_its_lines_and_a_copy_does_not() -> None:
    lines = [("A", "1"), ("B", "2")]
    view, copy = Headers.view(lines), Headers(lines)
    view.add("a", "3")
    del view["b"]
    assert lines == [("A", "1"), ("a", "3")]
    assert copy.multi_items() == [("A", "1"), ("B", "2")]
    assert Headers(view).multi_items() == lines


def test_equality() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers == Headers([("b", "2"), ("a", "1"), ("A", "3")])
    assert headers != Headers([("b", "2"), ("a", "3"), ("A", "1")])
    assert headers != {"A": "1", "B": "2"}
    assert Headers({"A": "1"}) == {"a": "1"}
    assert headers != 1
    assert repr(headers) == "Headers([('A', '1'), ('B', '2'), ('a', '3')])"


def test_headers_are_mutable_and_so_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(Headers())


def pairs() -> Iterator[FieldLine]:
    yield "A", "1"
    yield "a", "2"


@pytest.mark.parametrize(
    ("given_headers", "lines"),
    [
        ((), []),
        ((("A", "1"), ("a", "2")), [("A", "1"), ("a", "2")]),
        (pairs(), [("A", "1"), ("a", "2")]),
        ({"A": "1", "B": "2"}, [("A", "1"), ("B", "2")]),
        (Headers([("A", "1"), ("a", "2")]), [("A", "1"), ("a", "2")]),
    ],
    ids=["nothing", "tuple", "iterator", "dict", "Headers"],
)
def test_what_is_accepted_as_headers(given_headers: Any, lines: list[FieldLine]) -> None:
    assert field_lines(given_headers) == lines


NAMES = st.sampled_from(["a", "A", "b", "B", "c"])
LINES = st.lists(st.tuples(NAMES, st.sampled_from(["1", "2", ""])), max_size=6)


@given(LINES, st.lists(st.tuples(st.sampled_from(["set", "delete", "add"]), NAMES), max_size=5))
def test_headers_behave_like_a_dict_of_lower_case_names(lines: list[FieldLine], steps: list[tuple[str, str]]) -> None:
    """The model: a dict from the name in lower case to its values, which keeps the order of the first ones."""
    headers = Headers(lines)
    model: dict[str, list[str]] = {}
    for name, value in lines:
        model.setdefault(name.lower(), []).append(value)
    for step, name in steps:
        if step == "set":
            headers[name] = "x"
            model[name.lower()] = ["x"]
        elif step == "add":
            headers.add(name, "y")
            model.setdefault(name.lower(), []).append("y")
        else:
            assert headers.pop(name, None) == model.pop(name.lower(), [None])[0]
    assert [name.lower() for name in headers] == list(model)
    assert {name: headers.get_all(name) for name in model} == model
    assert {name.lower(): value for name, value in headers.items()} == {name: all_[0] for name, all_ in model.items()}
    assert len(headers) == len(model)
    assert sum(map(len, model.values())) == len(headers.multi_items())
    as_mapping: Mapping[str, str] = headers
    assert headers == Headers(as_mapping.items()) or len(headers.multi_items()) > len(headers)
