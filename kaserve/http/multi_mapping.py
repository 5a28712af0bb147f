"""MultiMapping: a mapping whose names may have several values, such as the parameters of a query or a form.

Knows pairs and their order. Does not know where they come from: queries, forms (`forms`) and cookies (`cookies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

__all__ = ["MultiMapping"]

T = TypeVar("T")


class MultiMapping(Mapping[str, T]):
    """An immutable mapping from names to one value or several. Names are case-sensitive.

    As in a dict there is one key for each name, in the order in which the names came first, and `mapping[name]` is the
    first of its values. `get_all` and `multi_items` show the others.

    >>> tags = MultiMapping([("tag", "a"), ("page", "2"), ("tag", "b")])
    >>> tags["tag"], tags.get_all("tag"), tags.get("sort", "-")
    ('a', ['a', 'b'], '-')
    >>> dict(tags), len(tags)
    ({'tag': 'a', 'page': '2'}, 2)
    """

    __slots__ = ("_items", "_values")

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        """Makes a mapping of `items`, pairs of name and value in the order in which they were sent."""
        self._items = tuple(items)
        self._values: dict[str, list[T]] = {}
        for name, value in self._items:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> T:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        """The number of different names."""
        return len(self._values)

    def get_all(self, name: str) -> list[T]:
        """Returns all values of `name`, in the order in which they were sent; an empty list if there are none."""
        return list(self._values.get(name, ()))

    def multi_items(self) -> list[tuple[str, T]]:
        """Returns all pairs of name and value, repeated names included, in the order in which they were sent."""
        return list(self._items)

    def __eq__(self, other: object) -> bool:
        """Whether `other` has the same names, in any order, with the same values in the same order."""
        if isinstance(other, MultiMapping):
            return self._values == other._values
        if isinstance(other, Mapping):
            return self._values == {name: [value] for name, value in other.items()}
        return NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset((name, tuple(values)) for name, values in self._values.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._items)!r})"
