"""Headers: the field lines of a message, and the mapping that programs read and change them by.

Knows names, their order and their case (RFC 9110 §5), and which headers the server itself looks for. Does not know what
they mean (`framing`, `target`), nor how they look on the wire (`wire`).

Field lines (RFC 9112 §5) are pairs of str, decoded as Latin-1: a field may contain any byte from 0x80 on (RFC 9110
§5.5), and this decoding loses none. The names of received field lines are in lower case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping

__all__ = [
    "ACCEPT_ENCODING",
    "CLOSE",
    "CONDITIONAL",
    "CONNECTION",
    "CONTENT_LENGTH",
    "DATE",
    "DUPLICATE_HOST",
    "EXPECT",
    "FLAGS",
    "HOP_BY_HOP",
    "HOST",
    "IF_MODIFIED_SINCE",
    "IF_NONE_MATCH",
    "KEEP_ALIVE",
    "TRANSFER_ENCODING",
    "FieldLine",
    "FieldSource",
    "Fields",
    "Headers",
    "field_lines",
]

FieldLine = tuple[str, str]
"""A name and a value, decoded as Latin-1."""

# One bit for each header that decides something about framing, the connection, or whether a handler may take its fast
# path. The parser and the encoder set the bits, so that the absence of all these headers costs one test instead of a
# search of the field lines. Two options of Connection have bits of their own.
HOST = 1
DUPLICATE_HOST = 2  # more than one
CONTENT_LENGTH = 4
TRANSFER_ENCODING = 8
CONNECTION = 16
CLOSE = 32
KEEP_ALIVE = 64
EXPECT = 128
DATE = 256
HOP_BY_HOP = 512
CONDITIONAL = 1024  # a condition or a range, except the two conditions that browsers send to revalidate
IF_NONE_MATCH = 2048
IF_MODIFIED_SINCE = 4096
ACCEPT_ENCODING = 8192

# The headers that set the bits. In a response the hop-by-hop ones (RFC 9110 §7.6.1) are the server's to set.
FLAGS: dict[str, int] = {
    "host": HOST,
    "content-length": CONTENT_LENGTH,
    "transfer-encoding": TRANSFER_ENCODING,
    "connection": CONNECTION,
    "expect": EXPECT,
    "date": DATE,
    "keep-alive": HOP_BY_HOP,
    "proxy-connection": HOP_BY_HOP,
    "te": HOP_BY_HOP,
    "trailer": HOP_BY_HOP,
    "upgrade": HOP_BY_HOP,
    "if-match": CONDITIONAL,
    "if-none-match": IF_NONE_MATCH,
    "if-modified-since": IF_MODIFIED_SINCE,
    "if-unmodified-since": CONDITIONAL,
    "if-range": CONDITIONAL,
    "range": CONDITIONAL,
    "accept-encoding": ACCEPT_ENCODING,
}


class Headers(MutableMapping[str, str]):
    """Headers as a mutable mapping: case-insensitive names, several values per name, in order (RFC 9110 §5.2, §5.3).

    As in a dict there is one key for each name, in the order of the first lines, and one value for each key, that of
    the first line. `get_all` and `multi_items` show the other lines. Setting a name replaces all of its lines; `add`
    appends one more. Names and values are str of Latin-1 characters; a value with CR, LF or NUL is found when the
    response is sent, which is a 500 then.

    >>> headers = Headers({"Vary": "Accept"})
    >>> headers.add("vary", "Cookie")
    >>> headers["VARY"], headers.get_all("Vary"), dict(headers)
    ('Accept', ['Accept', 'Cookie'], {'Vary': 'Accept'})
    >>> headers["vary"] = "*"
    >>> headers
    Headers([('vary', '*')])
    """

    # Not an extension type when it is compiled, since those cannot derive from MutableMapping. It is made only when a
    # handler asks for it, and its methods are compiled anyway.
    __slots__ = ("_lines",)

    def __init__(self, headers: Fields = ()) -> None:
        """Makes headers of their own from a copy of `headers`.

        Args:
            headers: pairs of name and value, a mapping, or other Headers, whose repeated names are kept.
        """
        self._lines: list[FieldLine] = field_lines(headers)

    @classmethod
    def view(cls, lines: list[FieldLine]) -> Headers:
        """Returns headers that share `lines`, as `Request.headers` and `Response.headers` do: changes to one show in
        the other."""
        headers = cls.__new__(cls)
        headers._lines = lines
        return headers

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for key, value in self._lines:
            if key.lower() == wanted:
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        """Replaces all lines of `name` by one, in the place of the first; appends one if there is none."""
        wanted = name.lower()
        lines = self._lines
        for index, line in enumerate(lines):
            if line[0].lower() == wanted:
                lines[index] = (name, value)
                rest = index + 1
                lines[rest:] = [other for other in lines[rest:] if other[0].lower() != wanted]
                return
        lines.append((name, value))

    def __delitem__(self, name: str) -> None:
        """Removes all lines of `name`. Raises KeyError if there are none; `pop(name, None)` does not."""
        wanted = name.lower()
        kept = [line for line in self._lines if line[0].lower() != wanted]
        if len(kept) == len(self._lines):
            raise KeyError(name)
        self._lines[:] = kept

    def __iter__(self) -> Iterator[str]:
        """Yields each name once, in the case of its first line."""
        return iter(self._first_lines().values())

    def __len__(self) -> int:
        """The number of different names. `len(multi_items())` is the number of lines."""
        return len(self._first_lines())

    def _first_lines(self) -> dict[str, str]:
        """The name in the case of its first line, by the name in lower case."""
        names: dict[str, str] = {}
        for key, _ in self._lines:
            names.setdefault(key.lower(), key)
        return names

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        wanted = name.lower()
        for key, _ in self._lines:  # noqa: SIM110 - any() would make a generator
            if key.lower() == wanted:
                return True
        return False

    def get_all(self, name: str) -> list[str]:
        """Returns the values of all lines of `name`, in the order of the lines; an empty list if there are none."""
        wanted = name.lower()
        return [value for key, value in self._lines if key.lower() == wanted]

    def combined(self, name: str) -> str | None:
        """Returns all values of `name` joined by commas (RFC 9110 §5.3); None if there are none.

        Not for Set-Cookie, whose values contain commas.
        """
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def add(self, name: str, value: str) -> None:
        """Appends a line, and keeps those of the same name that are there."""
        self._lines.append((name, value))

    def multi_items(self) -> list[FieldLine]:
        """Returns a copy of all lines, repeated names included, in order."""
        return list(self._lines)

    def __eq__(self, other: object) -> bool:
        """Whether `other` has the same names, in any case and order, with the same values in the same order."""
        if isinstance(other, Headers):
            return self._grouped() == other._grouped()
        if isinstance(other, Mapping):
            return self._grouped() == {
                name.lower() if isinstance(name, str) else name: [value] for name, value in other.items()
            }
        return NotImplemented

    def _grouped(self) -> dict[str, list[str]]:
        """All values by the name in lower case."""
        groups: dict[str, list[str]] = {}
        for key, value in self._lines:
            groups.setdefault(key.lower(), []).append(value)
        return groups

    __hash__ = None  # type: ignore[assignment]  # mutable, so unhashable, like a dict

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"


Fields = Iterable[FieldLine] | Mapping[str, str]
"""What is accepted as headers: pairs of name and value, a mapping, or `Headers`."""


def field_lines(headers: Fields) -> list[FieldLine]:
    """Returns `headers` as a new list of pairs, repeated names of `Headers` included."""
    if isinstance(headers, (tuple, list)):  # first, since it is what nearly all callers have
        return list(headers)
    if isinstance(headers, Headers):
        return headers.multi_items()
    return list(headers.items() if isinstance(headers, Mapping) else headers)


class FieldSource:
    """The field lines of a head that has been checked. Objects are made only when a handler asks for them."""

    __slots__ = ()

    def __len__(self) -> int:
        """The number of lines."""
        raise NotImplementedError

    def lines(self) -> list[FieldLine]:
        """Returns all lines."""
        raise NotImplementedError

    def raw_lines(self) -> list[tuple[bytes, bytes]]:
        """Returns all lines, as pairs of bytes."""
        raise NotImplementedError

    def values(self, name: str) -> list[str]:
        """Returns the values of `name`, which is in lower case."""
        raise NotImplementedError
